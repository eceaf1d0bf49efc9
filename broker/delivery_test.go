package broker_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/group"
)

// put publishes and returns when that is handled, also with QoS 0.
func (c *client) put(topic, payload string, qos byte) byte {
	c.t.Helper()
	r := c.publish(topic, payload, qos)
	if qos == 0 {
		c.raw([]byte{0xC0, 0})
		c.reply(packets.Pingresp)
	}
	return r
}

// expectGroup publishes to all of group n and to the client in it, and expects
// both to arrive, or neither.
func (c *client) expectGroup(op *client, n group.Number, in bool) {
	c.t.Helper()
	all, to := fmt.Sprintf("g/%d/all/muster/x", n), fmt.Sprintf("g/%d/to/%s/muster/x", n, c.id)
	op.publish(all, "a", 1)
	op.publish(to, "t", 1)
	if in {
		c.expectMessages(all+" a", to+" t")
	} else {
		c.expectMessages()
	}
}

// [GRP-4.4-1] However a device has come into a group, it receives from the answer
// on, and again after each reconnect.
func TestMembershipDelivers(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	ways := map[string]func(c *client){
		"request": func(c *client) { c.must("join", "1") },
		"QoS 1 request": func(c *client) {
			if r := c.publish("$G/join", "1", 1); r != 0 {
				t.Errorf("PUBACK 0x%02x", r)
			}
		},
		"verb": func(c *client) {
			if codes := c.subscribe("$join/lamps"); codes[0] != 1 {
				t.Errorf("SUBACK %v", codes)
			}
		},
		"side connection": func(c *client) { s.dial(c.id+"~1").must("join", "1") },
		"grant": func(c *client) {
			g := c.must("grant", `{"op":"join","to":1}`).Grant
			if codes := c.subscribe("$grant/" + base64.RawURLEncoding.EncodeToString(g)); codes[0] != 1 {
				t.Errorf("SUBACK %v", codes)
			}
		},
		"operator":      func(c *client) { op.must("join", jsonOf(map[string]any{"device": c.id, "g": 1})) },
		"moved by one":  func(c *client) { c.must("join", "2"); op.must("move", c.id+" 2 1") },
		"switch":        func(c *client) { c.must("join", "2"); c.must("switch", "2 1") },
		"switch verb":   func(c *client) { c.must("join", "2"); c.subscribe("$switch/2/1") },
		"while it away": func(c *client) {},
	}
	n := 0
	inDialects(t, func(d dialect) {
		for name, join := range ways {
			n++
			id := fmt.Sprintf("lamp-%d", n)
			c := s.dial(id, d.with...)
			if name == "while it away" {
				s.lose(c)
				op.must("join", jsonOf(map[string]any{"device": id, "g": 1}))
				c = s.dial(id, d.with...)
			} else {
				c.expectGroup(op, 1, false)
				join(c)
			}
			t.Log(name)
			c.expectGroup(op, 1, true)
			for _, options := range [][]option{{}, {persistent}, {persistent}, {}} {
				s.lose(c)
				c = s.dial(id, d.plus(options...)...)
				c.expectGroup(op, 1, true)
			}
			c = s.dial(id, d.with...) // take-over
			c.expectGroup(op, 1, true)
			c.must("leave", "1")
			c.expectGroup(op, 1, false)
			c.disconnect()
		}
	})
	lamp := s.member("last", "1")
	lamp.disconnect()
	s.restart()
	op = s.operator()
	lamp = s.dial("last")
	lamp.expectGroup(op, 1, true)
}

// What a device receives first is CONNACK, however many messages come meanwhile.
func TestNothingBeforeConnack(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	s.member("lamp", "1").disconnect()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				op.publish("g/1/all/muster/x", "x", 1)
			}
		}
	})
	inDialects(t, func(d dialect) {
		for range 20 {
			s.lose(s.dial("lamp", d.with...)) // the first packet must be CONNACK
		}
	})
	close(stop)
	wg.Wait()
}

