package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// publishing publishes numbered messages to the groups in turn until stop is
// called, which returns how many were acknowledged.
func (s *testServer) publishing(groups ...int) (stop func() int) {
	c := s.operatorAs(fmt.Sprint("muster~publishes-", groups))
	end := make(chan struct{})
	var wg sync.WaitGroup
	n := 0
	wg.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			if r := c.publish(fmt.Sprintf("g/%d/all/muster/%d", groups[n%len(groups)], n), "x", 1); r != 0 {
				s.t.Errorf("message %d: 0x%02x", n, r)
				return
			}
			n++
		}
	})
	return sync.OnceValue(func() int { close(end); wg.Wait(); c.disconnect(); return n })
}

// groupOf returns the group and the number of a message of publishing.
func groupOf(t *testing.T, pk *packets.Packet) (g, n int) {
	t.Helper()
	if _, err := fmt.Sscanf(pk.TopicName, "g/%d/all/muster/%d", &g, &n); err != nil {
		t.Fatalf("a message under %q: %v", pk.TopicName, err)
	}
	return g, n
}

// [GRP-4.6-1] The answer stands where the membership ends, in whichever form it
// was asked for, with messages coming all the time.
func TestNothingFollowsTheAnswer(t *testing.T) {
	// However slow this machine is, the client is not too slow for its queue.
	s := serve(t, func(c *broker.Config) { c.Limits.QueueMessages, c.Limits.QueueBytes = 1<<20, 1<<30 })
	op := s.lamps()
	stop := s.publishing(1)
	defer stop()
	isAnswer := func(pk *packets.Packet) bool {
		return pk.FixedHeader.Type == packets.Publish && pk.TopicName == control.AnswerTopic
	}
	isMessage := func(pk *packets.Packet) bool {
		return pk.FixedHeader.Type == packets.Publish && strings.HasPrefix(pk.TopicName, "g/1/")
	}
	publish := func(op, body string) func(*client) {
		return func(c *client) {
			c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "$G/" + op, Payload: []byte(body)}, (*packets.Packet).PublishEncode)
		}
	}
	tests := []struct {
		name   string
		ask    func(c *client)
		answer func(*packets.Packet) bool
	}{
		{"leave", publish("leave", "1"), isAnswer},
		{"switch", publish("switch", "1 2"), isAnswer},
		{"UNSUBSCRIBE", func(c *client) {
			c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 7, Filters: packets.Subscriptions{{Filter: "$join/1"}}},
				(*packets.Packet).UnsubscribeEncode)
		}, isType(packets.Unsuback)},
		{"SUBSCRIBE", func(c *client) {
			c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 7, Filters: packets.Subscriptions{{Filter: "$switch/1/2", Qos: 1}}},
				(*packets.Packet).SubscribeEncode)
		}, isType(packets.Suback)},
		{"an operator's remove, told on me", func(c *client) { op.must("remove", jsonOf(map[string]any{"device": c.id, "g": 1})) },
			func(pk *packets.Packet) bool { return pk.TopicName == control.MeTopic }},
		{"an operator's move, told on me", func(c *client) { op.must("move", c.id+" 1 2") },
			func(pk *packets.Packet) bool { return pk.TopicName == control.MeTopic }},
	}
	inDialects(t, func(d dialect) {
		for _, tt := range tests {
			for _, own := range []bool{false, true} {
				c := s.dial("lamp", d.with...)
				if own {
					c.subscribe("g/#")
				}
				if strings.Contains(tt.name, "me") {
					c.subscribe("$G/me")
					c.notice()
				}
				c.ask("leave", "2")
				for range 10 {
					c.must("join", "1")
					if strings.Contains(tt.name, "me") {
						c.flushed() // other notices
					}
					c.await(isMessage)
					tt.ask(c)
					c.await(tt.answer)
					// A PINGRESP says that all that was queued by now has come.
					for _, pk := range c.flushed() {
						if isMessage(&pk) {
							t.Fatalf("%s: %s follows the answer", tt.name, pk.TopicName)
						}
					}
					c.ask("leave", "2")
				}
				c.ask("leave", "1")
				c.disconnect()
			}
		}
	})
}

