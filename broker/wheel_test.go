package broker

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Each connection is called for within a tick of its due time, however often that has
// moved, and never before; one that was removed, or is never due, is not.
func TestWheelCallsInTime(t *testing.T) {
	now := time.Unix(1000, 0)
	var w wheel
	w.start(now)
	rng := rand.New(rand.NewPCG(1, 2))
	const conns = 500
	all := make([]*conn, conns)
	called := map[*conn]int{}
	for i := range all {
		all[i] = &conn{looped: &looped{due: now.Add(time.Duration(rng.IntN(300_000)) * time.Millisecond)}}
		w.set(all[i], all[i].looped.due)
	}
	removed, never, busy := all[0], all[1], all[2]
	w.remove(removed)
	never.looped.due = time.Time{}
	busy.looped.busy = true
	end := now.Add(10 * time.Minute)
	for now.Before(end) {
		now = now.Add(time.Duration(1+rng.IntN(400)) * time.Millisecond)
		if c := all[3+rng.IntN(conns-3)]; called[c] == 0 && end.Sub(now) > 2*time.Minute {
			c.looped.due = max2(c.looped.due, now.Add(time.Duration(rng.IntN(100_000))*time.Millisecond)) // it was heard
		}
		w.turn(now, func(c *conn) {
			called[c]++
			if late := now.Sub(c.looped.due); late < 0 || late > wheelTick+400*time.Millisecond {
				t.Errorf("called %v after it was due", late)
			}
		})
		if next := w.next(); w.count > 0 && (next.Before(now) || next.Sub(now) > wheelTick) {
			t.Fatalf("the next turn is %v away", next.Sub(now))
		}
	}
	for i, c := range all {
		want := 1
		if i < 3 {
			want = 0
		}
		if called[c] != want {
			t.Errorf("connection %d is called %d times", i, called[c])
		}
	}
	w.remove(busy)
	if w.count != 0 || !w.next().IsZero() {
		t.Errorf("%d are left, the next turn at %v", w.count, w.next())
	}
}

func max2(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// A wheel that was not turned for long calls for all that has become due.
func TestWheelAfterASleep(t *testing.T) {
	now := time.Unix(1000, 0)
	var w wheel
	w.start(now)
	for i := range 100 {
		c := &conn{looped: &looped{due: now.Add(time.Duration(i) * time.Second)}}
		w.set(c, c.looped.due)
	}
	n := 0
	w.turn(now.Add(time.Hour), func(*conn) { n++ })
	if n != 100 || w.count != 0 {
		t.Errorf("%d were called for, %d are left", n, w.count)
	}
}