// [GRP-4.4-2] A message is delivered with the lower of its QoS and the
// membership's, and the membership's is that of the verb or of the key.
func TestDeliveryQoS(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	inDialects(t, func(d dialect) {
		c := s.dial("lamp", d.with...)
		check := func(how string, want byte) {
			t.Helper()
			for qos := range byte(3) {
				op.put("g/1/all/muster/x", "x", qos)
				op.put("g/1/to/lamp/muster/x", "x", qos)
				got := c.flushed()
				if len(got) != 2 {
					t.Errorf("%s: %d messages with QoS %d, want 2", how, len(got), qos)
				}
				for _, pk := range got {
					if pk.FixedHeader.Qos != min(want, qos) {
						t.Errorf("%s: a message with QoS %d came with %d", how, qos, pk.FixedHeader.Qos)
					}
					if pk.FixedHeader.Dup || (pk.FixedHeader.Qos == 0) != (pk.PacketID == 0) {
						t.Errorf("%s: DUP %v, identifier %d", how, pk.FixedHeader.Dup, pk.PacketID)
					}
				}
			}
		}
		c.must("join", "1")
		check("the default", 1)
		c.must("join", `{"g":1,"qos":0}`)
		check("the key, 0", 0)
		c.must("join", `{"g":1,"qos":1}`)
		check("the key, 1", 1)
		c.refused(group.BadRequest, "join", `{"g":1,"qos":2}`)
		check("the key, 2", 1)
		for qos := range byte(3) {
			if codes := c.subscribeWith(atQoS(qos), "$join/1").ReasonCodes; codes[0] != min(qos, 1) {
				t.Errorf("verb with QoS %d: SUBACK %v", qos, codes)
			}
			check("the verb", min(qos, 1))
		}
		c.must("join", `{"g":1,"qos":0}`)
		s.lose(c)
		c = s.dial("lamp", d.with...)
		check("the key, after a reconnect", 0)
		c.must("leave", "1")
		c.must("join", "1")
		check("the default, after a leave", 1)
		c.must("leave", "1")
	})
}

// [GRP-4.4-3] Options of a membership hold until a join changes them.
func TestMembershipOptions(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	inDialects(t, func(d dialect) {
		c := s.dial("lamp", d.with...)
		rests := []string{"", "/", "/cmd", "/cmd/", "/cmd/a", "/cmd/a/b", "/b", "/x/b", "/Cmd", "/$x"}
		check := func(what string, want ...string) {
			t.Helper()
			for i, r := range rests {
				op.publish("g/1/all/muster"+r, "x", byte(i%2))
			}
			op.publish("g/1/to/lamp/muster/y", "x", 1)
			var got []string
			for _, m := range c.messages() {
				m, _, _ = strings.Cut(m, " ")
				got = append(got, strings.TrimPrefix(strings.TrimPrefix(m, "g/1/all/muster"), "g/1/"))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: received %q, want %q", what, got, want)
			}
		}
		with := func(what string, want []string, bodies ...string) {
			t.Helper()
			for _, b := range bodies {
				if a := c.ask("join", b); !a.Code.Success() {
					t.Fatalf("join %s: %d %s", b, uint8(a.Code), a.Code)
				}
			}
			check(what, append(want, "to/lamp/muster/y")...)
		}
		with("all", rests, "1")
		with("one filter", []string{"/cmd", "/cmd/", "/cmd/a", "/cmd/a/b"}, `{"g":1,"filter":["cmd/#"]}`)
		with("kept by a join without the key", []string{"/cmd", "/cmd/", "/cmd/a", "/cmd/a/b"}, "1", `{"g":1}`, `{"g":1,"qos":1}`)
		c.subscribe("$join/1")
		with("kept by a verb", []string{"/cmd", "/cmd/", "/cmd/a", "/cmd/a/b"}, "1")
		with("two filters, once each", []string{"/cmd/", "/cmd/a", "/b", "/x/b"}, `{"g":1,"filter":["cmd/+","+/a","b","+/b"]}`)
		with("one level", []string{"/", "/cmd", "/b", "/Cmd", "/$x"}, `{"g":1,"filter":["+"]}`)
		with("nothing matches", nil, `{"g":1,"filter":["nothing/here"]}`)
		with("# among others", rests, `{"g":1,"filter":["b","#"]}`)
		s.lose(c)
		c = s.dial("lamp", d.with...)
		check("after a reconnect", append(slices.Clone(rests), "to/lamp/muster/y")...)
		if a := c.ask("join", `{"g":1,"recv":false}`); a.Code != group.OK {
			t.Fatal(a.Code)
		}
		check("recv off")
		c.must("join", `{"g":1,"filter":["b"]}`)
		check("recv off, and another filter")
		c.subscribe("$join/1")
		check("recv off, and a verb")
		with("recv on", []string{"/b"}, `{"g":1,"recv":true}`)
		for _, bad := range []string{
			`{"g":1,"filter":["a#"]}`, `{"g":1,"filter":["#/a"]}`, `{"g":1,"filter":["a+/b"]}`, `{"g":1,"filter":[""]}`, `{"g":1,"filter":"b"}`,
			`{"g":1,"filter":[1]}`, `{"g":1,"recv":0}`, `{"g":1,"qos":-1}`, `{"g":1,"filter":["a\u0000b"]}`, `{"g":1,"filter":["` + strings.Repeat("a/", 16) + `"]}`,
		} {
			c.refused(group.BadRequest, "join", bad)
		}
		with("refused ones have changed nothing", []string{"/b"}, "1")
		c.must("leave", "1")
		with("a new membership has the defaults", rests, "1")
		c.must("leave", "1")
	})
}

