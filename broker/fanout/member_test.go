package fanout_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/group"
)

// What does not fit the window waits for an acknowledgement, in order, and QoS 0
// does not wait with it.
func TestMemberWindow(t *testing.T) {
	d := connected(t, fanout.Limits{}, 2, 1)
	d.offer(1, "a", "b", "c", "d")
	d.Offer(post(1, "zero", 0))
	d.expect("g/1/a #1", "g/1/b #2", "g/1/zero")
	d.Ack(7) // never given
	d.expect()
	d.Ack(2)
	d.expect("g/1/c #3")
	d.Ack(1)
	d.Ack(1)
	d.expect("g/1/d #4")
	d.Ack(3)
	d.Ack(4)
	d.offer(1, "e")
	d.expect("g/1/e #5")
}

// A Receive Maximum larger than the Limits' window does not widen it.
func TestMemberWindowIsTheLowest(t *testing.T) {
	d := connected(t, fanout.Limits{Window: 1}, 65535, 1)
	d.offer(1, "a", "b")
	d.expect("g/1/a #1")
}

// Identifiers go around, and skip those that are in use.
func TestMemberIdentifiers(t *testing.T) {
	d := connected(t, fanout.Limits{}, 2, 1)
	d.offer(1, "stays")
	d.expect("g/1/stays #1")
	for i := range 2*65535 - 1 {
		d.offer(1, "x")
		want := i%65534 + 2 // 1 is in use, 0 is none
		if got := d.take(1); !slices.Equal(got, []string{fmt.Sprintf("g/1/x #%d", want)}) {
			t.Fatalf("message %d is %q, want #%d", i, got, want)
		}
		d.Wrote(d.sink)
		d.Ack(uint16(want))
	}
}

// What was not acknowledged is sent again on the next connection, with DUP if it
// was ever handed to the writer, with the identifier it had, ahead of what waits.
func TestMemberResend(t *testing.T) {
	d := connected(t, fanout.Limits{}, 3, 1)
	d.offer(1, "a", "b")
	d.expect("g/1/a #1", "g/1/b #2")
	d.offer(1, "c", "d")
	d.Offer(post(1, "zero", 0))
	if !d.Detach(d.sink) {
		t.Fatal("the sink was not the Member's")
	}
	if d.Lost() != 1 {
		t.Errorf("%d lost, want the one with QoS 0", d.Lost())
	}
	d.attach(0, 1, 1)
	d.expect("CONNACK", "g/1/a #1 dup", "g/1/b #2 dup", "g/1/c #3", "g/1/d #4")
	d.Detach(d.sink)
	d.attach(0, 1, 1)
	d.expect("CONNACK", "g/1/a #1 dup", "g/1/b #2 dup", "g/1/c #3 dup", "g/1/d #4 dup")
}

// With a smaller Receive Maximum than before, flights beyond it wait for a slot:
// those that were sent before, and those that never were.
func TestMemberResendThroughASmallerWindow(t *testing.T) {
	d := connected(t, fanout.Limits{}, 4, 1)
	d.offer(1, "a", "b")
	d.expect("g/1/a #1", "g/1/b #2")
	d.offer(1, "c", "d", "e")
	d.Detach(d.sink)
	d.attach(1, 1, 1)
	d.expect("CONNACK", "g/1/a #1 dup")
	for i, want := range []string{"g/1/b #2 dup", "g/1/c #3", "g/1/d #4", "g/1/e #5"} {
		d.Ack(uint16(i + 1))
		d.expect(want)
	}
}

// While there is no connection nothing of a group is kept, and of ordinary
// messages what has QoS 1 or 2.
func TestMemberAway(t *testing.T) {
	d := connected(t, fanout.Limits{Messages: 3}, 0, 1)
	d.Detach(d.sink)
	d.offer(1, "away")
	d.ordinary("zero", 0)
	d.ordinary("one", 1)
	d.ordinary("two", 2)
	d.ordinary("three", 1)
	d.ordinary("full", 1)
	d.Push(answer)
	if d.Lost() != 3 {
		t.Errorf("%d lost, want 3: of the group, with QoS 0, beyond the limit", d.Lost())
	}
	d.attach(0, 1, 1)
	d.expect("CONNACK", "one #1", "two #2", "three #3")
	if d.sink.overflows.Load() != 0 {
		t.Error("a connection was ended for what overflowed while there was none")
	}
}

