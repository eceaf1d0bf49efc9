package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/muster-mqtt/muster/broker/listen"
	"github.com/muster-mqtt/muster/group"
)

// A config is what `muster serve` is told. Each field has a key in the
// configuration file, named in keys; configs/muster.yaml holds them all with
// their defaults. Once [loadConfig] has returned one, its values are in range.
type config struct {
	// Data is the directory of the store, made if it is not there; the default
	// is ./muster-data.
	Data string
	// Listen holds the addresses for MQTT, HOST:PORT or unix:PATH; the default is
	// 127.0.0.1:1883. Port 0 takes a free one, an empty host means every
	// address. It may be empty: then the operator socket is the only way in.
	Listen []string
	// Listeners holds addresses with TLS, WebSocket or proxies before them; the
	// default is none.
	Listeners []listen.Config
	// Socket is the path of the operator socket, at most 107 bytes; the default
	// is muster.sock in Data.
	Socket string
	// Anonymous lets devices connect without a user name, where listener and
	// peer are loopback and nowhere else; the default is true.
	Anonymous bool
	// Loops is how many event loops serve plain TCP: 0 for one for each processor,
	// -1 for none. See broker.Config.
	Loops int
	// AnonymousTopics are the rights of those devices to ordinary topics; by
	// default there are none.
	AnonymousTopics []group.TopicRule
	// RefuseFilters are ordinary Topic Filters to which, as they stand, nobody may
	// subscribe, for conformance suites; by default there are none.
	RefuseFilters []string
	// Ready is a file that is written, one address a line, once the server can
	// be reached; empty, the default, writes none.
	Ready string

	Log struct {
		Format string     // text or json; the default is text
		Level  slog.Level // the least that is logged; the default is Info
	}

	Limits struct {
		// PacketSize is the Maximum Packet Size in bytes that is accepted: 16 KiB to
		// 16 MiB, by default 256 KiB.
		PacketSize int
		// TopicLevels is how many levels a Topic Name or Topic Filter may have: 8
		// to 256, by default 16.
		TopicLevels int
		// UserProperties is how many User Properties a packet may hold: 1 to 1,024, by
		// default 64.
		UserProperties int
		// Inflight is how many messages with QoS 1 and 2 may be unacknowledged, in
		// each direction of a connection: 1 to 65,535, by default 64. Outgoing, the
		// client's own Receive Maximum may set less.
		Inflight int
		// QueueMessages is how many messages may wait for one device: 1 to
		// 1,000,000, by default 1,000.
		QueueMessages int
		// QueueBytes is how many bytes of messages may wait for one device: 64 KiB
		// to 1 GiB, no less than PacketSize, by default 4 MiB.
		QueueBytes int
		// QueueBytesTotal is how many bytes of messages may wait for all devices, but for
		// the first 16 KiB of each: 16 MiB to 1 TiB, by default 1 GiB; 0 is no limit.
		QueueBytesTotal int
		// Filters is how many Topic Filters a Session may hold: 1 to 10,000, by
		// default 64. Memberships do not count.
		Filters int
		// MembersPerGroup is 1 to 10,000,000, by default 100,000.
		MembersPerGroup int
		// GroupsPerDevice is 1 to 256, by default 64.
		GroupsPerDevice int
		// ChangesPerMinute is how many membership changes a device may make in one
		// minute: 1 to 60,000, by default 60; 0 is no limit.
		ChangesPerMinute int
		// PublishRate is how many PUBLISH packets of one connection are taken in a
		// second; what comes faster is not read: 1 to 1,000,000; 0, the default, is no
		// limit.
		PublishRate int
		// Connections is how many there may be at once: 1 to 10,000,000, by default
		// 100,000; 0 is no limit but that of the operating system.
		Connections int
		// ConnectionsPerAddress is how many may come from one address, or the first 64
		// bits of one of IPv6: 1 to 10,000,000, by default 1,000; 0 is no limit.
		// Loopback is not bounded by it.
		ConnectionsPerAddress int
		// Connecting is how many connections may not have logged in yet: 1 to
		// 10,000,000, by default 10,000; 0 is no limit.
		Connecting int
		// ConnectingPerAddress is the same for one address: 1 to 10,000,000, by default
		// 250; 0 is no limit.
		ConnectingPerAddress int
		// Sessions is how many may be kept, connected or not: 1 to 10,000,000, by
		// default 200,000; 0 is no limit.
		Sessions int
		// SessionsPerAccount is how many of these may be of one account: 1 to
		// 10,000,000, by default 10,000; 0 is no limit.
		SessionsPerAccount int
		// RetainedMessages is how many are kept: 1 to 10,000,000, by default 10,000.
		RetainedMessages int
		// RetainedBytes is how many bytes they may have: 64 KiB to 1 TiB, by default
		// 256 MiB.
		RetainedBytes int
		// RetainedPerAccount is how many of them may be of one account, which may have
		// the same share of RetainedBytes: 1 to 10,000,000, by default 2,500; 0 is no
		// limit.
		RetainedPerAccount int
		// TopicAliases is the Topic Alias Maximum of each connection, both ways: 1
		// to 1,024, by default 16; 0 is none.
		TopicAliases int
		// ConnectTimeout is the time from accept to a whole CONNECT: 1 second to 5
		// minutes, by default 10 seconds.
		ConnectTimeout time.Duration
		// SessionExpiryMax is the longest that a Session outlives its connection,
		// whatever the client asks for: 1 second to 365 days, by default 24 hours.
		SessionExpiryMax time.Duration
		// KeepAliveMax is the longest Keep Alive of a 5.0 client, rounded up to whole
		// seconds: up to 18 hours; 0, the default, is as the client asks.
		KeepAliveMax time.Duration
	}

	Grant struct {
		// TTL is the life of a grant whose asker named none: 1 second to 24 hours,
		// by default 60 seconds.
		TTL time.Duration
	}

	PIN struct {
		// Guesses is how many wrong PINs a device may give in one Window: 1 to
		// 1,000, by default 5.
		Guesses int
		// GuessesAddress is the same for one network address: 1 to 1,000,000, by
		// default 100.
		GuessesAddress int
		// Window is 1 minute to 24 hours, by default 10 minutes.
		Window time.Duration
	}

	Journal struct {
		// Keep is how long notes of what was decided are kept: 10 minutes to 365
		// days, by default 24 hours.
		Keep time.Duration
	}

	// Argon2 holds the costs of argon2id for PINs and passwords that are set from
	// now on; older ones keep theirs until they are set anew.
	Argon2 struct {
		Memory  int // bytes for one run: 8 MiB to 1 GiB, by default 19 MiB
		Time    int // passes: 1 to 100, by default 2
		Threads int // 1 to 64, by default 1
		Runs    int // at once: 1 to 1,024, by default 2
	}
}

