package broker_test

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// The behaviours that the public interoperability suite of the Eclipse Paho
// project looks for, 10 of MQTT 3.1.1 and 27 of MQTT 5.0.
func TestConformance(t *testing.T) {
	both := []behaviour{
		{"basic", conformBasic},
		{"retained messages", conformRetained},
		{"zero-length Client Identifier", conformNoIdentifier},
		{"messages for a client that is away", conformAway},
		{"overlapping subscriptions", conformOverlap},
		{"keep alive", conformKeepAlive},
		{"redelivery", conformRedelivery},
		{"a subscription that is refused", conformRefused},
		{"topics with $", conformDollar},
		{"unsubscribe", conformUnsubscribe},
	}
	five := []behaviour{
		{"will message", conformWill},
		{"session expiry", conformSessionExpiry},
		{"user properties and payload format", conformProperties},
		{"message expiry", conformMessageExpiry},
		{"no local", conformNoLocal},
		{"retain as published", conformRetainAsPublished},
		{"retain handling", conformRetainHandling},
		{"subscription identifiers", conformIdentifiers},
		{"request and response", conformRequest},
		{"topic aliases of the client", conformClientAlias},
		{"topic aliases of the server", conformServerAlias},
		{"maximum packet size", conformPacketSize},
		{"server keep alive", conformServerKeepAlive},
		{"flow control to the client", conformFlowOut},
		{"flow control to the server", conformFlowIn},
		{"will delay", conformWillDelay},
		{"shared subscriptions", conformShared},
	}
	for _, d := range dialects {
		of := both
		if d.v5 {
			of = append(slices.Clone(both), five...)
		}
		for _, b := range of {
			t.Run(d.name+"/"+b.name, func(t *testing.T) { b.f(conform(t), d) })
		}
	}
}

type behaviour struct {
	name string
	f    func(*conforming, dialect)
}

// thriceAt publishes three messages, with QoS 0, 1 and 2.
func (c *client) thriceAt(topics ...string) {
	for qos, topic := range topics {
		c.put(topic, fmt.Sprint("qos ", qos), byte(qos))
	}
}

func conformBasic(s *conforming, d dialect) {
	s.dial("a", d.with...).disconnect()
	c := s.dial("a", d.with...)
	if c.connack.SessionPresent {
		s.t.Error("a clean start has a Session")
	}
	c.subscribeWith(atQoS(2), "TopicA")
	c.thriceAt("TopicA", "TopicA", "TopicA")
	c.expectAs("", "TopicA qos 0 q0", "TopicA qos 1 q1", "TopicA qos 2 q2")
	level := byte(4)
	rest := []byte{2, 0, 0, 0, 0}
	if d.v5 {
		level, rest = 5, []byte{2, 0, 0, 0, 0, 0}
	}
	connect := append([]byte{0x10, byte(7 + len(rest)), 0, 4, 'M', 'Q', 'T', 'T', level}, rest...)
	c.raw(connect)
	c.expectEnd("a second CONNECT", 0x82)
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	nc.Write(append([]byte{0x10, byte(5 + len(rest)), 0, 2, 'h', 'j', level}, rest...))
	if n, err := nc.Read(make([]byte, 9)); n > 0 || err == nil {
		s.t.Errorf("another protocol is answered with %d bytes", n)
	}
}

func conformRetained(s *conforming, d dialect) {
	c := s.dial("a", d.with...)
	for qos, topic := range []string{"fromb/qos 0", "fromb/qos 1", "fromb/qos2"} {
		c.publishWith(func(pk *packets.Packet) {
			retain(pk)
			pk.Properties.User = []packets.UserProperty{{Key: "a", Val: "2"}, {Key: "c", Val: "3"}}
		}, topic, "x", byte(qos))
	}
	c.flushed()
	c.subscribeWith(atQoS(2), "fromb/+")
	got := c.flushed()
	var seen []string
	for _, pk := range got {
		if pk.FixedHeader.Type != packets.Publish {
			continue
		}
		seen = append(seen, fmt.Sprintf("%s q%d %v", pk.TopicName, pk.FixedHeader.Qos, pk.FixedHeader.Retain))
		if d.v5 && fmt.Sprint(pk.Properties.User) != "[{a 2} {c 3}]" {
			s.t.Errorf("user properties %v", pk.Properties.User)
		}
	}
	slices.Sort(seen)
	if want := []string{"fromb/qos 0 q0 true", "fromb/qos 1 q1 true", "fromb/qos2 q2 true"}; !slices.Equal(seen, want) {
		s.t.Errorf("received %q, want %q", seen, want)
	}
	for _, topic := range []string{"fromb/qos 0", "fromb/qos 1", "fromb/qos2"} {
		c.publishWith(retain, topic, "", 1)
	}
	c.flushed()
	c.subscribeWith(atQoS(2), "fromb/+")
	c.expectAs("cleared")
}