// QoS 2 goes out with its handshake, which a new connection takes up where it
// was.
func TestMemberQoS2(t *testing.T) {
	d := connected(t, fanout.Limits{}, 2)
	d.ordinary("a", 2)
	d.ordinary("b", 2)
	d.ordinary("c", 2)
	d.expect("a #1", "b #2")
	d.Received(1)
	d.expect("PUBREL #1")
	d.Received(99) // unknown
	d.expect("PUBREL #99")
	d.Detach(d.sink)
	d.attach(2, 1)
	d.expect("CONNACK", "PUBREL #1", "b #2 dup")
	d.Received(1) // the client repeats itself
	d.expect("PUBREL #1")
	d.Ack(1)
	d.expect("c #3")
	d.Received(2)
	d.Ack(2)
	d.Ack(3) // PUBREC with an error
	d.expect("PUBREL #2")
	d.Detach(d.sink)
	d.attach(2, 1)
	d.expect("CONNACK")
}

// A queue that is full drops QoS 0 first and counts it; then the connection is
// to be ended, once.
func TestMemberOverflow(t *testing.T) {
	d := connected(t, fanout.Limits{Messages: 4}, 2, 1)
	for range 6 {
		d.Offer(post(1, "zero", 0))
	}
	if d.Lost() != 2 || d.sink.overflows.Load() != 0 {
		t.Fatalf("%d lost, %d overflows; want 2, 0", d.Lost(), d.sink.overflows.Load())
	}
	d.offer(1, "a")
	if d.Lost() != 6 {
		t.Fatalf("%d lost, want 6: QoS 0 makes room", d.Lost())
	}
	d.offer(1, "b", "c", "d")
	if d.sink.overflows.Load() != 0 {
		t.Fatal("the connection was ended with room in the queue")
	}
	d.Push(answer) // an answer is no message: it is never dropped
	d.offer(1, "e", "f")
	if n := d.sink.overflows.Load(); n != 1 || d.Lost() != 8 {
		t.Fatalf("%d overflows, %d lost; want 1, 8", n, d.Lost())
	}
	d.expect("g/1/a #1", "g/1/b #2", "answer")
}

// Bytes are bounded as well as messages, and what was written makes room.
func TestMemberOverflowBytes(t *testing.T) {
	d := connected(t, fanout.Limits{Bytes: 4096}, 0, 1)
	big := wire.NewShared(wire.Message{Topic: "g/1/all/muster/x", Payload: make([]byte, 3000), QoS: 1})
	for i := range 3 {
		d.Offer(&fanout.Post{Group: 1, Sender: "muster", Frame: big})
		d.expect(fmt.Sprintf("g/1/x #%d", i+1))
	}
	d.Offer(&fanout.Post{Group: 1, Sender: "muster", Frame: big})
	d.Offer(&fanout.Post{Group: 1, Sender: "muster", Frame: big})
	if n := d.sink.overflows.Load(); n != 1 {
		t.Fatalf("%d overflows, want 1", n)
	}
}

// A client that lets answers grow without taking them is disconnected.
func TestMemberAnswersAreBounded(t *testing.T) {
	d := connected(t, fanout.Limits{Bytes: 1000}, 0)
	n := 0
	for ; d.sink.overflows.Load() == 0; n++ {
		if n > 1000 {
			t.Fatal("answers grow without bound")
		}
		d.Push(make([]byte, 100))
	}
	d.Push(answer)
	if d.sink.overflows.Load() != 1 {
		t.Error("the connection was ended twice")
	}
}

// What does not fit the client's Maximum Packet Size is left out, takes no slot
// of the window, and is counted.
func TestMemberMaximumPacketSize(t *testing.T) {
	d := newDevice(t, fanout.Limits{})
	d.sink = &sink{}
	fits := len("g/1/all/muster/") + 2*len("fits") + 2 + 2 + 2
	d.Attach(fanout.Connection{Sink: d.sink, Version: 4, MaxSize: fits, Window: 1, First: answer}, members(1), 1)
	d.offer(1, "large", "fits")
	d.expect("answer", "g/1/fits #1")
	if d.Lost() != 1 {
		t.Errorf("%d lost, want 1", d.Lost())
	}
}

