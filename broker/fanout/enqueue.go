package fanout

import "github.com/muster-mqtt/muster/broker/wire"

// A Delivery is one message for one Member, of an ordinary topic.
type Delivery struct {
	Frame  *wire.Shared
	QoS    byte // of the delivery: the lower of the message's and the subscription's
	Retain bool
	SubIDs []uint32
	// Share is the Shared Subscription by which the Member was chosen, as
	// subscribed; empty: none.
	Share string
	// Spare is true for a message that is dropped, and counted, where there is no
	// room for it: else one with a QoS above 0 ends the connection.
	Spare bool
}

// Enqueue queues a message of an ordinary topic, or keeps it for the Session
// while there is no connection if its QoS is above 0.
func (m *Member) Enqueue(d Delivery) {
	m.mu.Lock()
	ok := m.enqueue(item{frame: d.Frame, qos: d.QoS, retain: d.Retain, subIDs: d.SubIDs, share: d.Share})
	m.finishOffer(ok || d.Spare)
}

// finishOffer unlocks; ok is false if the connection must be ended.
func (m *Member) finishOffer(ok bool) {
	sink := m.sink
	if !ok {
		m.failed = true
	}
	m.mu.Unlock()
	switch {
	case sink == nil:
	case !ok:
		sink.Overflow()
	default:
		sink.WakeLater()
	}
}

// enqueue queues one message. It returns false if a message with QoS 1 or 2
// could not be queued for a connection: the peer is too slow.
func (m *Member) enqueue(it item) bool {
	size := it.frame.Size(wire.SendOptions{Version: m.version, QoS: it.qos, SubIDs: it.subIDs})
	if m.maxSize > 0 && size > m.maxSize {
		m.lost++ // MQTT 5.0, 3.1.2.11.4: as if it had been sent
		return true
	}
	it.size = size + 64
	full := m.full(it.size)
	if full && it.qos > 0 {
		m.lost += uint64(m.q.cut(func(w *item) bool { return w.frame != nil && w.qos == 0 }))
		full = m.full(it.size)
	}
	switch {
	case it.qos == 0 && (m.sink == nil || full):
		m.lost++
	case it.qos == 0:
		m.push(it)
	case full:
		m.lost++
		return m.sink == nil || m.failed
	case m.sink == nil || m.held.len() > 0 || !m.slot(it.size):
		m.held.push(it)
	default:
		m.launch(it)
	}
	return true
}

// full reports whether there is no room for one more message of the size. A roster
// that waits takes none of the Limits' room, and some of the Budget's.
func (m *Member) full(size int) bool {
	bytes := m.q.bytes + m.held.bytes + size
	return m.q.len()+m.held.len() >= m.limits.Messages || bytes-m.roster > m.limits.Bytes || !m.charge(bytes+m.win.bytes)
}