func conformNoIdentifier(s *conforming, d dialect) {
	s.dial("", d.with...).disconnect()
	c := attempt(s.t, "tcp", s.addr, "", d.plus(resuming)...)
	switch {
	case !d.v5 && c.connack.ReasonCode != 2:
		s.t.Errorf("a Session to be kept without Client Identifier: return code %d", c.connack.ReasonCode)
	case d.v5 && (c.connack.ReasonCode != 0 || c.connack.Properties.AssignedClientID == ""):
		s.t.Errorf("CONNACK 0x%02x, %q", c.connack.ReasonCode, c.connack.Properties.AssignedClientID)
	}
}

func conformAway(s *conforming, d dialect) {
	c := s.dial("a", d.plus(keptFor(99999))...)
	c.subscribeWith(atQoS(2), "+/+")
	c.disconnect()
	s.dial("b", d.with...).thriceAt("TopicA/B", "Topic/C", "TopicA/C")
	c = s.dial("a", d.plus(keptFor(99999))...)
	c.expectAs("", "Topic/C qos 1 q1", "TopicA/C qos 2 q2")
}

func conformOverlap(s *conforming, d dialect) {
	c := s.dial("a", d.with...)
	c.subscribeWith(func(pk *packets.Packet) { pk.Filters[0].Qos, pk.Filters[1].Qos = 2, 1 }, "TopicA/#", "TopicA/+")
	c.put("TopicA/C", "x", 2)
	c.expectAs("", "TopicA/C x q2")
}

func conformKeepAlive(s *conforming, d dialect) {
	w := s.dial("b", d.plus(keepAlive(0))...)
	w.subscribe("/TopicA")
	s.dial("a", d.plus(keepAlive(1), withWill("/TopicA", "keepalive expiry", 1))...).expectEnd("silent", 0x8D)
	pk, _ := w.await(isType(packets.Publish))
	if string(pk.Payload) != "keepalive expiry" {
		s.t.Errorf("received %q", pk.Payload)
	}
}

func conformRedelivery(s *conforming, d dialect) {
	with := d.plus(keptFor(99999), withoutAcks)
	c := s.dial("b", with...)
	c.subscribeWith(atQoS(2), "TopicA/#")
	from := s.dial("a", d.with...)
	from.put("TopicA/B", "1", 1)
	from.put("TopicA/C", "2", 2)
	c.expectAs("first", "TopicA/B 1 q1", "TopicA/C 2 q2")
	c.disconnect()
	s.dial("b", with...).expectAs("again", "TopicA/B 1 q1 dup", "TopicA/C 2 q2 dup")
}

func conformRefused(s *conforming, d dialect) {
	c := s.dial("a", d.with...)
	if codes := c.subscribe("#", "test/nosubscribe", "+/+"); !bytes.Equal(codes, []byte{1, 0x80, 1}) {
		s.t.Errorf("SUBACK % x", codes)
	}
}

func conformDollar(s *conforming, d dialect) {
	c := s.dial("b", d.with...)
	c.subscribeWith(atQoS(2), "+/+", "#")
	if r := c.publish("$TopicA/B", "x", 1); r != d.code(0x87, 0) {
		s.t.Errorf("PUBACK 0x%02x", r)
	}
	c.expectAs("")
}

func conformUnsubscribe(s *conforming, d dialect) {
	c := s.dial("b", d.with...)
	c.subscribe("TopicA", "TopicA/B", "Topic/C")
	c.unsubscribe("TopicA")
	from := s.dial("a", d.with...)
	for _, topic := range []string{"TopicA", "TopicA/B", "Topic/C"} {
		from.put(topic, "x", 1)
	}
	c.expectAs("", "TopicA/B x q1", "Topic/C x q1")
}