// A message that has expired before it was sent is not sent: not from the queue,
// not from behind the window, not after an absence. What was in flight before is
// sent again.
func TestMemberExpiry(t *testing.T) {
	d := connected(t, fanout.Limits{}, 1, 1)
	expiring := func(topic string, after time.Duration) fanout.Delivery {
		return fanout.Delivery{QoS: 1, Frame: wire.NewShared(wire.Message{Topic: topic, QoS: 1, Expires: noon.Add(after)})}
	}
	d.Enqueue(expiring("flight", time.Second))
	d.expect("flight #1")
	d.Enqueue(expiring("held", time.Second))
	d.Enqueue(expiring("lives", time.Minute))
	d.Enqueue(fanout.Delivery{Frame: expiring("zero", time.Second).Frame})
	d.now = noon.Add(time.Second)
	d.expect()
	d.Ack(1)
	d.expect("lives #3")
	if d.Lost() != 2 {
		t.Errorf("%d lost, want 2", d.Lost())
	}
	d.Detach(d.sink)
	d.Enqueue(expiring("away", 2*time.Second))
	d.now = noon.Add(time.Hour)
	d.attach(1, 1, 1)
	d.expect("CONNACK", "lives #3 dup")
	d.Ack(3)
	d.expect()
	d.offer(1, "next")
	d.expect("g/1/next #5")
}

// A sink that is no longer the Member's takes and ends nothing.
func TestMemberOldSink(t *testing.T) {
	d := connected(t, fanout.Limits{}, 0, 1)
	old := d.sink
	d.Detach(old)
	d.attach(0, 1, 1)
	d.offer(1, "a")
	d.PushTo(old, answer)
	if b := d.Take(old, nil, 1<<20, noon); len(b) > 0 {
		t.Errorf("the old sink took % x", b)
	}
	if d.Wrote(old) || d.Detach(old) || len(d.Leftover(old)) > 0 || !d.Attached() {
		t.Error("the old sink still counts")
	}
	d.expect("CONNACK", "g/1/a #1")
}

// At the end of a connection answers are still said, and messages are not.
func TestMemberLeftover(t *testing.T) {
	d := connected(t, fanout.Limits{}, 0, 1)
	d.offer(1, "a")
	d.Push(answer)
	d.offer(1, "b")
	d.Push(answer)
	if got := d.decode(d.Leftover(d.sink)); !slices.Equal(got, []string{"answer", "answer"}) {
		t.Errorf("left over: %q", got)
	}
}

// Take gives whole packets until there are enough bytes, and at least one.
func TestMemberTakeInParts(t *testing.T) {
	d := connected(t, fanout.Limits{}, 0, 1)
	d.offer(1, "a", "b", "c")
	if got := d.take(1); len(got) != 1 || !d.Wrote(d.sink) {
		t.Fatalf("took %q", got)
	}
	d.expect("g/1/b #2", "g/1/c #3")
}

