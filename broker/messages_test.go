package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// lamps makes groups 1 "lamps" and 2 "lamps-east", and returns the operator.
func (s *testServer) lamps() *client {
	s.t.Helper()
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	op.must("create", `{"name":"lamps-east"}`)
	return op
}

// member connects a device that is in the groups.
func (s *testServer) member(id string, refs string, options ...option) *client {
	s.t.Helper()
	c := s.dial(id, options...)
	for _, ref := range strings.Fields(refs) {
		if a := c.ask("join", ref); !a.Code.Success() {
			s.t.Fatalf("%s: join %s: %d %s", id, ref, uint8(a.Code), a.Code)
		}
	}
	return c
}

// refusedAll publishes with each QoS, which must be refused: for 5.0 with the
// code, for 3.1.1 with nothing but the acknowledgement. The connection lives.
func (c *client) refusedAll(code byte, topic string) {
	c.t.Helper()
	want := code
	if c.version < 5 {
		want = 0
	}
	for qos := range byte(3) {
		r := c.publish(topic, "refused", qos)
		if qos == 0 {
			want0 := byte(0)
			if r != want0 {
				c.t.Errorf("%s: %q with QoS 0: reason 0x%02x", c.id, topic, r)
			}
			continue
		}
		if r != want {
			c.t.Errorf("%s: %q with QoS %d: reason 0x%02x, want 0x%02x", c.id, topic, qos, r, want)
		}
	}
	for _, pk := range c.flushed() {
		c.t.Errorf("%s: %q: a packet of type %d, topic %q", c.id, topic, pk.FixedHeader.Type, pk.TopicName)
	}
}

// accepts publishes with each QoS, which must be accepted.
func (c *client) accepts(topic, payload string) {
	c.t.Helper()
	for qos := range byte(3) {
		if r := c.publish(topic, payload, qos); r != 0 {
			c.t.Errorf("%s: %q with QoS %d: reason 0x%02x", c.id, topic, qos, r)
		}
	}
	c.raw([]byte{0xC0, 0}) // with QoS 0 nothing else says that it was handled
	c.reply(packets.Pingresp)
}

// thrice is what a receiver gets of what accepts publishes.
func thrice(messages ...string) (out []string) {
	for _, m := range messages {
		out = append(out, m, m, m)
	}
	return out
}

// [GRP-4.1-1] The sender in a topic is the publisher, or the message is refused.
func TestSenderCannotBeForged(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	op.must("update", `{"g":1,"members_to":true}`)
	target := s.member("lamp-8", "1")
	w := s.watcher()
	inDialects(t, func(d dialect) {
		lamp := s.member("lamp-7", "1", d.with...)
		side := s.dial("lamp-7~1", d.with...)
		muster := s.operatorAs("muster~pub", d.with...)
		for _, sender := range []string{"lamp-8", "muster", "LAMP-7", "lamp-7~1", "lamp-7 ", "", "~", "lamp-77", "lamp-"} {
			for _, c := range []*client{lamp, side} {
				c.refusedAll(0x87, "g/1/all/"+sender+"/x")
				c.refusedAll(0x87, "g/1/all/"+sender)
				c.refusedAll(0x87, "g/1/up/"+sender+"/x")
				c.refusedAll(0x87, "g/1/to/lamp-8/"+sender+"/x")
			}
		}
		for _, sender := range []string{"lamp-7", "muster~pub", "local", "x"} {
			muster.refusedAll(0x87, "g/1/all/"+sender+"/x")
			muster.refusedAll(0x87, "g/1/to/lamp-8/"+sender+"/x")
		}
		target.expectMessages()
		w.expectMessages()
		side.accepts("g/1/all/lamp-7/x", "true")
		target.expectMessages(thrice("g/1/all/lamp-7/x true")...)
		w.expectMessages(thrice("g/1/all/lamp-7/x true")...)
		lamp.expectMessages()
	})
}