func conformWill(s *conforming, d dialect) {
	w := s.dial("b", d.with...)
	w.subscribe("Topic/C")
	a := s.dial("a", d.plus(withWill("Topic/C", "will", 1), func(pk *packets.Packet, _ *client) {
		pk.Connect.WillProperties.User = []packets.UserProperty{{Key: "a", Val: "2"}}
	})...)
	s.lose(a)
	pk, _ := w.await(isType(packets.Publish))
	if string(pk.Payload) != "will" || fmt.Sprint(pk.Properties.User) != "[{a 2}]" {
		s.t.Errorf("received %q with %v", pk.Payload, pk.Properties.User)
	}
}

func conformSessionExpiry(s *conforming, d dialect) {
	present := func(expiry uint32, want bool, end func(*client)) {
		s.t.Helper()
		c := s.dial("a", d.plus(keptFor(expiry))...)
		if c.connack.SessionPresent != want {
			s.t.Errorf("Session Present is %v", c.connack.SessionPresent)
		}
		end(c)
	}
	goodbye := func(expiry uint32) func(*client) {
		return func(c *client) {
			pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}}
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = expiry, true
			c.write(&pk, (*packets.Packet).DisconnectEncode)
			c.ended()
		}
	}
	plain := (*client).disconnect
	present(0, false, plain)
	present(0, false, plain)
	present(5, false, plain)
	s.pass(2 * time.Second)
	present(5, true, plain)
	s.pass(4 * time.Second) // the first connection's five seconds do not count
	present(5, true, plain)
	s.pass(6 * time.Second)
	present(1, false, goodbye(5))
	s.pass(3 * time.Second)
	present(1, true, goodbye(0))
	present(1, false, plain)
}

func conformProperties(s *conforming, d dialect) {
	c := s.dial("a", d.with...)
	c.subscribeWith(atQoS(2), "TopicA")
	for qos := range byte(3) {
		c.publishWith(func(pk *packets.Packet) {
			p := &pk.Properties
			p.User = []packets.UserProperty{{Key: "a", Val: "2"}, {Key: "c", Val: "3"}}
			p.PayloadFormat, p.PayloadFormatFlag, p.ContentType = 1, true, "My name"
		}, "TopicA", "x", qos)
	}
	n := 0
	for _, pk := range c.flushed() {
		if pk.FixedHeader.Type != packets.Publish {
			continue
		}
		n++
		if p := &pk.Properties; fmt.Sprint(p.User) != "[{a 2} {c 3}]" || p.PayloadFormat != 1 || p.ContentType != "My name" {
			s.t.Errorf("received %+v", p)
		}
	}
	if n != 3 {
		s.t.Errorf("%d messages", n)
	}
}

func conformMessageExpiry(s *conforming, d dialect) {
	c := s.dial("b", d.plus(keptFor(99999))...)
	c.subscribeWith(atQoS(2), "TopicA")
	c.disconnect()
	from := s.dial("a", d.with...)
	for _, expiry := range []uint32{1, 6, 0} {
		for _, qos := range []byte{1, 2} {
			from.publishWith(func(pk *packets.Packet) { pk.Properties.MessageExpiryInterval = expiry }, "TopicA", fmt.Sprint(expiry), qos)
		}
	}
	s.pass(3 * time.Second)
	c = s.dial("b", d.plus(keptFor(99999))...)
	var got []string
	for _, pk := range c.flushed() {
		if pk.FixedHeader.Type == packets.Publish {
			got = append(got, fmt.Sprintf("%s: %d", pk.Payload, pk.Properties.MessageExpiryInterval))
		}
	}
	// mochi's encoder leaves out an interval of 0: the last two have none, and none
	// is added.
	if want := []string{"6: 3", "6: 3", "0: 0", "0: 0"}; !slices.Equal(got, want) {
		s.t.Errorf("received %q, want %q", got, want)
	}
}

func conformNoLocal(s *conforming, d dialect) {
	a, b := s.dial("a", d.with...), s.dial("b", d.with...)
	a.subscribeWith(noLocal, "TopicA")
	b.subscribeWith(noLocal, "TopicA")
	a.put("TopicA", "x", 1)
	a.expectAs("its own")
	b.expectAs("another's", "TopicA x q1")
}

