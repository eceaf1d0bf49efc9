package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/muster-mqtt/muster/group"
)

// A value is what a key sets: it reads itself from text, and knows its range.
type value interface {
	// set takes the values given for the key: one, unless the value is a list.
	// After an error the value is as it was.
	set(values []string) error
}

// A several is a value that takes several values at once.
type several interface {
	example() string // an element, for an error
}

// split returns the values in the text of an environment variable.
func split(v value, s string) []string {
	if _, ok := v.(several); !ok {
		return []string{s}
	}
	parts := strings.Split(s, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// one returns the only value: the last, as a later flag replaces one before it.
func one(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// text is a path: any text but none.
type text string

func (t *text) set(values []string) error {
	if one(values) == "" {
		return errors.New("must not be empty")
	}
	return (*optional)(t).set(values)
}

// optional is a path, or empty for none.
type optional string

func (o *optional) set(values []string) error {
	s := one(values)
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("%s is not a path", show(s))
	}
	*o = optional(s)
	return nil
}

// socket is the path of the operator socket, or empty for the default.
type socket string

func (p *socket) set(values []string) error {
	s := one(values)
	if s != "" {
		if err := checkSocket(s); err != nil {
			return err
		}
	}
	*p = socket(s)
	return nil
}

// listens is a list of addresses, HOST:PORT or unix:PATH.
type listens []string

func (l *listens) set(values []string) error {
	for _, s := range values {
		if err := checkListen(s); err != nil {
			return err
		}
	}
	*l = append(listens{}, values...)
	return nil
}

func (l *listens) example() string { return "127.0.0.1:1883" }

// topicRules is a list of rules for ordinary topics.
type topicRules []group.TopicRule

func (t *topicRules) set(values []string) error {
	if len(values) == 1 && values[0] == "" {
		values = nil
	}
	if len(values) > group.MaxTopicRules {
		return fmt.Errorf("%d rules are more than %d", len(values), group.MaxTopicRules)
	}
	var all topicRules
	for _, s := range values {
		r, err := group.ParseTopicRule(s)
		switch {
		case err != nil && strings.Count(s, " ") < 2:
			return fmt.Errorf("%s: %w (in a file, put a rule in quotes: # begins a comment)", show(s), err)
		case err != nil:
			return fmt.Errorf("%s: %w", show(s), err)
		}
		all = append(all, r)
	}
	*t = all
	return nil
}

func (t *topicRules) example() string { return "allow publish sensors/%c/#" }

// filters is a list of Topic Filters.
type filters []string

func (f *filters) set(values []string) error {
	var all filters
	for _, s := range values {
		if s == "" && len(values) == 1 {
			break
		}
		if _, err := group.ParseTopicRule("allow subscribe " + s); err != nil {
			return fmt.Errorf("%s is not an ordinary Topic Filter", show(s))
		}
		all = append(all, s)
	}
	*f = all
	return nil
}

func (f *filters) example() string { return "a/b" }

// truth is true or false.
type truth bool

func (t *truth) set(values []string) error {
	switch s := one(values); s {
	case "true", "false":
		*t = s == "true"
		return nil
	default:
		return fmt.Errorf("%s is neither true nor false", show(s))
	}
}

// A choice is one of several words.
type choice struct {
	at    *string
	words []string
}

func (c *choice) set(values []string) error {
	s := one(values)
	for _, w := range c.words {
		if w == s {
			*c.at = s
			return nil
		}
	}
	return fmt.Errorf("%s is not one of %s", show(s), strings.Join(c.words, ", "))
}

// level is the least level that is logged.
type level slog.Level

func (l *level) set(values []string) error {
	var s string
	c := choice{&s, []string{"debug", "info", "warn", "error"}}
	if err := c.set(values); err != nil {
		return err
	}
	return (*slog.Level)(l).UnmarshalText([]byte(s))
}

// A number is a whole number.
type number struct {
	at       *int
	min, max int
	zero     bool // 0 is allowed too, and means no limit
}

func (n *number) set(values []string) error {
	s := one(values)
	v, err := strconv.Atoi(s)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%s is not a whole number", show(s))
	}
	if n.zero && err == nil && v == 0 {
		*n.at = 0
		return nil
	}
	if err != nil || v < n.min || v > n.max {
		return fmt.Errorf("%s is not between %d and %d%s", show(s), n.min, n.max, orNone(n.zero))
	}
	*n.at = v
	return nil
}

// orNone ends the error of a value that may be 0 instead, if it may.
func orNone(zero bool) string {
	if zero {
		return ", nor 0 for no limit"
	}
	return ""
}

// A size is a number of bytes, plain or with the unit B, KiB, MiB or GiB.
type size struct {
	at       *int
	min, max int
	zero     bool // 0 is allowed too, and means no limit
}

// units are the units of sizes, the largest first.
var units = []struct {
	name  string
	shift int
}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}}

