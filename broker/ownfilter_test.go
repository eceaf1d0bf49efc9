package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// noLocal asks for it with all filters of a SUBSCRIBE.
func noLocal(pk *packets.Packet) {
	for i := range pk.Filters {
		pk.Filters[i].NoLocal = true
	}
}

// withID gives a SUBSCRIBE a Subscription Identifier.
func withID(id int) func(*packets.Packet) {
	return func(pk *packets.Packet) { pk.Properties.SubscriptionIdentifier = []int{id} }
}

// [GRP-4.5-1] A filter over g/ means the groups that the device is in, now and
// later, and no other.
func TestOwnFilterFollowsTheMembership(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	inDialects(t, func(d dialect) {
		for i, filter := range []string{"g/#", "g/+/all/#", "g/+/all/+/x", "g/+/+/muster/x", "g/+/#", "g/+/+/+/+", "g/+/+/+/#"} {
			c := s.dial(fmt.Sprint("lamp-", i), d.plus(persistent)...)
			if codes := c.subscribe(filter); codes[0] != 1 {
				t.Errorf("%s: SUBACK %v", filter, codes)
			}
			publish := func() {
				op.publish("g/1/all/muster/x", "1", 1)
				op.publish("g/2/all/muster/x", "2", 1)
				op.publish("g/1/to/other/muster/x", "to another", 1)
			}
			publish()
			c.expectMessages()
			// The membership delivers nothing: what comes, comes by the filter.
			c.must("join", `{"g":1,"recv":false}`)
			publish()
			c.expectMessages("g/1/all/muster/x 1")
			c.must("join", `{"g":2,"recv":false}`)
			publish()
			c.expectMessages("g/1/all/muster/x 1", "g/2/all/muster/x 2")
			s.lose(c)
			c = s.dial(c.id, d.plus(persistent)...)
			publish()
			c.expectMessages("g/1/all/muster/x 1", "g/2/all/muster/x 2")
			op.must("remove", jsonOf(map[string]any{"device": c.id, "g": 1}))
			publish()
			c.expectMessages("g/2/all/muster/x 2")
			if codes := c.unsubscribe(filter, filter).ReasonCodes; d.v5 && !slices.Equal(codes, []byte{0, 0x11}) {
				t.Errorf("UNSUBACK %v", codes)
			}
			publish()
			c.expectMessages()
			c.subscribe(filter)
			s.lose(c)
			c = s.dial(c.id, d.with...) // a clean start ends the filter, not the membership
			publish()
			c.expectMessages()
			c.must("leave", "2")
			c.disconnect()
		}
	})
}

