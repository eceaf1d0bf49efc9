package broker_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
)

// expectEnd expects the connection to be ended: for 5.0 with a DISCONNECT that
// has the reason, for 3.1.1 without a word.
func (c *client) expectEnd(what string, reason byte) {
	c.t.Helper()
	var said []string
	for _, pk := range c.ended() {
		if pk.FixedHeader.Type == packets.Disconnect {
			said = append(said, fmt.Sprintf("0x%02x", pk.ReasonCode))
		}
	}
	var want []string
	if c.version == 5 {
		want = []string{fmt.Sprintf("0x%02x", reason)}
	}
	if !slices.Equal(said, want) {
		c.t.Errorf("%s: %s was told %q, want %q", what, c.id, said, want)
	}
}

func sessionExpiry(seconds uint32) option {
	return func(pk *packets.Packet, _ *client) {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = seconds, true
	}
}

func resuming(pk *packets.Packet, _ *client) { pk.Connect.Clean = false }

// Whether a Session is there after a connection, by what was said at CONNECT and
// DISCONNECT (MQTT 5.0, 3.1.2.4, 3.1.2.11.2, 3.14.2.2.2).
func TestSessionPresent(t *testing.T) {
	s := serve(t, nil)
	ann := addAccount(s.operator(), "ann", "operator")
	goodbye := func(expiry ...uint32) func(*client) {
		return func(c *client) {
			pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}}
			if len(expiry) > 0 {
				pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = expiry[0], true
			}
			c.write(&pk, (*packets.Packet).DisconnectEncode)
			c.ended()
		}
	}
	over := func(*client) {}
	tests := []struct {
		name    string
		with    []option
		end     func(*client)
		present bool
	}{
		{"3.1.1, kept, lost", []option{resuming}, s.lose, true},
		{"3.1.1, kept, goodbye", []option{resuming}, goodbye(), true},
		{"3.1.1, kept, taken over", []option{resuming}, over, true},
		{"3.1.1, clean, lost", nil, s.lose, false},
		{"3.1.1, clean, goodbye", nil, goodbye(), false},
		{"5.0, no expiry, lost", []option{v5}, s.lose, false},
		{"5.0, no expiry, not clean, lost", []option{v5, resuming}, s.lose, false},
		{"5.0, no expiry, taken over", []option{v5}, over, true}, // its end has not come
		{"5.0, expiry, lost", []option{v5, sessionExpiry(60)}, s.lose, true},
		{"5.0, expiry, goodbye", []option{v5, sessionExpiry(60)}, goodbye(), true},
		{"5.0, for ever, lost", []option{v5, sessionExpiry(0xFFFFFFFF)}, s.lose, true},
		{"5.0, expiry taken back", []option{v5, sessionExpiry(60)}, goodbye(0), false},
		{"5.0, expiry changed", []option{v5, sessionExpiry(60)}, goodbye(30), true},
		{"5.0, expiry given late", []option{v5}, goodbye(60), false}, // a Protocol Error
	}
	for i, tt := range tests {
		id := fmt.Sprint("s-", i)
		first := s.dial(id, append(slices.Clone(tt.with), ann)...)
		if first.connack.SessionPresent {
			t.Errorf("%s: a new client has a Session", tt.name)
		}
		first.subscribe("a/b")
		tt.end(first)
		again := s.dial(id, v5, resuming, ann)
		if got := again.connack.SessionPresent; got != tt.present {
			t.Errorf("%s: Session Present %v, want %v", tt.name, got, tt.present)
		}
		again.publish("a/b", "x", 1)
		if got := len(again.messages()); (got == 1) != tt.present {
			t.Errorf("%s: the subscription is there: %v", tt.name, got == 1)
		}
		// A clean start ends it.
		again.disconnect()
		clean := s.dial(id, v5, ann)
		clean.publish("a/b", "x", 1)
		if clean.connack.SessionPresent || len(clean.messages()) > 0 {
			t.Errorf("%s: a clean start has a Session", tt.name)
		}
		clean.disconnect()
	}
}

