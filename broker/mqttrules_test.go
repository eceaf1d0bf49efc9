package broker_test

import (
	"bytes"
	"net"
	"slices"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// encoded returns a packet as bytes, to be sent with others in one write.
func (c *client) encoded(pk *packets.Packet, encode func(*packets.Packet, *bytes.Buffer) error) []byte {
	c.t.Helper()
	var b bytes.Buffer
	pk.ProtocolVersion = c.version
	if err := encode(pk, &b); err != nil {
		c.t.Fatal(err)
	}
	return b.Bytes()
}

// Topic Names are compared byte by byte: nothing is normalised, folded or
// stripped, U+FEFF included (MQTT 5.0, 1.5.4, 4.7.3).
func TestTopicsAreNotNormalised(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	names := []string{"a", "A", "/a", "a/", "a//", "\uFEFFa", "a\uFEFF", "é", "e\u0301", "a b", "ａ"}
	inDialects(t, func(d dialect) {
		for _, name := range names {
			c := s.operatorAs("muster~exact", d.with...)
			c.subscribe(name)
			for _, other := range names {
				op.put(other, other, 1)
			}
			c.expectMessages(name + " " + name)
			c.disconnect()
		}
	})
}

// What follows a CONNECT that is refused, or a DISCONNECT, has no effect (MQTT
// 5.0, 3.1.4, 3.14.4).
func TestNothingAfterTheEnd(t *testing.T) {
	s := serve(t, nil)
	ann := addAccount(s.operator(), "ann", "operator")
	w := s.operatorAs("muster~watch")
	w.subscribe("a")
	inDialects(t, func(d dialect) {
		publish := func(c *client) []byte {
			return c.encoded(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "a", Payload: []byte("x")}, (*packets.Packet).PublishEncode)
		}
		c := s.dial("end", d.plus(ann)...)
		c.raw(slices.Concat(publish(c), c.encoded(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}}, (*packets.Packet).DisconnectEncode), publish(c)))
		for _, pk := range c.ended() {
			t.Errorf("after DISCONNECT: a packet of type %d", pk.FixedHeader.Type)
		}
		w.expectMessages("a x")

		refused := func(_ *packets.Packet, c *client) { // CONNECT and PUBLISH in one write
			c.nc = &joined{Conn: c.nc, more: publish(&client{t: t, version: map[bool]byte{true: 5, false: 4}[d.v5]})}
		}
		no := attempt(t, "tcp", s.addr, "end", d.plus(login("ann", "wrong"), refused)...)
		if no.connack.ReasonCode == 0 {
			t.Fatal("let in with a wrong password")
		}
		no.ended()
		w.expectMessages()
	})
}

// DUP says nothing to other clients (MQTT 5.0, 3.3.1.1).
func TestDupIsNotPassedOn(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	inDialects(t, func(d dialect) {
		c := s.operatorAs("muster~to", d.with...)
		c.subscribeWith(atQoS(2), "a")
		member := s.member("lamp-7", "1", d.with...)
		for _, qos := range []byte{1, 2} {
			for _, topic := range []string{"a", "g/1/all/muster/x"} {
				op.publishWith(func(pk *packets.Packet) { pk.FixedHeader.Dup = true }, topic, "x", qos)
			}
		}
		c.expectAs("ordinary", "a x q1", "a x q2")
		member.expectAs("of a group", "g/1/all/muster/x x q1", "g/1/all/muster/x x q1")
		c.disconnect()
		member.disconnect()
	})
}

// What was sent before an UNSUBSCRIBE is delivered to its end (MQTT 5.0, 3.10.4),
// whatever filter it came by.
func TestUnsubscribeCompletesDelivery(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "operator")
	inDialects(t, func(d dialect) {
		with := d.plus(persistent, withoutAcks, ann)
		c := s.dial("rest", with...)
		c.subscribeWith(atQoS(2), "a")
		op.put("a", "1", 1)
		op.put("a", "2", 2)
		c.expectAs("sent", "a 1 q1", "a 2 q2")
		if codes := c.unsubscribe("a", "b").ReasonCodes; d.v5 && !bytes.Equal(codes, []byte{0, 0x11}) {
			t.Errorf("UNSUBACK % x", codes)
		}
		op.put("a", "3", 1)
		s.lose(c)
		c = s.dial("rest", with...)
		c.expectAs("again", "a 1 q1 dup", "a 2 q2 dup")
		s.endSessions(d, ann, c)
	})
}

// Extended authentication is refused where it is asked for, and AUTH is no packet
// of a connection that did not (MQTT 5.0, 4.12).
func TestNoExtendedAuthentication(t *testing.T) {
	s := serve(t, nil)
	refusedConnect(t, attempt(t, "tcp", s.addr, "auth", v5, func(pk *packets.Packet, _ *client) {
		pk.Properties.AuthenticationMethod, pk.Properties.AuthenticationData = "SCRAM-SHA-256", []byte("x")
	}), 0x8C)
	c := s.dial("auth", v5)
	c.raw([]byte{0xF0, 5, 0x19, 3, 0x15, 0, 0})
	c.expectEnd("AUTH", 0x82)
}

// joined is a connection whose first write has more behind it.
type joined struct {
	net.Conn
	more []byte
}

func (j *joined) Write(b []byte) (int, error) {
	more := j.more
	j.more = nil
	if _, err := j.Conn.Write(append(slices.Clone(b), more...)); err != nil {
		return 0, err
	}
	return len(b), nil
}
