package broker

import "time"

const (
	// wheelTick is how exact the times of a wheel are.
	wheelTick  = 100 * time.Millisecond
	wheelSlots = 1024
)

// A wheel knows when the time of each of a loop's connections may have come. Setting
// a time costs the same for one and for a million; a connection that is heard only
// moves its due time, which is looked at when the time first set has come.
type wheel struct {
	began time.Time
	tick  int64 // the last that has passed
	count int
	slots [wheelSlots]*conn
}

// timed is a connection's place in a wheel.
type timed struct {
	prev, next *conn
	slot       int32
	in         bool
}

func (w *wheel) start(now time.Time) { w.began = now }

// next returns when turn is to be called next; zero: nothing is due ever.
func (w *wheel) next() time.Time {
	if w.count == 0 {
		return time.Time{}
	}
	return w.began.Add(time.Duration(w.tick+1) * wheelTick)
}

// set has the connection looked at when t has come, or sooner; zero: never.
func (w *wheel) set(c *conn, t time.Time) {
	w.remove(c)
	if t.IsZero() {
		return
	}
	tick := int64((t.Sub(w.began) + wheelTick - 1) / wheelTick)
	tick = min(max(tick, w.tick+1), w.tick+wheelSlots-1)
	x := &c.looped.timed
	x.slot, x.in = int32(tick%wheelSlots), true
	x.prev, x.next = nil, w.slots[x.slot]
	if x.next != nil {
		x.next.looped.timed.prev = c
	}
	w.slots[x.slot] = c
	w.count++
}

func (w *wheel) remove(c *conn) {
	x := &c.looped.timed
	if !x.in {
		return
	}
	if x.prev != nil {
		x.prev.looped.timed.next = x.next
	} else {
		w.slots[x.slot] = x.next
	}
	if x.next != nil {
		x.next.looped.timed.prev = x.prev
	}
	*x = timed{}
	w.count--
}

// turn calls over for each connection whose due time has come.
func (w *wheel) turn(now time.Time, over func(*conn)) {
	last := int64(now.Sub(w.began) / wheelTick)
	if last-w.tick >= wheelSlots {
		w.tick = last - wheelSlots + 1 // each slot once is enough
	}
	for w.tick < last {
		w.tick++
		c := w.slots[w.tick%wheelSlots]
		for c != nil {
			next := c.looped.timed.next
			if c.looped.busy { // a worker may be changing when it is due
				w.set(c, now.Add(time.Second))
				c = next
				continue
			}
			due := c.looped.due
			switch {
			case due.IsZero():
				w.remove(c)
			case due.After(now):
				w.set(c, due)
			default:
				w.remove(c)
				over(c)
			}
			c = next
		}
	}
}
