package broker_test

import (
	"fmt"
	"slices"

	"github.com/muster-mqtt/muster/group"
)

// A published is the numbered messages of the publishers: publisher p sends
// message s, from 1, to one group.
type published struct {
	groups [][]group.Number // of publisher p: groups[p][s-1]
}

func (h *published) of(p, s int) group.Number { return h.groups[p][s-1] }

// next returns the number of the first message after s of publisher p to the
// group, or one more than the last if there is none.
func (h *published) next(p, s int, g group.Number) int {
	for s++; s <= len(h.groups[p]) && h.of(p, s) != g; s++ {
	}
	return s
}

// prev returns the number of the last message to the group before s, or 0.
func (h *published) prev(p, s int, g group.Number) int {
	for s--; s > 0 && h.of(p, s) != g; s-- {
	}
	return s
}

// A received is one message in a device's stream.
type received struct {
	p, s  int
	group group.Number
	dup   bool
}

// A segment is a part of a device's stream in which its memberships are the same:
// from one answer, notice or CONNACK to the next. At its begin lies, for each
// publisher, a cut: the number of the last message before the change.
type segment struct {
	in []group.Number
	// fresh is true if a connection begins here: what was published while there
	// was none is not in the stream.
	fresh bool
	// dropped is true if the device was told that messages were discarded.
	dropped bool
	// notBefore and notAfter bound the cut: messages acknowledged to their
	// publisher before the request was sent lie before it, and those whose
	// sending began after the answer came lie after it. nil: no bound.
	notBefore, notAfter []int
	// resumed, if not nil, says that a Session was resumed, and which messages
	// may still be of its earlier connection: those whose sending had begun.
	resumed []int
	got     []received
}

// checkCuts looks for one cut at each change such that the device has received
// of each group exactly what lies between the cuts at which its membership began
// and ended: a switch has one cut for both groups. Where messages were discarded
// the end of a membership may lack some. last bounds the stream: all up to there
// must have arrived; nil: the stream ends anywhere.
func checkCuts(h *published, stream []segment, last []int) error {
	for i, seg := range stream {
		for _, m := range seg.got {
			if !slices.Contains(seg.in, m.group) {
				return fmt.Errorf("segment %d, in %v: received message %d of publisher %d to group %d", i, seg.in, m.s, m.p, m.group)
			}
			if h.of(m.p, m.s) != m.group {
				return fmt.Errorf("segment %d: message %d of publisher %d came from group %d, and was sent to %d", i, m.s, m.p, m.group, h.of(m.p, m.s))
			}
		}
	}
	for p := range h.groups {
		c := newCuts(h, p, len(stream))
		if err := c.read(stream, last); err != nil {
			return fmt.Errorf("publisher %d: %w", p, err)
		}
		if err := c.solve(); err != nil {
			return fmt.Errorf("publisher %d: %w", p, err)
		}
	}
	return nil
}

// cuts are the unknowns for one publisher: cut i lies at the begin of segment i,
// and one more at the end of the stream. All that is known of them has the form
// of bounds, and of "at most what follows from an earlier one", so the largest
// cuts that fit are found by lowering them until nothing changes.
type cuts struct {
	h      *published
	p      int
	lo, hi []int
	silent []silence
}

// A silence says that nothing of a group was received between two cuts, and
// nothing discarded.
type silence struct {
	from, to int
	group    group.Number
}

// A membership is one stay in a group on one connection.
type stay struct {
	from int // the cut at which it began
	got  []int
}

func newCuts(h *published, p, segments int) *cuts {
	c := &cuts{h: h, p: p, lo: make([]int, segments+1), hi: make([]int, segments+1)}
	for i := range c.hi {
		c.hi[i] = len(h.groups[p])
	}
	return c
}

// read makes bounds of the stream.
func (c *cuts) read(stream []segment, last []int) error {
	p := c.p
	stays := map[group.Number]*stay{}
	newest := map[group.Number]int{}
	var resumed []int
	for i := range stream {
		seg := &stream[i]
		if seg.fresh {
			resumed = seg.resumed
		}
		if seg.notBefore != nil {
			c.lo[i] = max(c.lo[i], seg.notBefore[p])
		}
		if seg.notAfter != nil {
			c.hi[i] = min(c.hi[i], seg.notAfter[p])
		}
		for g, s := range stays {
			switch {
			case seg.fresh:
				c.end(s, g, i, false, true) // the rest was lost with the connection
			case !slices.Contains(seg.in, g):
				c.end(s, g, i, true, seg.dropped)
			default:
				continue
			}
			delete(stays, g)
		}
		for _, g := range seg.in {
			if stays[g] == nil {
				stays[g] = &stay{from: i}
			}
		}
		for _, m := range seg.got {
			if m.p != p || m.dup {
				continue // what is sent again belongs to an earlier connection
			}
			if m.s <= newest[m.group] {
				return fmt.Errorf("segment %d: message %d to group %d after message %d", i, m.s, m.group, newest[m.group])
			}
			newest[m.group] = m.s
			if resumed != nil && m.s <= resumed[p] {
				continue
			}
			s := stays[m.group]
			if n := len(s.got); n > 0 {
				if want := c.h.next(p, s.got[n-1], m.group); m.s != want {
					return fmt.Errorf("segment %d, in %v: message %d to group %d follows %d, and %d is missing", i, seg.in, m.s, m.group, s.got[n-1], want)
				}
			} else {
				c.lo[s.from] = max(c.lo[s.from], c.h.prev(p, m.s, m.group))
				c.hi[s.from] = min(c.hi[s.from], m.s-1)
			}
			s.got = append(s.got, m.s)
		}
	}
	end := len(stream)
	if last != nil {
		c.lo[end], c.hi[end] = last[p], last[p]
		for g, s := range stays {
			c.end(s, g, end, true, false)
		}
	}
	return nil
}

// end makes bounds of the end of a stay: at cut i, if it ended with a change, and
// whether messages may be missing.
func (c *cuts) end(s *stay, g group.Number, i int, change, missing bool) {
	if !change {
		return
	}
	if n := len(s.got); n > 0 {
		c.lo[i] = max(c.lo[i], s.got[n-1])
		if !missing {
			c.hi[i] = min(c.hi[i], c.h.next(c.p, s.got[n-1], g)-1)
		}
	} else if !missing {
		c.silent = append(c.silent, silence{s.from, i, g})
	}
}

// solve lowers the cuts until they fit together, and says where they cannot.
func (c *cuts) solve() error {
	for changed := true; changed; {
		changed = false
		lower := func(i, v int) {
			if v < c.hi[i] {
				c.hi[i], changed = v, true
			}
		}
		for i := len(c.hi) - 2; i >= 0; i-- {
			lower(i, c.hi[i+1])
		}
		for _, s := range c.silent {
			lower(s.to, c.h.next(c.p, c.hi[s.from], s.group)-1)
		}
	}
	lo := 0
	for i := range c.hi {
		if lo = max(lo, c.lo[i]); lo > c.hi[i] {
			return fmt.Errorf("no cut at the begin of segment %d: after message %d, and not after %d", i, lo, c.hi[i])
		}
	}
	return nil
}
