package fanout

import (
	"slices"

	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/group"
)

// An item is one packet that waits to be written: a shared message, or bytes
// that are ready.
type item struct {
	frame  *wire.Shared
	raw    []byte
	subIDs []uint32
	share  string       // the Shared Subscription that it was given by; else empty
	group  group.Number // of a packet that a membership gives the right to; else 0
	seen   group.Number // of a message that an observer's right alone gives; else 0
	size   int          // about how many bytes it keeps
	seq    uint64       // its place among all that was ever queued
	id     uint16       // packet identifier, if qos > 0
	qos    byte
	dup    bool
	retain bool
	roster bool // it does not count against the limits
}

// of reports whether the item is a message, or an event, that memberships of the
// groups give the right to, queued up to a point.
func (it *item) of(groups []group.Number, upTo uint64) bool {
	return it.group != 0 && it.seq <= upTo && slices.Contains(groups, it.group)
}

// A queue is a first-in, first-out list of items. The zero value is empty.
type queue struct {
	items []item // items[head:] are waiting
	head  int
	bytes int
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(it item) {
	if q.head > 64 && q.head*2 > len(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, it)
	q.bytes += it.size
}

func (q *queue) front() *item { return &q.items[q.head] }

func (q *queue) pop() item {
	it := q.items[q.head]
	q.items[q.head] = item{}
	q.head++
	q.bytes -= it.size
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > 1024 {
			q.items = nil // one burst does not keep its memory
		}
	}
	return it
}

// any reports whether f chooses one of the items.
func (q *queue) any(f func(*item) bool) bool {
	for i := q.head; i < len(q.items); i++ {
		if f(&q.items[i]) {
			return true
		}
	}
	return false
}

// cut removes the items that f chooses and returns how many.
func (q *queue) cut(f func(*item) bool) int {
	kept := q.items[:q.head]
	n := 0
	for i := q.head; i < len(q.items); i++ {
		if f(&q.items[i]) {
			q.bytes -= q.items[i].size
			n++
			continue
		}
		kept = append(kept, q.items[i])
	}
	clear(q.items[len(kept):])
	q.items = kept
	return n
}

func (q *queue) reset() { *q = queue{} }