// defaults returns the configuration of a server that was told nothing.
// Socket is empty, as it follows from Data.
func defaults() config {
	c := config{Data: "./muster-data", Listen: []string{"127.0.0.1:1883"}, Listeners: []listen.Config{}, Anonymous: true}
	c.Log.Format, c.Log.Level = "text", slog.LevelInfo
	l := &c.Limits
	l.PacketSize = 256 << 10
	l.TopicLevels = 16
	l.UserProperties = 64
	l.Inflight = 64
	l.QueueMessages = 1000
	l.QueueBytes = 4 << 20
	l.QueueBytesTotal = 1 << 30
	l.Filters = 64
	l.MembersPerGroup = 100_000
	l.GroupsPerDevice = 64
	l.ChangesPerMinute = 60
	l.Connections = 100_000
	l.ConnectionsPerAddress = 1000
	l.Connecting = 10_000
	l.ConnectingPerAddress = 250
	l.Sessions = 200_000
	l.SessionsPerAccount = 10_000
	l.RetainedMessages = 10_000
	l.RetainedBytes = 256 << 20
	l.RetainedPerAccount = 2500
	l.TopicAliases = 16
	l.ConnectTimeout = 10 * time.Second
	l.SessionExpiryMax = 24 * time.Hour
	c.Grant.TTL = time.Minute
	c.PIN.Guesses, c.PIN.GuessesAddress, c.PIN.Window = 5, 100, 10*time.Minute
	c.Journal.Keep = 24 * time.Hour
	c.Argon2.Memory, c.Argon2.Time, c.Argon2.Threads, c.Argon2.Runs = 19<<20, 2, 1, 2
	return c
}

