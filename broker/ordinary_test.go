package broker_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

func retain(pk *packets.Packet) { pk.FixedHeader.Retain = true }

// messagesAs returns what was queued for the client up to now, as "topic payload
// q1 r" with what is set of QoS, RETAIN and DUP.
func (c *client) messagesAs() []string {
	c.t.Helper()
	out := []string{}
	for _, pk := range c.flushed() {
		if pk.FixedHeader.Type != packets.Publish {
			continue
		}
		s := fmt.Sprintf("%s %s q%d", pk.TopicName, pk.Payload, pk.FixedHeader.Qos)
		if pk.FixedHeader.Retain {
			s += " r"
		}
		if pk.FixedHeader.Dup {
			s += " dup"
		}
		out = append(out, s)
	}
	return out
}

// expectAs compares messagesAs, in whichever order if there are several.
func (c *client) expectAs(what string, want ...string) {
	c.t.Helper()
	got := c.messagesAs()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.t.Errorf("%s: %s received %q, want %q", what, c.id, got, want)
	}
}

// [GRP-4.7-1] Ordinary topics are for operators.
func TestOrdinaryTopicsAreForOperators(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	dash, ann := addAccount(op, "dash", "observer"), addAccount(op, "ann", "operator")
	w := s.operatorAs("muster~all")
	w.subscribe("#")
	w.publishWith(retain, "sensors/kept", "kept", 1)
	w.flushed()
	inDialects(t, func(d dialect) {
		device, observer := s.member("lamp", "1", d.with...), s.dial("dash", d.plus(dash)...)
		for _, c := range []*client{device, observer} {
			for _, topic := range []string{"sensors/x", "a", "/", "/g/1/all/lamp/x", "G/1/all/lamp/x", "gg/1", "$SYS/x", "$share/a/b", "$join/1", "$other"} {
				c.refusedAll(0x87, topic)
				w.expectMessages()
			}
			for _, filter := range []string{"#", "+", "sensors/#", "sensors/kept", "/", "$SYS/#", "$share/a/sensors/#", "$other/#", "$CONTROL/#", "$G/#", "$G/join"} {
				if codes := c.subscribe(filter); codes[0] != d.code(0x87, 0x80) {
					t.Errorf("%s: %s: SUBACK 0x%02x", c.id, filter, codes[0])
				}
			}
			w.publish("sensors/x", "live", 1)
			w.flushed()
			c.expectMessages()
		}
		admin := s.dial("ann", d.plus(ann)...)
		if codes := admin.subscribe("sensors/#"); codes[0] != 1 {
			t.Errorf("an operator's SUBACK: %v", codes)
		}
		admin.expectMessages("sensors/kept kept")
		admin.accepts("sensors/x", "mine")
		admin.expectMessages(thrice("sensors/x mine")...)
		admin.refusedAll(0x87, "$SYS/x") // the server's own
		if codes := admin.subscribe("$SYS/#"); codes[0] != d.code(0x87, 0x80) {
			t.Errorf("$SYS: %v", codes)
		}
		w.flushed()
		for _, c := range []*client{device, observer, admin} {
			c.disconnect()
		}
	})
}

// A message is delivered with the lower of its QoS and the subscription's, with
// the whole handshake on both ways.
func TestOrdinaryQoS(t *testing.T) {
	s := serve(t, nil)
	inDialects(t, func(d dialect) {
		from, to := s.operatorAs("muster~from", d.with...), s.operatorAs("muster~to", d.with...)
		for sub := range byte(3) {
			if codes := to.subscribeWith(atQoS(sub), "a/+").ReasonCodes; codes[0] != sub {
				t.Errorf("QoS %d is granted %v", sub, codes)
			}
			for pub := range byte(3) {
				from.put("a/b", "x", pub)
				to.expectAs("", fmt.Sprintf("a/b x q%d", min(sub, pub)))
			}
		}
		to.unsubscribe("a/+")
		from.put("a/b", "x", 1)
		to.expectAs("after UNSUBSCRIBE")
		from.disconnect()
		to.disconnect()
	})
}

