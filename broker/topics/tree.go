package topics

import (
	"strings"
	"sync"

	"github.com/muster-mqtt/muster/broker/wire"
)

// Key names one Session. It is new for each Session and never used again, so
// what was matched for a Session that has ended finds nobody.
type Key uint64

// Subscription is what a Session keeps of one of its subscriptions, to decide
// how it receives what the tree says that it matches (MQTT 5.0, 3.8.3).
type Subscription struct {
	Filter            string // as subscribed, $share/... included
	QoS               byte   // granted: 0 to 2
	NoLocal           bool   // not what the Session itself publishes
	RetainAsPublished bool   // keep the RETAIN flag of the publisher
	RetainHandling    byte   // 0 to 2 (MQTT 5.0, 3.8.3.1)
	SubID             uint32 // Subscription Identifier, 1 to 268,435,455; 0: none
}

// Limits bounds what a Tree holds. Subscriptions are bounded by the caller,
// Session by Session.
type Limits struct {
	Retained      int // retained messages; 0 or less: none are kept
	RetainedBytes int // sum of their sizes as PUBLISH packets of MQTT 5.0; 0 or less: none are kept
	// RetainedPerOwner is how many may be of one owner, who may have the same share
	// of RetainedBytes; 0 or less: no bound.
	RetainedPerOwner int
}

// Tree holds the subscriptions and retained messages of ordinary topics.
type Tree struct {
	plain, shared *index
	retained      *retained
	scratch       sync.Pool // of *[]Key
}

// New returns an empty Tree.
func New(l Limits) *Tree {
	return &Tree{
		plain:    newIndex(),
		shared:   newIndex(),
		retained: newRetained(l),
		scratch:  sync.Pool{New: func() any { return new([]Key) }},
	}
}

// Subscribe enters a filter of the Session k: each match that begins after it
// returns finds it. A filter that k has already stays as it is.
//
// To miss no retained message, subscribe first and ask [Tree.Retained] then,
// where a publisher calls [Tree.Retain] first and [Tree.Subscribers] then: a
// message that is published meanwhile is found at least once.
func (t *Tree) Subscribe(k Key, filter string) {
	if _, rest, ok := wire.SplitShare(filter); ok {
		t.shared.add(k, filter, rest)
		return
	}
	t.plain.add(k, filter, filter)
}

// Unsubscribe takes a filter of the Session k out: no match that begins after it
// returns finds it. It does nothing if k does not have it.
func (t *Tree) Unsubscribe(k Key, filter string) {
	if _, rest, ok := wire.SplitShare(filter); ok {
		t.shared.remove(k, filter, rest)
		return
	}
	t.plain.remove(k, filter, filter)
}

// Subscribers calls f once for each Session with at least one filter that
// matches and is not shared, in no particular order. What it finds is the state
// of one moment.
func (t *Tree) Subscribers(topic string, f func(k Key)) {
	buf := t.scratch.Get().(*[]Key)
	keys := t.plain.subscribers((*buf)[:0], topic)
	for _, k := range keys {
		f(k)
	}
	*buf = keys
	t.scratch.Put(buf)
}

// Shared calls f for each shared subscription that matches, in no particular
// order: share is its whole filter, "$share/<name>/<filter>", and members are
// the Sessions that have it, beginning with another one at each call, so that
// taking the first that can receive is fair. The members are f's until it
// returns. What it finds is the state of one moment.
func (t *Tree) Shared(topic string, f func(share string, members []Key)) {
	buf := t.scratch.Get().(*[]Key)
	keys, parts := t.shared.groups((*buf)[:0], topic)
	from := 0
	for _, p := range parts {
		f(p.filter, keys[from:p.end:p.end])
		from = p.end
	}
	*buf = keys
	t.scratch.Put(buf)
}

// Members returns the Sessions that have a shared filter, "$share/<name>/<filter>",
// beginning with another one at each call, as [Tree.Shared] does.
func (t *Tree) Members(share string) []Key { return t.shared.members(share) }

// Counts returns how many subscriptions, shared ones included, and how many
// retained messages the Tree holds. A filter that two Sessions have counts
// twice.
func (t *Tree) Counts() (subscriptions, retained int) {
	return t.plain.len() + t.shared.len(), t.retained.len()
}

// hidden reports whether filters that begin with a wildcard do not match topic
// (MQTT 5.0, 4.7.2; topics of groups are treated alike).
func hidden(topic string) bool {
	return strings.HasPrefix(topic, "$") || strings.HasPrefix(topic, "g/")
}

// wild reports whether filter, which is no shared one, begins with a wildcard.
func wild(filter string) bool {
	return strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")
}
