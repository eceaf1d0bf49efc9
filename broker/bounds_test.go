package broker_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
)

// As many Sessions of one account as limits.sessions_per_account allows, connected
// or at rest, side connections included; those of others are not held up.
func TestSessionsOfAccount(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.SessionsPerAccount = 3 })
	op := s.operator()
	ann, bob := addAccount(op, "ann", "device"), addAccount(op, "bob", "device")
	inDialects(t, func(d dialect) {
		full := d.code(0x97, 3)
		s.lose(s.dial("ann-1", d.plus(persistent, ann)...)) // at rest
		s.dial("ann-2", d.plus(ann)...)
		side := s.dial("ann-2~1", d.plus(ann)...)
		s.refuse(full, "ann-3", d.plus(ann)...)
		s.refuse(full, "ann-2~2", d.plus(ann)...)
		s.refuse(full, "", d.plus(ann)...)
		s.logged(`client=ann-3 by=ann addr=127.0.0.1 reason="there are as many Sessions as there may be"`)
		s.dial("bob-1", d.plus(bob)...).disconnect()
		for i := range 5 {
			s.dial(fmt.Sprint("nobody-", i), d.with...)
		}
		two := s.dial("ann-2", d.plus(ann)...) // takes over what is counted
		one := s.dial("ann-1", d.plus(persistent, ann)...)
		s.refuse(full, "ann-3", d.plus(ann)...)
		s.lose(side)
		three := s.dial("ann-3", d.plus(ann)...)
		s.lose(three)
		s.lose(two)
		one.disconnect()
		s.dial("ann-1", d.plus(ann)...).disconnect() // clean: it ends
		for i := range 3 {
			defer s.lose(s.dial(fmt.Sprint("ann-", 4+i), d.plus(ann)...))
		}
		s.refuse(full, "ann-9", d.plus(ann)...)
		for i := range 3 {
			s.dial(fmt.Sprint("ann-", 4+i), d.plus(ann)...).disconnect()
		}
	})
}

// A SUBSCRIBE with more filters than one packet may have: those beyond are refused
// one by one, and the connection lives.
func TestFiltersOfOnePacket(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.QueueMessages = 100 })
	s.operator().publishWith(retain, "a", "kept", 0)
	inDialects(t, func(d dialect) {
		no := d.code(0x97, 0x80)
		c := s.operatorAs("muster~many", d.with...)
		filters := make([]string, 20_000)
		for i := range filters {
			filters[i] = fmt.Sprint("f/", i)
		}
		want := append(bytes.Repeat([]byte{1}, 64), bytes.Repeat([]byte{no}, len(filters)-64)...)
		c.expectCodes("other filters", c.subscribe(filters...), want)
		for i := range filters {
			filters[i] = "f/1"
		}
		want = append(bytes.Repeat([]byte{1}, 128), bytes.Repeat([]byte{no}, len(filters)-128)...)
		c.expectCodes("one filter", c.subscribe(filters...), want)
		for i := range filters {
			filters[i] = "$join/1"
		}
		for i, code := range c.subscribe(filters...)[128:] {
			if code != no {
				t.Errorf("the %d. verb: 0x%02x", 128+i, code)
			}
		}
		c.expectMessages()
		if codes := c.unsubscribe(filters...).ReasonCodes; d.v5 && len(codes) != len(filters) {
			t.Errorf("%d codes in UNSUBACK", len(codes))
		}
		c.flushed()
	})
}

// More User Properties than a packet may have end the connection.
func TestUserPropertiesAreBounded(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.UserProperties = 5 })
	with := func(n int) func(*packets.Packet) {
		return func(pk *packets.Packet) {
			for range n {
				userProperty("k", "v")(pk, nil)
			}
		}
	}
	op := s.operator(v5)
	op.publishWith(with(5), "a", "", 1)
	op.subscribeWith(with(5), "a")
	op.write(&packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "a",
		Properties: packets.Properties{User: make([]packets.UserProperty, 6)},
	}, (*packets.Packet).PublishEncode)
	op.expectEnd("6 User Properties", 0x97)
	six := func(pk *packets.Packet, _ *client) { with(6)(pk) }
	s.refuse(0x97, "lamp", v5, six)
}

// Retained messages are bounded in bytes, too: what does not fit is refused and
// delivered, and the others stay.
func TestRetainedBytes(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.RetainedBytes = 10_000 })
	op := s.operator(v5)
	w := s.operatorAs("muster~w")
	w.subscribe("#")
	for i, want := range []byte{0, 0, 0x97, 0x97} {
		if got := op.publishWith(retain, fmt.Sprint("kept/", i), strings.Repeat("x", 4000), 1).ReasonCode; got != want {
			t.Errorf("the %d.: 0x%02x, want 0x%02x", i+1, got, want)
		}
	}
	if got := len(w.messages()); got != 4 {
		t.Errorf("%d delivered", got)
	}
	late := s.operatorAs("muster~late")
	late.subscribe("#")
	if got := len(late.messages()); got != 2 {
		t.Errorf("%d are kept", got)
	}
	op.publishWith(retain, "kept/0", "", 1)
	if got := op.publishWith(retain, "kept/2", strings.Repeat("x", 4000), 1).ReasonCode; got != 0 {
		t.Errorf("with room again: 0x%02x", got)
	}
}