// Filters that overlap deliver once, at the highest QoS, with all identifiers
// (MQTT 5.0, 3.3.4).
func TestOverlappingFilters(t *testing.T) {
	s := serve(t, nil)
	op := s.operator(v5)
	c := s.operatorAs("muster~overlap", v5)
	for i, f := range []string{"a/#", "a/+/c", "+/b/c", "#", "a/b/c"} {
		c.subscribeWith(func(pk *packets.Packet) { atQoS(byte(i % 3))(pk); withID(i + 1)(pk) }, f)
	}
	c.subscribe("a/b/+") // without an identifier
	op.publish("a/b/c", "x", 2)
	got, _ := c.await(isType(packets.Publish))
	ids := got.Properties.SubscriptionIdentifier
	slices.Sort(ids)
	if got.FixedHeader.Qos != 2 || !slices.Equal(ids, []int{1, 2, 3, 4, 5}) {
		t.Errorf("QoS %d, identifiers %v", got.FixedHeader.Qos, ids)
	}
	c.expectAs("once")
	old := s.operatorAs("muster~old")
	old.subscribe("a/#", "a/+/c", "#")
	op.publish("a/b/c", "x", 1)
	old.expectAs("3.1.1", "a/b/c x q1")
}

// No Local leaves out what the connection itself publishes, of the filters that
// have it.
func TestNoLocal(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	c := s.operatorAs("muster~local", v5)
	c.subscribeWith(noLocal, "a/#")
	c.subscribe("a/both")
	c.publish("a/x", "own", 1)
	c.publish("a/both", "own", 1)
	op.publish("a/x", "other", 1)
	c.expectAs("", "a/both own q1", "a/x other q1")
	c.publishWith(retain, "a/kept", "own", 1) // a retained message of one's own comes at SUBSCRIBE
	c.expectAs("live")
	c.subscribeWith(noLocal, "a/kept")
	c.expectAs("", "a/kept own q1 r")
}

// Retained messages: kept, replaced, cleared, and sent at SUBSCRIBE by its Retain
// Handling (MQTT 5.0, 3.3.1.3, 3.8.3.1).
func TestRetained(t *testing.T) {
	s := serve(t, nil)
	inDialects(t, func(d dialect) {
		op := s.operatorAs("muster~keeps", d.with...)
		live := s.operatorAs("muster~live", d.with...)
		live.subscribe("a/#")
		op.publishWith(retain, "a/1", "old", 1)
		op.publishWith(retain, "a/1", "new", 2)
		op.publishWith(retain, "a/2", "zero", 0)
		op.put("a/3", "not kept", 1)
		live.expectAs("live", "a/1 old q1", "a/1 new q1", "a/2 zero q0", "a/3 not kept q1")
		c := s.operatorAs("muster~sub", d.with...)
		c.subscribe("a/#")
		c.expectAs("at SUBSCRIBE", "a/1 new q1 r", "a/2 zero q0 r")
		c.subscribe("a/#")
		c.expectAs("again", "a/1 new q1 r", "a/2 zero q0 r")
		c.subscribeWith(atQoS(0), "+/1")
		c.expectAs("the lower QoS", "a/1 new q0 r")
		c.subscribe("b/#", "a", "a/1/+")
		c.expectAs("others match none")
		if d.v5 {
			handling := func(n byte) func(*packets.Packet) {
				return func(pk *packets.Packet) { pk.Filters[0].RetainHandling = n }
			}
			c.subscribeWith(handling(1), "a/#")
			c.expectAs("handling 1, known")
			c.subscribeWith(handling(1), "a/1")
			c.expectAs("handling 1, new", "a/1 new q1 r")
			c.unsubscribe("a/1")
			c.subscribeWith(handling(1), "a/1")
			c.expectAs("handling 1, new again", "a/1 new q1 r")
			c.subscribeWith(handling(2), "a/2")
			c.expectAs("handling 2")
			c.subscribeWith(handling(0), "a/2")
			c.expectAs("handling 0", "a/2 zero q0 r")
			c.subscribe("$share/x/a/#")
			c.expectAs("shared")
			asPublished := s.operatorAs("muster~asp", v5)
			asPublished.subscribeWith(func(pk *packets.Packet) { pk.Filters[0].RetainAsPublished, pk.Filters[0].RetainHandling = true, 2 }, "a/#")
			op.publishWith(retain, "a/1", "new", 1)
			op.put("a/3", "plain", 1)
			asPublished.expectAs("as published", "a/1 new q1 r", "a/3 plain q1")
			c.flushed()
			asPublished.disconnect()
		}
		live.flushed()
		op.publishWith(retain, "a/1", "", 1)
		op.publishWith(retain, "a/2", "", 0)
		op.put("a/2", "", 1)
		live.expectAs("what clears is delivered", "a/1  q1", "a/2  q0", "a/2  q1")
		c.flushed()
		c.subscribe("a/#")
		c.expectAs("cleared")
		for _, x := range []*client{op, live, c} {
			x.disconnect()
		}
	})
}