// keys returns the key of each field of c, in the order of configs/muster.yaml.
func (c *config) keys() []key {
	const year = 365 * 24 * time.Hour
	l := &c.Limits
	return []key{
		{name: "data", flag: "data", value: (*text)(&c.Data)},
		{name: "listen", flag: "listen", value: (*listens)(&c.Listen)},
		{name: "listeners", value: (*listeners)(&c.Listeners)},
		{name: "socket", value: (*socket)(&c.Socket)},
		{name: "anonymous", flag: "anonymous", value: (*truth)(&c.Anonymous)},
		{name: "anonymous_topics", value: (*topicRules)(&c.AnonymousTopics)},
		{name: "refuse_filters", value: (*filters)(&c.RefuseFilters)},
		{name: "loops", value: (*loopCount)(&c.Loops)},
		{name: "ready", flag: "ready", value: (*optional)(&c.Ready)},
		{name: "log.format", flag: "log", value: &choice{&c.Log.Format, []string{"text", "json"}}},
		{name: "log.level", value: (*level)(&c.Log.Level)},
		{name: "limits.packet_size", value: &size{&l.PacketSize, 16 << 10, 16 << 20, false}},
		{name: "limits.topic_levels", value: &number{&l.TopicLevels, 8, 256, false}},
		{name: "limits.user_properties", value: &number{&l.UserProperties, 1, 1024, false}},
		{name: "limits.inflight", value: &number{&l.Inflight, 1, 65535, false}},
		{name: "limits.queue_messages", value: &number{&l.QueueMessages, 1, 1_000_000, false}},
		{name: "limits.queue_bytes", value: &size{&l.QueueBytes, 64 << 10, 1 << 30, false}},
		{name: "limits.queue_bytes_total", value: &size{&l.QueueBytesTotal, 16 << 20, 1 << 40, true}},
		{name: "limits.filters", value: &number{&l.Filters, 1, 10_000, false}},
		{name: "limits.members_per_group", value: &number{&l.MembersPerGroup, 1, 10_000_000, false}},
		{name: "limits.groups_per_device", value: &number{&l.GroupsPerDevice, 1, 256, false}},
		{name: "limits.changes_per_minute", value: &number{&l.ChangesPerMinute, 1, 60_000, true}},
		{name: "limits.publish_rate", value: &number{&l.PublishRate, 1, 1_000_000, true}},
		{name: "limits.connections", value: &number{&l.Connections, 1, 10_000_000, true}},
		{name: "limits.connections_per_address", value: &number{&l.ConnectionsPerAddress, 1, 10_000_000, true}},
		{name: "limits.connecting", value: &number{&l.Connecting, 1, 10_000_000, true}},
		{name: "limits.connecting_per_address", value: &number{&l.ConnectingPerAddress, 1, 10_000_000, true}},
		{name: "limits.sessions", value: &number{&l.Sessions, 1, 10_000_000, true}},
		{name: "limits.sessions_per_account", value: &number{&l.SessionsPerAccount, 1, 10_000_000, true}},
		{name: "limits.retained_messages", value: &number{&l.RetainedMessages, 1, 10_000_000, false}},
		{name: "limits.retained_bytes", value: &size{&l.RetainedBytes, 64 << 10, 1 << 40, false}},
		{name: "limits.retained_per_account", value: &number{&l.RetainedPerAccount, 1, 10_000_000, true}},
		{name: "limits.topic_aliases", value: &number{&l.TopicAliases, 1, 1024, true}},
		{name: "limits.connect_timeout", value: &duration{&l.ConnectTimeout, time.Second, 5 * time.Minute}},
		{name: "limits.session_expiry_max", value: &duration{&l.SessionExpiryMax, time.Second, year}},
		{name: "limits.keep_alive_max", value: &duration{&l.KeepAliveMax, 0, 18 * time.Hour}},
		{name: "grant.ttl", value: &duration{&c.Grant.TTL, time.Second, 24 * time.Hour}},
		{name: "pin.guesses", value: &number{&c.PIN.Guesses, 1, 1000, false}},
		{name: "pin.guesses_address", value: &number{&c.PIN.GuessesAddress, 1, 1_000_000, false}},
		{name: "pin.window", value: &duration{&c.PIN.Window, time.Minute, 24 * time.Hour}},
		{name: "journal.keep", value: &duration{&c.Journal.Keep, 10 * time.Minute, year}},
		{name: "argon2.memory", value: &size{&c.Argon2.Memory, 8 << 20, 1 << 30, false}},
		{name: "argon2.time", value: &number{&c.Argon2.Time, 1, 100, false}},
		{name: "argon2.threads", value: &number{&c.Argon2.Threads, 1, 64, false}},
		{name: "argon2.runs", value: &number{&c.Argon2.Runs, 1, 1024, false}},
	}
}

// A key is one value that can be configured.
type key struct {
	name  string // in the file; a dot stands for nesting
	flag  string // of `muster serve`; empty if it has none
	value value
}

// env returns the name of the environment variable: that of the flag or, where
// there is none, of the key, in capitals and with _ for each dot.
func (k *key) env() string {
	name := k.flag
	if name == "" {
		name = strings.ReplaceAll(k.name, ".", "_")
	}
	return "MUSTER_" + strings.ToUpper(name)
}

// maxConfigFile is the size in bytes of the largest file that is read.
const maxConfigFile = 1 << 20

