package broker_test

import (
	"fmt"
	"slices"
	"testing"
)

// takers are two members of a shared subscription at $share/x/a with a Session
// that outlives their connection; they acknowledge nothing.
func (s *testServer) takers(d dialect, ann option) (one, two *client) {
	s.t.Helper()
	join := func(id string) *client {
		c := s.dial(id, d.plus(persistent, withoutAcks, ann)...)
		if codes := c.subscribeWith(atQoS(2), "$share/x/a").ReasonCodes; codes[0] != 2 {
			s.t.Fatalf("SUBACK %v", codes)
		}
		return c
	}
	return join("one"), join("two")
}

// payloads returns the payloads of messages, in order.
func payloads(messages []string) []string {
	out := []string{}
	for _, m := range messages {
		out = append(out, m[len("a "):])
	}
	return out
}

// What a member of a shared subscription has not acknowledged goes to another one
// when its connection is lost; a QoS 2 message that was sent waits for it (MQTT
// 5.0, 4.8.2).
func TestSharedAfterALostConnection(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "operator")
	inDialects(t, func(d dialect) {
		one, two := s.takers(d, ann)
		for i := range 4 {
			op.put("a", fmt.Sprint(i), 1)
		}
		op.put("a", "x", 2)
		op.put("a", "y", 2)
		mine, others := payloads(one.messages()), payloads(two.messages())
		if len(mine) != 3 || len(others) != 3 {
			t.Fatalf("%q and %q", mine, others)
		}
		s.lose(one)
		got, want := payloads(two.messages()), mine[:2] // the third has QoS 2
		if !slices.Equal(got, want) {
			t.Errorf("handed over %q, want %q", got, want)
		}
		one = s.dial("one", d.plus(persistent, withoutAcks, ann)...)
		one.expectAs("what had QoS 2", fmt.Sprintf("a %s q2 dup", mine[2]))
		s.endSessions(d, ann, one, two)
	})
}

// endSessions ends the clients' Sessions.
func (s *testServer) endSessions(d dialect, ann option, clients ...*client) {
	s.t.Helper()
	for _, c := range clients {
		s.dial(c.id, d.plus(ann)...).disconnect()
	}
}

// A connection that is lost hands nothing over where nobody else is connected:
// its messages wait for it, with DUP and their packet identifiers.
func TestSharedWaitsWhereNobodyIs(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "operator")
	inDialects(t, func(d dialect) {
		one, two := s.takers(d, ann)
		s.lose(two)
		op.put("a", "1", 1)
		one.expectAs("live", "a 1 q1")
		s.lose(one)
		one = s.dial("one", d.plus(persistent, withoutAcks, ann)...)
		one.expectAs("again", "a 1 q1 dup")
		s.endSessions(d, ann, one, two)
	})
}

// When the Session ends, what it has not acknowledged goes to another member, if
// need be to one that is away.
func TestSharedAfterTheSession(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "operator")
	inDialects(t, func(d dialect) {
		one, two := s.takers(d, ann)
		s.lose(two)
		op.put("a", "1", 1)
		op.put("a", "2", 2)
		one.expectAs("live", "a 1 q1", "a 2 q2")
		s.endSessions(d, ann, one) // a clean start ends it
		two = s.dial("two", d.plus(persistent, withoutAcks, ann)...)
		if !two.connack.SessionPresent {
			t.Fatal("the Session is gone")
		}
		two.expectAs("what the other has left", "a 1 q1") // QoS 2 that was sent is nobody else's
		s.endSessions(d, ann, two)
	})
}

// A message that a member refuses goes to no other (MQTT 5.0, 4.8.2).
func TestSharedRefused(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "operator")
	d := dialects[1]
	one, two := s.takers(d, ann)
	op.put("a", "1", 1)
	op.put("a", "2", 1)
	for _, c := range []*client{one, two} {
		pk := c.next()
		c.raw([]byte{0x40, 3, byte(pk.PacketID >> 8), byte(pk.PacketID), 0x97})
		c.flushed()
	}
	s.lose(one)
	two.expectMessages()
	s.endSessions(d, ann, one, two)
	two = s.dial("two", d.plus(persistent, withoutAcks, ann)...)
	two.expectMessages()
}
