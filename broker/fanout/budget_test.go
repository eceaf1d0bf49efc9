package fanout_test

import (
	"testing"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
)

func large(bytes int, qos byte) *fanout.Post {
	return &fanout.Post{Group: 1, Sender: "muster", Frame: wire.NewShared(wire.Message{
		Topic: "g/1/all/muster/x", Payload: make([]byte, bytes), QoS: qos,
	})}
}

// Members that share a Budget are bounded together; one for which little waits is
// not, and what was written, acknowledged or has ended is given back.
func TestBudget(t *testing.T) {
	b := fanout.NewBudget(100 << 10)
	l := fanout.Limits{Budget: b}
	slow, other, small := connected(t, l, 0, 1), connected(t, l, 0, 1), connected(t, l, 0, 1)
	for range 20 {
		slow.Offer(large(10<<10, 0))
	}
	if slow.Lost() == 0 || slow.Lost() > 12 || b.Used() > 100<<10 || b.Used() < 80<<10 {
		t.Fatalf("%d lost, %d bytes charged", slow.Lost(), b.Used())
	}
	other.Offer(large(40<<10, 0))
	if other.Lost() != 1 {
		t.Errorf("%d lost of a message for which the budget has no room", other.Lost())
	}
	for range 10 {
		small.offer(1, "little")
	}
	if small.Lost() != 0 || small.sink.overflows.Load() != 0 {
		t.Error("a Member for which little waits is bounded by what waits for others")
	}
	other.Offer(large(40<<10, 1))
	if other.sink.overflows.Load() != 1 {
		t.Error("QoS 1 that cannot wait was lost without a word")
	}
	slow.Detach(slow.sink)
	if b.Used() != 0 {
		t.Errorf("%d bytes charged when nothing waits", b.Used())
	}
	other.attach(0, 1, 1)
	other.Offer(large(40<<10, 1))
	if b.Used() == 0 {
		t.Error("what is in flight is not charged")
	}
	other.expect("CONNACK", "g/1/x #1")
	other.Ack(1)
	if b.Used() != 0 {
		t.Errorf("%d bytes charged after the acknowledgement", b.Used())
	}
	slow.attach(0, 1, 1)
	slow.Offer(large(60<<10, 1))
	var e fanout.Engine
	e.Remove(slow.Member)
	if b.Used() != 0 {
		t.Errorf("%d bytes charged for a Session that has ended", b.Used())
	}
	slow.Offer(large(60<<10, 1))
	if b.Used() != 0 {
		t.Errorf("%d bytes charged after the end", b.Used())
	}
}

// However many messages may be unacknowledged, their bytes are bounded: others wait.
func TestFlightBytes(t *testing.T) {
	d := connected(t, fanout.Limits{Bytes: 10_000, Window: 1000}, 0, 1)
	for i := range 8 {
		d.Offer(large(9000, 1))
		if i < 4 {
			d.expect("g/1/x #" + string(rune('1'+i)))
		}
	}
	d.expect()
	if n := d.sink.overflows.Load(); n != 1 {
		t.Errorf("%d overflows, want 1", n)
	}
	d.Ack(2)
	d.expect("g/1/x #5")
}