// [GRP-4.4-4] A membership does not echo: whichever connection of the device has
// published, and to whomever.
func TestNoEcho(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	op.must("update", `{"g":1,"members_to":true}`)
	admin := addAccount(op, "ann", "operator")
	inDialects(t, func(d dialect) {
		c, other := s.member("lamp", "1", d.with...), s.member("other", "1", d.with...)
		side := s.dial("lamp~1", d.with...)
		c.accepts("g/1/all/lamp/x", "main")
		side.accepts("g/1/all/lamp/x", "side")
		side.accepts("g/all/x", "short")
		c.accepts("g/1/to/lamp/lamp/x", "to itself")
		side.accepts("g/1/to/lamp/lamp/x", "to itself")
		c.expectMessages()
		side.expectMessages()
		other.expectMessages(thrice("g/1/all/lamp/x main", "g/1/all/lamp/x side", "g/1/all/lamp/x short")...)
		member := s.member("admin", "1", d.plus(admin)...) // an operator is a member like others
		member.accepts("g/1/all/admin/x", "own")
		member.expectMessages()
		c.expectMessages(thrice("g/1/all/admin/x own")...)
		for _, m := range []*client{c, other, member} {
			m.must("leave", "1")
		}
	})
}

// inFlight is a device that has received messages and acknowledged none.
func inFlight(s *testServer, op *client, id string, d dialect, payloads ...string) (c *client, ids []uint16) {
	s.t.Helper()
	c = s.member(id, "1 2", d.plus(persistent, withoutAcks)...)
	for i, p := range payloads {
		op.publish(fmt.Sprintf("g/%d/all/muster/x", 1+i%2), p, 1)
	}
	for range payloads {
		pk := c.next()
		if pk.FixedHeader.Type != packets.Publish || pk.FixedHeader.Qos != 1 || pk.FixedHeader.Dup {
			s.t.Fatalf("received %+v", pk)
		}
		ids = append(ids, pk.PacketID)
	}
	return c, ids
}

// expectAgain expects messages in flight to be sent again, with DUP and their
// identifiers.
func (c *client) expectAgain(ids []uint16, payloads ...string) {
	c.t.Helper()
	var got []string
	for i, pk := range c.flushed() {
		got = append(got, string(pk.Payload))
		if !pk.FixedHeader.Dup || pk.FixedHeader.Qos != 1 || i < len(ids) && pk.PacketID != ids[i] {
			c.t.Errorf("%s: %q came with DUP %v, QoS %d, identifier %d", c.id, pk.Payload, pk.FixedHeader.Dup, pk.FixedHeader.Qos, pk.PacketID)
		}
	}
	if !slices.Equal(got, payloads) {
		c.t.Errorf("%s: sent again: %q, want %q", c.id, got, payloads)
	}
}

// [GRP-4.4-5] What was in flight is sent again in a Session that is resumed, to
// who is still a member; what came while the device was away is not there.
func TestInFlightIsSentAgain(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	inDialects(t, func(d dialect) {
		c, ids := inFlight(s, op, "resumes", d, "a", "b", "c")
		for range 2 {
			s.lose(c)
			op.publish("g/1/all/muster/x", "away", 1)
			c = s.dial("resumes", d.plus(persistent, withoutAcks)...)
			if !c.connack.SessionPresent {
				t.Fatal("the Session is gone")
			}
			c.expectAgain(ids, "a", "b", "c")
		}
		c = s.dial("resumes", d.plus(persistent)...) // take-over; this one acknowledges
		c.expectAgain(ids, "a", "b", "c")
		c.flushed()
		s.lose(c)
		c = s.dial("resumes", d.plus(persistent)...)
		c.expectMessages()
		c.must("leave", "1")
		c.must("leave", "2")

		c, ids = inFlight(s, op, "leaves", d, "a", "b", "c", "d")
		s.lose(c)
		op.must("remove", `{"device":"leaves","g":1}`)
		c = s.dial("leaves", d.plus(persistent, withoutAcks)...)
		c.expectAgain([]uint16{ids[1], ids[3]}, "b", "d")
		c.must("leave", "2")
		s.lose(c)
		c = s.dial("leaves", d.plus(persistent)...)
		c.expectMessages()

		// Out and in again: another membership, to which the old messages do not
		// belong.
		c, ids = inFlight(s, op, "returns", d, "a", "b")
		s.lose(c)
		op.must("remove", `{"device":"returns","g":1}`)
		op.must("join", `{"device":"returns","g":1}`)
		c = s.dial("returns", d.plus(persistent)...)
		c.expectAgain(ids[1:], "b")
		c.must("leave", "1")
		c.must("leave", "2")

		c, _ = inFlight(s, op, "starts clean", d, "a", "b")
		s.lose(c)
		c = s.dial("starts clean", d.with...)
		c.expectMessages()
		s.lose(c)
		c = s.dial("starts clean", d.plus(persistent)...)
		c.expectMessages()
		c.must("leave", "1")
		c.must("leave", "2")
	})
}