// A message of a shared subscription goes to one of its members; those that are
// connected come first, and all have their turn.
func TestSharedSubscriptions(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "operator")
	inDialects(t, func(d dialect) {
		var members []*client
		for i := range 3 {
			c := s.dial(fmt.Sprint("member-", i), d.plus(persistent, ann)...)
			if codes := c.subscribeWith(atQoS(2), "$share/x/a/#").ReasonCodes; codes[0] != 2 {
				t.Fatalf("SUBACK %v", codes)
			}
			members = append(members, c)
		}
		other, plain := s.operatorAs("muster~other", d.with...), s.operatorAs("muster~plain", d.with...)
		other.subscribe("$share/y/a/#")
		plain.subscribe("a/#")
		const n = 30
		publish := func() {
			for i := range n {
				op.publish("a/b", fmt.Sprint(i), 1)
			}
		}
		publish()
		seen := map[string]int{}
		for _, c := range members {
			got := c.messages()
			if len(got) != n/3 {
				t.Errorf("%s received %d of %d", c.id, len(got), n)
			}
			for _, m := range got {
				seen[m]++
			}
		}
		if len(seen) != n {
			t.Errorf("%d different messages", len(seen))
		}
		for _, c := range []*client{other, plain} {
			if got := c.messages(); len(got) != n {
				t.Errorf("%s received %d", c.id, len(got))
			}
		}
		s.lose(members[0])
		members[1].unsubscribe("$share/x/a/#")
		publish()
		if got := members[2].messages(); len(got) != n {
			t.Errorf("the one that is left received %d", len(got))
		}
		members[1].expectMessages()
		s.lose(members[2])
		publish() // kept for one of those that are away
		both := 0
		for _, i := range []int{0, 2} {
			members[i] = s.dial(members[i].id, d.plus(persistent, ann)...)
			both += len(members[i].messages())
		}
		if both != n {
			t.Errorf("those that were away have received %d", both)
		}
		for _, c := range append(members, other, plain) {
			c.unsubscribe("$share/x/a/#")
			c.disconnect()
		}
	})
}

