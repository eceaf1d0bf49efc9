package fanout_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/group"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// A sink counts what the Member asks of it.
type sink struct{ wakes, overflows, cuts atomic.Int64 }

func (s *sink) Wake()      { s.wakes.Add(1) }
func (s *sink) WakeLater() { s.Wake() }
func (s *sink) Overflow()  { s.overflows.Add(1) }
func (s *sink) Cut()       { s.cuts.Add(1) }

// A device is a Member with its connection, and a writer that is the test.
type device struct {
	t *testing.T
	*fanout.Member
	sink    *sink
	version byte
	now     time.Time
}

func newDevice(t *testing.T, l fanout.Limits) *device {
	return &device{t: t, Member: fanout.NewMember("pump-7", l, nil), version: 4, now: noon}
}

// attach connects with a window, in the groups, and drops the CONNACK.
func (d *device) attach(window int, epoch group.Epoch, in ...group.Number) {
	d.t.Helper()
	d.sink = &sink{}
	d.Attach(fanout.Connection{Sink: d.sink, Version: d.version, Window: window, First: []byte{0x20, 2, 0, 0}}, members(in...), epoch)
}

// connected is a device with QoS 1 in the groups, whose CONNACK is written.
func connected(t *testing.T, l fanout.Limits, window int, in ...group.Number) *device {
	t.Helper()
	d := newDevice(t, l)
	d.attach(window, 1, in...)
	d.expect("CONNACK")
	return d
}

func members(in ...group.Number) []fanout.Membership {
	out := make([]fanout.Membership, len(in))
	for i, n := range in {
		out[i] = fanout.Membership{Number: n, Since: group.Rev(n), QoS: 1, Recv: true}
	}
	return out
}

// post is a message to all of a group, with the rest as its payload too.
func post(n group.Number, rest string, qos byte) *fanout.Post {
	return &fanout.Post{Group: n, Part: fanout.All, Sender: "muster", Frame: wire.NewShared(wire.Message{
		Topic: fmt.Sprintf("g/%d/all/muster/%s", n, rest), Payload: []byte(rest), QoS: qos,
	})}
}

// offer offers messages of a group with QoS 1.
func (d *device) offer(n group.Number, rests ...string) {
	for _, r := range rests {
		d.Offer(post(n, r, 1))
	}
}

// ordinary queues an ordinary message.
func (d *device) ordinary(topic string, qos byte) {
	d.Enqueue(fanout.Delivery{Frame: wire.NewShared(wire.Message{Topic: topic, QoS: qos}), QoS: qos})
}

// take takes up to max bytes, as text.
func (d *device) take(max int) []string {
	d.t.Helper()
	return d.decode(d.Take(d.sink, nil, max, d.now))
}

// expect writes all that is queued and compares it.
func (d *device) expect(want ...string) {
	d.t.Helper()
	var got []string
	for more := true; more; more = d.Wrote(d.sink) {
		got = append(got, d.take(1<<20)...)
	}
	if !slices.Equal(got, want) {
		d.t.Fatalf("written\n  %q, want\n  %q", got, want)
	}
}

// decode writes packets as "g/1/x #3 dup": group, rest of the topic, identifier.
func (d *device) decode(b []byte) (out []string) {
	d.t.Helper()
	for len(b) > 0 {
		n, err := wire.Frame(b, 1<<20)
		if n == 0 || err != nil && wire.FrameType(b) != wire.CONNACK {
			d.t.Fatalf("no whole packet: % x (%v)", b, err)
		}
		frame := b[:n]
		b = b[n:]
		switch wire.FrameType(frame) {
		case wire.PUBLISH:
			p, err := wire.ParsePublish(frame, d.version)
			if err != nil {
				d.t.Fatal(err)
			}
			s := strings.Replace(string(p.Topic), "all/muster/", "", 1)
			if p.QoS > 0 {
				s += fmt.Sprintf(" #%d", p.ID)
			}
			if p.Dup {
				s += " dup"
			}
			out = append(out, s)
		case wire.PUBREL:
			out = append(out, fmt.Sprintf("PUBREL #%d", int(frame[2])<<8|int(frame[3])))
		case wire.CONNACK:
			out = append(out, "CONNACK")
		case wire.PINGRESP:
			out = append(out, "answer")
		default:
			d.t.Fatalf("an unexpected packet % x", frame)
		}
	}
	return out
}

// answer is a packet that stands for the answer to a change.
var answer = []byte{0xD0, 0}

// set makes a change of the device's own, with an answer in its queue.
func (d *device) set(epoch group.Epoch, in ...group.Number) (dropped int) {
	d.Set(fanout.Change{In: members(in...), Epoch: epoch, Packets: func(_ fanout.Sink, n int) [][]byte {
		dropped = n
		return [][]byte{answer}
	}})
	return dropped
}

// force makes a change that somebody else asked for, and returns where the
// number of discarded messages comes.
func (d *device) force(purge bool, patience time.Duration, epoch group.Epoch, in ...group.Number) chan int {
	done := make(chan int, 2)
	d.Force(fanout.Change{In: members(in...), Epoch: epoch}, purge, patience, func(n int) { done <- n })
	return done
}

// waits fails the test if the third party has been answered.
func (d *device) waits(done chan int) {
	d.t.Helper()
	select {
	case n := <-done:
		d.t.Fatalf("answered with %d discarded, before it is true", n)
	default:
	}
}

// told fails the test unless the third party is answered with n.
func (d *device) told(done chan int, n int) {
	d.t.Helper()
	select {
	case got := <-done:
		if got != n {
			d.t.Fatalf("told that %d were discarded, want %d", got, n)
		}
	case <-time.After(20 * time.Second):
		d.t.Fatal("not answered")
	}
}
