package topics

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/muster-mqtt/muster/broker/wire"
)

// ErrFull is the error of [Tree.Retain] for a message beyond the [Limits].
var ErrFull = errors.New("retained messages are at their limit")

// retained holds the retained messages.
type retained struct {
	limits Limits

	mu    sync.RWMutex // guards all below
	root  node
	count int // messages
	bytes int // sum of their sizes
	due   due // those that expire
	// owned is what each owner has; one that has nothing has no entry.
	owned map[string]share
}

// A share is what is kept of one owner.
type share struct{ count, bytes int }

// A node is one level of a topic.
type node struct {
	parent *node // nil: root
	level  string
	below  map[string]*node // nil: none
	m      *wire.Shared     // kept under this topic; nil: none
	size   int              // of m, in bytes
	owner  string           // of m; empty: nobody
	due    int              // where it stands among those that expire; -1: nowhere
}

func newRetained(l Limits) *retained { return &retained{limits: l, owned: map[string]share{}} }

// Retain keeps m as the retained message of its topic in the place of an earlier
// one. A message with an empty payload is not kept: the earlier one is removed
// (MQTT 5.0, 3.3.1.3), as it is by a message that has expired at now. What has
// expired at now makes room first.
//
// The error is [ErrFull] if there would be more messages or bytes than the
// Limits allow; the earlier message stays then.
func (t *Tree) Retain(m *wire.Shared, now time.Time) error {
	return t.retained.set(m, "", now)
}

// RetainOf is [Tree.Retain] for an owner, such as an account: ErrFull is returned
// as well if of the owner's there would be more than the Limits allow. A message
// belongs to who published the newest of its topic; an empty owner is nobody.
func (t *Tree) RetainOf(owner string, m *wire.Shared, now time.Time) error {
	return t.retained.set(m, owner, now)
}

// Retained calls f with each retained message that matches filter and has not
// expired at now, in no particular order. A filter that begins with a wildcard
// matches no topic that begins with "$" or "g/". A shared filter matches none
// (MQTT 5.0, 4.8.2). What it finds is the state of one moment.
func (t *Tree) Retained(filter string, now time.Time, f func(m *wire.Shared)) {
	if _, _, shared := wire.SplitShare(filter); shared {
		return
	}
	found, expired := t.retained.match(filter, now)
	for _, m := range found {
		f(m)
	}
	if expired {
		t.Expire(now)
	}
}

// Expire drops the retained messages that have expired at now. When there are
// none it costs next to nothing.
func (t *Tree) Expire(now time.Time) {
	t.retained.mu.Lock()
	defer t.retained.mu.Unlock()
	t.retained.expire(now)
}

func (r *retained) set(m *wire.Shared, owner string, now time.Time) error {
	size := m.Size(wire.SendOptions{Version: 5, QoS: 1, Now: now})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	n := r.find(m.Topic())
	if len(m.Payload()) == 0 || m.Expired(now) {
		if n != nil {
			r.drop(n)
		}
		return nil
	}
	count, bytes := r.count+1, r.bytes+size
	if n != nil {
		count, bytes = r.count, bytes-n.size
	}
	if count > r.limits.Retained || bytes > r.limits.RetainedBytes || !r.mayOwn(owner, n, size) {
		return ErrFull
	}
	if n == nil {
		n = r.grow(m.Topic())
	} else {
		r.due.remove(n)
		r.own(n, -1)
	}
	n.m, n.size, n.owner = m, size, owner
	r.own(n, 1)
	r.count, r.bytes = count, bytes
	r.due.add(n)
	return nil
}

// mayOwn reports whether the owner may have one more message of the size, in the
// place of that of n if it is not nil.
func (r *retained) mayOwn(owner string, n *node, size int) bool {
	most := r.limits.RetainedPerOwner
	if owner == "" || most <= 0 || most >= r.limits.Retained {
		return true
	}
	has := r.owned[owner]
	if n != nil && n.owner == owner {
		has.count, has.bytes = has.count-1, has.bytes-n.size
	}
	share := int(float64(r.limits.RetainedBytes) * float64(most) / float64(r.limits.Retained))
	return has.count < most && has.bytes+size <= share
}

// own counts the message of n for its owner: by is 1, or -1 when it goes.
func (r *retained) own(n *node, by int) {
	if n.owner == "" {
		return
	}
	has := r.owned[n.owner]
	has.count, has.bytes = has.count+by, has.bytes+by*n.size
	if has.count == 0 {
		delete(r.owned, n.owner)
		return
	}
	r.owned[n.owner] = has
}

// match returns the messages that match filter, and whether it met expired ones.
func (r *retained) match(filter string, now time.Time) (found []*wire.Shared, expired bool) {
	hide := wild(filter)
	r.mu.RLock()
	defer r.mu.RUnlock()
	r.root.visit(filter, func(m *wire.Shared) {
		switch {
		case m.Expired(now):
			expired = true
		case !hide || !hidden(m.Topic()):
			found = append(found, m)
		}
	})
	return found, expired
}

// find returns the node that keeps a message of topic, or nil.
func (r *retained) find(topic string) *node {
	n := &r.root
	for more := true; more; {
		var level string
		level, topic, more = strings.Cut(topic, "/")
		if n = n.below[level]; n == nil {
			return nil
		}
	}
	if n.m == nil {
		return nil
	}
	return n
}

// grow returns the node of topic, made where it is missing.
func (r *retained) grow(topic string) *node {
	n := &r.root
	for more := true; more; {
		var level string
		level, topic, more = strings.Cut(topic, "/")
		next := n.below[level]
		if next == nil {
			// A copy: part of the topic would keep all of it.
			next = &node{parent: n, level: strings.Clone(level), due: -1}
			if n.below == nil {
				n.below = map[string]*node{}
			}
			n.below[next.level] = next
		}
		n = next
	}
	return n
}

// drop removes the message of n, and the nodes that then lead nowhere.
func (r *retained) drop(n *node) {
	r.due.remove(n)
	r.count--
	r.bytes -= n.size
	r.own(n, -1)
	n.m, n.size, n.owner = nil, 0, ""
	for n.parent != nil && n.m == nil && n.below == nil {
		up := n.parent
		delete(up.below, n.level)
		if len(up.below) == 0 {
			up.below = nil
		}
		n = up
	}
}

func (r *retained) expire(now time.Time) {
	for len(r.due) > 0 && r.due[0].m.Expired(now) {
		r.drop(r.due[0])
	}
}

func (r *retained) len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.count
}

// visit calls f with each message below n whose topic from there on matches
// filter, and with that of n if filter is "#".
func (n *node) visit(filter string, f func(m *wire.Shared)) {
	level, rest, more := strings.Cut(filter, "/")
	switch {
	case level == "#":
		n.all(f)
	case level != "+":
		n.below[level].follow(rest, more, f)
	default:
		for _, next := range n.below {
			next.follow(rest, more, f)
		}
	}
}

// follow goes on with what is left of a filter whose last level led to n, which
// may be nil.
func (n *node) follow(rest string, more bool, f func(m *wire.Shared)) {
	switch {
	case n == nil:
	case more:
		n.visit(rest, f)
	case n.m != nil:
		f(n.m)
	}
}

// all calls f with each message at and below n.
func (n *node) all(f func(m *wire.Shared)) {
	if n.m != nil {
		f(n.m)
	}
	for _, next := range n.below {
		next.all(f)
	}
}
