package broker_test

import (
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Who receives a group's events, by which filters.
func TestWhoReceivesEvents(t *testing.T) { // [GRP-11-2]
	all := []string{"g/1/evt", "g/+/evt", "g/1/+", "g/1/#", "g/#"}
	none := []string{"g/1/all/#", "g/+/all/#", "g/2/evt", "#", "+/#", "+/1/evt"}
	tests := []struct {
		who           string
		membersEvents bool
		filters       []string
		receives      bool
	}{
		{"op", false, all, true},
		{"op", false, none, false},
		{"observer of all", false, all, true},
		{"observer of all", false, none, false},
		{"observer of a", false, all, true},
		{"observer of b", false, all, false},
		{"observer of b", true, all, false},
		{"member", false, all, false},
		{"member", true, []string{"g/1/evt", "g/1/+", "g/1/#", "g/#"}, true},
		{"member", true, none, false},
		{"member's side connection", true, all, false},
		{"member that receives nothing", true, all, false},
		{"no member", true, all, false},
	}
	for _, v := range bothVersions {
		for _, tt := range tests {
			for _, filter := range tt.filters {
				t.Run(fmt.Sprintf("%s %s %v %s", v.name, tt.who, tt.membersEvents, filter), func(t *testing.T) {
					if tt.who == "member that receives nothing" && !v.five {
						return // 5.0 alone can ask for that
					}
					s := serve(t, nil)
					op := s.operator()
					op.must("create", fmt.Sprintf(`{"name":"a","members_events":%v}`, tt.membersEvents))
					op.must("create", fmt.Sprintf(`{"name":"b","members_events":%v}`, tt.membersEvents))
					c := s.listenerAs(op, tt.who, v.options...)
					c.subscribe(filter)
					c.expectQuietOf(tt.receives, filter == "g/1/evt")
					d := s.dial("lamp-9")
					d.must("join", "a")
					d.must("leave", "a")
					if got := len(c.kinds(1)); got != 3 && tt.receives || got != 0 && !tt.receives {
						t.Errorf("%d events", got)
					}
					op.must("delete", `{"g":"a"}`)
					if got := len(c.kinds(1)); got != 1 && tt.receives || got != 0 && !tt.receives {
						t.Errorf("%d events of the deletion", got)
					}
					if got := c.kinds(2); len(got) > 0 && filter != "g/2/evt" {
						t.Errorf("events of another group: %q", got)
					}
				})
			}
		}
	}
}

// listenerAs connects the client that the table calls so.
func (s *testServer) listenerAs(op *client, who string, options ...option) *client {
	s.t.Helper()
	observer := func(groups string) *client {
		op.must("account", `{"op":"add","user":"watcher","role":"observer","secret":"password-of-watcher"`+groups+`}`)
		return s.dial("watcher-1", append(options, login("watcher", "password-of-watcher"))...)
	}
	switch who {
	case "op":
		return s.operatorAs("muster~l", options...)
	case "observer of all":
		return observer("")
	case "observer of a":
		return observer(`,"groups":["a"]`)
	case "observer of b":
		return observer(`,"groups":["b"]`)
	case "no member":
		return s.dial("lamp-1", options...)
	case "member that receives nothing":
		options = append(options, userProperty("recv", "0"))
	}
	c := s.dial("lamp-1", options...)
	c.must("join", "a")
	if who == "member's side connection" {
		return s.dial("lamp-1~1", options...)
	}
	return c
}

// expectQuietOf looks at what a SUBSCRIBE has brought: a snapshot or nothing.
func (c *client) expectQuietOf(receives, exact bool) {
	c.t.Helper()
	if receives && exact {
		c.expectKinds("SUBSCRIBE", 1, "snapshot")
		return
	}
	c.expectKinds("SUBSCRIBE", 1)
}

// A member receives events by a filter of its own alone: its membership brings
// none.
func TestMembershipBringsNoEvents(t *testing.T) { // [GRP-11-2]
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"a","members_events":true}`)
	c := s.dial("lamp")
	c.expectCodes("join", c.subscribe("$join/a"), []byte{1})
	s.dial("lamp-2").must("join", "a")
	c.expectKinds("a join", 1)
	if got := c.flushed(); len(got) > 0 {
		t.Errorf("received %+v", got)
	}
	// Nobody publishes there.
	for _, from := range []*client{c, op} {
		watcher := s.operatorAs("muster~l")
		watcher.subscribe("g/1/evt")
		watcher.kinds(1)
		from.publish("g/1/evt", `{"kind":"join","seq":3,"device":"ghost"}`, 1)
		from.publish("g/a/evt", `{"kind":"join","seq":3,"device":"ghost"}`, 1)
		watcher.expectKinds("a forged event", 1)
	}
}

// The right to events is that of the moment of each event.
func TestRightToEventsChanges(t *testing.T) { // [GRP-11-2]
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"a","members_events":true}`)
	op.must("account", `{"op":"add","user":"watcher","role":"observer","secret":"password-of-watcher"}`)
	c, o := s.dial("lamp"), s.dial("watcher-1", login("watcher", "password-of-watcher"))
	c.must("join", "a")
	for _, l := range []*client{c, o} {
		l.expectCodes("SUBSCRIBE", l.subscribe("g/1/evt"), []byte{1})
		l.expectKinds("SUBSCRIBE", 1, "snapshot")
	}
	other := s.dial("lamp-2", func(pk *packets.Packet, _ *client) { pk.Connect.Keepalive = 0 })
	join := func() { op.must("join", `{"device":"ghost","g":"a"}`); op.must("remove", `{"device":"ghost","g":"a"}`) }
	join()
	c.expectKinds("a member", 1, "join ghost", "remove ghost")
	o.expectKinds("an observer", 1, "join ghost", "remove ghost")

	op.must("update", `{"g":"a","members_events":false}`)
	join()
	c.expectKinds("members_events is off", 1)
	c.expectCodes("SUBSCRIBE", c.subscribe("g/1/evt"), []byte{0x80})
	op.must("update", `{"g":"a","members_events":true}`)
	o.kinds(1)
	op.must("create", `{"name":"b"}`)
	op.must("account", `{"op":"update","user":"watcher","groups":["b"]}`)
	join()
	o.expectKinds("an observer of another group", 1)
	o.expectCodes("SUBSCRIBE", o.subscribe("g/1/evt"), []byte{0x80})
	op.must("account", `{"op":"update","user":"watcher","groups":["a"]}`)
	c.kinds(1)

	c.must("leave", "a")
	c.expectKinds("its own leave", 1)
	join()
	c.expectKinds("no member", 1)
	o.expectKinds("an observer again", 1, "leave lamp", "join ghost", "remove ghost")
	c.must("join", "a")
	if got := c.kinds(1); len(got) != 2 || got[0] != "join lamp" {
		t.Errorf("a member again: %q", got)
	}
	// UNSUBSCRIBE, and the end of the Session, end it.
	c.unsubscribe("g/1/evt")
	other.must("join", "a")
	c.expectKinds("unsubscribed", 1)
	o.expectKinds("an observer", 1, "join lamp", "online lamp", "join lamp-2", "online lamp-2")
	o.disconnect()
	o = s.dial("watcher-1", login("watcher", "password-of-watcher"))
	other.must("leave", "a")
	o.expectKinds("a new Session", 1)
}

