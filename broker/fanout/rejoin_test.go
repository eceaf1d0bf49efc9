package fanout_test

import (
	"testing"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/group"
)

// A rejoiner leaves its group and joins it again when it is given a message.
type rejoiner struct {
	sink
	again func()
}

func (r *rejoiner) WakeLater() {
	if f := r.again; f != nil {
		r.again = nil
		f()
	}
}

// A device that leaves and joins again while a message is on its way to the group has
// it once, though the second membership stands where the message has yet to come.
func TestRejoinWithinAFanout(t *testing.T) {
	var e fanout.Engine
	limits := fanout.Limits{Engine: &e}
	e.Enter(fanout.NewMember("first", limits, nil), 1)
	d := fanout.NewMember("pump-7", limits, nil)
	e.Enter(d, 1)
	for range 1500 { // more than are asked together
		e.Enter(fanout.NewMember("other", limits, nil), 1)
	}
	r := &rejoiner{}
	in := func(since group.Rev) []fanout.Membership {
		return []fanout.Membership{{Number: 1, Since: since, Recv: true}}
	}
	d.Attach(fanout.Connection{Sink: r, Version: 4, First: []byte{0x20, 2, 0, 0}}, in(1), 1)
	take := func() int {
		n := len(d.Take(r, nil, 1<<20, noon))
		d.Wrote(r)
		return n
	}
	take()
	size := 0
	r.again = func() {
		size = take()
		d.Set(fanout.Change{Epoch: 2})
		e.Exit(d, 1)
		e.Enter(fanout.NewMember("filler", limits, nil), 1) // takes its place
		e.Enter(d, 1)
		d.Set(fanout.Change{In: in(3), Epoch: 3})
	}
	e.Publish(post(1, "x", 0))
	if size == 0 {
		t.Fatal("the message has not come")
	}
	if n := take(); n != 0 {
		t.Errorf("the message has come again: %d bytes", n)
	}
	e.Publish(post(1, "y", 0))
	if n := take(); n != size {
		t.Errorf("%d bytes of the next message, want %d", n, size)
	}
}