// [GRP-4.6-2] A switch is one cut in the messages of a publisher that alternates
// between the groups: none is missing, none comes of the wrong side.
func TestSwitchIsOneCut(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.Inflight = 10_000 }) // nothing is held back
	s.lamps()
	inDialects(t, func(d dialect) {
		for _, way := range []string{"request", "verb", "operator", "side"} {
			c := s.member("lamp", "1", d.with...)
			c.ask("leave", "2")
			c.subscribe("$G/me")
			op := s.operatorAs("muster~moves")
			side := s.dial("lamp~1")
			c.flushed()
			stop := s.publishing(1, 2)
			in, last := 1, -1
			take := func(pks []packets.Packet) {
				t.Helper()
				for i := range pks {
					if !strings.HasPrefix(pks[i].TopicName, "g/") {
						continue
					}
					g, n := groupOf(t, &pks[i])
					switch step := n - last; {
					case g != in:
						t.Fatalf("%s: message %d to group %d, while in %d", way, n, g, in)
					case last >= 0 && step != 2 && step != 1 && step != 3, last >= 0 && step != 2 && i > 0:
						t.Fatalf("%s: message %d follows %d", way, n, last)
					}
					last = n
				}
			}
			for range 30 {
				from, to := in, 3-in
				switch way {
				case "request":
					c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "$G/switch", Payload: fmt.Append(nil, to)}, (*packets.Packet).PublishEncode)
				case "verb":
					c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 7,
						Filters: packets.Subscriptions{{Filter: fmt.Sprintf("$switch/%d/%d", from, to), Qos: 1}}}, (*packets.Packet).SubscribeEncode)
				case "operator":
					op.must("move", fmt.Sprintf("lamp %d %d", from, to))
				case "side":
					side.must("switch", fmt.Sprintf("%d %d", from, to))
				}
				_, before := c.await(func(pk *packets.Packet) bool {
					return pk.FixedHeader.Type == packets.Suback || pk.TopicName == control.AnswerTopic || pk.TopicName == control.MeTopic
				})
				take(before)
				in = to
				first, rest := c.await(func(pk *packets.Packet) bool { return strings.HasPrefix(pk.TopicName, "g/") })
				if len(rest) > 0 {
					t.Fatalf("%s: %d other packets", way, len(rest))
				}
				take([]packets.Packet{first})
			}
			stop()
			for _, pk := range c.flushed() {
				take([]packets.Packet{pk})
			}
			for _, x := range []*client{c, op, side} {
				x.disconnect()
			}
		}
	})
}

// forced are an operator's acts that end a membership in group 1.
var forced = map[string]func(op *client, device string) control.Answer{
	"move": func(op *client, device string) control.Answer { return op.must("move", device+" 1 2") },
	"remove": func(op *client, device string) control.Answer {
		return op.must("remove", jsonOf(map[string]any{"device": device, "g": 1}))
	},
	"leave": func(op *client, device string) control.Answer {
		return op.must("leave", jsonOf(map[string]any{"device": device, "g": 1}))
	},
	"switch": func(op *client, device string) control.Answer {
		return op.must("switch", jsonOf(map[string]any{"device": device, "from": 1, "to": 2}))
	},
	"delete": func(op *client, _ string) control.Answer { return op.must("delete", `{"g":1}`) },
}

