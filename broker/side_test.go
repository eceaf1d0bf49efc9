package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/muster-mqtt/muster/group"
)

// [GRP-2.3-1] A side connection acts as its device, receives its own answers,
// and takes nothing over.
func TestSideConnection(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	op.must("create", `{"name":"pumps"}`)
	w := s.watcher()
	inDialects(t, func(d dialect) {
		main := s.dial("lamp-7", d.with...)
		one, two := s.dial("lamp-7~1", d.with...), s.dial("lamp-7~2", d.with...)
		odd, empty := s.dial("lamp-7~1~2/+#", d.with...), s.dial("lamp-7~", d.with...)
		if codes := one.subscribe("$join/lamps", "$G/res/1"); codes[0] != 1 || codes[1] != 0 {
			t.Fatalf("SUBACK %v", codes)
		}
		if a := two.must("mine", ""); len(a.List) != 1 || a.List[0].N != 1 {
			t.Errorf("mine of a side connection: %v", a.List)
		}
		expectMembers(op, "lamps", "lamp-7")
		one.refused(group.Unchanged, "join", "lamps")
		for _, c := range []*client{one, two, odd, empty} {
			if codes := c.subscribe("g/#", "g/+/all/#", "g/1/#", "g/1/to/lamp-7/#"); slices.ContainsFunc(codes, func(b byte) bool { return b != d.code(0x87, 0x80) }) {
				t.Errorf("%s: filters over g/: SUBACK %v", c.id, codes)
			}
		}
		for i, c := range []*client{one, two, odd, empty, main} {
			for _, topic := range []string{"g/1/all/lamp-7/x", "g/up/x", "g/lamps/all/x"} {
				if got := c.publish(topic, fmt.Sprint(i), 1); got != 0 {
					t.Errorf("%s: %s: PUBACK 0x%02x", c.id, topic, got)
				}
			}
			if got := c.publish("g/1/all/"+strings.ReplaceAll(strings.ReplaceAll(c.id, "+", ""), "#", "")+"~/x", "forged", 1); got != d.code(0x87, 0) {
				t.Errorf("%s: with its own identifier as sender: PUBACK 0x%02x", c.id, got)
			}
			w.expectMessages("g/1/all/lamp-7/x "+fmt.Sprint(i), "g/1/up/lamp-7/x "+fmt.Sprint(i), "g/1/all/lamp-7/x "+fmt.Sprint(i))
		}
		op.publish("g/1/all/muster/x", "all", 1)
		op.publish("g/1/to/lamp-7/muster/x", "one", 1)
		main.expectMessages("g/1/all/muster/x all", "g/1/to/lamp-7/muster/x one")
		two.must("switch", "lamps pumps")
		expectMembers(op, "pumps", "lamp-7")
		for _, c := range []*client{main, one, odd, empty} {
			if got := c.flushed(); len(got) > 0 {
				t.Errorf("%s received %q on %s: it has asked for nothing", c.id, got[0].Payload, got[0].TopicName)
			}
		}
		empty.must("leave", "pumps")
		// A second one with the same <any> takes over that one and no other.
		again := s.dial("lamp-7~1", d.with...)
		one.ended()
		for _, c := range []*client{main, two, odd, empty, again} {
			c.must("mine", "")
			c.disconnect()
		}
		w.messages()
	})
}

// A side connection makes a change at the switch point of its device, which is
// connected elsewhere, and survives its end. [GRP-2.3-1]
func TestSideConnectionAlone(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	side := s.dial("lamp-7~1")
	side.must("join", "lamps")
	side.publish("g/all/x", "1", 1)
	op.publish("g/1/to/lamp-7/muster/x", "lost", 1)
	side.expectMessages()
	main := s.dial("lamp-7")
	main.expectMessages()
	op.publish("g/1/to/lamp-7/muster/x", "2", 1)
	main.expectMessages("g/1/to/lamp-7/muster/x 2")
	main.disconnect()
	side.must("leave", "lamps")
	expectMembers(op, "lamps")
}

// [GRP-2.3-2] A side connection is its device's account's, and the first one
// makes the device belong to it.
func TestSideConnectionOfAnother(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann, bob := addAccount(op, "ann", "device"), addAccount(op, "bob", "device")
	op.must("create", `{"name":"lamps"}`)
	inDialects(t, func(d dialect) {
		s.dial("lamp-7", ann).must("join", "lamps")
		side := s.dial("lamp-7~1", d.plus(ann)...)
		for _, id := range []string{"lamp-7~1", "lamp-7~2", "lamp-7~"} {
			s.refuse(d.code(0x85, 2), id, d.plus(bob)...)
			s.refuse(d.code(0x85, 2), id, d.with...)
		}
		side.must("leave", "lamps")

		id := "pump-" + d.name
		s.dial(id+"~1", d.plus(bob)...)
		s.refuse(d.code(0x85, 2), id, d.plus(ann)...)
		s.refuse(d.code(0x85, 2), id+"~2", d.plus(ann)...)
		if a := op.must("show", jsonOf(map[string]any{"device": id})); a.User != "bob" {
			t.Errorf("%s belongs to %q, want bob", id, a.User)
		}
		s.dial(id, d.plus(bob)...)
	})
}