func conformRetainAsPublished(s *conforming, d dialect) {
	c := s.dial("a", d.with...)
	c.subscribeWith(func(pk *packets.Packet) { pk.Filters[0].RetainAsPublished = true }, "TopicA")
	c.put("TopicA", "false", 1)
	c.publishWith(retain, "TopicA", "true", 1)
	c.expectAs("", "TopicA false q1", "TopicA true q1 r")
}

func conformRetainHandling(s *conforming, d dialect) {
	c := s.dial("a", d.with...)
	var all []string
	for qos, topic := range []string{"TopicA/B", "Topic/C", "TopicA/C"} {
		c.publishWith(retain, topic, "x", byte(qos))
		all = append(all, fmt.Sprintf("%s x q%d r", topic, qos))
	}
	c.flushed()
	c.disconnect()
	for handling, want := range [][2][]string{{all, all}, {all, nil}, {nil, nil}} {
		c := s.dial("a", d.with...)
		for time, want := range want {
			c.subscribeWith(func(pk *packets.Packet) { pk.Filters[0].Qos, pk.Filters[0].RetainHandling = 2, byte(handling) }, "+/+")
			c.expectAs(fmt.Sprintf("handling %d, time %d", handling, time), want...)
		}
		c.disconnect()
	}
}

func conformIdentifiers(s *conforming, d dialect) {
	a, b := s.dial("a", d.with...), s.dial("b", d.with...)
	a.subscribeWith(withID(456789), "TopicA")
	b.subscribeWith(withID(2), "TopicA")
	b.subscribeWith(withID(3), "TopicA/#")
	b.put("TopicA", "x", 1)
	for _, tt := range []struct {
		c    *client
		want []int
	}{{a, []int{456789}}, {b, []int{2, 3}}} {
		got := tt.c.flushed()
		if len(got) != 1 {
			s.t.Fatalf("%s: %d messages", tt.c.id, len(got))
		}
		ids := got[0].Properties.SubscriptionIdentifier
		slices.Sort(ids)
		if !slices.Equal(ids, tt.want) {
			s.t.Errorf("%s: identifiers %v, want %v", tt.c.id, ids, tt.want)
		}
	}
}

func conformRequest(s *conforming, d dialect) {
	a, b := s.dial("a", d.with...), s.dial("b", d.with...)
	a.subscribeWith(noLocal, "TopicA")
	b.subscribeWith(noLocal, "TopicA")
	a.publishWith(func(pk *packets.Packet) {
		pk.Properties.ResponseTopic, pk.Properties.CorrelationData = "TopicA", []byte("334")
	}, "TopicA", "request", 1)
	pk, _ := b.await(isType(packets.Publish))
	if pk.Properties.ResponseTopic != "TopicA" || string(pk.Properties.CorrelationData) != "334" {
		s.t.Fatalf("received %+v", pk.Properties)
	}
	b.put(pk.Properties.ResponseTopic, "response", 1)
	a.expectAs("", "TopicA response q1")
}

func conformClientAlias(s *conforming, d dialect) {
	wrong := s.dial("a", d.with...)
	wrong.raw([]byte{0x32, 15, 0, 6, 'T', 'o', 'p', 'i', 'c', 'A', 0, 1, 3, 0x23, 0, 0, 'x'})
	wrong.expectEnd("the alias 0", 0x94)
	c := s.dial("a", d.plus(keptFor(99999))...)
	if c.connack.Properties.TopicAliasMaximum == 0 {
		s.t.Fatal("no aliases are offered")
	}
	c.subscribe("TopicA")
	c.publishWith(topicAlias(1), "TopicA", "1", 1)
	c.publishWith(topicAlias(1), "", "2", 1)
	c.expectAs("", "TopicA 1 q1", "TopicA 2 q1")
	c.disconnect()
	c = s.dial("a", d.plus(keptFor(99999))...)
	c.put("TopicA", "3", 1)
	c.expectAs("", "TopicA 3 q1")
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}}
	topicAlias(1)(&pk)
	c.write(&pk, (*packets.Packet).PublishEncode)
	c.expectEnd("an alias of the last connection", 0x82)
}