// [GRP-4.5-2] Membership and filters deliver a message once, at the highest QoS
// among them, with all Subscription Identifiers.
func TestOwnFiltersDeliverOnce(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	type sub struct {
		filter string
		qos    byte
		id     int
	}
	tests := []struct {
		name string
		verb sub
		own  []sub
		qos  byte // of the message
		want byte
		ids  []int
	}{
		{"the membership alone", sub{"$join/1", 0, 0}, nil, 1, 0, nil},
		{"the membership's identifier", sub{"$join/1", 1, 7}, nil, 1, 1, []int{7}},
		{"a filter raises the QoS", sub{"$join/1", 0, 0}, []sub{{"g/#", 1, 0}}, 1, 1, nil},
		{"not above the message's", sub{"$join/1", 1, 0}, []sub{{"g/#", 1, 0}}, 0, 0, nil},
		{"QoS 2 ends at the server", sub{"$join/1", 0, 0}, []sub{{"g/#", 2, 0}}, 2, 1, nil},
		{"the membership has the higher", sub{"$join/1", 1, 7}, []sub{{"g/#", 0, 8}}, 1, 1, []int{7, 8}},
		{"several", sub{"$join/1", 0, 7}, []sub{{"g/#", 0, 8}, {"g/+/all/#", 1, 9}, {"g/1/all/+/x", 0, 0}, {"g/1/all/+/y", 1, 10}}, 1, 1, []int{7, 8, 9}},
		{"the same identifier twice", sub{"$join/1", 0, 0}, []sub{{"g/#", 0, 8}, {"g/+/all/#", 0, 8}}, 1, 0, []int{8, 8}},
		{"none matches", sub{"$join/1", 1, 0}, []sub{{"g/+/to/#", 1, 8}}, 1, 1, nil},
	}
	inDialects(t, func(d dialect) {
		for i, tt := range tests {
			c := s.dial(fmt.Sprint("lamp-", i), d.with...)
			for _, f := range append([]sub{tt.verb}, tt.own...) {
				codes := c.subscribeWith(func(pk *packets.Packet) {
					atQoS(f.qos)(pk)
					if f.id != 0 {
						withID(f.id)(pk)
					}
				}, f.filter).ReasonCodes
				if codes[0] != min(f.qos, 1) {
					t.Errorf("%s: %s with QoS %d is granted 0x%02x", tt.name, f.filter, f.qos, codes[0])
				}
			}
			op.put("g/1/all/muster/x", "x", tt.qos)
			got := c.flushed()
			if len(got) != 1 {
				t.Fatalf("%s: delivered %d times", tt.name, len(got))
			}
			ids := got[0].Properties.SubscriptionIdentifier
			slices.Sort(ids)
			if !d.v5 {
				tt.ids = nil
			}
			if got[0].FixedHeader.Qos != tt.want || !slices.Equal(ids, tt.ids) {
				t.Errorf("%s: QoS %d, identifiers %v; want %d, %v", tt.name, got[0].FixedHeader.Qos, ids, tt.want, tt.ids)
			}
			c.must("leave", "1")
			c.disconnect()
		}
	})
}

// A SUBSCRIBE with a filter that is there replaces it.
func TestOwnFilterIsReplaced(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	c := s.dial("lamp", v5)
	c.must("join", `{"g":1,"recv":false}`)
	for qos := range byte(2) {
		c.subscribeWith(func(pk *packets.Packet) { atQoS(1 - qos)(pk); withID(5 + int(qos))(pk) }, "g/#")
		op.publish("g/1/all/muster/x", "x", 1)
		got := c.flushed()
		if len(got) != 1 || got[0].FixedHeader.Qos != 1-qos || !slices.Equal(got[0].Properties.SubscriptionIdentifier, []int{5 + int(qos)}) {
			t.Errorf("%d messages, QoS %d, identifiers %v", len(got), got[0].FixedHeader.Qos, got[0].Properties.SubscriptionIdentifier)
		}
	}
}

// A filter of one's own delivers one's own messages, unless it has No Local.
func TestOwnFilterEchoes(t *testing.T) {
	s := serve(t, nil)
	s.lamps()
	inDialects(t, func(d dialect) {
		c := s.member("lamp", "1", d.with...)
		side := s.dial("lamp~1", d.with...)
		c.subscribe("g/+/all/#")
		c.publish("g/all/x", "own", 1)
		side.publish("g/all/x", "side", 1)
		c.expectMessages("g/1/all/lamp/x own", "g/1/all/lamp/x side")
		if d.v5 {
			c.subscribeWith(noLocal, "g/+/all/#")
			c.publish("g/all/x", "own", 1)
			side.publish("g/all/x", "side", 1)
			c.expectMessages()
		}
		c.must("leave", "1")
	})
}

