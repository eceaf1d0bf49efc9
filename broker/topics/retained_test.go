package topics

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker/wire"
)

func message(topic, payload string) *wire.Shared {
	return wire.NewShared(wire.Message{Topic: topic, Payload: []byte(payload), Retain: true})
}

func expiring(topic string, after time.Duration) *wire.Shared {
	return wire.NewShared(wire.Message{Topic: topic, Payload: []byte("on"), Retain: true, Expires: noon.Add(after)})
}

// payloads returns what is retained for filter, by topic.
func payloads(tree *Tree, filter string, now time.Time) map[string]string {
	found := map[string]string{}
	tree.Retained(filter, now, func(m *wire.Shared) { found[m.Topic()] = string(m.Payload()) })
	return found
}

func retain(t *testing.T, tree *Tree, m *wire.Shared, now time.Time, want error) {
	t.Helper()
	if err := tree.Retain(m, now); !errors.Is(err, want) {
		t.Errorf("retaining %q: %v, want %v", m.Topic(), err, want)
	}
}

// size is what one message of these tests takes.
func size(topic, payload string) int {
	return message(topic, payload).Size(wire.SendOptions{Version: 5, QoS: 1, Now: noon})
}

func TestTheNewestIsRetained(t *testing.T) {
	tree := New(Limits{Retained: 10, RetainedBytes: 1000})
	retain(t, tree, message("a", "1"), noon, nil)
	retain(t, tree, message("a/b", "2"), noon, nil)
	retain(t, tree, message("a", "3"), noon, nil)
	if got, want := fmt.Sprint(payloads(tree, "a/#", noon)), "map[a:3 a/b:2]"; got != want {
		t.Errorf("retained %s, want %s", got, want)
	}
	retain(t, tree, message("a", ""), noon, nil)
	retain(t, tree, message("c", ""), noon, nil) // nothing there
	if got, want := fmt.Sprint(payloads(tree, "#", noon)), "map[a/b:2]"; got != want {
		t.Errorf("retained %s, want %s", got, want)
	}
}

func TestRetainedIsBoundedInMessages(t *testing.T) {
	tree := New(Limits{Retained: 2, RetainedBytes: 1000})
	retain(t, tree, message("a", "1"), noon, nil)
	retain(t, tree, message("b", "1"), noon, nil)
	retain(t, tree, message("c", "1"), noon, ErrFull)
	retain(t, tree, message("b", "2"), noon, nil)
	retain(t, tree, message("a", ""), noon, nil)
	retain(t, tree, message("c", "2"), noon, nil)
	if got, want := fmt.Sprint(payloads(tree, "#", noon)), "map[b:2 c:2]"; got != want {
		t.Errorf("retained %s, want %s", got, want)
	}
}

func TestRetainedIsBoundedInBytes(t *testing.T) {
	tree := New(Limits{Retained: 10, RetainedBytes: 2*size("a", "1") + 2})
	retain(t, tree, message("a", "1"), noon, nil)
	retain(t, tree, message("b", "1"), noon, nil)
	retain(t, tree, message("c", "1"), noon, ErrFull)
	retain(t, tree, message("a", "123"), noon, nil)    // within the bytes
	retain(t, tree, message("b", "12"), noon, ErrFull) // not so, and b stays
	if got, want := fmt.Sprint(payloads(tree, "#", noon)), "map[a:123 b:1]"; got != want {
		t.Errorf("retained %s, want %s", got, want)
	}
	retain(t, tree, message("a", "1"), noon, nil)
	retain(t, tree, message("b", "123"), noon, nil)
}

// Properties count as well: a short payload does not hide them.
func TestPropertiesCountAsBytes(t *testing.T) {
	tree := New(Limits{Retained: 10, RetainedBytes: 1000})
	props := append([]byte{0x26, 0, 1, 'k', 0x03, 0xe8}, make([]byte, 1000)...)
	for i := range props[6:] {
		props[6+i] = 'v'
	}
	m := wire.NewShared(wire.Message{Topic: "a", Payload: []byte("1"), Props: props})
	retain(t, tree, m, noon, ErrFull)
}

func TestNothingIsRetainedWithoutLimits(t *testing.T) {
	for _, l := range []Limits{{}, {Retained: 10}, {RetainedBytes: 1000}, {Retained: -1, RetainedBytes: -1}} {
		tree := New(l)
		retain(t, tree, message("a", "1"), noon, ErrFull)
		retain(t, tree, message("a", ""), noon, nil)
		checkEmpty(t, tree)
	}
}

// A message is there until the instant at which it expires.
func TestRetainedExpires(t *testing.T) {
	tree := New(Limits{Retained: 10, RetainedBytes: 1000})
	retain(t, tree, expiring("a", 2*time.Second), noon, nil)
	retain(t, tree, expiring("b", time.Second), noon, nil)
	retain(t, tree, message("c", "on"), noon, nil)
	at := noon.Add(time.Second - 1)
	tree.Expire(at)
	if n := len(payloads(tree, "#", at)); n != 3 {
		t.Errorf("%d messages before any expires, want 3", n)
	}
	at = noon.Add(time.Second)
	if n := len(payloads(tree, "+", at)); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
	if _, n := tree.Counts(); n != 2 {
		t.Errorf("%d messages kept after they were asked for, want 2", n)
	}
	tree.Expire(noon.Add(time.Hour))
	if got, want := fmt.Sprint(payloads(tree, "#", noon)), "map[c:on]"; got != want {
		t.Errorf("retained %s, want %s", got, want)
	}
}

// The life of a message is its own: one in its place has another, or none.
func TestReplacingChangesExpiry(t *testing.T) {
	tree := New(Limits{Retained: 10, RetainedBytes: 1000})
	retain(t, tree, expiring("a", time.Second), noon, nil)
	retain(t, tree, message("a", "for ever"), noon, nil)
	retain(t, tree, expiring("b", time.Second), noon, nil)
	retain(t, tree, expiring("b", time.Minute), noon, nil)
	tree.Expire(noon.Add(2 * time.Second))
	if _, n := tree.Counts(); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
	retain(t, tree, expiring("a", time.Second), noon.Add(3*time.Second), nil) // over when it comes
	if got, want := fmt.Sprint(payloads(tree, "#", noon)), "map[b:on]"; got != want {
		t.Errorf("retained %s, want %s", got, want)
	}
}

// What has expired is no reason to refuse a new message.
func TestExpiredMakesRoom(t *testing.T) {
	tree := New(Limits{Retained: 1, RetainedBytes: 1000})
	retain(t, tree, expiring("a", time.Second), noon, nil)
	retain(t, tree, message("b", "1"), noon, ErrFull)
	retain(t, tree, message("b", "1"), noon.Add(time.Second), nil)
}

// Topics that come and go, cleared or expired, leave nothing.
func TestRetainedTopicsComeAndGo(t *testing.T) {
	const n = 100_000
	tree := New(Limits{Retained: n, RetainedBytes: n * 100})
	topic := func(i int) string { return fmt.Sprintf([]string{"a/%d", "a/b/%d/c", "%d/x/y", "%d"}[i%4], i) }
	for i := range n {
		if i%2 == 0 {
			retain(t, tree, message(topic(i), "on"), noon, nil)
		} else {
			retain(t, tree, expiring(topic(i), time.Duration(n-i)), noon, nil)
		}
	}
	if _, kept := tree.Counts(); kept != n {
		t.Errorf("%d messages, want %d", kept, n)
	}
	tree.Expire(noon.Add(n))
	for i := range n {
		retain(t, tree, message(topic(i), ""), noon, nil)
	}
	checkEmpty(t, tree)
}