// One account cannot take the place of all retained messages.
func TestRetainedPerAccount(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.RetainedMessages, c.Limits.RetainedPerAccount = 10, 4 })
	op := s.operator(v5)
	ann, bob := withRules(op, "ann", "device", "allow both #"), withRules(op, "bob", "device", "allow both #")
	for _, who := range []struct {
		name string
		as   option
	}{{"ann", ann}, {"bob", bob}} {
		c := s.dial(who.name, v5, who.as)
		for i := range 6 {
			want := byte(0)
			if i >= 4 {
				want = 0x97
			}
			if got := c.publishWith(retain, fmt.Sprintf("%s/%d", who.name, i), "x", 1).ReasonCode; got != want {
				t.Errorf("the %d. of %s: 0x%02x, want 0x%02x", i+1, who.name, got, want)
			}
		}
	}
	for i, want := range []byte{0, 0, 0x97} {
		if got := op.publishWith(retain, fmt.Sprint("op/", i), "x", 1).ReasonCode; got != want {
			t.Errorf("the %d. of an operator: 0x%02x, want 0x%02x", i+1, got, want)
		}
	}
}

// What is published faster than limits.publish_rate waits unread: all of it arrives,
// in order, and nothing else waits for it, nor the end of the connection.
func TestPublishRate(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.PublishRate = 20 })
	w := s.operatorAs("muster~w")
	w.subscribe("#")
	inDialects(t, func(d dialect) {
		c := s.operatorAs("muster~fast", d.plus(keepAlive(1))...)
		var b []byte
		for i := range byte(30) {
			if d.v5 {
				b = append(b, 0x30, 5, 0, 1, 'a', 0, i)
			} else {
				b = append(b, 0x30, 4, 0, 1, 'a', i)
			}
		}
		c.raw(b)
		got := w.next()
		for range 29 {
			pk := w.next()
			if pk.Payload[0] != got.Payload[0]+1 {
				t.Fatalf("%v follows %v", pk.Payload, got.Payload)
			}
			got = pk
		}
		c.flushed()

		// It has far more to publish than may be: it is taken over all the same.
		c.raw(bytes.Repeat(b, 20))
		w.next()
		again := s.operatorAs("muster~fast", d.with...)
		c.ended()
		again.flushed()
		again.disconnect()
		w.messages()
	})
	c := s.operatorAs("muster~fast")
	c.raw(bytes.Repeat([]byte{0x30, 3, 0, 1, 'a'}, 10_000))
	w.next()
	s.stop() // waits for it no longer than for others
}

// 100 CONNECTs of one Client Identifier at the same time: when all is quiet exactly
// one lives, and it works; each other one was told.
func TestHundredConnectsAtOnce(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	op.must("join", `{"device":"lamp","g":"1"}`)
	inDialects(t, func(d dialect) {
		for _, with := range [][]option{nil, {persistent}} {
			const n = 100
			clients := make([]*client, n)
			var wg sync.WaitGroup
			start := make(chan struct{})
			for i := range n {
				wg.Go(func() {
					<-start
					clients[i] = s.dial("lamp", d.plus(with...)...)
				})
			}
			close(start)
			wg.Wait()
			op.put("g/1/all/muster/x", "one", 1)
			var lives []*client
			for _, c := range clients {
				c.raw([]byte{0xC0, 0})
			}
			for i, c := range clients {
				messages, told, alive := 0, false, false
				for !told && !alive {
					pk, err := c.tryNext()
					switch {
					case err != nil:
						told = true
						if d.v5 {
							t.Errorf("the %d. was closed without a word: %v", i, err)
						}
					case pk.FixedHeader.Type == packets.Publish:
						messages++
					case pk.FixedHeader.Type == packets.Disconnect:
						told = pk.ReasonCode == 0x8E
					case pk.FixedHeader.Type == packets.Pingresp:
						alive = true
					}
				}
				if alive {
					lives = append(lives, c)
				}
				if alive != (messages == 1) {
					t.Errorf("the %d. lives: %v, and received %d messages", i, alive, messages)
				}
			}
			if len(lives) != 1 {
				t.Fatalf("%d connections live", len(lives))
			}
			op.put("g/1/all/muster/x", "two", 1)
			lives[0].expectMessages("g/1/all/muster/x two")
			if kind := op.must("show", `{"device":"lamp"}`).Kind; kind != "online" {
				t.Errorf("the device is %s", kind)
			}
			lives[0].disconnect()
		}
	})
}