// [GRP-4.5-3] A filter names what one has a right to, or is refused.
func TestOwnFilterRights(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	op.must("create", `{"name":"gone"}`)
	op.must("create", `{"name":"talks","members_events":true}`)
	every := addAccount(op, "every", "observer")
	op.must("account", jsonOf(map[string]any{"op": "add", "user": "east", "role": "observer", "secret": password, "groups": []int{2}}))
	s.member("lamp", "1 3 4")
	op.must("delete", `{"g":3}`)
	const all = "lamp every east operator"
	tests := []struct {
		filter string
		may    string
	}{
		{"g/#", all}, {"g/+", all}, {"g/+/#", all}, {"g/+/+/#", all}, {"g/+/all/#", all}, {"g/+/all/+/cmd", all}, {"g/+/to/#", all}, {"g/+/to/lamp/#", all},
		{"g/1/#", "lamp every operator"}, {"g/1", "lamp every operator"}, {"g/1/+/#", "lamp every operator"}, {"g/1/all/#", "lamp every operator"},
		{"g/1/all/+/x", "lamp every operator"}, {"g/1/to/#", "lamp"}, {"g/1/to/lamp/#", "lamp"},
		{"g/2/#", "every east operator"}, {"g/2/all/#", "every east operator"}, {"g/2/up/#", "every east operator"}, {"g/2/to/#", ""},
		{"g/1/up/#", "every operator"}, {"g/1/evt", "every operator"}, {"g/1/agg/#", "every operator"},
		{"g/4/evt", "lamp every operator"}, {"g/4/up/#", "every operator"},
		{"g/+/up/#", "every east operator"}, {"g/+/evt", "every east operator"}, {"g/+/agg/#", "every east operator"},
		{"g/3/#", ""}, {"g/3/all/#", ""}, {"g/99/all/#", ""}, {"g/0/#", ""}, {"g/01/#", ""}, {"g/4294967297/#", ""},
		{"g/1/re/#", ""}, {"g/+/re/#", ""}, {"g/1/other/#", ""}, {"g/+/other/#", ""}, {"g/1/UP/#", ""},
		{"g", ""}, {"g/", ""}, {"g//#", ""}, {"g/all/#", ""}, {"g/up/#", ""}, {"g/lamps/#", ""}, {"g/lamps/all/#", ""}, {"g/@ann/#", ""},
	}
	inDialects(t, func(d dialect) {
		who := map[string]*client{
			"lamp": s.dial("lamp", d.with...), "every": s.dial("every", d.plus(every)...),
			"east": s.dial("east", d.plus(login("east", password))...), "operator": s.operatorAs("muster~filters", d.with...),
			"side": s.dial("lamp~1", d.with...),
		}
		for _, tt := range tests {
			for name, c := range who {
				want := byte(1)
				if !slices.Contains(strings.Fields(tt.may), name) {
					want = d.code(0x87, 0x80)
				}
				if got := c.subscribe(tt.filter)[0]; got != want {
					t.Errorf("%s: %s: SUBACK 0x%02x, want 0x%02x", name, tt.filter, got, want)
				}
				c.unsubscribe(tt.filter)
			}
		}
		// One that was refused brings nothing when the right comes.
		c := s.dial("later", d.with...)
		c.subscribe("g/2/all/#")
		c.must("join", `{"g":2,"recv":false}`)
		op.publish("g/2/all/muster/x", "x", 1)
		c.expectMessages()
		// One that was granted brings nothing when the right has gone.
		c.subscribe("g/2/all/#")
		op.publish("g/2/all/muster/x", "x", 1)
		c.expectMessages("g/2/all/muster/x x")
		c.must("leave", "2")
		op.publish("g/2/all/muster/x", "x", 1)
		c.expectMessages()
		for _, c := range who {
			c.disconnect()
		}
	})
}

