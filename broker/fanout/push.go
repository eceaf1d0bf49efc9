package fanout

import "github.com/muster-mqtt/muster/group"

// Push queues packets that are never dropped: notices and events. If there is no
// connection they are lost. A peer that lets them grow beyond twice the Limits'
// bytes is disconnected.
func (m *Member) Push(packets ...[]byte) {
	m.mu.Lock()
	m.pushTo(m.sink, packets)
	m.unlockWake()
}

// PushTo queues packets like [Member.Push] if sink still is the Member's, else
// they are lost: what answers a packet must not reach another connection.
func (m *Member) PushTo(sink Sink, packets ...[]byte) {
	m.mu.Lock()
	m.pushTo(sink, packets)
	m.unlockWake()
}

// PushMade queues the packet that f makes for the connection, if there is one.
// f runs with the Member locked: it must not block or call the Member. A packet
// that the client has by its membership of a group n is discarded with the
// messages of the group; 0 is no group.
func (m *Member) PushMade(n group.Number, f func(Sink) []byte) {
	m.mu.Lock()
	if m.sink != nil && !m.failed {
		if raw := f(m.sink); len(raw) > 0 {
			m.push(item{raw: raw, group: n})
		}
	}
	m.unlockWake()
}

// PushRoster queues the parts of a group's roster, like [Member.PushMade]. A large
// one may be longer than anything else that may wait; so there is room for one
// beyond the Limits, and for others when that is written.
func (m *Member) PushRoster(sink Sink, n group.Number, parts ...[]byte) {
	m.mu.Lock()
	if sink == m.sink && sink != nil && !m.failed {
		free := m.roster == 0
		for _, raw := range parts {
			if len(raw) > 0 {
				m.push(item{raw: raw, group: n, roster: free})
			}
		}
	}
	m.unlockWake()
}

// Leftover takes what is queued and is no message, at the end of a connection:
// acknowledgements, answers, notices.
func (m *Member) Leftover(sink Sink) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sink != sink {
		return nil
	}
	var b []byte
	m.q.cut(func(it *item) bool {
		if it.frame == nil && it.group == 0 {
			b = append(b, it.raw...)
		}
		return it.frame == nil
	})
	return b
}

func (m *Member) pushTo(sink Sink, packets [][]byte) {
	if sink == nil || sink != m.sink || m.failed {
		return
	}
	for _, p := range packets {
		if len(p) > 0 {
			m.push(item{raw: p})
		}
	}
}

// unlockWake unlocks, then has the sink write or give up.
func (m *Member) unlockWake() {
	sink, wake := m.sink, m.q.len() > 0
	over := sink != nil && !m.failed && m.q.bytes-m.roster > 2*m.limits.Bytes
	if over {
		m.failed = true
	}
	m.settle()
	m.mu.Unlock()
	switch {
	case sink == nil:
	case over:
		sink.Overflow()
	case wake:
		sink.Wake()
	}
}

// push appends to the queue of what is written. The caller holds m.mu.
func (m *Member) push(it item) {
	if m.sink == nil {
		return
	}
	if it.frame == nil {
		it.size = len(it.raw) + 64
	}
	if it.roster {
		m.roster += it.size
	}
	m.seq++
	it.seq = m.seq
	m.q.push(it)
}
