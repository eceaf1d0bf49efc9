package fanout

import "github.com/muster-mqtt/muster/group"

// Revoke discards the messages whose Topic Names lost chooses: those that wait,
// and those in flight, which are not sent again; their identifiers stay taken
// until they are acknowledged. What is being written is not held back. It returns
// how many were discarded without having been sent, and of these the messages of
// Shared Subscriptions, which others may have. lost runs with the Member locked:
// it must not block or call the Member.
func (m *Member) Revoke(lost func(topic string) bool) (dropped int, back []Reclaimed) {
	return m.discard(func(it *item) bool { return it.frame != nil && lost(it.frame.Topic()) })
}

// Unwatch discards, like [Member.Revoke], the messages that the Member has by an
// observer's right to a group that sees says it no longer has.
func (m *Member) Unwatch(sees func(group.Number) bool) (dropped int) {
	dropped, _ = m.discard(func(it *item) bool { return it.seen != 0 && !sees(it.seen) && m.index(it.seen) < 0 })
	return dropped
}

// discard does it for the messages that of chooses.
func (m *Member) discard(of func(*item) bool) (dropped int, back []Reclaimed) {
	count := func(it *item) {
		dropped++
		if it.reclaimable() {
			back = append(back, Reclaimed{it.share, it.frame})
		}
	}
	m.mu.Lock()
	m.q.cut(func(it *item) bool {
		cut := of(it)
		if cut && it.qos == 0 { // others are counted as flights
			count(it)
		}
		return cut
	})
	m.win.keep(func(f *flight) bool {
		if !of(&f.item) {
			return true
		}
		if !f.void && !f.ever { // else it has reached the client, or may have
			count(&f.item)
		}
		f.void = true
		return f.sent // else the client knows nothing of it on this connection
	})
	m.held.cut(func(it *item) bool {
		cut := of(it)
		if cut {
			count(it)
		}
		return cut
	})
	m.lost += uint64(dropped)
	m.settle()
	m.advance()
	var done []*flip
	if len(m.taken) == 0 {
		done = m.drained() // what they waited for is gone
	}
	m.unlockWake()
	finish(done)
	return dropped, back
}