func conformServerAlias(s *conforming, d dialect) {
	for takes, want := range [][]string{{"TopicA=0 qos 0", "TopicA=0 qos 1", "TopicA=0 qos 2"}, {"TopicA=1 qos 0", "=1 qos 1", "=1 qos 2"}} {
		c := s.dial("a", d.plus(aliasMaximum(uint16(takes)))...)
		c.subscribeWith(atQoS(2), "TopicA")
		c.thriceAt("TopicA", "TopicA", "TopicA")
		if got := c.aliased(); !slices.Equal(got, want) {
			s.t.Errorf("received %q, want %q", got, want)
		}
		c.disconnect()
	}
}

func conformPacketSize(s *conforming, d dialect) {
	c := s.dial("a", d.plus(maxPacket(64))...)
	if n := c.connack.Properties.MaximumPacketSize; n != 1<<20 {
		s.t.Errorf("Maximum Packet Size %d", n)
	}
	c.subscribe("TopicA")
	c.put("TopicA", strings.Repeat(".", 32), 0)
	c.put("TopicA", strings.Repeat(".", 64), 1)
	c.expectAs("", "TopicA "+strings.Repeat(".", 32)+" q0")
	c.raw([]byte{0x30, 0x80, 0x80, 0x80, 0x01})
	c.expectEnd("too large", 0x95)
}

func conformServerKeepAlive(s *conforming, d dialect) {
	c := s.dial("a", d.plus(keepAlive(120))...)
	if n := c.connack.Properties.ServerKeepAlive; n != 60 {
		s.t.Errorf("Server Keep Alive %d", n)
	}
}

func conformFlowOut(s *conforming, d dialect) {
	c := s.dial("a", d.plus(receiveMaximum(2), withoutAcks)...)
	c.subscribe("TopicA")
	for i := range 3 {
		c.put("TopicA", fmt.Sprint(i), 1)
	}
	first := c.flushed()
	if len(first) != 2 {
		s.t.Fatalf("%d messages in flight", len(first))
	}
	c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: first[0].PacketID}, (*packets.Packet).PubackEncode)
	c.expectAs("after PUBACK", "TopicA 2 q1")
}

func conformFlowIn(s *conforming, d dialect) {
	c := s.dial("a", d.plus(withoutAcks)...)
	n := c.connack.Properties.ReceiveMaximum
	if n == 0 || n == 65535 {
		s.t.Fatal("no Receive Maximum is announced")
	}
	for id := range n + 1 {
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2}, PacketID: id + 1, TopicName: "TopicA"}
		c.write(&pk, (*packets.Packet).PublishEncode)
	}
	c.expectEnd("one message too many", 0x93)
}

func conformWillDelay(s *conforming, d dialect) {
	w := s.dial("b", d.with...)
	w.subscribe("TopicA")
	for _, tt := range []struct{ delay, expiry, after uint32 }{{3, 5, 3}, {5, 0, 0}, {5, 2, 2}} {
		a := s.dial("a", d.plus(withWill("TopicA", "will", 0), sessionExpiry(tt.expiry), func(pk *packets.Packet, _ *client) {
			pk.Connect.WillProperties.WillDelayInterval = tt.delay
		})...)
		s.lose(a)
		if tt.after > 0 {
			s.pass(time.Duration(tt.after)*time.Second - 1)
			w.expectAs("too early")
			s.pass(1)
		}
		w.expectAs(fmt.Sprintf("delay %d, expiry %d", tt.delay, tt.expiry), "TopicA will q0")
	}
}

func conformShared(s *conforming, d dialect) {
	a, b := s.dial("a", d.with...), s.dial("b", d.with...)
	for _, c := range []*client{a, b} {
		c.subscribe("$share/sharename/x", "TopicA")
	}
	b.put("TopicA", "0", 0)
	a.expectAs("both", "TopicA 0 q0")
	b.expectAs("both", "TopicA 0 q0")
	for i := range 10 {
		b.put("x", fmt.Sprint(i), byte(i%3))
	}
	got := append(a.messages(), b.messages()...)
	slices.Sort(got)
	if len(got) != 10 || len(slices.Compact(got)) != 10 {
		s.t.Errorf("received %q", got)
	}
}