// loadConfig returns the configuration of `muster serve`: the flags over the
// environment over the file at path over the defaults.
//
// If path is empty, the variable MUSTER_CONFIG names the file; if that is empty
// too, there is none. env looks up a variable, as [os.LookupEnv] does; an empty
// one counts as not set, and one for a list is split at commas. flags holds the
// values of the flags that were given, by name without dashes; a flag that is
// not a key's is ignored.
//
// The error is one line that names the file, variable or flag, and the key.
func loadConfig(path string, env func(string) (string, bool), flags map[string][]string) (config, error) {
	c := defaults()
	l := loader{keys: c.keys(), from: map[string]string{}}
	if path == "" {
		path, _ = env("MUSTER_CONFIG")
	}
	if path != "" {
		b, err := readConfig(path)
		if err != nil {
			return config{}, err
		}
		if err := l.file(path, b); err != nil {
			return config{}, err
		}
	}
	for _, k := range l.keys {
		if v, ok := env(k.env()); ok && v != "" {
			if err := l.set(k, k.env(), split(k.value, v)); err != nil {
				return config{}, err
			}
		}
	}
	for _, k := range l.keys {
		if v, ok := flags[k.flag]; ok && k.flag != "" {
			if err := l.set(k, "--"+k.flag, v); err != nil {
				return config{}, err
			}
		}
	}
	if err := l.check(&c); err != nil {
		return config{}, err
	}
	return c, nil
}

// otherVariables are those of MUSTER_ that are no keys: they are for the command,
// and for tests.
var otherVariables = []string{"MUSTER_CONFIG", "MUSTER_SERVER", "MUSTER_PASSWORD", "MUSTER_CI"}

// checkEnviron returns an error for a variable that looks like one of a key and is
// none: what was meant by it would silently not hold.
func checkEnviron(environ []string) error {
	known := map[string]bool{}
	for _, name := range otherVariables {
		known[name] = true
	}
	c := defaults()
	for _, k := range c.keys() {
		known[k.env()] = true
	}
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "MUSTER_") && !strings.HasPrefix(name, "MUSTER_CRASH_") && !known[name] {
			return fmt.Errorf("%s: there is no key for this variable (see configs/muster.yaml): unset it", name)
		}
	}
	return nil
}

// readConfig returns the content of the file at path.
func readConfig(path string) ([]byte, error) {
	read := func() ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	}
	b, err := read()
	var pe *fs.PathError
	switch {
	case errors.As(err, &pe):
		return nil, fmt.Errorf("%s: %w", path, pe.Err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case len(b) > maxConfigFile:
		return nil, fmt.Errorf("%s: larger than %s", path, showSize(maxConfigFile))
	}
	return b, nil
}

// A loader fills the values of keys and remembers where each came from.
type loader struct {
	keys []key
	from map[string]string // where a key was found, by its name; none for a default
}

// set gives k the values that were found at from, which names the key or what
// stands for it.
func (l *loader) set(k key, from string, values []string) error {
	if err := k.value.set(values); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	l.from[k.name] = from
	return nil
}

// errorf returns an error about the value of a key that was set before.
func (l *loader) errorf(name, format string, args ...any) error {
	from := l.from[name]
	if from == "" {
		from = name
	}
	return fmt.Errorf("%s: %w", from, fmt.Errorf(format, args...))
}

// check finds what is wrong between keys, and fills in what follows from
// others.
func (l *loader) check(c *config) error {
	if packet, queue := c.Limits.PacketSize, c.Limits.QueueBytes; queue < packet {
		if l.from["limits.queue_bytes"] == "" {
			return l.errorf("limits.packet_size", "%s is more than limits.queue_bytes, %s", showSize(packet), showSize(queue))
		}
		return l.errorf("limits.queue_bytes", "%s is less than limits.packet_size, %s", showSize(queue), showSize(packet))
	}
	if c.Socket == "" {
		c.Socket = filepath.Join(c.Data, "muster.sock")
		if err := checkSocket(c.Socket); err != nil {
			return l.errorf("data", "operator socket %w: use a shorter --data or set the key socket", err)
		}
	}
	taken := func(a string) bool {
		network, path := splitListen(a)
		return network == "unix" && filepath.Clean(path) == filepath.Clean(c.Socket)
	}
	for _, a := range c.Listen {
		if taken(a) {
			return l.errorf("listen", "%s is the operator socket", show(a))
		}
	}
	for _, a := range c.Listeners {
		if taken(a.Address) {
			return l.errorf("listeners", "%s is the operator socket", show(a.Address))
		}
	}
	return nil
}