// [GRP-4.2-1] Who may publish what: the table of 4.1.
func TestWhoMayPublish(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	op.must("create", `{"name":"gone"}`)
	observer := addAccount(op, "dash", "observer")
	admin := addAccount(op, "ann", "operator")
	target := s.member("target", "1 2 3")
	op.must("delete", "{\"g\":3}")
	target.flushed()
	w := s.watcher()
	const refused = 0x87
	tests := []struct {
		who   string
		topic string // %s is the sender
		code  byte
	}{
		{"member", "g/1/all/%s/x", 0},
		{"member", "g/1/up/%s/x", 0},
		{"member", "g/1/to/target/%s/x", refused}, // members_to is off
		{"member", "g/1/evt", refused},
		{"member", "g/1/evt/x", refused},
		{"member", "g/1/agg/%s/x", refused},
		{"member", "g/1/re/%s", refused},
		{"member", "g/1/other/%s/x", refused},
		{"member", "g/2/all/%s/x", refused},
		{"member", "g/2/up/%s/x", refused},
		{"member", "g/3/all/%s/x", refused},
		{"member", "g/99/all/%s/x", refused},
		{"member", "g/0/all/%s/x", refused},
		{"member", "g/01/all/%s/x", refused},
		{"member", "g/4294967297/all/%s/x", refused},
		{"member", "g/99999999999999999999999/all/%s/x", refused},
		{"member", "g/-1/all/%s/x", refused},
		{"member", "g", refused},
		{"member", "g/", refused},
		{"member", "g//all/%s/x", refused},
		{"member", "g/1", refused},
		{"member", "g/1/", refused},
		{"member", "g/1/all", refused},
		{"member", "g/1/all/", refused},
		{"member", "g/1/to", refused},
		{"member", "g/1/to/target", refused},
		{"member", "g/1/to//%s/x", refused},
		{"member", "g/1/ALL/%s/x", refused},
		{"stranger", "g/1/all/%s/x", refused},
		{"stranger", "g/1/up/%s/x", refused},
		{"stranger", "g/1/to/target/%s/x", refused},
		{"observer", "g/1/all/%s/x", refused},
		{"observer", "g/1/up/%s/x", refused},
		{"observer", "g/1/to/target/%s/x", refused},
		{"admin", "g/1/all/%s/x", 0},
		{"admin", "g/1/up/%s/x", refused},
		{"admin", "g/1/to/target/%s/x", 0},
		{"admin", "g/1/evt", refused},
		{"admin", "g/3/all/%s/x", refused},
		{"admin", "g/99/all/%s/x", refused},
		{"$unfit", "g/1/all/%s/x", refused},
	}
	options := map[string][]option{"observer": {observer}, "admin": {admin}, "$unfit": {admin}}
	inDialects(t, func(d dialect) {
		who := map[string]*client{}
		for _, id := range []string{"stranger", "observer", "admin", "$unfit"} {
			who[id] = s.dial(id, d.plus(options[id]...)...)
		}
		who["member"] = s.member("member", "1", d.with...)
		for _, tt := range tests {
			topic := strings.Replace(tt.topic, "%s", tt.who, 1)
			if tt.code != 0 {
				who[tt.who].refusedAll(tt.code, topic)
				w.expectMessages()
				target.expectMessages()
				continue
			}
			who[tt.who].accepts(topic, "yes")
			if part := strings.Split(topic, "/")[2]; part != "to" {
				w.expectMessages(thrice(topic + " yes")...)
			}
			target.flushed()
		}
	})
}

// [GRP-4.2-2] up goes to observers alone, to to the one member alone.
func TestPartsReachWhomTheySay(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	op.must("update", `{"g":1,"members_to":true}`)
	all := addAccount(op, "every", "observer")
	op.must("account", `{"op":"add","user":"east","role":"observer","secret":"`+password+`","groups":[2]}`)
	inDialects(t, func(d dialect) {
		observer := s.dial("observer", d.plus(all)...)
		east := s.dial("east", d.plus(login("east", password))...)
		observer.subscribe("g/#")
		east.subscribe("g/#")
		both := s.member("both", "1", d.plus(all)...) // observes what it is in
		both.subscribe("g/+/up/#")
		a, b := s.member("a", "1", d.with...), s.member("b", "1 2", d.with...)
		a.subscribe("g/#", "g/+/to/#")
		b.subscribe("g/#", "g/+/to/#")
		side := s.dial("b~1", d.with...)
		for _, c := range []*client{observer, east, both} {
			c.flushed() // roster events
		}

		a.accepts("g/1/up/a/t", "up")
		a.expectMessages()
		b.expectMessages()
		observer.expectMessages(thrice("g/1/up/a/t up")...)
		both.expectMessages(thrice("g/1/up/a/t up")...)
		east.expectMessages()

		a.accepts("g/1/to/b/a/t", "to")
		b.expectMessages(thrice("g/1/to/b/a/t to")...)
		for _, c := range []*client{a, observer, both, east, side} {
			c.expectMessages()
		}
		// To one who is not a member, is unknown, or is a side connection: nobody.
		op.publish("g/2/to/a/muster/t", "x", 1)
		op.publish("g/1/to/nobody/muster/t", "x", 1)
		op.publish("g/1/to/b~1/muster/t", "x", 1)
		op.publish("g/1/to/observer/muster/t", "x", 1)
		op.publish("g/1/to/B/muster/t", "x", 1)
		for _, c := range []*client{a, b, observer, both, east, side} {
			c.expectMessages()
		}
		for _, c := range []*client{observer, east, both, a, b, side} {
			c.disconnect()
		}
	})
}

