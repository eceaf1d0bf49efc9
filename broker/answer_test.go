package broker_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// respondTo gives a PUBLISH a Response Topic and Correlation Data.
func respondTo(topic string, correlation []byte) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		pk.Properties.ResponseTopic, pk.Properties.CorrelationData = topic, correlation
	}
}

// An answer reaches the asker's connection and no other, at the Response Topic
// or on res/me, without a SUBSCRIBE. [GRP-5.4-1]
func TestAnswerGoesToTheAsker(t *testing.T) {
	s := serve(t, nil)
	op := s.operator(v5)
	op.must("create", `{"name":"lamps"}`)
	main, side, other, old := s.dial("a", v5), s.dial("a~1", v5), s.dial("b", v5), s.dial("c")
	all := []*client{op, main, side, other, old}
	for _, c := range all {
		c.subscribe("$G/res/1", "$CONTROL/group/v1/res/#", "$G/res/+")
	}
	correlation := []byte{0, 1, 0xFF}
	tests := []struct {
		name   string
		change func(*packets.Packet)
		topic  string
		data   []byte
	}{
		{"neither", nil, control.AnswerTopic, nil},
		{"Response Topic", respondTo("$G/res/1", nil), "$G/res/1", nil},
		{"both", respondTo("$G/res/1", correlation), "$G/res/1", correlation},
		{"without a SUBSCRIBE that matches", respondTo("$G/res/a/b", correlation), "$G/res/a/b", correlation},
		{"the long form", respondTo("$CONTROL/group/v1/res/x", correlation), "$CONTROL/group/v1/res/x", correlation},
		{"Correlation Data alone", respondTo("", correlation), control.AnswerTopic, correlation},
	}
	for _, tt := range tests {
		for _, c := range []*client{op, main, side, other} {
			for op, want := range map[string]group.Code{"mine": group.OK, "join": group.BadRequest, "nope": group.UnknownOp} {
				got, _ := c.publishes(tt.change, "$G/"+op, nil, 1)
				if c.id == "muster~test" && op == "mine" {
					want = group.BadRequest
				}
				if len(got) != 1 || got[0].TopicName != tt.topic || !bytes.Equal(got[0].Properties.CorrelationData, tt.data) ||
					got[0].FixedHeader.Qos != 0 || got[0].FixedHeader.Retain {
					t.Fatalf("%s: %s by %s: %v", tt.name, op, c.id, got)
				}
				if a, err := control.DecodeAnswer(got[0].Payload); err != nil || a.Code != want {
					t.Errorf("%s: %s by %s: %q", tt.name, op, c.id, got[0].Payload)
				}
				for _, others := range all {
					if seen := others.flushed(); others != c && len(seen) != 0 {
						t.Errorf("%s: %s by %s is answered to %s too: %v", tt.name, op, c.id, others.id, seen)
					}
				}
			}
		}
	}
	// A verb or an operator's act for the device is no answer to its request.
	op.must("join", `{"device":"a","g":1}`)
	for _, c := range []*client{main, side, other, old} {
		if seen := c.flushed(); len(seen) != 0 {
			t.Errorf("%s is told of an operator's request: %v", c.id, seen)
		}
	}
}

// The space for answers can be subscribed to by everyone, and nothing that
// anybody publishes there arrives. [GRP-5.4-2]
func TestAnswerSpaceIsPrivate(t *testing.T) {
	s := serve(t, nil)
	for version, options := range versions {
		op := s.operator(options...)
		op.ask("create", `{"name":"lamps"}`)
		op.ask("account", `{"op":"add","user":"ann","role":"observer","secret":"correct horse battery"}`)
		clients := []*client{
			op, s.dial("a", options...), s.dial("a~1", options...), s.dial("b", append([]option{login("ann", "correct horse battery")}, options...)...),
		}
		filters := []string{
			"$G/res/1", "$G/res/me", "$G/res/a/b/c", "$G/res/#", "$G/res/+", "$G/res/a/#",
			"$CONTROL/group/v1/res/1", "$CONTROL/group/v1/res/me", "$CONTROL/group/v1/res/#",
		}
		for _, c := range clients {
			if codes := c.subscribe(filters...); slices.ContainsFunc(codes, func(b byte) bool { return b > 1 }) {
				t.Errorf("%s: %s may not listen to answers: % x", version, c.id, codes)
			}
			codes := c.subscribe("$G/#", "$CONTROL/#", "$CONTROL/group/v1/#", "$CONTROL/group/+/res/me", "$CONTROL/group/v2/res/1", "$G/+/1", "$G/res", "$G/res/")
			if slices.ContainsFunc(codes, func(b byte) bool { return b < 0x80 }) {
				t.Errorf("%s: %s may listen to more than answers: % x", version, c.id, codes)
			}
		}
		for _, c := range clients {
			for _, topic := range []string{"$G/res/1", "$G/res/me", "$CONTROL/group/v1/res/1", "$CONTROL/group/v1/res/me"} {
				for _, retain := range []bool{false, true} {
					got, _ := c.publishes(func(pk *packets.Packet) { pk.FixedHeader.Retain = retain }, topic, []byte("forged"), 1)
					if len(got) != 1 || got[0].TopicName != control.AnswerTopic || bytes.Contains(got[0].Payload, []byte("forged")) {
						t.Errorf("%s: %s published to %s and received %v", version, c.id, topic, got)
					}
				}
			}
		}
		late := s.dial("late", options...)
		late.subscribe(filters...)
		for _, c := range append(clients, late) {
			if seen := c.flushed(); len(seen) != 0 {
				t.Errorf("%s: %s received %v", version, c.id, seen)
			}
			c.disconnect()
		}
	}
}

