package fanout_test

import (
	"slices"
	"testing"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
)

func (d *device) shared(share, topic string, qos byte) {
	d.Enqueue(fanout.Delivery{Frame: wire.NewShared(wire.Message{Topic: topic, QoS: qos}), QoS: qos, Share: share})
}

// reclaim takes back what belongs to the shares; none given means all.
func (d *device) reclaim(shares ...string) (topics []string) {
	for _, r := range d.Reclaim(func(s string) bool { return len(shares) == 0 || slices.Contains(shares, s) }) {
		topics = append(topics, r.Share+" "+r.Frame.Topic())
	}
	return topics
}

func TestReclaim(t *testing.T) {
	d := connected(t, fanout.Limits{}, 2)
	d.ordinary("own", 1)
	d.shared("$share/x/#", "sent", 1)
	d.shared("$share/x/#", "held", 1)
	d.shared("$share/y/#", "held 2", 2)
	d.shared("$share/x/#", "lost", 0)
	d.expect("own #1", "sent #2", "lost")
	if got := d.reclaim(); got != nil {
		t.Fatalf("%q taken back from a client that is connected", got)
	}
	d.Detach(d.sink)
	if got := d.Shares(); !slices.Equal(got, []string{"$share/x/#", "$share/y/#"}) && !slices.Equal(got, []string{"$share/y/#", "$share/x/#"}) {
		t.Fatalf("shares %q", got)
	}
	if got, want := d.reclaim("$share/x/#"), []string{"$share/x/# sent", "$share/x/# held"}; !slices.Equal(got, want) {
		t.Fatalf("taken back %q, want %q", got, want)
	}
	d.attach(2, 1)
	d.expect("CONNACK", "own #1 dup", "held 2 #3")
}

// A QoS 2 message that the client may have seen stays its own (MQTT 5.0, 4.8.2).
func TestReclaimLeavesQoS2InFlight(t *testing.T) {
	d := connected(t, fanout.Limits{}, 3)
	d.shared("$share/x/#", "sent", 2)
	d.shared("$share/x/#", "released", 2)
	d.expect("sent #1", "released #2")
	d.Received(2)
	d.shared("$share/x/#", "not sent", 2)
	d.Detach(d.sink)
	if got, want := d.reclaim(), []string{"$share/x/# not sent"}; !slices.Equal(got, want) {
		t.Fatalf("taken back %q, want %q", got, want)
	}
	d.attach(3, 1)
	d.expect("CONNACK", "sent #1 dup", "PUBREL #2")
	if got := d.Shares(); got != nil {
		t.Fatalf("shares %q", got)
	}
}
