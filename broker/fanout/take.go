package fanout

import (
	"time"

	"github.com/muster-mqtt/muster/broker/wire"
)

// Take encodes what is queued, in order, to dst: packets until dst holds max
// bytes or nothing is left. A message that has expired at now and was never
// taken is dropped and counted (MQTT 5.0, 3.3.2.3.3). What it returns must be
// written, and Wrote called, before the next Take.
func (m *Member) Take(sink Sink, dst []byte, max int, now time.Time) []byte {
	m.mu.Lock()
	if m.sink != sink {
		m.mu.Unlock()
		return dst
	}
	m.taken = m.taken[:0]
	for size := len(dst); m.q.len() > 0 && size < max; {
		it := m.q.pop()
		i := -1
		if it.qos > 0 {
			i = m.win.find(it.id)
		}
		if it.frame != nil && !it.dup && it.frame.Expired(now) {
			m.lost++
			if i >= 0 {
				m.win.remove(i)
				m.advance()
			}
			continue
		}
		if i >= 0 {
			m.win.flights[i].sent, m.win.flights[i].ever = true, true
		}
		if it.roster {
			m.roster -= it.size
		}
		size += it.size
		m.taken = append(m.taken, it)
	}
	version, aliases, maxSize := m.version, m.aliases, m.maxSize
	taken := m.taken
	var done []*flip
	if len(taken) == 0 {
		done = m.drained() // all that they waited for has expired
	}
	m.mu.Unlock()
	finish(done)
	for i := range taken {
		it := &taken[i]
		if it.frame == nil {
			dst = append(dst, it.raw...)
			continue
		}
		o := wire.SendOptions{
			Version: version, QoS: it.qos, ID: it.id, Dup: it.dup, Retain: it.retain, SubIDs: it.subIDs, Now: now,
		}
		aliases.apply(it.frame, &o, maxSize)
		dst = it.frame.Append(dst, o)
	}
	return dst
}

// Wrote says that all that was taken is handed to the kernel. It reports
// whether there is more to take.
func (m *Member) Wrote(sink Sink) bool {
	m.mu.Lock()
	if m.sink != sink {
		m.mu.Unlock()
		return false
	}
	clear(m.taken)
	m.taken = m.taken[:0]
	done := m.drained()
	more := m.q.len() > 0
	m.settle()
	m.mu.Unlock()
	finish(done)
	return more
}
