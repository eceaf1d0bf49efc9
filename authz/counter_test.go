package authz

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

func keyOf(i int) (k key) {
	binary.BigEndian.PutUint64(k[:], uint64(i))
	return k
}

// FuzzCounter counts failures at any moments beside a plain list of them. The
// counter never counts fewer, and counts the same up to maxMarks.
func FuzzCounter(f *testing.F) {
	f.Add([]byte{0, 0, 1, 200, 255, 3})
	f.Add(make([]byte, 40))
	f.Fuzz(func(t *testing.T, steps []byte) {
		const window = 300
		var c counter
		var all []moment
		now := moment(0)
		for _, s := range steps {
			now += moment(s)
			c.expire(now - window)
			c.add(now)
			all = append(all, now)
			n := 0
			for _, at := range all {
				if at > now-window {
					n++
				}
			}
			if c.n < n || len(all) <= maxMarks && c.n != n || len(c.marks) > maxMarks {
				t.Fatalf("%d failures are counted as %d in %d marks", n, c.n, len(c.marks))
			}
			until := c.below(n, window)
			if until <= now || until > now+window {
				t.Fatalf("below %d from %d, at %d", n, until, now)
			}
		}
	})
}

// A flood of made-up identifiers neither grows without bound nor frees one who
// has reached a limit.
func TestCountersAreBounded(t *testing.T) {
	const window = 10 * time.Minute
	cs := newCounters(5)
	guessers := 1000
	for i := range guessers {
		for range 5 {
			cs.add(keyOf(i), moment(i), window)
		}
	}
	now := moment(time.Second)
	for i := range 3 * maxCounters {
		now++
		cs.add(keyOf(guessers+i), now, window)
		if len(cs.m) > maxCounters {
			t.Fatalf("%d counters", len(cs.m))
		}
	}
	free := 0
	for i := range guessers {
		if cs.until(keyOf(i), now, window) == 0 {
			free++
		}
	}
	if free > 0 {
		t.Errorf("%d of %d who had reached the limit are free of it", free, guessers)
	}
	// What is over goes first.
	now += window
	cs.add(keyOf(-1), now, window)
	if len(cs.m) != 1 {
		t.Errorf("%d counters are left a window later", len(cs.m))
	}
}

// Counters that count nothing any more do not stay.
func TestCountersShrink(t *testing.T) {
	cs := newCounters(5)
	for i := range 100_000 {
		cs.add(keyOf(i), moment(i)*moment(time.Second), time.Minute)
		if len(cs.m) > 2048 {
			t.Fatalf("%d counters after %d, of which 60 count", len(cs.m), i)
		}
	}
}

func TestSetIsBounded(t *testing.T) {
	s := newSet(100)
	for i := range 10_000 {
		s.add(keyOf(i))
		s.add(keyOf(rand.IntN(i + 1)))
		if len(s.m) > 100 || !s.has(keyOf(i)) && i == 0 {
			t.Fatalf("%d keys", len(s.m))
		}
	}
}