// [GRP-4.2-3] QoS 2 has its whole handshake, and one effect however often the
// PUBLISH is repeated before PUBREL.
func TestQoS2ToAGroup(t *testing.T) {
	s := serve(t, nil)
	s.lamps()
	inDialects(t, func(d dialect) {
		from := s.member("from", "1", d.plus(persistent, withoutAcks)...)
		to := s.member("to", "1", d.with...)
		send := func(dup bool) {
			pk := packets.Packet{
				FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2, Dup: dup}, PacketID: 99, TopicName: "g/all/x", Payload: []byte("once"),
			}
			from.write(&pk, (*packets.Packet).PublishEncode)
			if rec := from.reply(packets.Pubrec); rec.PacketID != 99 || rec.ReasonCode != 0 {
				t.Fatalf("PUBREC %d, reason 0x%02x", rec.PacketID, rec.ReasonCode)
			}
		}
		release := func(reason byte) {
			t.Helper()
			pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: 99}
			from.write(&pk, (*packets.Packet).PubrelEncode)
			if comp := from.reply(packets.Pubcomp); comp.PacketID != 99 || comp.ReasonCode != reason {
				t.Fatalf("PUBCOMP %d, reason 0x%02x", comp.PacketID, comp.ReasonCode)
			}
		}
		send(false)
		send(true)
		s.lose(from)
		from = s.dial("from", d.plus(persistent, withoutAcks)...)
		send(true)
		release(0)
		release(d.code(0x92, 0)) // repeated: unknown by now
		got := to.flushed()
		if len(got) != 1 || got[0].TopicName != "g/1/all/from/x" || got[0].FixedHeader.Qos != 1 {
			t.Fatalf("received %d messages: %+v", len(got), got)
		}
		send(false) // the identifier is free again
		release(0)
		to.expectMessages("g/1/all/from/x once")
		from.disconnect()
		to.disconnect()
	})
}

// [GRP-4.2-4] RETAIN has no effect in a group.
func TestRetainInAGroup(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	retain := func(pk *packets.Packet) { pk.FixedHeader.Retain = true }
	inDialects(t, func(d dialect) {
		lamp := s.member("lamp", "1", d.with...)
		if d.v5 {
			lamp.subscribeWith(func(pk *packets.Packet) { pk.Filters[0].RetainAsPublished = true }, "g/#")
		}
		for qos := range byte(3) {
			op.publishWith(retain, "g/1/all/muster/x", "kept?", qos)
			op.publishWith(retain, "g/1/to/late/muster/x", "kept?", qos)
		}
		got := lamp.flushed()
		if len(got) != 3 {
			t.Fatalf("%d messages, want 3", len(got))
		}
		for _, pk := range got {
			if pk.FixedHeader.Retain {
				t.Error("delivered with RETAIN = 1")
			}
		}
		late := s.dial("late", d.with...)
		late.subscribe("g/#", "$join/1")
		late.must("leave", "1")
		late.must("join", "1")
		late.expectMessages()
		w := s.operatorAs("muster~late", d.with...)
		w.subscribe("g/1/#", "#")
		w.expectMessages()
		late.must("leave", "1")
		lamp.must("leave", "1")
		w.disconnect()
	})
}

