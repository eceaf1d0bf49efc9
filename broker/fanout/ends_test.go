package fanout_test

import (
	"slices"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/group"
)

// event is a packet that a device has by its membership of a group.
func (d *device) event(n group.Number) {
	d.PushMade(n, func(fanout.Sink) []byte {
		return wire.AppendPublish(nil, d.version, "g/"+n.String()+"/all/muster/event", nil, nil)
	})
}

// Events of a group end with the membership that gave the right to them: those
// that are queued are discarded with its messages, and do not count as messages.
func TestEventsEndWithTheMembership(t *testing.T) {
	d := connected(t, fanout.Limits{}, 8, 1, 2)
	d.event(1)
	d.event(2)
	d.Offer(post(1, "message", 0))
	dropped := -1
	d.Force(fanout.Change{In: members(2), Epoch: 2}, true, 0, func(n int) { dropped = n })
	if dropped != 1 {
		t.Errorf("%d messages discarded, want 1", dropped)
	}
	d.expect("g/2/event")
}

// An event that is being written keeps whoever removes the device waiting, as a
// message does.
func TestEventIsWrittenBeforeTheAnswer(t *testing.T) {
	d := connected(t, fanout.Limits{}, 8, 1)
	d.event(1)
	d.take(1 << 20)
	answered := false
	d.Force(fanout.Change{Epoch: 2}, true, time.Hour, func(int) { answered = true })
	if answered {
		t.Fatal("answered while an event of the group was being written")
	}
	d.Wrote(d.sink)
	if !answered {
		t.Fatal("not answered when it was written")
	}
}

// What is said at the end of a connection is no event of a group.
func TestLeftoverHasNoEvents(t *testing.T) {
	d := connected(t, fanout.Limits{}, 8, 1)
	d.event(1)
	d.Push(answer)
	if got := d.decode(d.Leftover(d.sink)); !slices.Equal(got, []string{"answer"}) {
		t.Errorf("left over: %q", got)
	}
}

// Between the two connections of a take-over nothing with QoS 1 is lost; QoS 0
// is, and when a device is away for good, both are.
func TestMoveKeepsWhatComesBetween(t *testing.T) {
	d := connected(t, fanout.Limits{}, 8, 1)
	d.Move(d.sink)
	d.offer(1, "between")
	d.Offer(post(1, "zero", 0))
	d.attach(8, 1, 1)
	d.expect("CONNACK", "g/1/between #1")
	d.Ack(1)
	d.Detach(d.sink)
	d.offer(1, "away")
	d.attach(8, 1, 1)
	d.expect("CONNACK")
	if n := d.Lost(); n != 2 {
		t.Errorf("%d lost, want 2", n)
	}
}

// A roster may be longer than anything else that may wait, once: another that
// comes before it is written ends the connection, and nothing is queued then.
func TestOneLongRosterMayWait(t *testing.T) {
	d := connected(t, fanout.Limits{Bytes: 100}, 8, 1)
	long := wire.AppendPublish(nil, 4, "g/1/all/muster/roster", make([]byte, 1000), nil)
	d.PushRoster(d.sink, 1, long, long)
	if n := d.sink.overflows.Load(); n != 0 {
		t.Fatal("a roster ended the connection")
	}
	d.expect("g/1/roster", "g/1/roster")
	d.PushRoster(d.sink, 1, long)
	d.PushRoster(d.sink, 1, long)
	if n := d.sink.overflows.Load(); n != 1 {
		t.Fatalf("%d overflows after a second roster, want 1", n)
	}
	d.Push(answer)
	d.expect("g/1/roster", "g/1/roster") // what was queued, and no more
}

// An observer whose right to a group ends has nothing of it any more that waits,
// unless it is a member too.
func TestUnwatchDiscardsWhatWaits(t *testing.T) {
	d := &device{t: t, Member: fanout.NewMember("dash", fanout.Limits{}, func(group.Number) bool { return true }), version: 4, now: noon}
	d.attach(1, 1, 3)
	d.expect("CONNACK")
	d.SetOwn([]fanout.Filter{{Filter: "g/#", QoS: 1}}, nil)
	d.offer(1, "sent", "waits")
	d.offer(2, "waits")
	d.offer(3, "member")
	d.expect("g/1/sent #1")
	if n := d.Unwatch(func(n group.Number) bool { return n == 2 }); n != 1 {
		t.Errorf("%d discarded, want 1", n)
	}
	d.Ack(1)
	d.expect("g/2/waits #2")
	d.Ack(2)
	d.expect("g/3/member #3")
}

// A retained message for which there is no room is lost and counted: it does not
// end the connection, as a message that somebody has just sent does.
func TestSpareMessageEndsNoConnection(t *testing.T) {
	d := connected(t, fanout.Limits{Messages: 1}, 8)
	frame := wire.NewShared(wire.Message{Topic: "t", QoS: 1})
	for range 3 {
		d.Enqueue(fanout.Delivery{Frame: frame, QoS: 1, Retain: true, Spare: true})
	}
	if d.sink.overflows.Load() != 0 || d.Lost() != 2 {
		t.Errorf("%d overflows, %d lost", d.sink.overflows.Load(), d.Lost())
	}
}

// While a long roster waits, messages have the room that they always have.
func TestMessagesBesideALongRoster(t *testing.T) {
	d := connected(t, fanout.Limits{Bytes: 500}, 8, 1)
	d.PushRoster(d.sink, 1, wire.AppendPublish(nil, 4, "g/1/all/muster/roster", make([]byte, 5000), nil))
	d.offer(1, "a")
	d.Offer(post(1, "b", 0))
	if n := d.sink.overflows.Load(); n != 0 || d.Lost() != 0 {
		t.Fatalf("%d overflows, %d lost", n, d.Lost())
	}
	d.expect("g/1/roster", "g/1/a #1", "g/1/b")
	d.offer(1, "1", "2", "3", "4", "5", "6") // and no more than that
	if n := d.sink.overflows.Load(); n != 1 {
		t.Errorf("%d overflows, want 1", n)
	}
}
