package broker

import (
	"testing"
	"time"
)

// A bucket gives a second's worth at once, and the rest in its time.
func TestBucket(t *testing.T) {
	now := time.Now()
	var b bucket
	for i := range 10 {
		if wait := b.take(10, now); wait != 0 {
			t.Fatalf("the %d. of 10 waits %v", i+1, wait)
		}
	}
	for i := range 20 { // one after the other, each after its wait
		wait := b.take(10, now)
		if wait < 99*time.Millisecond || wait > 101*time.Millisecond {
			t.Fatalf("the %d. beyond waits %v", i+1, wait)
		}
		now = now.Add(wait)
	}
	now = now.Add(time.Hour) // no more than a second's worth is saved
	for i := range 11 {
		if wait := b.take(10, now); (wait > 0) != (i == 10) {
			t.Fatalf("after an hour the %d. waits %v", i+1, wait)
		}
	}
	now = now.Add(-time.Hour) // a clock that goes back gives nothing
	if wait := b.take(10, now); wait < 190*time.Millisecond || wait > time.Second {
		t.Errorf("waits %v", wait)
	}
}