// [GRP-4.2-5] What a 5.0 publisher says of a message reaches 5.0 receivers as it
// was, and 3.1.1 receivers get the message without it.
func TestPropertiesPassThrough(t *testing.T) {
	s := serve(t, nil)
	s.lamps()
	from, to, old := s.member("from", "1", v5), s.member("to", "1", v5), s.member("old", "1")
	props := packets.Properties{
		PayloadFormat: 1, PayloadFormatFlag: true, ContentType: "text/plain; charset=utf-8",
		ResponseTopic: "g/1/to/from", CorrelationData: []byte{0, 1, 0xFF},
		User: []packets.UserProperty{{Key: "b", Val: "2"}, {Key: "a", Val: "1"}, {Key: "b", Val: "2"}, {Key: "", Val: "ü"}},
	}
	for qos := range byte(3) {
		from.publishWith(func(pk *packets.Packet) { pk.Properties = props; pk.Properties.MessageExpiryInterval = 100 }, "g/all/x", "p", qos)
		pk := to.next()
		got := pk.Properties
		if got.ContentType != props.ContentType || got.ResponseTopic != props.ResponseTopic || !got.PayloadFormatFlag || got.PayloadFormat != 1 ||
			!slices.Equal(got.CorrelationData, props.CorrelationData) || !slices.Equal(got.User, props.User) {
			t.Errorf("QoS %d: received %+v", qos, got)
		}
		if e := got.MessageExpiryInterval; e == 0 || e > 100 || len(got.SubscriptionIdentifier) > 0 {
			t.Errorf("QoS %d: expiry %d, identifiers %v", qos, e, got.SubscriptionIdentifier)
		}
	}
	old.expectMessages(thrice("g/1/all/from/x p")...)
}

// [GRP-4.1-2] [GRP-4.3-1] [GRP-4.3-2] Short forms are completed, delivered in
// full, and refused where they are not clear.
func TestShortForms(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	op.must("update", `{"g":1,"members_to":true,"name":"Lampen-Süd"}`)
	op.must("create", `{"name":"secret","policy":"pin"}`)
	other := s.member("other", "1 2")
	w := s.watcher()
	inDialects(t, func(d dialect) {
		one := s.member("one", "1", d.with...)
		tests := []struct{ topic, full string }{
			{"g/all/x", "g/1/all/one/x"},
			{"g/all", "g/1/all/one"},
			{"g/all/", "g/1/all/one/"},
			{"g/all/a//b/", "g/1/all/one/a//b/"},
			{"g/all/other/x", "g/1/all/one/other/x"}, // no sender stands in a short form
			{"g/all/up/x", "g/1/all/one/up/x"},
			{"g/up/t", "g/1/up/one/t"},
			{"g/up", "g/1/up/one"},
			{"g/to/other/x", "g/1/to/other/one/x"},
			{"g/to/other", "g/1/to/other/one"},
			{"g/lampen-süd/all/x", "g/1/all/one/x"},
			{"g/LAMPEN-SU\u0308D/all/x", "g/1/all/one/x"}, // another case and normal form
			{"g/lamps/all/x", "g/1/all/one/x"},            // the old name
			{"g/lampen-süd/up", "g/1/up/one"},
			{"g/lampen-süd/to/other/x", "g/1/to/other/one/x"},
			{"g/1/all/one/x", "g/1/all/one/x"},
		}
		for _, tt := range tests {
			one.accepts(tt.topic, "p")
			part := strings.Split(tt.full, "/")[2]
			if part == "to" {
				w.expectMessages()
			} else {
				w.expectMessages(thrice(tt.full + " p")...)
			}
			if part == "up" {
				other.expectMessages()
			} else {
				other.expectMessages(thrice(tt.full + " p")...)
			}
		}
		// By name it is judged as if it had been published in full.
		for _, topic := range []string{
			"g/lamps-east/all/x", "g/lamps-east/up/x", "g/lamps-east/to/other/x", "g/secret/all/x", "g/nothing/all/x", "g/@ann/all/x",
			"g/01JDFQ5K6V7W8X9YZABCDEFGHJ/all/x", "g/evt/all/x", "g/lampen-süd", "g/lampen-süd/", "g/lampen-süd/evt", "g/evt", "g/agg/x",
			"g/to", "g/to/", "g/to//x", "g/lampen-süd/to/", "g/a b/all/x", "g/" + strings.Repeat("n", 65) + "/all/x",
		} {
			one.refusedAll(0x87, topic)
		}
		none := s.dial("none", d.with...)
		both := s.member("both", "1 2", d.with...)
		for _, topic := range []string{"g/all/x", "g/up/x", "g/to/other/x", "g/all", "g/up", "g/to/other"} {
			none.refusedAll(0x87, topic)
			both.refusedAll(0x87, topic)
			op.refusedAll(0x87, topic)
		}
		other.expectMessages()
		w.expectMessages()
		both.accepts("g/lamps-east/all/x", "p") // a name says which of several
		op.accepts("g/lamps-east/all/x", "p")
		other.expectMessages(thrice("g/2/all/both/x p", "g/2/all/muster/x p")...)
		side := s.dial("one~1", d.with...)
		side.accepts("g/all/x", "p")
		w.flushed()
		other.expectMessages(thrice("g/1/all/one/x p")...)
		side.refusedAll(0x87, "g/lamps-east/all/x")
		for _, c := range []*client{one, none, both} {
			c.flushed()
			op.ask("remove", fmt.Sprintf(`{"device":%q,"g":1}`, c.id))
			op.ask("remove", fmt.Sprintf(`{"device":%q,"g":2}`, c.id))
		}
	})
}