// A Response Topic where the asker may not listen is refused, and nothing goes
// there. [GRP-5.4-3] [GRP-5.1-3]
func TestResponseTopicElsewhere(t *testing.T) {
	tests := []struct {
		topic            string
		device, operator group.Code
	}{
		{"reports/1", 10, 0},
		{"reports", 10, 0},
		{"g/1/all/a/x", 10, 10},
		{"g/1/to/b/a", 10, 10},
		{"g", 10, 10},
		{"$join/lamps", 10, 10},
		{"$switch/lamps/yard", 10, 10},
		{"$grant/x", 10, 10},
		{"$SYS/broker", 10, 10},
		{"$share/x/reports", 10, 10},
		{"$CONTROL/group/v1/me", 10, 10},
		{"$CONTROL/group/v1/join", 10, 10},
		{"$CONTROL/group/v2/res/1", 10, 10},
		{"$G/me", 10, 10},
		{"$G/leave", 10, 10},
		{"$G/res", 10, 10},
		{strings.Repeat("l/", 16) + "l", 10, 10},
		{"$G/res/1", 0, 0},
	}
	s := serve(t, nil)
	op := s.operator(v5)
	op.must("create", `{"name":"lamps"}`)
	op.must("create", `{"name":"yard"}`)
	watcher := s.accepted(attempt(t, "unix", s.socket, "muster~watcher"))
	watcher.subscribe("#", "g/+/all/#", "g/+/to/#", "$G/res/#", "$CONTROL/group/v1/me")
	watcher.flushed()
	a, b := s.dial("a", v5), s.dial("b", v5)
	a.must("join", "lamps")
	b.must("join", "lamps")
	watcher.flushed()
	for qos := byte(0); qos <= 2; qos++ {
		for _, tt := range tests {
			before := s.record(op)
			got, reason := a.publishes(respondTo(tt.topic, []byte("k")), "$G/join", []byte(`{"g":"yard"}`), qos)
			check := func(code group.Code) {
				t.Helper()
				want := tt.topic
				if code != group.OK {
					want = control.AnswerTopic
				}
				if len(got) != 1 || got[0].TopicName != want || string(got[0].Properties.CorrelationData) != "k" {
					t.Fatalf("%s, QoS %d: %v", tt.topic, qos, got)
				}
				if a, err := control.DecodeAnswer(got[0].Payload); err != nil || a.Code != code {
					t.Errorf("%s, QoS %d: %q", tt.topic, qos, got[0].Payload)
				}
				if qos > 0 && reason != control.PubackReason(code) {
					t.Errorf("%s, QoS %d: acknowledged with 0x%02x", tt.topic, qos, reason)
				}
			}
			check(tt.device)
			if after := s.record(op); tt.device != group.OK && after != before {
				t.Errorf("%s: the record is\n%s, was\n%s", tt.topic, after, before)
			}
			got, reason = op.publishes(respondTo(tt.topic, []byte("k")), "$G/list", nil, qos)
			check(tt.operator)
			for _, c := range []*client{watcher, b} {
				if seen := c.messages(); len(seen) != 0 {
					t.Errorf("%s, QoS %d: %s received %q", tt.topic, qos, c.id, seen)
				}
			}
			a.ask("leave", "yard")
		}
	}
}

// Answers are not dropped, however many messages wait. [GRP-5.4-1]
func TestAnswersAreNotDropped(t *testing.T) {
	for version, options := range versions {
		s := serve(t, func(c *broker.Config) { c.Limits.QueueMessages, c.Limits.Inflight = 16, 2 })
		op := s.operator()
		op.must("create", `{"name":"lamps"}`)
		a := s.dial("a", append([]option{withoutAcks}, options...)...)
		a.must("join", "lamps")
		for i := range 9 { // two are in flight, the others wait
			op.publish("g/1/all/muster", fmt.Sprint(i), 1)
		}
		const asked = 100
		for range asked {
			pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "$G/mine"}
			a.write(&pk, (*packets.Packet).PublishEncode)
		}
		answers := 0
		for _, pk := range a.flushed() {
			if pk.TopicName == control.AnswerTopic {
				answers++
			}
		}
		if answers != asked {
			t.Errorf("%s: %d answers to %d requests", version, answers, asked)
		}
	}
}

// A client that asks for much and reads nothing is ended: what waits for it is
// bounded, and others are served meanwhile.
func TestAsksAndReadsNothing(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.QueueBytes = 1 << 20 })
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	for i := range 500 {
		op.must("join", fmt.Sprintf(`{"device":"lamp-%d","g":1}`, i))
	}
	op.must("join", `{"device":"a","g":1}`)
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var b bytes.Buffer
	connect := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "a", Clean: true, Keepalive: 60},
	}
	if err := connect.ConnectEncode(&b); err != nil {
		t.Fatal(err)
	}
	nc.Write(b.Bytes())
	if _, err := io.ReadFull(nc, make([]byte, 4)); err != nil { // the CONNACK is all that is read
		t.Fatal(err)
	}
	b.Reset()
	for range 2000 { // each is answered with more than 30 KiB
		ask := packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish}, ProtocolVersion: 4, TopicName: "$G/members", Payload: []byte(`{"g":1,"limit":1000}`),
		}
		if err := ask.PublishEncode(&b); err != nil {
			t.Fatal(err)
		}
	}
	nc.Write(b.Bytes())
	for start := time.Now(); op.must("show", `{"device":"a"}`).Kind != "offline"; {
		if time.Since(start) > patience {
			t.Fatal("the connection lives")
		}
	}
	if a := op.must("show", `{"device":"a"}`); len(a.List) != 1 {
		t.Errorf("the device is in %+v", a.List)
	}
}
