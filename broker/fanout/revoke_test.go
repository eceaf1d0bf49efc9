package fanout_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/muster-mqtt/muster/broker/fanout"
)

// revoke takes the right to topics below "no" away.
func (d *device) revoke(dropped int, back ...string) {
	d.t.Helper()
	n, r := d.Revoke(func(topic string) bool { return strings.HasPrefix(topic, "no/") })
	var got []string
	for _, x := range r {
		got = append(got, x.Share+" "+x.Frame.Topic())
	}
	if n != dropped || !slices.Equal(got, back) {
		d.t.Errorf("%d are dropped, %q come back, want %d, %q", n, got, dropped, back)
	}
}

// What waits, for the writer or for a slot, goes and is counted; the rest comes in
// its order, and groups and packets are as they were.
func TestRevokeQueued(t *testing.T) {
	d := connected(t, fanout.Limits{}, 2, 1)
	d.ordinary("no/1", 0)
	d.ordinary("no/2", 1)
	d.ordinary("yes/1", 0)
	d.ordinary("yes/2", 1)
	d.ordinary("no/3", 2) // waits for a slot
	d.ordinary("yes/3", 1)
	d.offer(1, "x")
	d.revoke(3)
	d.expect("yes/1", "yes/2 #2", "yes/3 #3")
	d.Ack(2)
	d.expect("g/1/x #4")
	if d.Lost() != 3 {
		t.Errorf("%d are lost", d.Lost())
	}
	d.revoke(0)
}

// What was sent is not sent again, and its identifier stays taken until it is
// acknowledged.
func TestRevokeInFlight(t *testing.T) {
	d := connected(t, fanout.Limits{}, 3)
	d.ordinary("no/1", 1)
	d.ordinary("yes/1", 1)
	d.ordinary("no/2", 2)
	d.expect("no/1 #1", "yes/1 #2", "no/2 #3")
	d.revoke(0)
	d.ordinary("yes/2", 1)
	d.expect() // the window is full
	d.Ack(1)
	d.expect("yes/2 #4")
	d.Detach(d.sink)
	d.attach(3, 1)
	d.expect("CONNACK", "yes/1 #2 dup", "yes/2 #4 dup")
}

// The same while there is no connection, or not enough slots on the new one.
func TestRevokeWithoutConnection(t *testing.T) {
	d := connected(t, fanout.Limits{}, 2)
	d.ordinary("no/1", 1)
	d.ordinary("yes/1", 1)
	d.expect("no/1 #1", "yes/1 #2")
	d.Detach(d.sink)
	d.ordinary("no/2", 1)
	d.ordinary("yes/2", 1)
	d.revoke(1)
	d.attach(1, 1)
	d.expect("CONNACK", "yes/1 #2 dup")
	d.Ack(2)
	d.expect("yes/2 #3")
	d.revoke(0)
}

// A QoS 2 message that the client has received is completed.
func TestRevokeCompletes(t *testing.T) {
	d := connected(t, fanout.Limits{}, 2)
	d.ordinary("no/1", 2)
	d.expect("no/1 #1")
	d.Received(1)
	d.revoke(0)
	d.expect("PUBREL #1")
	d.Ack(1)
	d.ordinary("yes", 1)
	d.expect("yes #2")
}

// Messages of a shared subscription that nobody has seen are for others.
func TestRevokeShared(t *testing.T) {
	d := connected(t, fanout.Limits{}, 2)
	d.shared("$share/x/no/#", "no/1", 1)
	d.expect("no/1 #1")
	d.shared("$share/x/no/#", "no/2", 1)
	d.shared("$share/y/#", "no/3", 1)
	d.shared("$share/y/#", "no/4", 0)
	d.shared("$share/y/#", "yes", 1)
	d.revoke(3, "$share/y/# no/4", "$share/x/no/# no/2", "$share/y/# no/3")
	d.expect("yes #3")
}
