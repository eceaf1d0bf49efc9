package broker_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
)

func topicAlias(n uint16) func(*packets.Packet) {
	return func(pk *packets.Packet) { pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = n, true }
}

func aliasMaximum(n uint16) option {
	return func(pk *packets.Packet, _ *client) { pk.Properties.TopicAliasMaximum = n }
}

// A Topic Alias stands for a Topic Name on one connection, until it is given to
// another (MQTT 5.0, 3.3.2.3.4).
func TestTopicAliasIn(t *testing.T) {
	s := serve(t, nil)
	w := s.operatorAs("muster~watch")
	w.subscribe("a/#", "b/#")
	c := s.operatorAs("muster~alias", v5)
	if n := c.connack.Properties.TopicAliasMaximum; n != 16 {
		t.Errorf("CONNACK says Topic Alias Maximum %d", n)
	}
	for _, m := range []struct {
		topic, payload string
		alias          uint16
		qos            byte
	}{
		{"a/1", "1", 1, 0}, {"", "2", 1, 1}, {"b/1", "3", 16, 2}, {"", "4", 16, 2}, {"", "5", 1, 2},
		{"b/2", "6", 1, 1}, {"", "7", 1, 0},
	} {
		c.publishWith(topicAlias(m.alias), m.topic, m.payload, m.qos)
	}
	c.flushed()
	w.expectMessages("a/1 1", "a/1 2", "b/1 3", "b/1 4", "a/1 5", "b/2 6", "b/2 7")
}

// What an alias does not stand for ends the connection, and means nothing.
func TestTopicAliasWrong(t *testing.T) {
	s := serve(t, nil)
	none := serve(t, func(c *broker.Config) { c.Limits.TopicAliases = -1 })
	if n := none.operator(v5).connack.Properties.TopicAliasMaximum; n != 0 {
		t.Errorf("CONNACK says Topic Alias Maximum %d where there are none", n)
	}
	w := s.operatorAs("muster~watch")
	w.subscribe("#")
	tests := []struct {
		name   string
		s      *testServer
		topic  string
		alias  uint16
		reason byte
	}{
		{"above the maximum", s, "a", 17, 0x94},
		{"far above the maximum", s, "a", 65535, 0x94},
		{"above the maximum, alone", s, "", 17, 0x94},
		{"unknown", s, "", 1, 0x82},
		{"unknown, below a known one", s, "", 2, 0x82},
		{"where there are none", none, "a", 1, 0x94},
	}
	for _, tt := range tests {
		c := tt.s.operatorAs("muster~wrong", v5)
		if tt.s == s {
			c.publishWith(topicAlias(3), "known", "x", 1)
			w.expectMessages("known x")
		}
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: tt.topic}
		topicAlias(tt.alias)(&pk)
		c.write(&pk, (*packets.Packet).PublishEncode)
		c.expectEnd(tt.name, tt.reason)
		w.expectMessages()
	}
}

// Aliases end with the connection, also where the Session goes on (MQTT 5.0,
// 3.3.2.3.4).
func TestTopicAliasEndsWithTheConnection(t *testing.T) {
	s := serve(t, nil)
	ann := addAccount(s.operator(), "ann", "operator")
	c := s.dial("alias", v5, persistent, ann, aliasMaximum(1))
	c.publishWith(topicAlias(1), "a/1", "x", 1)
	c = s.dial("alias", v5, persistent, ann, aliasMaximum(1))
	if !c.connack.SessionPresent {
		t.Fatal("the Session is gone")
	}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}}
	topicAlias(1)(&pk)
	c.write(&pk, (*packets.Packet).PublishEncode)
	c.expectEnd("an alias of another connection", 0x82)
}