// A Session that is resumed goes on with a gap that shows, or with none.
func TestEventsOfAResumedSession(t *testing.T) { // [GRP-11-1]
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"a"}`)
	op.must("account", `{"op":"add","user":"watcher","role":"observer","secret":"password-of-watcher"}`)
	options := []option{persistent, login("watcher", "password-of-watcher")}
	o := s.dial("watcher-1", options...)
	o.subscribe("g/1/evt")
	op.must("join", `{"device":"lamp","g":"a"}`)
	before, _ := o.events(1)
	s.cut(op, o)
	o = s.dial("watcher-1", options...)
	op.must("remove", `{"device":"lamp","g":"a"}`)
	next, _ := o.events(1)
	if last := before[len(before)-1]; len(next) != 1 || next[0].Prev != last.Seq {
		t.Errorf("after %+v came %+v: nothing was missed", last, next)
	}
	s.cut(op, o)
	op.must("join", `{"device":"lamp","g":"a"}`)
	o = s.dial("watcher-1", options...)
	op.must("remove", `{"device":"lamp","g":"a"}`)
	gap, _ := o.events(1)
	if len(gap) != 1 || gap[0].Prev != next[0].Seq+1 {
		t.Errorf("after %+v came %+v: one was missed", next, gap)
	}
}
