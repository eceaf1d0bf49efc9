package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A calm is what keeps a log readable, and its disk free, while somebody tries what
// is refused: of the lines of one kind about one address it lets so many through in
// a time, and so many of one kind about all. The others are counted, and summed up
// when that time is over.
type calm struct {
	mu    sync.Mutex // guards all below; a leaf
	kinds map[calmKind]*calmCount
}

// A calmKind is what lines are alike by. An empty addr stands for all addresses.
type calmKind struct{ msg, op, reason, addr string }

// A calmCount is of one span of calmTime.
type calmCount struct {
	since           time.Time
	lines, withheld int
}

// everywhere is the kind without its address.
func (k calmKind) everywhere() calmKind {
	k.addr = ""
	return k
}

const (
	calmTime = 10 * time.Second
	// calmLines and calmTotal are how many lines there are in one calmTime: about
	// one address, and about all.
	calmLines = 20
	calmTotal = 200
	// calmKinds bounds the addresses that are told apart.
	calmKinds = 4096
	// calmText bounds a text that a stranger has chosen, in bytes.
	calmText = 256
)

// calmed are the messages of which a stranger may cause as many as it likes.
var calmed = map[string]bool{"refused": true, "connection ended": true, "messages lost": true, "a packet was not survived": true}

// pass reports whether the line is let through.
func (c *calm) pass(k calmKind, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds == nil {
		c.kinds = map[calmKind]*calmCount{}
	}
	all := c.count(k.everywhere(), now)
	one := all
	if k.addr != "" && (c.kinds[k] != nil || len(c.kinds) < calmKinds) {
		one = c.count(k, now)
	}
	if all.lines >= calmTotal || one != all && one.lines >= calmLines {
		one.withheld++
		return false
	}
	all.lines++
	if one != all {
		one.lines++
	}
	return true
}

func (c *calm) count(k calmKind, now time.Time) *calmCount {
	n := c.kinds[k]
	if n == nil {
		n = &calmCount{since: now}
		c.kinds[k] = n
	}
	if now.Sub(n.since) >= calmTime && n.withheld == 0 {
		n.since, n.lines = now, 0
	}
	return n
}

// sum logs how many lines were withheld in the spans that are over, or in all if
// the Server ends.
func (c *calm) sum(log *slog.Logger, now time.Time, end bool) {
	type summed struct {
		calmKind
		withheld int
	}
	var sums []summed
	others := map[calmKind]int{}
	c.mu.Lock()
	for k, n := range c.kinds {
		if !end && now.Sub(n.since) < calmTime {
			continue
		}
		delete(c.kinds, k)
		switch {
		case n.withheld == 0:
		case k.addr != "" && len(sums) < calmLines:
			sums = append(sums, summed{k, n.withheld})
		default:
			others[k.everywhere()] += n.withheld
		}
	}
	c.mu.Unlock()
	for k, n := range others {
		sums = append(sums, summed{k, n})
	}
	for _, s := range sums {
		line := []any{"of", s.msg, "op", s.op, "reason", s.reason, "lines", s.withheld}
		if s.addr != "" {
			line = append(line, "addr", s.addr)
		}
		log.Info("withheld", line...)
	}
}

// A calmHandler passes on what its calm lets through.
type calmHandler struct {
	slog.Handler
	calm *calm
}

// Handle passes the record on, or counts it.
func (h calmHandler) Handle(ctx context.Context, r slog.Record) error {
	if !calmed[r.Message] || r.Level < slog.LevelInfo {
		return h.Handler.Handle(ctx, r)
	}
	k := calmKind{msg: r.Message}
	short := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a.Value.Kind() == slog.KindString {
			if s := a.Value.String(); len(s) > calmText {
				a.Value = slog.StringValue(s[:calmText] + "…")
			}
		}
		switch a.Key {
		case "op":
			k.op = a.Value.String()
		case "reason":
			k.reason = a.Value.String()
		case "addr":
			k.addr = a.Value.String()
		}
		short.AddAttrs(a)
		return true
	})
	if at, bounded := addressOf(k.addr); bounded {
		k.addr = at.String()
	}
	if !h.calm.pass(k, r.Time) {
		return nil
	}
	return h.Handler.Handle(ctx, short)
}

// WithAttrs returns a handler with the attributes, under the same calm.
func (h calmHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return calmHandler{h.Handler.WithAttrs(attrs), h.calm}
}

// WithGroup returns a handler with the group, under the same calm.
func (h calmHandler) WithGroup(name string) slog.Handler {
	return calmHandler{h.Handler.WithGroup(name), h.calm}
}
