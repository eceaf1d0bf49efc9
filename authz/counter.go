package authz

import (
	"slices"
	"time"
)

// A moment is the time since the process began to count.
type moment = time.Duration

// maxMarks is how many moments a counter tells apart. Up to that many failures
// it is exact; of more, some count a little longer than a window, none shorter.
const maxMarks = 16

// A mark is a number of failures at one moment.
type mark struct {
	at moment
	n  int
}

// A counter counts the failures of the last window.
type counter struct {
	marks []mark // oldest first
	n     int
}

// expire forgets the failures up to the given moment.
func (c *counter) expire(until moment) {
	old := 0
	for old < len(c.marks) && c.marks[old].at <= until {
		c.n -= c.marks[old].n
		old++
	}
	c.marks = slices.Delete(c.marks, 0, old)
}

// add counts one failure.
func (c *counter) add(now moment) {
	c.n++
	if last := len(c.marks) - 1; last >= 0 && c.marks[last].at >= now {
		c.marks[last].n++
		return
	}
	c.marks = append(c.marks, mark{now, 1})
	if len(c.marks) <= maxMarks {
		return
	}
	// The two that are closest together become one, at the later moment.
	near := 1
	for i := 2; i < len(c.marks); i++ {
		if c.marks[i].at-c.marks[i-1].at < c.marks[near].at-c.marks[near-1].at {
			near = i
		}
	}
	c.marks[near].n += c.marks[near-1].n
	c.marks = slices.Delete(c.marks, near-1, near)
}

// below returns the moment from which fewer than limit failures of those up to
// now are younger than a window; 0 if it is so already.
func (c *counter) below(limit int, window time.Duration) moment {
	if c == nil || c.n < limit {
		return 0
	}
	left := c.n
	for _, m := range c.marks {
		if left -= m.n; left < limit {
			return m.at + window
		}
	}
	return 0
}

// The bounds of a counters.
const (
	maxCounters = 1 << 16
	sampled     = 16 // among which one is chosen to go
)

// counters holds the counters of one kind: of devices, say. There are at most
// maxCounters; to make room, those go that count nothing any more, else the one
// of a sample that counts the least. So a flood of made-up identifiers, each of
// which costs its address a failure, pushes out its own before a guesser's.
type counters struct {
	limit int
	m     map[key]*counter
	full  moment // when it was last swept because it was full
	next  int    // sweep at this size
}

func newCounters(limit int) counters {
	return counters{limit: limit, m: map[key]*counter{}, next: 1024}
}

// count returns the failures of k in the window that ends now; nil if there are
// none.
func (cs *counters) count(k key, now moment, window time.Duration) *counter {
	c, ok := cs.m[k]
	if !ok {
		return nil
	}
	if c.expire(now - window); c.n == 0 {
		delete(cs.m, k)
		return nil
	}
	return c
}

// until returns the moment from which k is below the limit; 0 if it is now.
func (cs *counters) until(k key, now moment, window time.Duration) moment {
	return cs.count(k, now, window).below(cs.limit, window)
}

// add counts one failure of k.
func (cs *counters) add(k key, now moment, window time.Duration) {
	c, ok := cs.m[k]
	if !ok {
		cs.room(now, window)
		c = &counter{}
		cs.m[k] = c
	}
	c.expire(now - window)
	c.add(now)
}

// room makes sure that one more fits.
func (cs *counters) room(now moment, window time.Duration) {
	if len(cs.m) >= cs.next && (len(cs.m) < maxCounters || cs.full == 0 || now-cs.full >= window/16) {
		for k := range cs.m {
			cs.count(k, now, window)
		}
		cs.next = min(max(1024, 2*len(cs.m)), maxCounters)
		if len(cs.m) >= maxCounters {
			cs.full = now
		}
	}
	if len(cs.m) < maxCounters {
		return
	}
	var least key
	var of *counter
	seen := 0
	for k, c := range cs.m {
		if of == nil || c.n < of.n || c.n == of.n && c.marks[len(c.marks)-1].at < of.marks[len(of.marks)-1].at {
			least, of = k, c
		}
		if seen++; seen == sampled {
			break
		}
	}
	delete(cs.m, least)
}