// What an alias stands for is judged each time it is used: rights that have ended
// are not kept by it.
func TestTopicAliasIsNoRight(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	w := s.watcher()
	c := s.member("lamp-7", "1", v5)
	c.publishWith(topicAlias(1), "g/1/all/lamp-7/x", "1", 1)
	if r := c.publishWith(topicAlias(1), "", "2", 1).ReasonCode; r != 0 {
		t.Errorf("PUBACK 0x%02x", r)
	}
	w.expectMessages("g/1/all/lamp-7/x 1", "g/1/all/lamp-7/x 2")
	op.must("remove", `{"device":"lamp-7","g":1}`)
	if r := c.publishWith(topicAlias(1), "", "3", 1).ReasonCode; r != 0x87 {
		t.Errorf("PUBACK after the removal: 0x%02x", r)
	}
	for i, topic := range []string{"g/2/all/lamp-7/x", "g/1/all/lamp-8/x", "a/b", "$SYS/x"} {
		for _, alone := range []string{topic, ""} {
			if r := c.publishWith(topicAlias(uint16(i+2)), alone, "4", 1).ReasonCode; r != 0x87 {
				t.Errorf("%q as %q: PUBACK 0x%02x", topic, alone, r)
			}
		}
	}
	w.expectMessages()
}

// A short form behind an alias means the group of the moment, as it does written
// out.
func TestTopicAliasOfAShortForm(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	w := s.watcher()
	c := s.member("lamp-7", "1", v5)
	c.publishWith(topicAlias(1), "g/all/x", "1", 1)
	op.must("move", `{"device":"lamp-7","from":1,"to":2}`)
	c.publishWith(topicAlias(1), "", "2", 1)
	w.expectMessages("g/1/all/lamp-7/x 1", "g/2/all/lamp-7/x 2")
}

// aliased returns what was queued for the client, "topic=alias payload".
func (c *client) aliased() []string {
	var out []string
	for _, pk := range c.flushed() {
		if pk.FixedHeader.Type == packets.Publish {
			out = append(out, fmt.Sprintf("%s=%d %s", pk.TopicName, pk.Properties.TopicAlias, pk.Payload))
		}
	}
	return out
}

// A client is sent as many aliases as it takes and the server has, each defined
// before it is used alone.
func TestTopicAliasOut(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.TopicAliases = 2 })
	op := s.lamps()
	tests := []struct {
		takes uint16
		want  []string
	}{
		{0, []string{"room/1=0 0", "room/1=0 1", "room/2=0 2", "room/3=0 3", "room/2=0 4"}},
		{1, []string{"room/1=1 0", "=1 1", "room/2=0 2", "room/3=1 3", "room/2=1 4"}},
		{2, []string{"room/1=1 0", "=1 1", "room/2=2 2", "room/3=0 3", "=2 4"}},
		{65535, []string{"room/1=1 0", "=1 1", "room/2=2 2", "room/3=0 3", "=2 4"}},
	}
	for _, tt := range tests {
		c := s.operatorAs("muster~takes", v5, aliasMaximum(tt.takes))
		c.subscribe("room/#")
		for i, topic := range []string{"room/1", "room/1", "room/2", "room/3", "room/2"} {
			op.publish(topic, fmt.Sprint(i), byte(i%2))
			if i%2 == 0 {
				op.flushed()
			}
		}
		if got := c.aliased(); !slices.Equal(got, tt.want) {
			t.Errorf("%d aliases: %q, want %q", tt.takes, got, tt.want)
		}
		c.disconnect()
	}
	// Messages of groups have them too.
	c := s.member("lamp-7", "1", v5, aliasMaximum(9))
	for i := range 3 {
		op.publish("g/1/all/muster/x", fmt.Sprint(i), 1)
	}
	if got, want := c.aliased(), []string{"g/1/all/muster/x=1 0", "=1 1", "=1 2"}; !slices.Equal(got, want) {
		t.Errorf("of a group: %q, want %q", got, want)
	}
}

// What is in flight is sent again with its Topic Name, to a client that takes no
// aliases any more without one.
func TestTopicAliasIsNotSentAgain(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "operator")
	c := s.dial("again", v5, persistent, withoutAcks, ann, aliasMaximum(5))
	c.subscribe("room/#")
	op.publish("room/1", "0", 1)
	op.publish("room/1", "1", 1)
	if got, want := c.aliased(), []string{"room/1=1 0", "=1 1"}; !slices.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
	s.lose(c)
	c = s.dial("again", v5, persistent, withoutAcks, ann)
	if got, want := c.aliased(), []string{"room/1=0 0", "room/1=0 1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