// What came with QoS 1 and 2 while the client was away is there at its return,
// in order.
func TestSessionKeepsMessages(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "operator")
	inDialects(t, func(d dialect) {
		c := s.dial("away", d.plus(persistent, ann)...)
		c.subscribeWith(atQoS(2), "a/#")
		s.lose(c)
		for i := range 9 {
			op.put("a/b", fmt.Sprint(i), byte(i%3))
		}
		c = s.dial("away", d.plus(persistent, ann)...)
		var got []string
		for len(got) < 6 {
			pk, _ := c.await(isType(packets.Publish))
			got = append(got, fmt.Sprintf("%s q%d", pk.Payload, pk.FixedHeader.Qos))
		}
		if want := []string{"1 q1", "2 q2", "4 q1", "5 q2", "7 q1", "8 q2"}; !slices.Equal(got, want) {
			t.Errorf("received %q, want %q", got, want)
		}
		c.expectMessages()
		c.unsubscribe("a/#")
		s.lose(c)
		c = s.dial("away", d.plus(persistent, ann)...)
		c.expectMessages()
		c.disconnect()
		s.dial("away", d.plus(ann)...).disconnect()
	})
}

// The handshake of QoS 2 goes on where the connection was lost (MQTT 5.0, 4.4).
func TestQoS2AcrossConnections(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "operator")
	inDialects(t, func(d dialect) {
		with := d.plus(persistent, withoutAcks, ann)
		c := s.dial("q2", with...)
		c.subscribeWith(atQoS(2), "a")
		op.publish("a", "x", 2)
		first := c.next()
		s.lose(c)
		c = s.dial("q2", with...)
		again := c.next()
		if again.FixedHeader.Type != packets.Publish || !again.FixedHeader.Dup || again.PacketID != first.PacketID {
			t.Fatalf("after PUBLISH: %+v", again.FixedHeader)
		}
		ack := func(typ byte, encode func(pk *packets.Packet)) {
			pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: typ}, PacketID: first.PacketID}
			encode(&pk)
		}
		rec := func(pk *packets.Packet) { c.write(pk, (*packets.Packet).PubrecEncode) }
		ack(packets.Pubrec, rec)
		if rel := c.next(); rel.FixedHeader.Type != packets.Pubrel || rel.PacketID != first.PacketID {
			t.Fatalf("after PUBREC: %+v", rel.FixedHeader)
		}
		s.lose(c)
		c = s.dial("q2", with...)
		if rel := c.next(); rel.FixedHeader.Type != packets.Pubrel || rel.PacketID != first.PacketID {
			t.Fatalf("after PUBREC and a lost connection: %+v", rel.FixedHeader)
		}
		ack(packets.Pubcomp, func(pk *packets.Packet) { c.write(pk, (*packets.Packet).PubcompEncode) })
		c.expectMessages()
		ack(packets.Pubrec, rec) // nobody knows it any more
		if rel := c.next(); rel.ReasonCode != d.code(0x92, 0) {
			t.Errorf("PUBREL 0x%02x", rel.ReasonCode)
		}
		s.lose(c)
		c = s.dial("q2", with...)
		c.expectMessages()
		c.disconnect()
		s.dial("q2", d.plus(ann)...).disconnect()
	})
}

// Of two connections with one Client Identifier the new one lives, with what the
// old one had not acknowledged.
func TestSessionIsTakenOver(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "operator")
	inDialects(t, func(d dialect) {
		old := s.dial("over", d.plus(persistent, withoutAcks, ann)...)
		old.subscribe("a/#")
		op.publish("a/b", "1", 1)
		old.expectAs("before", "a/b 1 q1")
		for i := range 5 {
			c := s.dial("over", d.plus(persistent, withoutAcks, ann)...)
			old.expectEnd("taken over", 0x8E)
			if !c.connack.SessionPresent {
				t.Error("the Session is gone")
			}
			c.expectAs(fmt.Sprint("take-over ", i), "a/b 1 q1 dup")
			old = c
		}
		clean := s.dial("over", d.plus(ann)...)
		old.expectEnd("taken over, cleaned", 0x8E)
		op.publish("a/b", "2", 1)
		if clean.connack.SessionPresent {
			t.Error("a clean start has a Session")
		}
		clean.expectAs("a clean start")
		clean.disconnect()
	})
}

