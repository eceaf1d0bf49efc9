package fanout_test

import (
	"slices"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/group"
)

const long = time.Hour

// What is queued stays ahead of the answer, what waits for the window is
// discarded and counted, and nothing of the lost group follows.
func TestSetIsTheSwitchPoint(t *testing.T) {
	d := connected(t, fanout.Limits{}, 2, 1)
	d.offer(1, "a", "b", "held", "held too")
	d.ordinary("stays", 1)
	if n := d.set(2, 2); n != 2 {
		t.Errorf("%d discarded, want 2", n)
	}
	d.offer(1, "late")
	d.offer(2, "new")
	d.expect("g/1/a #1", "g/1/b #2", "answer")
	d.Ack(1)
	d.expect("stays #3")
	d.Ack(2)
	d.expect("g/2/new #4")
	if d.Epoch() != 2 || d.In(1) || !d.In(2) {
		t.Error("the memberships are not the new ones")
	}
}

// The identifier of what was in flight stays taken until it is acknowledged, and
// it is not sent again, on whichever connection.
func TestSetVoidsWhatIsInFlight(t *testing.T) {
	d := connected(t, fanout.Limits{}, 2, 1, 2)
	d.offer(1, "old")
	d.offer(2, "new")
	d.expect("g/1/old #1", "g/2/new #2")
	d.set(2, 2)
	d.expect("answer")
	d.offer(2, "next")
	d.expect() // both slots are taken
	d.Detach(d.sink)
	d.attach(2, 2, 2)
	d.expect("CONNACK", "g/2/new #2 dup", "g/2/next #3")
}

// A membership that has ended while the device was away is as one that ended
// before its eyes.
func TestAttachVoidsWhatWasInFlight(t *testing.T) {
	d := connected(t, fanout.Limits{}, 1, 1)
	d.offer(1, "flight", "held")
	d.expect("g/1/flight #1")
	d.Detach(d.sink)
	d.attach(1, 2)
	d.expect("CONNACK")
	d.ordinary("next", 1)
	d.expect("next #2")
}

// Flights that wait for a slot after a reconnect with a smaller window are not
// sent any more after a leave.
func TestSetDiscardsFlightsThatWaitForASlot(t *testing.T) {
	d := connected(t, fanout.Limits{}, 4, 1, 2)
	d.offer(1, "a", "b")
	d.offer(2, "stays")
	d.expect("g/1/a #1", "g/1/b #2", "g/2/stays #3")
	d.offer(1, "never sent")
	d.Detach(d.sink)
	d.attach(1, 1, 1, 2)
	d.expect("CONNACK", "g/1/a #1 dup")
	if n := d.set(2, 2); n != 1 {
		t.Errorf("%d discarded, want the one that was never sent", n)
	}
	d.expect("answer")
	d.Ack(1)
	d.expect("g/2/stays #3 dup")
	d.Ack(3)
	d.expect()
}

// Out of a group and in again in one change is another membership: what waits is
// of the old one.
func TestSetOutAndInAgain(t *testing.T) {
	d := connected(t, fanout.Limits{}, 1, 1)
	d.offer(1, "flight", "held")
	d.expect("g/1/flight #1")
	dropped := -1
	d.Set(fanout.Change{In: []fanout.Membership{{Number: 1, Since: 9, QoS: 1, Recv: true}}, Epoch: 3,
		Packets: func(_ fanout.Sink, n int) [][]byte { dropped = n; return nil }})
	if dropped != 1 {
		t.Errorf("%d discarded, want 1", dropped)
	}
	d.offer(1, "new")
	d.Ack(1)
	d.expect("g/1/new #2")
}

// Without a connection the change is made, its packets are lost, and what waited
// for the device of the lost group is gone.
func TestSetWithoutAConnection(t *testing.T) {
	d := connected(t, fanout.Limits{}, 1, 1)
	d.offer(1, "flight", "held", "held too")
	d.expect("g/1/flight #1")
	d.Detach(d.sink)
	if n := d.set(2); n != 2 {
		t.Errorf("%d discarded, want 2", n)
	}
	d.attach(1, 2)
	d.expect("CONNACK")
}

// An observer that is a member too keeps what its filters cover, and loses what
// came by its membership alone.
func TestSetForAnObserver(t *testing.T) {
	d := &device{t: t, version: 4, now: noon, Member: fanout.NewMember("dash", fanout.Limits{}, func(group.Number) bool { return true })}
	d.attach(1, 1, 1)
	d.expect("CONNACK")
	d.SetOwn([]fanout.Filter{{Filter: "g/+/all/+/a", QoS: 1}}, d.sink)
	d.offer(1, "flight", "b", "a")
	d.expect("g/1/flight #1")
	if n := d.set(2); n != 1 {
		t.Errorf("%d discarded, want 1", n)
	}
	d.expect("answer")
	d.Ack(1)
	d.expect("g/1/a #2")
}

// A change of options is no loss.
func TestSetOfOptions(t *testing.T) {
	d := connected(t, fanout.Limits{}, 1, 1)
	d.offer(1, "flight", "held")
	in := members(1)
	in[0].QoS, in[0].Filters = 0, []string{"g/+/all/+/b"}
	d.Set(fanout.Change{In: in, Epoch: 2})
	d.offer(1, "a", "b")
	d.expect("g/1/flight #1", "g/1/b")
	d.Ack(1)
	d.expect("g/1/held #2")
}

