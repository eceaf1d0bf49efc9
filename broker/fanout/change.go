package fanout

import (
	"slices"
	"time"

	"github.com/muster-mqtt/muster/group"
)

// A Change is what [Member.Set] and [Member.Force] make of a Member.
type Change struct {
	In    []Membership // ascending by number
	Epoch group.Epoch
	// Packets, if not nil, returns what is queued at the switch point. It is
	// given the connection, nil if there is none, and how many messages of lost
	// groups were held back and are discarded. It runs with the Member locked:
	// it must not block or call the Member.
	Packets func(sink Sink, dropped int) [][]byte
	// JoinIDs are Subscription Identifiers as for [Member.SetJoinIDs].
	JoinIDs map[group.Number]uint32
}

// Set is the switch point: from the one instant at which it queues c.Packets,
// the Member is in c.In. Messages of groups it no longer is in that stand in the
// queue already stay ahead of the packets; those that wait for the window are
// discarded, and those in flight are not sent again. The Engine's lists must
// hold the Member for the groups it gains before, and for those it loses until
// afterwards.
func (m *Member) Set(c Change) {
	m.mu.Lock()
	dropped, _ := m.become(c.In, c.Epoch)
	m.switched(c, dropped)
	m.unlockWake()
}

// switched queues the packets of the change. The caller holds m.mu.
func (m *Member) switched(c Change, dropped int) {
	m.setJoinIDs(c.JoinIDs)
	if c.Packets != nil {
		m.pushTo(m.sink, c.Packets(m.sink, dropped))
	}
}

// A flip is a third party that waits until what was queued before a change is
// handed to the kernel.
type flip struct {
	seq     uint64 // of the last item that was queued before
	lost    []group.Number
	dropped int
	done    func(dropped int)
	timer   *time.Timer
}

// Force is [Member.Set] for a change that somebody else asked for: done is
// called once, when no message of a lost group can reach the device any more,
// with the number of those that were discarded. With purge set, messages that
// are queued are discarded too; without, they have until patience ends, and
// are discarded then. A connection that is in the middle of writing them when
// patience ends is cut. done may be called before Force returns, and must not
// block.
func (m *Member) Force(c Change, purge bool, patience time.Duration, done func(dropped int)) {
	m.mu.Lock()
	dropped, lost := m.become(c.In, c.Epoch)
	before := m.seq
	if purge {
		dropped += m.purge(lost, before)
	}
	m.switched(c, dropped)
	if !m.q.any(func(it *item) bool { return it.of(lost, before) }) && !m.writing(lost, before) {
		m.unlockWake()
		done(dropped)
		return
	}
	f := &flip{seq: before, lost: lost, dropped: dropped, done: done}
	m.flips = append(m.flips, f)
	f.timer = time.AfterFunc(patience, func() { m.lose(f) })
	m.unlockWake()
}

// lose ends a flip whose patience has ended.
func (m *Member) lose(f *flip) {
	m.mu.Lock()
	i := slices.Index(m.flips, f)
	if i < 0 {
		m.mu.Unlock()
		return
	}
	m.flips = slices.Delete(m.flips, i, i+1)
	f.dropped += m.purge(f.lost, f.seq)
	sink := m.sink
	writing := m.writing(f.lost, f.seq)
	m.mu.Unlock()
	if writing && sink != nil {
		sink.Cut()
	}
	f.done(f.dropped)
}

// drained takes out the flips for which all that was queued before is written.
// The caller holds m.mu, and calls finish without it.
func (m *Member) drained() []*flip {
	var done []*flip
	m.flips = slices.DeleteFunc(m.flips, func(f *flip) bool {
		if m.q.len() > 0 && m.q.front().seq <= f.seq {
			return false
		}
		done = append(done, f)
		return true
	})
	return done
}

func finish(done []*flip) {
	for _, f := range done {
		f.timer.Stop()
		f.done(f.dropped)
	}
}

// become makes in the memberships. It returns the groups that are lost, and how
// many of their messages waited for the window and are discarded. The caller
// holds m.mu.
func (m *Member) become(in []Membership, epoch group.Epoch) (dropped int, lost []group.Number) {
	if e := m.limits.Engine; e != nil {
		now := e.posts.Load()
		for i := range in {
			in[i].from = now
			if k := m.index(in[i].Number); k >= 0 && m.in[k].Since == in[i].Since {
				in[i].from = m.in[k].from
			}
		}
	}
	for i := range m.in {
		n := m.in[i].Number
		// Out and in again in one change is another membership: what waits is
		// of the old one.
		if !slices.ContainsFunc(in, func(o Membership) bool { return o.Number == n && o.Since == m.in[i].Since }) {
			lost = append(lost, n)
		}
	}
	m.in, m.epoch = in, epoch
	if len(lost) == 0 {
		return 0, nil
	}
	for _, n := range lost {
		if m.index(n) < 0 {
			delete(m.joinIDs, n)
		}
	}
	dropped = m.held.cut(func(it *item) bool { return slices.Contains(lost, it.group) })
	m.win.keep(func(f *flight) bool {
		if !slices.Contains(lost, f.group) {
			return true
		}
		f.void = true
		if !f.queued && !f.ever {
			dropped++
		}
		return f.queued // else it waits for a slot of this connection, or for one
	})
	return dropped, lost
}

// purge discards what was queued of the groups up to a point, and is not yet
// being written. The caller holds m.mu.
func (m *Member) purge(lost []group.Number, upTo uint64) int {
	n := 0
	m.q.cut(func(it *item) bool {
		of := it.of(lost, upTo)
		if of && it.frame != nil && !it.dup { // else it has reached the device before
			n++
		}
		if of && it.roster {
			m.roster -= it.size
		}
		return of
	})
	// What has not been sent on this connection needs no acknowledgement.
	m.win.keep(func(f *flight) bool { return f.sent || !f.of(lost, upTo) })
	m.advance()
	return n
}

// writing reports whether some of that is being written. The caller holds m.mu.
func (m *Member) writing(lost []group.Number, upTo uint64) bool {
	return slices.ContainsFunc(m.taken, func(it item) bool { return it.of(lost, upTo) })
}