// [GRP-4.6-3] [GRP-4.6-4] A device that acknowledges nothing holds messages back:
// after the operator's answer they are gone and counted, and what was in flight
// is not sent again, on this connection or the next.
func TestForcedWhileHeldBack(t *testing.T) {
	const published = 70
	for name, act := range forced {
		for _, state := range []string{"connected", "away"} {
			inDialects(t, func(d dialect) {
				s := serve(t, nil)
				op := s.lamps()
				slots := 64 // 3.1.1 has no Receive Maximum: the server's window
				options := d.plus(persistent, withoutAcks)
				if d.v5 {
					slots, options = 1, append(options, receiveMaximum(1))
				}
				c := s.member("lamp", "1", options...)
				op.must("join", `{"device":"lamp","g":2}`)
				c.must("leave", "2")
				for i := range published {
					op.publish("g/1/all/muster/x", fmt.Sprint(i), 1)
				}
				var ids []uint16
				for _, pk := range c.flushed() {
					ids = append(ids, pk.PacketID)
				}
				if len(ids) != slots {
					t.Fatalf("%d messages in flight, want %d", len(ids), slots)
				}
				if state == "away" {
					s.lose(c)
				}
				if a := act(op, "lamp"); a.Dropped != published-slots {
					t.Errorf("%s, %s: dropped %d, want %d", name, state, a.Dropped, published-slots)
				}
				if state == "connected" {
					for _, id := range ids { // now there is room
						c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id}, (*packets.Packet).PubackEncode)
					}
					c.expectMessages()
					c.ask("join", "2")
					op.publish("g/2/all/muster/x", "new", 1)
					c.expectMessages("g/2/all/muster/x new")
					s.lose(c)
				}
				c = s.dial("lamp", d.plus(persistent)...)
				if !c.connack.SessionPresent {
					t.Error("the Session is gone")
				}
				want := []string{}
				if state == "connected" {
					want = []string{"g/2/all/muster/x new"} // was not acknowledged
				}
				if got := c.messages(); !slices.Equal(got, want) && len(got)+len(want) > 0 {
					t.Errorf("%s, %s: received %q, want %q", name, state, got, want)
				}
			})
		}
	}
}

// [GRP-4.6-3] A device that does not read its socket: the operator is answered
// all the same, the device reads what the kernel had, and nothing of the group
// after that, at its return neither.
func TestForcedWhileStalled(t *testing.T) { forcedWhileStalled(t, "tcp") }

// The same where what the kernel has not taken waits sealed: it goes nowhere.
func TestForcedWhileStalledOverTLS(t *testing.T)       { forcedWhileStalled(t, "tls") }
func TestForcedWhileStalledOverWebSocket(t *testing.T) { forcedWhileStalled(t, "wss") }

func forcedWhileStalled(t *testing.T, way string) {
	const size, published = 100 << 10, 100
	for name, act := range forced {
		inDialects(t, func(d dialect) {
			s := serveOver(t, way, func(c *broker.Config) {
				c.Limits.QueueBytes = 64 << 20
				c.SetPatience(20 * time.Millisecond)
			})
			op := s.lamps()
			c := s.member("lamp", "1", d.plus(persistent)...)
			payload := strings.Repeat("x", size)
			goOn := c.stall()
			defer goOn()
			for i := range published {
				op.put(fmt.Sprintf("g/1/all/muster/%d", i), payload, byte(i%2))
			}
			a := act(op, "lamp")
			if a.Dropped == 0 || a.Dropped >= published {
				t.Fatalf("%s: dropped %d of %d: the test does not fill the socket", name, a.Dropped, published)
			}
			op.publish("g/1/all/muster/late", "late", 1)
			goOn()
			got := 0
			for {
				pk, err := c.tryNext()
				if err != nil {
					break // it was cut off in the middle of a packet
				}
				if pk.FixedHeader.Type == packets.Publish {
					got++
				}
				if strings.HasSuffix(pk.TopicName, "/late") {
					t.Errorf("%s: what was published after the answer has come", name)
				}
			}
			if got+a.Dropped > published {
				t.Errorf("%s: received %d and dropped %d of %d", name, got, a.Dropped, published)
			}
			c = s.dial("lamp", d.plus(persistent)...)
			c.expectMessages()
			c.ask("join", "2")
			op.publish("g/2/all/muster/x", "new", 1)
			c.expectMessages("g/2/all/muster/x new")
		})
	}
}

