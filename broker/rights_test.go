package broker_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/group"
)

// withRules makes an account with rules for ordinary topics.
func withRules(op *client, name, role string, rules ...string) option {
	op.t.Helper()
	o := addAccount(op, name, role)
	setRules(op, name, rules...)
	return o
}

// setRules gives an account other rules. What follows from it is done when it
// returns.
func setRules(op *client, name string, rules ...string) {
	op.t.Helper()
	op.must("account", jsonOf(map[string]any{"op": "update", "user": name, "topics": append([]string{}, rules...)}))
}

func setDisabled(op *client, name string, disabled bool) {
	op.t.Helper()
	op.must("account", jsonOf(map[string]any{"op": "update", "user": name, "disabled": disabled}))
}

// logged waits until the log holds a text.
func (s *testServer) logged(text string) {
	s.t.Helper()
	for start := time.Now(); time.Since(start) < patience; runtime.Gosched() {
		if strings.Contains(s.log.String(), text) {
			return
		}
	}
	s.t.Fatalf("the log has no %q", text)
}

// subscribes expects each filter to be answered with the code.
func (c *client) subscribes(code byte, filters ...string) {
	c.t.Helper()
	for i, got := range c.subscribe(filters...) {
		if got != code {
			c.t.Errorf("%s: SUBSCRIBE %q: 0x%02x, want 0x%02x", c.id, filters[i], got, code)
		}
	}
}

// [GRP-4.7-2] [GRP-4.7-3] An account publishes and subscribes to what its rules
// allow, and to nothing else.
func TestTopicRules(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := withRules(op, "ann", "device",
		"allow publish s/%c/#", "allow subscribe t/%u/#", "allow both open/+", "deny both open/secret", "deny publish s/+/limit")
	dash := withRules(op, "dash", "observer", "allow subscribe s/#")
	eve := withRules(op, "eve", "operator", "allow both e/#")
	w := s.operatorAs("muster~all")
	w.subscribe("#")
	inDialects(t, func(d dialect) {
		no := d.code(0x87, 0x80)
		c, side := s.dial("lamp-7", d.plus(ann)...), s.dial("lamp-7~1", d.plus(ann)...)
		for _, topic := range []string{"s/lamp-7", "s/lamp-7/a/b", "open/x"} {
			c.accepts(topic, "x")
			w.expectMessages(thrice(topic + " x")...)
		}
		side.put("s/lamp-7/y", "side", 1)
		w.expectMessages("s/lamp-7/y side")
		for _, topic := range []string{"s/lamp-8/a", "s", "s/lamp-7~1/x", "s/lamp-7/limit", "open/secret", "open/a/b", "t/ann/x", "x"} {
			c.refusedAll(0x87, topic)
			side.refusedAll(0x87, topic)
			c.publishWith(retain, topic, "kept", 1)
		}
		w.expectMessages()
		late := s.operatorAs("muster~late", d.with...)
		late.subscribe("#")
		late.expectMessages()
		late.disconnect()
		c.subscribes(1, "t/ann", "t/ann/#", "t/ann/+/x", "open/x", "$share/x/t/ann/#", "$share/x/open/y")
		c.subscribes(no, "#", "+/#", "t/#", "t/+", "t/bob/#", "open/+", "open/#", "open/secret", "+/x", "s/lamp-7/a",
			"$share/x/t/#", "$share/x/#", "$share/x/open/+", "$share/x/s/lamp-7")
		op.put("t/ann/1", "mine", 1)
		op.put("t/bob/1", "bob's", 1)
		op.put("open/secret", "s", 1)
		op.put("open/z", "z", 1)
		c.unsubscribe("$share/x/t/ann/#")
		if got := c.messages(); !slices.Contains(got, "t/ann/1 mine") || slices.ContainsFunc(got, func(m string) bool { return m != "t/ann/1 mine" }) {
			t.Errorf("received %q", got)
		}
		w.flushed()

		o, e := s.dial("dash", d.plus(dash)...), s.dial("eve", d.plus(eve)...)
		o.subscribes(1, "s/#", "s/lamp-7/limit")
		o.subscribes(no, "#", "e/#")
		o.refusedAll(0x87, "s/x")
		e.subscribes(1, "e/#")
		e.subscribes(no, "#", "s/#")
		e.refusedAll(0x87, "s/x")
		c.put("s/lamp-7/t", "21", 1)
		o.expectMessages("s/lamp-7/t 21")
		w.flushed()
		for _, x := range []*client{side, c, o, e} {
			x.disconnect()
		}
	})
}