// A Will is published when the connection ends without DISCONNECT 0x00, and only
// then (MQTT 5.0, 3.1.2.5, 3.14.4).
func TestWill(t *testing.T) {
	s := serve(t, nil)
	ann := addAccount(s.operator(), "ann", "operator")
	w := s.operatorAs("muster~watch")
	w.subscribe("will/#")
	delay := func(seconds uint32) option {
		return func(pk *packets.Packet, _ *client) { pk.Connect.WillProperties.WillDelayInterval = seconds }
	}
	goodbye := func(reason byte) func(*client) {
		return func(c *client) {
			c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: reason}, (*packets.Packet).DisconnectEncode)
			c.ended()
		}
	}
	clean := func(pk *packets.Packet, _ *client) { pk.Connect.Clean = true }
	over := func(options ...option) func(*client) {
		return func(c *client) {
			options := append(slices.Clone(options), ann)
			if c.version == 5 {
				options = append(options, v5)
			}
			s.dial(c.id, options...).flushed() // what a take-over brings about is done
			c.ended()
		}
	}
	tests := []struct {
		name  string
		with  []option
		end   func(c *client)
		only5 bool
		fires bool
		again []option // if not nil: nothing comes before it has connected with these
	}{
		{"lost", nil, s.lose, false, true, nil},
		{"lost, with a Session", []option{persistent}, s.lose, false, true, nil},
		{"goodbye", nil, goodbye(0), false, false, nil},
		{"goodbye, with a Session", []option{persistent}, goodbye(0), false, false, nil},
		{"goodbye with Will", nil, goodbye(4), true, true, nil},
		{"goodbye with an error", nil, goodbye(0x80), true, true, nil},
		{"malformed packet", nil, func(c *client) { c.raw([]byte{0xF0, 0}); c.ended() }, false, true, nil},
		{"second CONNECT", nil, func(c *client) {
			c.raw([]byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 0})
			c.ended()
		}, false, true, nil},
		{"taken over", nil, over(), false, true, nil},
		{"taken over, resumed", []option{persistent}, over(persistent), false, true, nil},
		{"taken over, cleaned", []option{persistent}, over(persistent, clean), false, true, nil},
		{"delayed, taken over", []option{persistent, delay(3600)}, over(persistent), true, false, nil},
		{"delayed, taken over, cleaned", []option{persistent, delay(3600)}, over(clean), true, true, nil},
		{"delayed, lost, resumed", []option{persistent, delay(3600)}, s.lose, true, false, []option{persistent}},
		{"delayed, lost, cleaned", []option{persistent, delay(3600)}, s.lose, true, true, []option{}},
		{"delayed, lost without a Session", []option{delay(3600)}, s.lose, true, true, nil},
	}
	n := 0
	inDialects(t, func(d dialect) {
		for _, tt := range tests {
			if tt.only5 && !d.v5 {
				continue
			}
			n++
			id := fmt.Sprint("will-", n)
			c := s.dial(id, d.plus(append(slices.Clone(tt.with), ann, withWill("will/x", tt.name, 1))...)...)
			tt.end(c)
			if tt.again != nil {
				w.expectMessages()
				s.dial(id, append(slices.Clone(tt.again), v5, ann)...).flushed()
			}
			var want []string
			if tt.fires {
				pk, _ := w.await(isType(packets.Publish))
				w.putBack([]packets.Packet{pk})
				want = []string{"will/x " + tt.name}
			}
			t.Log(tt.name)
			w.expectMessages(want...)
		}
	})
}

// A Will has its QoS, its RETAIN and its properties.
func TestWillIsAMessageLikeOthers(t *testing.T) {
	s := serve(t, nil)
	ann := addAccount(s.operator(), "ann", "operator")
	w := s.operatorAs("muster~watch", v5)
	w.subscribeWith(atQoS(2), "will")
	c := s.dial("will", v5, ann, withWill("will", "w", 2), func(pk *packets.Packet, _ *client) {
		pk.Connect.WillRetain = true
		pk.Connect.WillProperties.ContentType = "text/plain"
		pk.Connect.WillProperties.User = []packets.UserProperty{{Key: "a", Val: "b"}}
	})
	s.lose(c)
	pk, _ := w.await(isType(packets.Publish))
	if pk.FixedHeader.Qos != 2 || pk.FixedHeader.Retain || pk.Properties.ContentType != "text/plain" || len(pk.Properties.User) != 1 {
		t.Errorf("QoS %d, RETAIN %v, %+v", pk.FixedHeader.Qos, pk.FixedHeader.Retain, pk.Properties)
	}
	late := s.operatorAs("muster~late")
	late.subscribeWith(atQoS(2), "will")
	late.expectAs("retained", "will w q2 r")
	// A device may not publish there, and so neither may its Will.
	s.lose(s.dial("lamp", withWill("will", "lamp's", 1)))
	late.expectAs("a device's Will")
}