func (z *size) set(values []string) error {
	s := one(values)
	digits, shift := s, 0
	for _, u := range units {
		if d, ok := strings.CutSuffix(s, u.name); ok {
			digits, shift = strings.TrimRight(d, " "), u.shift
			break
		}
	}
	v, err := strconv.ParseUint(digits, 10, 62)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%s is not a size such as 65536, 256KiB or 1MiB", show(s))
	}
	if z.zero && err == nil && v == 0 {
		*z.at = 0
		return nil
	}
	if err != nil || v > uint64(z.max)>>shift || int(v<<shift) < z.min {
		return fmt.Errorf("%s is not between %s and %s%s", show(s), showSize(z.min), showSize(z.max), orNone(z.zero))
	}
	*z.at = int(v << shift)
	return nil
}

// A duration is a time span in Go's form: 90s, 10m, 1h30m.
type duration struct {
	at       *time.Duration
	min, max time.Duration
}

func (d *duration) set(values []string) error {
	s := one(values)
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%s is not a duration such as 90s, 10m or 24h", show(s))
	}
	if v < d.min || v > d.max {
		return fmt.Errorf("%s is not between %s and %s", show(s), showDuration(d.min), showDuration(d.max))
	}
	*d.at = v
	return nil
}

// splitListen returns the network and the address, as [net.Listen] takes them,
// of an address to listen on.
func splitListen(s string) (network, address string) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		return "unix", path
	}
	return "tcp", s
}

func checkListen(s string) error {
	network, address := splitListen(s)
	if network == "unix" {
		return checkSocket(address)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s is neither HOST:PORT nor unix:PATH", show(s))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%s: port %s is not between 0 and 65535", show(s), show(port))
	}
	return nil
}

// maxSocket is how many bytes of a path fit the kernel's address of a socket,
// which ends with a zero byte.
const maxSocket = 107

func checkSocket(path string) error {
	switch {
	case path == "" || path[0] == '@' || strings.IndexByte(path, 0) >= 0:
		return fmt.Errorf("%s is not the path of a socket", show(path))
	case len(path) > maxSocket:
		return fmt.Errorf("%s has %d bytes, and only %d fit the address of a socket", show(path), len(path), maxSocket)
	}
	return nil
}

// show returns what was given as it can stand in an error: as it is if it is
// plain and short.
func show(s string) string {
	plain := s != ""
	for _, r := range s {
		plain = plain && r != '"' && r != '\\' && r != unicode.ReplacementChar && unicode.IsGraphic(r)
	}
	if plain && len(s) <= 256 && strings.TrimSpace(s) == s {
		return s
	}
	return quote(s)
}

// quote returns s in quotes, cut if it is long.
func quote(s string) string {
	if len(s) > 256 {
		return strconv.Quote(s[:256]) + "…"
	}
	return strconv.Quote(s)
}

func showSize(n int) string {
	for _, u := range units {
		if n>>u.shift<<u.shift == n && n>>u.shift > 0 {
			return strconv.Itoa(n>>u.shift) + u.name
		}
	}
	return strconv.Itoa(n)
}

func showDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// A loopCount is how many event loops there are: auto is 0, none is -1.
type loopCount int

// maxLoops is more than any machine has use for.
const maxLoops = 256

func (l *loopCount) set(values []string) error {
	switch s := one(values); s {
	case "auto":
		*l = 0
	case "none":
		*l = -1
	default:
		v, err := strconv.Atoi(s)
		if err != nil || v < 1 || v > maxLoops {
			return fmt.Errorf("%s is not auto, none or between 1 and %d", show(s), maxLoops)
		}
		*l = loopCount(v)
	}
	return nil
}