// A third party is answered when what was queued before is written, and at once
// if nothing was.
func TestForceWaitsForTheQueue(t *testing.T) {
	d := connected(t, fanout.Limits{}, 2, 1)
	d.offer(1, "a", "b", "held")
	done := d.force(false, long, 2)
	d.ordinary("behind", 0)
	d.waits(done)
	d.take(1)
	d.Wrote(d.sink)
	d.waits(done)
	d.take(1)
	d.waits(done) // taken is not written
	d.Wrote(d.sink)
	d.told(done, 1)
	d.expect("behind")
	d.told(d.force(false, long, 3), 0)
	d.waits(done)
}

// With purge, what is queued is discarded too, and its slots are free again.
func TestForcePurges(t *testing.T) {
	d := connected(t, fanout.Limits{}, 2, 1, 2)
	d.offer(1, "a", "b", "held")
	d.Offer(post(1, "zero", 0))
	d.offer(2, "stays")
	d.told(d.force(true, long, 2, 2), 4)
	d.expect("g/2/stays #3")
}

// What is being written when the order comes counts as not yet delivered.
func TestForcePurgeWaitsForTheWriter(t *testing.T) {
	d := connected(t, fanout.Limits{}, 0, 1)
	d.offer(1, "a", "b")
	if got := d.take(1); len(got) != 1 {
		t.Fatal(got)
	}
	done := d.force(true, long, 2)
	d.waits(done)
	d.Wrote(d.sink)
	d.told(done, 1)
	d.expect()
	if d.sink.cuts.Load() != 0 {
		t.Error("the connection was cut")
	}
}

// When patience ends, what is still queued is discarded; a writer in the middle
// of it is cut off, another one is not.
func TestForcePatienceEnds(t *testing.T) {
	d := connected(t, fanout.Limits{}, 0, 1)
	d.offer(1, "a", "b", "c")
	d.told(d.force(false, time.Millisecond, 2), 3)
	d.expect()
	if d.sink.cuts.Load() != 0 {
		t.Error("cut, with nothing of the group with the writer")
	}

	d = connected(t, fanout.Limits{}, 0, 1)
	d.offer(1, "a", "b", "c")
	d.take(1)
	d.told(d.force(false, time.Millisecond, 2), 2)
	if d.sink.cuts.Load() != 1 {
		t.Error("the writer was not cut off")
	}
}

// A device that is in the group again by the time patience ends keeps what it was
// sent since.
func TestForcePatienceSparesANewMembership(t *testing.T) {
	d := connected(t, fanout.Limits{}, 0, 1)
	d.offer(1, "old")
	done := d.force(false, 200*time.Millisecond, 2)
	d.Set(fanout.Change{In: []fanout.Membership{{Number: 1, Since: 9, QoS: 1, Recv: true}}, Epoch: 3})
	d.offer(1, "new")
	d.told(done, 1)
	d.expect("g/1/new #2")
	d.Detach(d.sink)
	d.Attach(fanout.Connection{Sink: d.sink, Version: 4, First: answer}, []fanout.Membership{{Number: 1, Since: 9, QoS: 1, Recv: true}}, 3)
	d.expect("answer", "g/1/new #2 dup")
}

// The end of the connection ends the waiting, as does its take-over.
func TestForceEndsWithTheConnection(t *testing.T) {
	d := connected(t, fanout.Limits{}, 0, 1)
	d.offer(1, "a", "b")
	d.take(1)
	done := d.force(false, long, 2)
	d.Detach(d.sink)
	d.told(done, 1) // a was with the writer
	d.attach(0, 2)
	d.expect("CONNACK")
	d.told(d.force(true, long, 3), 0)
}

// Several third parties are answered in the order of what they wait for.
func TestForceTwice(t *testing.T) {
	d := connected(t, fanout.Limits{}, 0, 1, 2)
	d.offer(1, "a")
	first := d.force(false, long, 2, 2)
	d.offer(2, "b")
	second := d.force(false, long, 3)
	d.take(1)
	d.Wrote(d.sink)
	d.told(first, 0)
	d.waits(second)
	d.take(1)
	d.Wrote(d.sink)
	d.told(second, 0)
}

// Subscription Identifiers of verbs come with the membership's messages, and end
// with the membership.
func TestJoinIDs(t *testing.T) {
	d := newDevice(t, fanout.Limits{})
	d.sink = &sink{}
	d.Attach(fanout.Connection{Sink: d.sink, Version: 5}, members(1), 1)
	d.SetOwn([]fanout.Filter{{Filter: "g/#", SubID: 9}}, d.sink)
	d.SetJoinIDs(map[group.Number]uint32{1: 7, 2: 8}) // it is not in 2
	ids := func(n group.Number) []uint32 {
		t.Helper()
		p := post(n, "x", 0)
		d.Offer(p)
		got := d.Take(d.sink, nil, 1<<20, noon)
		for _, ids := range [][]uint32{{7, 9}, {9}, {9, 7}} {
			if slices.Equal(got, p.Frame.Append(nil, wire.SendOptions{Version: 5, SubIDs: ids})) {
				return ids
			}
		}
		t.Fatalf("delivered % x", got)
		return nil
	}
	if got := ids(1); !slices.Equal(got, []uint32{7, 9}) {
		t.Errorf("identifiers %v, want 7 and 9", got)
	}
	d.Set(fanout.Change{In: members(2), Epoch: 2})
	if got := ids(2); !slices.Equal(got, []uint32{9}) {
		t.Errorf("identifiers %v, want 9", got)
	}
	d.Set(fanout.Change{In: members(1, 2), Epoch: 3, JoinIDs: map[group.Number]uint32{2: 7}})
	if got := ids(1); !slices.Equal(got, []uint32{9}) {
		t.Errorf("after the membership has ended and begun anew: identifiers %v, want 9", got)
	}
	if got := ids(2); !slices.Equal(got, []uint32{7, 9}) {
		t.Errorf("identifiers %v, want 7 and 9", got)
	}
}