// [GRP-4.6-3] A device that reads slowly gets what is queued ahead of a move, and
// the answer comes behind it.
func TestMoveWaitsForASlowDevice(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	inDialects(t, func(d dialect) {
		c := s.member("lamp", "1", d.with...)
		c.ask("leave", "2")
		for round := range 20 {
			for i := range 30 {
				op.publish(fmt.Sprintf("g/1/all/muster/%d", i), "x", 1)
			}
			a := op.must("move", "lamp 1 2")
			if got := c.messages(); len(got)+a.Dropped != 30 || a.Dropped > 0 {
				t.Fatalf("round %d: received %d, dropped %d of 30", round, len(got), a.Dropped)
			}
			op.must("move", "lamp 2 1")
		}
		c.disconnect()
	})
}

// [GRP-4.6-4] The answer to a device's own change counts what was held back, on
// its own connection and on a side connection, and so does the notice.
func TestOwnChangeCountsWhatItDrops(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	const published = 5
	for _, way := range []string{"leave 1", "switch 1 2"} {
		for _, from := range []string{"itself", "side"} {
			c := s.member("lamp", "1", v5, withoutAcks, receiveMaximum(1))
			c.ask("leave", "2")
			c.subscribe("$G/me")
			c.notice()
			for i := range published {
				op.publish("g/1/all/muster/x", fmt.Sprint(i), 1)
			}
			pk, _ := c.await(func(pk *packets.Packet) bool { return pk.TopicName == "g/1/all/muster/x" })
			asker := c
			if from == "side" {
				asker = s.dial("lamp~1")
			}
			verb, body, _ := strings.Cut(way, " ")
			if a := asker.must(verb, body); a.Dropped != published-1 {
				t.Errorf("%s by %s: dropped %d, want %d", way, from, a.Dropped, published-1)
			}
			if from == "side" {
				if n := c.notice(); n.Dropped != published-1 || n.Code != group.OK {
					t.Errorf("%s: notice %+v", way, n)
				}
			}
			c.write(&packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID}, (*packets.Packet).PubackEncode)
			c.expectMessages()
			c.disconnect()
		}
	}
}

// [GRP-4.6-5] Whoever reads, by whatever way, sees a device that switches in one
// of the groups.
func TestRostersShowOneGroup(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	c, side := s.member("lamp", "1"), s.dial("lamp~1")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for in := 1; ; in = 3 - in {
			select {
			case <-stop:
				return
			default:
				c.must("switch", fmt.Sprintf("%d %d", in, 3-in))
			}
		}
	})
	has := func(a control.Answer) int {
		n := 0
		for _, e := range a.List {
			if e.Device == "lamp" {
				n++
			}
		}
		return n
	}
	same := 0
	for i := 0; i < 300 || same < 20 && i < 20000; i++ {
		a, b := op.must("members", "1"), op.must("members", "2")
		if a.Rev == b.Rev {
			same++
			if has(a)+has(b) != 1 {
				t.Fatalf("at rev %d the rosters show it %d times", a.Rev, has(a)+has(b))
			}
		}
		sum := 0
		for _, e := range op.must("list", "").List {
			if e.Members != nil {
				sum += *e.Members
			}
		}
		if sum != 1 {
			t.Fatalf("the list of groups shows %d members", sum)
		}
		if l := side.must("mine", "").List; len(l) != 1 {
			t.Fatalf("mine shows %d groups", len(l))
		}
		if l := op.must("show", `{"device":"lamp"}`).List; len(l) != 1 {
			t.Fatalf("show shows %d groups", len(l))
		}
		for _, e := range op.must("list", `{"kind":"device"}`).List {
			if e.Device == "lamp" && len(e.Groups) != 1 {
				t.Fatalf("the list of devices shows %v", e.Groups)
			}
		}
	}
	close(stop)
	wg.Wait()
}