// [GRP-4.5-4] An observer's filters cover the groups that it observes, and what
// goes to one member in none.
func TestObserversFilters(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	every := addAccount(op, "every", "observer")
	op.must("account", jsonOf(map[string]any{"op": "add", "user": "east", "role": "observer", "secret": password, "groups": []int{2}}))
	inDialects(t, func(d dialect) {
		for _, filters := range [][]string{{"g/#"}, {"g/+/#", "g/+/+/#"}, {"g/2/#", "g/+/all/#", "g/+/up/#", "g/+/evt", "g/+/to/#", "g/1/to/#"}} {
			all, east := s.dial("every", d.plus(every)...), s.dial("east", d.plus(login("east", password))...)
			watch := s.operatorAs("muster~watches", d.with...)
			for _, c := range []*client{all, east, watch} {
				c.subscribe(filters...)
			}
			lamp := s.member("lamp", "1 2", d.with...)
			lamp.publish("g/1/all/lamp/x", "a", 1)
			lamp.publish("g/2/all/lamp/x", "a", 1)
			lamp.publish("g/1/up/lamp/x", "u", 1)
			lamp.publish("g/2/up/lamp/x", "u", 1)
			op.publish("g/1/to/lamp/muster/x", "t", 1)
			op.publish("g/2/to/lamp/muster/x", "t", 1)
			for _, who := range []string{"every", "east", "muster"} { // named like an observer: still no member
				op.publish("g/2/to/"+who+"/muster/x", "t", 1)
			}
			lamp.settled() // events are queued behind the answer to who has joined
			check := func(c *client, groups ...int) {
				t.Helper()
				var want, got []string
				for _, n := range groups {
					want = append(want, fmt.Sprintf("g/%d/evt", n), fmt.Sprintf("g/%d/all/lamp/x", n), fmt.Sprintf("g/%d/up/lamp/x", n))
				}
				for _, m := range c.messages() {
					topic, _, _ := strings.Cut(m, " ")
					if !slices.Contains(got, topic) || !strings.HasSuffix(topic, "/evt") {
						got = append(got, topic)
					}
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("%s with %q received %q, want %q", c.id, filters, got, want)
				}
			}
			check(all, 1, 2)
			check(watch, 1, 2)
			check(east, 2)
			lamp.must("leave", "1")
			lamp.must("leave", "2")
			for _, c := range []*client{all, east, watch, lamp} {
				c.disconnect()
			}
		}
	})
}

// [GRP-4.5-5] A filter that begins with a wildcard covers no message of a group.
func TestWildcardsCoverNoGroup(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	op.must("create", `{"name":"talks","members_events":true}`)
	admin := addAccount(op, "ann", "operator")
	filters := []string{"#", "+/#", "+/1/#", "+/+/all/#", "+/+/all/muster/x", "+/1/evt", "+/+/+/+/+", "+/3/+"}
	inDialects(t, func(d dialect) {
		c := s.dial("ann", d.plus(admin)...)
		for _, f := range filters {
			if codes := c.subscribe(f); codes[0] != 1 {
				t.Errorf("%s: an operator's SUBACK is %v", f, codes)
			}
		}
		lamp := s.member("lamp", "1 2 3", d.with...)
		for _, f := range filters {
			if codes := lamp.subscribe(f); codes[0] != d.code(0x87, 0x80) {
				t.Errorf("%s: a device's SUBACK is %v", f, codes)
			}
		}
		lamp.publish("g/1/all/lamp/x", "x", 1)
		lamp.publish("g/1/up/lamp/x", "x", 1)
		op.publishWith(func(pk *packets.Packet) { pk.FixedHeader.Retain = true }, "g/1/all/muster/x", "x", 1)
		op.publish("g/1/to/ann/muster/x", "x", 1)
		c.expectMessages()
		op.publish("h/1/all/muster/x", "ordinary", 1)
		c.expectMessages("h/1/all/muster/x ordinary")
		lamp.expectMessages("g/1/all/muster/x x")
		c.disconnect()
		lamp.disconnect()
	})
}

// [GRP-4.5-6] Groups and verbs are not shared.
func TestGroupsAreNotShared(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	inDialects(t, func(d dialect) {
		lamp := s.dial("lamp", d.with...)
		watch := s.operatorAs("muster~shares", d.with...)
		for _, rest := range []string{"g", "g/#", "g/1/#", "g/1/all/+/x", "g/+/all/#", "$join/1", "$join/lamps", "$switch/1/2", "$grant/abcd", "$join", "$join/#", "$G/me", "$G/res/1"} {
			for _, share := range []string{"a", "g", "$join"} {
				for _, c := range []*client{lamp, watch} {
					if codes := c.subscribe("$share/" + share + "/" + rest); codes[0] != d.code(0x9E, 0x80) {
						t.Errorf("%s: $share/%s/%s: SUBACK 0x%02x", c.id, share, rest, codes[0])
					}
				}
			}
		}
		if in := lamp.groups(); len(in) > 0 {
			t.Errorf("it is in %v", in)
		}
		watch.subscribe("$share/a/#", "$share/a/+/#")
		op.publish("g/1/all/muster/x", "x", 1)
		watch.expectMessages()
		lamp.expectMessages()
		watch.disconnect()
	})
}