// Who was forgotten acts for the device no more, by no connection.
func TestForgottenSideConnection(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann, bob := addAccount(op, "ann", "device"), addAccount(op, "bob", "device")
	op.must("create", `{"name":"lamps"}`)
	inDialects(t, func(d dialect) {
		side, kept := s.dial("lamp-7~1", d.plus(ann)...), s.dial("lamp-7~2", d.plus(ann, persistent)...)
		s.lose(kept)
		side.must("join", "lamps")
		op.must("forget", `{"device":"lamp-7"}`)
		side.ended()
		c := s.dial("lamp-7", d.plus(bob)...)
		c.must("join", "lamps")
		s.refuse(d.code(0x85, 2), "lamp-7~1", d.plus(ann)...)
		if s.dial("lamp-7~2", d.plus(bob, persistent)...).connack.SessionPresent {
			t.Error("another account's Session was resumed")
		}
		op.must("forget", `{"device":"lamp-7"}`)
		c.ended()
	})
}

// [GRP-2.3-3] With recv = 0 a connection of 5.0 receives answers and no message
// of a group, and the next one receives again.
func TestRecvZero(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	op.must("join", `{"device":"lamp-7","g":1}`)
	c := s.dial("lamp-7", v5, userProperty("recv", "0"))
	if codes := c.subscribe("g/#", "$join/lamps"); codes[1] != 1 {
		t.Fatalf("SUBACK %v", codes)
	}
	op.publish("g/1/all/muster/x", "1", 1)
	op.publish("g/1/to/lamp-7/muster/x", "2", 0)
	if got := c.flushed(); len(got) > 0 {
		t.Errorf("received %q on %s", got[0].Payload, got[0].TopicName)
	}
	if got := c.groups(); !slices.Equal(got, []group.Number{1}) {
		t.Errorf("in %v, want 1", got)
	}
	if got := c.publish("g/all/x", "mine", 1); got != 0 {
		t.Errorf("PUBACK 0x%02x", got)
	}
	for _, options := range [][]option{
		{v5}, {v5, userProperty("recv", "1")}, {v5, userProperty("RECV", "0")}, {userProperty("recv", "0")},
	} {
		c = s.dial("lamp-7", options...)
		op.publish("g/1/all/muster/x", "3", 1)
		c.expectMessages("g/1/all/muster/x 3")
	}
}

// What is in flight to a device's Session is not sent to a connection that takes
// nothing of groups. [GRP-2.3-3]
func TestRecvZeroResumed(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	c := s.dial("lamp-7", v5, persistent, withoutAcks, receiveMaximum(1))
	c.must("join", "lamps")
	op.publish("g/1/all/muster/x", "in flight", 1)
	op.publish("g/1/all/muster/x", "held back", 1)
	c.expectMessages("g/1/all/muster/x in flight")
	s.lose(c)
	c = s.dial("lamp-7", v5, persistent, userProperty("recv", "0"))
	if !c.connack.SessionPresent {
		t.Fatal("the Session is gone")
	}
	c.expectMessages()
	c.must("mine", "")
	c.expectMessages()
}

// [GRP-2.3-4] muster is for operators, never a member and never bound.
func TestReservedClientIdentifier(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann, eve := addAccount(op, "ann", "device"), addAccount(op, "eve", "observer")
	root, rita := addAccount(op, "root", "operator"), addAccount(op, "rita", "operator")
	op.must("create", `{"name":"lamps"}`)
	inDialects(t, func(d dialect) {
		for _, id := range []string{"muster", "muster~1", "muster~"} {
			for _, who := range [][]option{nil, {ann}, {eve}} {
				s.refuse(d.code(0x85, 2), id, d.plus(who...)...)
			}
			for _, who := range []option{root, rita} {
				c := s.dial(id, d.plus(who)...)
				if codes := c.subscribe("$join/lamps", "$switch/1/1"); codes[0] != d.code(0x87, 0x80) || codes[1] != d.code(0x87, 0x80) {
					t.Errorf("%s: SUBACK %v", id, codes)
				}
				for _, r := range [][2]string{{"join", "lamps"}, {"leave", "lamps"}, {"switch", "lamps"}, {"mine", ""}} {
					if a := c.ask(r[0], r[1]); a.Code.Success() && len(a.List) > 0 || r[0] != "mine" && a.Code.Success() {
						t.Errorf("%s: %s was answered %s", id, r[0], a.Code)
					}
				}
				if got := c.publish("g/1/all/muster/x", "1", 1); got != 0 {
					t.Errorf("%s: PUBACK 0x%02x", id, got)
				}
				c.disconnect()
			}
		}
	})
	for _, r := range [][2]string{
		{"join", `{"device":"muster","g":1}`}, {"leave", `{"device":"muster","g":1}`}, {"grant", `{"device":"muster","op":"join","g":1}`},
		{"move", "muster 1 1"}, {"remove", `{"device":"muster","g":1}`}, {"forget", `{"device":"muster"}`}, {"join", `{"device":"muster~1","g":1}`},
	} {
		if a := op.ask(r[0], r[1]); a.Code.Success() {
			t.Errorf("%s %s was answered %s", r[0], r[1], a.Code)
		}
	}
	expectMembers(op, "lamps")
	op.refused(group.NoSuchDevice, "show", `{"device":"muster"}`)
	s.dial("Muster", ann) // another identifier: they have case
}
