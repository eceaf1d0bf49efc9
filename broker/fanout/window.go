package fanout

import "github.com/muster-mqtt/muster/broker/wire"

// A flight is a message with QoS 1 or 2 that was sent, or is about to be, and
// is not acknowledged: it holds one packet identifier and one slot of the
// window. There is one window for everything that goes out on a connection.
type flight struct {
	item
	// queued is true if the packet was queued on this connection, sent if it was
	// handed to the writer since.
	queued, sent bool
	// ever is true if it was handed to the writer on any connection.
	ever bool
	// released is true between PUBREC and PUBCOMP of QoS 2.
	released bool
	// void is true if the right to the message has ended: the identifier stays
	// taken until it is acknowledged, and the message is not sent again.
	void bool
}

// A window holds the flights of a Session, oldest first. It is as small as the
// client's Receive Maximum (MQTT 5.0, 3.1.2.11.3), so it is a slice.
type window struct {
	flights []flight
	base    []flight // where the array of flights begins: acknowledged ones leave at the front
	// behind is true if flights may be there that were not queued on this connection.
	behind bool
	last   uint16 // the identifier given last
	bytes  int    // sum of the flights' sizes
}

func (w *window) find(id uint16) int {
	for i := range w.flights {
		if w.flights[i].id == id {
			return i
		}
	}
	return -1
}

// next returns an identifier that is not in use (MQTT 5.0, 2.2.1). There is one:
// the window is smaller than the identifiers are many.
func (w *window) next() uint16 {
	for {
		w.last++
		if w.last == 0 {
			continue
		}
		// Identifiers are given in their order, so that one that is ahead of the
		// oldest flight's is none of the others'.
		if len(w.flights) == 0 || w.last-w.flights[0].id-1 < 1<<15 || w.find(w.last) < 0 {
			return w.last
		}
	}
}

// add enters a flight.
func (w *window) add(f flight) {
	n := len(w.flights)
	if n == cap(w.flights) && 2*n <= cap(w.base) { // move to the front rather than grow
		base := w.base[:n]
		copy(base, w.flights)
		clear(w.flights[max(0, n-(cap(w.base)-cap(w.flights))):])
		w.flights = base
	}
	grown := n == cap(w.flights)
	w.flights = append(w.flights, f)
	if grown {
		w.base = w.flights[:0]
	}
	w.bytes += f.size
}

// release ends the message of a QoS 2 flight; its identifier stays taken.
func (w *window) release(i int) {
	f := &w.flights[i]
	w.bytes -= f.size
	f.released, f.frame, f.size = true, nil, 0
}

func (w *window) remove(i int) {
	w.bytes -= w.flights[i].size
	if i == 0 {
		w.flights[0] = flight{}
		w.flights = w.flights[1:]
		return
	}
	copy(w.flights[i:], w.flights[i+1:])
	w.flights[len(w.flights)-1] = flight{}
	w.flights = w.flights[:len(w.flights)-1]
}

// keep removes the flights that f does not choose.
func (w *window) keep(f func(*flight) bool) {
	kept := w.flights[:0]
	for i := range w.flights {
		if f(&w.flights[i]) {
			kept = append(kept, w.flights[i])
		} else {
			w.bytes -= w.flights[i].size
		}
	}
	clear(w.flights[len(kept):])
	w.flights = kept
}

// slot reports whether the window has room for one more message of the size.
func (m *Member) slot(size int) bool {
	n := len(m.win.flights)
	return n < m.slots && (n == 0 || m.win.bytes+size <= flightBytes*m.limits.Bytes)
}

// flightBytes is how many times the bytes that may wait may be unacknowledged.
const flightBytes = 4

// launch gives the message a slot of the window and queues it.
func (m *Member) launch(it item) {
	it.id = m.win.next()
	m.push(it)
	it.seq = m.seq
	m.win.add(flight{item: it, queued: true})
}

// advance launches what waits for slots.
func (m *Member) advance() {
	if m.sink == nil {
		return
	}
	// After a reconnect with a smaller Receive Maximum, flights beyond it wait
	// for a slot like new messages do.
	if m.win.behind {
		for i := range min(m.slots, len(m.win.flights)) {
			if f := &m.win.flights[i]; !f.queued {
				m.again(f)
			}
		}
		m.win.behind = len(m.win.flights) > m.slots
	}
	for m.held.len() > 0 && m.slot(m.held.front().size) {
		m.launch(m.held.pop())
	}
}

// Ack ends the flight of a QoS 1 message (PUBACK), or of a QoS 2 message
// (PUBCOMP, or PUBREC with an error).
func (m *Member) Ack(id uint16) {
	m.mu.Lock()
	if i := m.win.find(id); i >= 0 {
		m.win.remove(i)
		m.advance()
	}
	m.unlockWake()
}

// Received takes a PUBREC and queues the PUBREL. An unknown identifier is
// answered with reason 0x92 (MQTT 5.0, 3.6.2.1).
func (m *Member) Received(id uint16) {
	m.mu.Lock()
	var reason wire.Reason
	if i := m.win.find(id); i >= 0 {
		m.win.release(i)
	} else {
		reason = wire.PacketIDNotFound
	}
	m.push(item{raw: wire.AppendAck(nil, m.version, wire.PUBREL, id, reason)})
	m.unlockWake()
}
