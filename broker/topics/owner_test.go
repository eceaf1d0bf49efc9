package topics

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker/wire"
)

// An owner has so many messages and its share of the bytes; what goes, in whatever
// way, makes room, and others and nobody's are not held up.
func TestRetainedOfOneOwner(t *testing.T) {
	tree := New(Limits{Retained: 10, RetainedBytes: 10_000, RetainedPerOwner: 3})
	keep := func(owner, topic, payload string, expires time.Time, now time.Time, full bool) {
		t.Helper()
		m := wire.NewShared(wire.Message{Topic: topic, Payload: []byte(payload), Retain: true, Expires: expires})
		if err := tree.RetainOf(owner, m, now); errors.Is(err, ErrFull) != full {
			t.Errorf("%q of %q: %v", topic, owner, err)
		}
	}
	never := time.Time{}
	for i := range 3 {
		keep("ann", fmt.Sprint("a/", i), "x", never, noon, false)
	}
	keep("ann", "a/3", "x", never, noon, true)
	keep("ann", "a/0", "other", never, noon, false) // in the place of its own
	keep("bob", "b", "x", never, noon, false)
	keep("", "c", "x", never, noon, false)
	keep("ann", "b", "x", never, noon, true)    // bob's stays
	keep("bob", "a/0", "x", never, noon, false) // and is bob's now
	keep("ann", "a/3", "x", never, noon, false)
	keep("ann", "a/4", "x", never, noon, true)
	keep("ann", "a/3", "", never, noon, false) // removes it
	keep("ann", "a/4", "x", noon.Add(time.Minute), noon, false)
	keep("ann", "a/5", "x", never, noon, true)
	keep("ann", "a/5", "x", never, noon.Add(time.Minute), false) // a/4 has expired
	if got := len(payloads(tree, "#", noon.Add(time.Minute))); got != 6 {
		t.Errorf("%d are kept", got)
	}

	tree = New(Limits{Retained: 10, RetainedBytes: 10_000, RetainedPerOwner: 3})
	keep("ann", "a", strings.Repeat("x", 2000), never, noon, false)
	keep("ann", "b", strings.Repeat("x", 2000), never, noon, true)
	keep("ann", "a", strings.Repeat("x", 2900), never, noon, false)
	keep("ann", "b", "x", never, noon, false)
	keep("bob", "b", strings.Repeat("x", 2900), never, noon, false)
	keep("", "c", strings.Repeat("x", 3000), never, noon, false)
}