// Who the message is from, for whom it is, and what the membership wants decide.
func TestMemberOffer(t *testing.T) {
	all := []fanout.Membership{{Number: 1, QoS: 1, Recv: true}}
	filtered := []fanout.Membership{{Number: 1, QoS: 1, Recv: true, Filters: []string{"g/+/all/+/a/#", "g/+/all/+/b"}}}
	mute := []fanout.Membership{{Number: 1, QoS: 1}}
	zero := []fanout.Membership{{Number: 1, Recv: true}}
	tests := []struct {
		name   string
		in     []fanout.Membership
		own    []fanout.Filter
		part   fanout.Part
		target group.ClientID
		sender group.ClientID
		topic  string
		want   string // QoS, or "" for nothing
	}{
		{"all", all, nil, fanout.All, "", "x", "g/1/all/x/a", "1"},
		{"all, no echo", all, nil, fanout.All, "", "pump-7", "g/1/all/pump-7/a", ""},
		{"another group", all, nil, fanout.All, "", "x", "g/2/all/x/a", ""},
		{"QoS 0 membership", zero, nil, fanout.All, "", "x", "g/1/all/x/a", "0"},
		{"filter", filtered, nil, fanout.All, "", "x", "g/1/all/x/a/b/c", "1"},
		{"filter, parent level", filtered, nil, fanout.All, "", "x", "g/1/all/x/a", "1"},
		{"second filter", filtered, nil, fanout.All, "", "x", "g/1/all/x/b", "1"},
		{"no filter matches", filtered, nil, fanout.All, "", "x", "g/1/all/x/c", ""},
		{"no rest", filtered, nil, fanout.All, "", "x", "g/1/all/x", ""},
		{"a sender named like a filter's level", filtered, nil, fanout.All, "", "a", "g/1/all/a/c", ""},
		{"to, whatever the filter", filtered, nil, fanout.To, "pump-7", "x", "g/1/to/pump-7/x/c", "1"},
		{"to another", all, nil, fanout.To, "pump-8", "x", "g/1/to/pump-8/x/c", ""},
		{"to oneself from oneself", all, nil, fanout.To, "pump-7", "pump-7", "g/1/to/pump-7/pump-7/c", ""},
		{"up", all, []fanout.Filter{{Filter: "g/#", QoS: 1}}, fanout.Up, "", "x", "g/1/up/x/c", ""},
		{"recv off", mute, nil, fanout.All, "", "x", "g/1/all/x/a", ""},
		{"recv off, to", mute, nil, fanout.To, "pump-7", "x", "g/1/to/pump-7/x/a", ""},
		{"recv off, a filter of one's own", mute, []fanout.Filter{{Filter: "g/#"}}, fanout.All, "", "x", "g/1/all/x/a", "0"},
		{"a filter of one's own raises the QoS", zero, []fanout.Filter{{Filter: "g/+/all/#", QoS: 1}}, fanout.All, "", "x", "g/1/all/x/a", "1"},
		{"a filter of one's own echoes", all, []fanout.Filter{{Filter: "g/#", QoS: 1}}, fanout.All, "", "pump-7", "g/1/all/pump-7/a", "1"},
		{"No Local", all, []fanout.Filter{{Filter: "g/#", QoS: 1, NoLocal: true}}, fanout.All, "", "pump-7", "g/1/all/pump-7/a", ""},
		{"No Local of one filter only", all, []fanout.Filter{{Filter: "g/#", QoS: 1, NoLocal: true}, {Filter: "g/1/all/#"}}, fanout.All, "", "pump-7", "g/1/all/pump-7/a", "0"},
		{"a filter of one's own in another group", all, []fanout.Filter{{Filter: "g/#", QoS: 1}}, fanout.All, "", "x", "g/2/all/x/a", ""},
	}
	for _, tt := range tests {
		d := newDevice(t, fanout.Limits{})
		d.sink = &sink{}
		d.Attach(fanout.Connection{Sink: d.sink, Version: 4}, tt.in, 1)
		d.SetOwn(tt.own, d.sink)
		n := group.Number(tt.topic[2] - '0')
		d.Offer(&fanout.Post{
			Group: n, Part: tt.part, Target: tt.target, Sender: tt.sender, Frame: wire.NewShared(wire.Message{Topic: tt.topic, QoS: 1}),
		})
		got := ""
		if b := d.Take(d.sink, nil, 1<<20, noon); len(b) > 0 {
			got = fmt.Sprint(b[0] >> 1 & 3)
		}
		if got != tt.want {
			t.Errorf("%s: delivered with QoS %q, want %q", tt.name, got, tt.want)
		}
	}
}

// One who watches gets by its filters what it observes, and never what goes to
// one member.
func TestMemberObserver(t *testing.T) {
	d := &device{
		t: t, version: 4, now: noon,
		Member: fanout.NewMember("dash", fanout.Limits{}, func(n group.Number) bool { return n == 1 }),
	}
	d.attach(0, 1)
	d.expect("CONNACK")
	d.offer(1, "without a filter")
	d.SetOwn([]fanout.Filter{{Filter: "g/#", QoS: 1}}, d.sink)
	d.offer(1, "a")
	d.offer(2, "not observed")
	for part, topic := range map[fanout.Part]string{fanout.Up: "g/1/up/x/a", fanout.To: "g/1/to/dash/x/a"} {
		d.Offer(&fanout.Post{Group: 1, Part: part, Target: "dash", Sender: "x", Frame: wire.NewShared(wire.Message{Topic: topic})})
	}
	d.expect("g/1/a #1", "g/1/up/x/a")
}