// Devices without an account have the rules of the configuration.
func TestTopicRulesOfAnonymous(t *testing.T) {
	rule := func(s string) group.TopicRule {
		r, err := group.ParseTopicRule(s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	s := serve(t, func(c *broker.Config) {
		c.AnonymousTopics = []group.TopicRule{rule("allow both #"), rule("deny subscribe test/nosubscribe"), rule("deny publish %u/%c")}
	})
	inDialects(t, func(d dialect) {
		c := s.dial("x", d.plus(persistent)...)
		c.subscribes(1, "a/#", "test/x")
		c.subscribes(d.code(0x87, 0x80), "test/nosubscribe", "#", "test/+", "$SYS/#")
		c.accepts("a/b", "x")
		c.expectMessages(thrice("a/b x")...)
		c.refusedAll(0x87, "anonymous/x")
		c.refusedAll(0x87, "$SYS/x")
		s.lose(c)
		c = s.dial("x", d.plus(persistent)...)
		c.put("a/b", "again", 1)
		c.expectMessages("a/b again")
		c.disconnect()
		s.dial("x", d.with...).disconnect()
	})
}

// A name that cannot stand in a filter gets round no rule.
func TestNamesThatAreWildcards(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := withRules(op, "ann", "device", "allow both own/%c/#")
	bob := withRules(op, "bob", "device", "allow both #", "deny publish conf/%c")
	w := s.operatorAs("muster~all")
	w.subscribe("#")
	for _, id := range []string{"+", "#", "a/b", "own/#", "%c", "%u"} {
		c := s.dial(id, v5, ann)
		plain := id[0] == '%'
		if plain {
			c.subscribes(1, "own/"+id+"/x")
			c.subscribes(0x87, "own/ann/x")
		} else {
			c.subscribes(0x87, "own/+/x", "own/"+id, "own/#")
		}
		for _, topic := range []string{"own/x/y", "own/a/b", "own/ann/x", "own"} {
			c.refusedAll(0x87, topic)
		}
		c.disconnect()
		other := s.dial("bob "+id, v5, bob)
		if plain {
			other.put("x", "x", 1)
			w.expectMessages("x x")
		} else {
			other.disconnect()
			continue
		}
		other.refusedAll(0x87, "conf/bob "+id)
		other.disconnect()
	}
	c := s.dial("bob/1", v5, bob)
	c.refusedAll(0x87, "conf/bob/1")
	c.refusedAll(0x87, "anything")
	w.expectMessages()
}

// [GRP-4.7-4] A change of rules ends subscriptions, and discards what waits and
// what is in flight, for clients that are connected.
func TestRulesChangeLive(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := withRules(op, "ann", "device", "allow subscribe a/#", "allow subscribe b/#")
	inDialects(t, func(d dialect) {
		c := s.dial("lamp", d.plus(ann, persistent, withoutAcks, receiveMaximum(2))...)
		c.subscribes(1, "a/#", "b/#", "a/x", "$share/s/a/#")
		c.unsubscribe("$share/s/a/#") // or what follows comes twice
		op.put("a/1", "1", 1)
		if d.v5 {
			op.put("b/1", "1", 1)
			op.put("a/2", "2", 1) // waits for a slot
			op.put("b/2", "2", 1)
		}
		first := c.flushed()
		setRules(op, "ann", "allow subscribe b/#")
		op.put("a/3", "3", 1)
		op.put("a/x", "3", 0)
		op.publishWith(retain, "a/kept", "kept", 1)
		c.expectMessages()
		c.subscribes(d.code(0x87, 0x80), "a/#", "a/kept", "#")
		c.expectMessages()
		for _, pk := range first { // the window is not blocked by what was discarded
			c.ack(&pk)
		}
		want := []string{}
		if d.v5 {
			want = append(want, "b/2 2")
		}
		c.expectMessages(want...)
		op.put("b/3", "3", 0)
		c.expectMessages("b/3 3")
		setRules(op, "ann", "allow subscribe a/#", "allow subscribe b/#")
		op.put("a/4", "4", 1)
		c.expectMessages() // what has ended does not come back by itself
		c.subscribes(1, "a/kept")
		c.expectMessages("a/kept kept")
		op.publishWith(retain, "a/kept", "", 1)
		c.disconnect()
		s.dial("lamp", d.plus(ann)...).disconnect()
	})
}

// [GRP-4.7-4] The same for Sessions at rest: what was kept and what was in flight
// comes only if the right to it is there.
func TestRulesChangeAtRest(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := withRules(op, "ann", "device", "allow subscribe a/#", "allow subscribe b/#", "allow subscribe g2/#")
	inDialects(t, func(d dialect) {
		setRules(op, "ann", "allow subscribe a/#", "allow subscribe b/#")
		c := s.dial("lamp", d.plus(ann, persistent, withoutAcks)...)
		for qos := range byte(2) {
			c.subscribeWith(atQoS(qos+1), fmt.Sprintf("a/%d", qos), fmt.Sprintf("b/%d", qos))
			op.put(fmt.Sprintf("a/%d", qos), "flight", 2)
			op.put(fmt.Sprintf("b/%d", qos), "flight", 2)
		}
		if got := c.messages(); len(got) != 4 {
			t.Fatalf("in flight: %q", got)
		}
		s.lose(c)
		op.put("a/0", "kept", 1)
		op.put("b/0", "kept", 1)
		setRules(op, "ann", "allow subscribe b/#")
		op.put("a/0", "later", 1)
		op.put("b/0", "later", 1)
		c = s.dial("lamp", d.plus(ann, persistent)...)
		if !c.connack.SessionPresent {
			t.Error("the Session has ended")
		}
		c.expectMessages("b/0 flight", "b/1 flight", "b/0 kept", "b/0 later")
		op.put("a/1", "x", 1)
		c.expectMessages()
		setRules(op, "ann")
		op.put("b/1", "x", 1)
		c.expectMessages()
		c.disconnect()
		s.dial("lamp", d.plus(ann)...).disconnect()
	})
}

// What a member of a shared subscription may not have any more, another gets.
func TestRulesChangeOfShared(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann, bob := withRules(op, "ann", "device", "allow subscribe a/#"), withRules(op, "bob", "device", "allow subscribe a/#")
	inDialects(t, func(d dialect) {
		setRules(op, "ann", "allow subscribe a/#")
		c := s.dial("worker-1", d.plus(ann, persistent)...)
		c.subscribes(1, "$share/x/a/#")
		s.lose(c)
		for i := range 3 {
			op.put("a/b", fmt.Sprint(i), 1) // kept for the only one
		}
		other := s.dial("worker-2", d.plus(bob)...)
		other.subscribes(1, "$share/x/a/#")
		setRules(op, "ann")
		for i := range 3 {
			pk, _ := other.await(isType(packets.Publish))
			if string(pk.Payload) != fmt.Sprint(i) {
				t.Errorf("message %d is %q", i, pk.Payload)
			}
		}
		op.put("a/b", "now", 1)
		other.expectMessages("a/b now")
		c = s.dial("worker-1", d.plus(ann, persistent)...)
		c.expectMessages()
		c.disconnect()
		other.disconnect()
		s.dial("worker-1", d.plus(ann)...).disconnect()
	})
}

// [GRP-4.7-2] [GRP-6.9-4] A Will is judged by the account as it is when the Will
// fires, whatever it was when the client connected.
func TestWillByTheRightsOfNow(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	delayed := func(pk *packets.Packet, _ *client) { pk.Connect.WillProperties.WillDelayInterval = 3600 }
	retained := func(pk *packets.Packet, _ *client) { pk.Connect.WillRetain = true }
	const rule = "allow publish will/%c"
	tests := []struct {
		name   string
		before []string // the rules at CONNECT
		will   string
		with   []option
		change func(name string)
		only5  bool
		fires  bool
	}{
		{"allowed", []string{rule}, "will/%", nil, func(string) {}, false, true},
		{"another's", []string{rule}, "will/other", nil, func(string) {}, false, false},
		{"without rules", nil, "will/%", nil, func(string) {}, false, false},
		{"the server's", []string{"allow both #"}, "$SYS/x", nil, func(string) {}, false, false},
		{"allowed since", nil, "will/%", nil, func(n string) { setRules(op, n, rule) }, false, true},
		{"refused since", []string{rule}, "will/%", nil, func(n string) { setRules(op, n) }, false, false},
		{"denied since, retained", []string{rule}, "will/%", []option{retained}, func(n string) { setRules(op, n, rule, "deny publish #") }, false, false},
		{"disabled", []string{rule}, "will/%", nil, func(n string) { setDisabled(op, n, true) }, false, false},
		{"removed", []string{rule}, "will/%", nil, func(n string) { op.must("account", jsonOf(map[string]any{"op": "remove", "user": n})) }, false, false},
		{"delayed", []string{rule}, "will/%", []option{persistent, delayed}, func(string) {}, true, true},
		{"delayed and refused since", []string{rule}, "will/%", []option{persistent, delayed}, func(n string) { setRules(op, n) }, true, false},
		{"delayed and disabled", []string{rule}, "will/%", []option{persistent, delayed}, func(n string) { setDisabled(op, n, true) }, true, false},
		{"to a group, disabled", nil, "g/1/all/%/bye", nil, func(n string) { setDisabled(op, n, true) }, false, false},
	}
	w := s.operatorAs("muster~all")
	w.subscribe("will/#", "g/1/all/#")
	n := 0
	inDialects(t, func(d dialect) {
		for _, tt := range tests {
			if tt.only5 && !d.v5 {
				continue
			}
			n++
			name := fmt.Sprint("dev-", n)
			topic := tt.will
			if topic[len(topic)-1] == '%' {
				topic = topic[:len(topic)-1] + name
			} else if tt.will[0] == 'g' {
				topic = "g/1/all/" + name + "/bye"
			}
			acc := withRules(op, name, "device", tt.before...)
			c := s.dial(name, d.plus(append(slices.Clone(tt.with), acc, withWill(topic, "bye", 1))...)...)
			c.must("join", `{"g":1}`)
			if tt.only5 {
				s.lose(c) // the Will waits
				w.expectMessages()
				tt.change(name)
				op.must("forget", jsonOf(map[string]any{"device": name})) // ends the Session
			} else {
				done := s.srv.ConnDone(c.nc.LocalAddr())
				tt.change(name)
				c.nc.Close()
				<-done
			}
			if tt.fires {
				pk, _ := w.await(isType(packets.Publish))
				w.putBack([]packets.Packet{pk})
				w.expectMessages(topic + " bye")
				continue
			}
			s.logged("op=will client=" + name + " ")
			if got := w.messages(); len(got) > 0 {
				t.Errorf("%s: %q", tt.name, got)
			}
		}
		late := s.operatorAs("muster~late", d.with...)
		late.subscribe("#")
		late.expectMessages()
		late.disconnect()
	})
}

// [GRP-6.9-4] Disabling an account ends its connections and Sessions and refuses
// its logins, until it is enabled; what its devices are in stays.
func TestDisabledAccount(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	ann := withRules(op, "ann", "device", "allow both a/#")
	s.dial("lamp-7", ann).must("join", `{"g":1}`)
	inDialects(t, func(d dialect) {
		c := s.dial("lamp-7", d.plus(ann, persistent)...)
		away := s.dial("lamp-8", d.plus(ann, persistent)...)
		for _, x := range []*client{c, away} {
			x.subscribes(1, "a/#")
		}
		s.lose(away)
		op.put("a/x", "kept", 1)
		c.expectMessages("a/x kept")
		setDisabled(op, "ann", true)
		rest := c.ended()
		if d.v5 && (len(rest) != 1 || rest[0].FixedHeader.Type != packets.Disconnect || rest[0].ReasonCode != 0x87) || !d.v5 && len(rest) != 0 {
			t.Errorf("the connection ended with %+v", rest)
		}
		s.refuse(d.code(0x86, 4), "lamp-7", d.plus(ann)...)
		s.refuse(d.code(0x86, 4), "lamp-9", d.plus(ann)...)
		s.refuse(d.code(0x86, 4), "lamp-7", d.plus(login("ann", "wrong"))...)
		if g := op.must("show", `{"device":"lamp-7"}`); len(g.List) != 1 {
			t.Errorf("the device is in %+v", g.List)
		}
		setDisabled(op, "ann", false)
		for _, id := range []string{"lamp-7", "lamp-8"} {
			x := s.dial(id, d.plus(ann, persistent)...)
			if x.connack.SessionPresent {
				t.Errorf("%s: a Session has outlived it", id)
			}
			x.expectMessages()
			x.disconnect()
			s.dial(id, d.plus(ann)...).disconnect()
		}
	})
}

// The rules and the state of an account are what show and list say, also after a
// restart.
func TestRulesAreKept(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	rules := []string{"allow publish s/%c/#", "deny both +/secret"}
	ann := withRules(op, "ann", "device", rules...)
	bob := addAccount(op, "bob", "operator")
	setDisabled(op, "bob", true)
	op.refused(group.NoSuchAccount, "account", `{"op":"show","user":"nobody"}`)
	op.refused(group.BadRequest, "account", `{"op":"show"}`)
	op.refused(group.BadRequest, "account", `{"op":"update","user":"ann","topics":["allow both g/1/#"]}`)
	s.dial("lamp", ann).refused(group.NotAuthorized, "account", `{"op":"show","user":"ann"}`)
	for range 2 {
		shown, listed := op.must("account", `{"op":"show","user":"ANN"}`), op.must("account", `{"op":"list"}`)
		if len(shown.List) != 1 || !slices.Equal(shown.List[0].Topics, rules) || shown.List[0].Disabled != nil {
			t.Errorf("show: %+v", shown.List)
		}
		if len(listed.List) != 2 || !slices.Equal(listed.List[0].Topics, rules) || listed.List[1].Disabled == nil {
			t.Errorf("list: %+v", listed.List)
		}
		c := s.dial("lamp", v5, ann)
		if r := c.publish("s/lamp/x", "x", 1); r != 0 {
			t.Errorf("0x%02x", r)
		}
		c.refusedAll(0x87, "s/secret")
		s.refuse(4, "bob", bob)
		s.restart()
		op = s.operator()
	}
}