// A short form that would be longer in full than a Topic Name may be is refused,
// and no receiver gets half a name.
func TestShortFormTooLongInFull(t *testing.T) {
	s := serve(t, nil)
	s.lamps()
	to := s.member("to", "1")
	inDialects(t, func(d dialect) {
		from := s.member("from", "1", d.with...)
		long := "g/all/" + strings.Repeat("ü", (65535-len("g/all/"))/2)
		from.refusedAll(0x99, long)
		fits := "g/all/" + strings.Repeat("x", 65535-len("g/1/all/from/"))
		from.accepts(fits, "p")
		to.expectMessages(thrice("g/1/all/from/" + fits[len("g/all/"):] + " p")...)
	})
}

// [GRP-4.3-3] A short form that is sent again may have meant another group, once
// the device's epoch is another.
func TestShortFormSentAgain(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	w := s.watcher()
	dup := func(pk *packets.Packet) { pk.FixedHeader.Dup = true }
	inDialects(t, func(d dialect) {
		lamp := s.member("lamp", "1", d.plus(persistent)...)
		again := func(what string, want byte, messages ...string) {
			t.Helper()
			for qos := byte(1); qos < 3; qos++ {
				if r := lamp.publishWith(dup, "g/all/x", "again", qos).ReasonCode; r != d.code(want, 0) {
					t.Errorf("%s, QoS %d: reason 0x%02x, want 0x%02x", what, qos, r, want)
				}
			}
			var each []string
			for _, m := range messages {
				each = append(each, m, m)
			}
			w.expectMessages(each...)
		}
		reconnect := func() {
			s.lose(lamp)
			lamp = s.dial("lamp", d.plus(persistent)...)
		}
		reconnect()
		again("the same epoch", 0, "g/1/all/lamp/x again")
		lamp.must("switch", "1 2")
		again("changed on this connection", 0x83)
		lamp.publish("g/all/x", "first", 1)
		lamp.publishWith(dup, "g/2/all/lamp/x", "full", 1)
		lamp.publishWith(dup, "g/lamps-east/all/x", "named", 1)
		w.expectMessages("g/2/all/lamp/x first", "g/2/all/lamp/x full", "g/2/all/lamp/x named")
		reconnect()
		again("the same as at the end of the connection before", 0, "g/2/all/lamp/x again")
		s.lose(lamp)
		op.must("move", "lamp 2 1")
		lamp = s.dial("lamp", d.plus(persistent)...)
		again("moved while it was away", 0x83)
		op.must("move", "lamp 1 2")
		op.must("move", "lamp 2 1")
		again("moved there and back", 0x83)
		lamp.disconnect()
		lamp = s.dial("lamp", d.with...) // a clean start: nothing is known of the epoch before
		again("a new Session", 0x83)
		lamp.must("leave", "1")
	})
}