// The client's Receive Maximum bounds what is in flight to it, ours what is in
// flight to the server (MQTT 5.0, 4.9).
func TestReceiveMaximum(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.Inflight = 10 })
	op := s.operator()
	c := s.operatorAs("muster~slow", v5, withoutAcks, receiveMaximum(2))
	if c.connack.Properties.ReceiveMaximum != 10 {
		t.Errorf("CONNACK says Receive Maximum %d", c.connack.Properties.ReceiveMaximum)
	}
	c.subscribeWith(atQoS(2), "a")
	for i := range 3 {
		op.put("a", fmt.Sprint(i), byte(1+i%2))
	}
	op.put("a", "zero", 0)
	got := c.flushed()
	if len(got) != 3 || string(got[2].Payload) != "zero" {
		t.Fatalf("%d packets", len(got))
	}
	c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: got[1].PacketID}, (*packets.Packet).PubrecEncode)
	if rest := c.flushed(); len(rest) != 1 || rest[0].FixedHeader.Type != packets.Pubrel {
		t.Fatalf("PUBREC frees a slot: %d packets", len(rest)) // only PUBCOMP does
	}
	c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubcomp}, PacketID: got[1].PacketID}, (*packets.Packet).PubcompEncode)
	c.expectAs("after PUBCOMP", "a 2 q1")

	send := func(c *client, n int) {
		for i := range n {
			pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2}, PacketID: uint16(i + 1), TopicName: "b"}
			c.write(&pk, (*packets.Packet).PublishEncode)
		}
	}
	fits := s.operatorAs("muster~fits", v5, withoutAcks)
	send(fits, 10)
	if got := fits.flushed(); len(got) != 10 {
		t.Errorf("%d PUBREC for 10 messages", len(got))
	}
	over := s.operatorAs("muster~over", v5, withoutAcks)
	send(over, 11)
	over.expectEnd("one message too many", 0x93)
	// 3.1.1 knows no Receive Maximum, and clients send in bursts.
	old := s.operatorAs("muster~old", withoutAcks)
	send(old, 100)
	if got := old.flushed(); len(got) != 100 {
		t.Errorf("%d PUBREC for 100 messages of 3.1.1", len(got))
	}
}

// Neither side is sent a packet larger than it said.
func TestMaximumPacketSize(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.PacketSize = 1000 })
	op := s.operator()
	small := s.operatorAs("muster~small", v5, maxPacket(60))
	if n := small.connack.Properties.MaximumPacketSize; n != 1000 {
		t.Errorf("CONNACK says Maximum Packet Size %d", n)
	}
	small.subscribe("a")
	for size := 40; size < 70; size++ {
		op.publish("a", string(make([]byte, size)), 1)
	}
	got := small.flushed()
	// 1 type, 1 length, 2+1 topic, 2 identifier, 1 properties: 8 and the payload.
	if len(got) != 13 || len(got[12].Payload) != 52 {
		t.Errorf("%d messages", len(got))
	}
	inDialects(t, func(d dialect) {
		c := s.operatorAs("muster~large", d.with...)
		head := 1 + 2 + 3 + 2
		if d.v5 {
			head++
		}
		if r := c.publish("a", string(make([]byte, 1000-head)), 1); r != 0 {
			t.Errorf("PUBACK 0x%02x", r)
		}
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: 9, TopicName: "a", Payload: make([]byte, 1001-head)}
		c.write(&pk, (*packets.Packet).PublishEncode)
		c.expectEnd("too large", 0x95)
	})
}

// What is no MQTT ends the connection, with the reason.
func TestProtocolErrors(t *testing.T) {
	s := serve(t, nil)
	connect := []byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 0}
	tests := []struct {
		name   string
		four   []byte // of 3.1.1
		five   []byte
		reason byte
	}{
		{"a second CONNECT", connect, []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 0, 0, 0}, 0x82},
		{"type 0", []byte{0x00, 0}, []byte{0x00, 0}, 0x81},
		{"what only a server sends", []byte{0x20, 2, 0, 0}, []byte{0x20, 3, 0, 0, 0}, 0x82},
		{"PINGRESP", []byte{0xD0, 0}, []byte{0xD0, 0}, 0x82},
		{"QoS 3", []byte{0x36, 5, 0, 1, 'a', 0, 1}, []byte{0x36, 6, 0, 1, 'a', 0, 1, 0}, 0x81},
		{"DUP with QoS 0", []byte{0x38, 3, 0, 1, 'a'}, []byte{0x38, 4, 0, 1, 'a', 0}, 0x82},
		{"wrong flags", []byte{0x80, 6, 0, 1, 0, 1, 'a', 0}, []byte{0x80, 7, 0, 1, 0, 0, 1, 'a', 0}, 0x81},
		{"a wildcard in a Topic Name", []byte{0x30, 3, 0, 1, '#'}, []byte{0x30, 4, 0, 1, '#', 0}, 0x82},
		{"a wildcard in a group's", []byte{0x30, 9, 0, 7, 'g', '/', '1', '/', 'a', '/', '+'}, []byte{0x30, 10, 0, 7, 'g', '/', '1', '/', 'a', '/', '+', 0}, 0x82},
		{"no Topic Name", []byte{0x30, 2, 0, 0}, []byte{0x30, 3, 0, 0, 0}, 0x82},
		{"U+0000", []byte{0x30, 3, 0, 1, 0}, []byte{0x30, 4, 0, 1, 0, 0}, 0x81},
		{"no UTF-8", []byte{0x30, 3, 0, 1, 0xFF}, []byte{0x30, 4, 0, 1, 0xFF, 0}, 0x81},
		{"identifier 0", []byte{0x32, 5, 0, 1, 'a', 0, 0}, []byte{0x32, 6, 0, 1, 'a', 0, 0, 0}, 0x82},
		{"SUBSCRIBE without a filter", []byte{0x82, 2, 0, 1}, []byte{0x82, 3, 0, 1, 0}, 0x82},
		{"cut short", []byte{0x32, 3, 0, 9, 'a'}, []byte{0x32, 3, 0, 9, 'a'}, 0x81},
		{"five bytes of length", []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1}, []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1}, 0x81},
		{"a large length", []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, 0x95},
		{"the Topic Alias 0", nil, []byte{0x30, 7, 0, 1, 'a', 3, 0x23, 0, 0}, 0x94},
		{"a Subscription Identifier in PUBLISH", nil, []byte{0x30, 6, 0, 1, 'a', 2, 0x0B, 1}, 0x82},
		{"AUTH", []byte{0xF0, 0}, []byte{0xF0, 2, 0x18, 0}, 0x82},
	}
	inDialects(t, func(d dialect) {
		for _, tt := range tests {
			bytes := tt.four
			if d.v5 {
				bytes = tt.five
			}
			if bytes == nil {
				continue
			}
			c := s.operatorAs("muster~wrong", d.with...)
			c.raw(bytes)
			c.expectEnd(tt.name, tt.reason)
		}
	})
}

// A client that says nothing for one and a half times its Keep Alive is gone
// (MQTT 5.0, 3.1.2.10).
func TestKeepAlive(t *testing.T) {
	s := serve(t, nil)
	keepAlive := func(seconds uint16) option {
		return func(pk *packets.Packet, _ *client) { pk.Connect.Keepalive = seconds }
	}
	inDialects(t, func(d dialect) {
		without := s.operatorAs("muster~without", d.plus(keepAlive(0))...)
		c := s.operatorAs("muster~silent", d.plus(keepAlive(1))...)
		c.expectEnd("silent", 0x8D)
		without.expectMessages()
		without.disconnect()
	})
}

// A device that takes nothing of what it must be given is disconnected, QoS 0 is
// lost first.
func TestQueueOverflow(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.QueueMessages = 10 })
	op := s.lamps()
	inDialects(t, func(d dialect) {
		c := s.member("lamp", "1", d.plus(withoutAcks)...)
		got := 0
		for i := range 64 {
			op.publish("g/1/all/muster/x", fmt.Sprint(i), 1)
			if i%4 == 3 {
				got += len(c.flushed())
			}
		}
		for range 10 {
			op.publish("g/1/all/muster/x", "held", 1)
		}
		if got += len(c.flushed()); got != 64 {
			t.Fatalf("%d messages in flight", got)
		}
		op.put("g/1/all/muster/x", "zero", 0)
		c.expectMessages() // it was lost, and the connection lives
		op.publish("g/1/all/muster/x", "too many", 1)
		c.expectEnd("overflow", 0x97)
	})
}
