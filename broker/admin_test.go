package broker_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/group"
)

// A group that becomes one with a PIN and is given none gets one, which is told
// once, and opens the group. [GRP-6.8-1]
func TestGeneratedPIN(t *testing.T) {
	tests := []struct {
		name       string
		op, body   string
		told, hold bool   // a PIN is told; the group has one
		pin        string // that opens it
	}{
		{"create", "create", `{"name":"x","policy":"pin"}`, true, true, ""},
		{"create with a PIN", "create", `{"name":"x","pin":"a.b_c-9"}`, false, true, "a.b_c-9"},
		{"create, open", "create", `{"name":"x"}`, false, false, ""},
		{"update to a PIN", "update", `{"g":1,"policy":"pin"}`, true, true, ""},
		{"update to a given PIN", "update", `{"g":1,"policy":"pin","pin":"4712"}`, false, true, "4712"},
		{"update of a group with a PIN", "update", `{"g":2,"policy":"pin"}`, false, true, "4711"},
		{"update of another key", "update", `{"g":2,"members_to":true}`, false, true, "4711"},
		{"another PIN", "update", `{"g":2,"pin":"4712"}`, false, true, "4712"},
		{"open and closed again", "update", `{"g":3,"policy":"pin"}`, true, true, ""},
	}
	for _, options := range versions {
		for _, tt := range tests {
			s := serve(t, nil)
			op := s.operator(options...)
			op.must("create", `{"name":"open"}`)
			op.must("create", `{"name":"closed","pin":"4711"}`)
			op.must("create", `{"name":"opened","pin":"4711"}`)
			op.must("update", `{"g":3,"policy":"open"}`)
			a := op.must(tt.op, tt.body)
			if (a.PIN != "") != tt.told || tt.told && (len(a.PIN) != 8 || strings.Trim(a.PIN, "0123456789") != "") {
				t.Errorf("%s: told PIN %q", tt.name, a.PIN)
			}
			pin := tt.pin + a.PIN
			n := a.N.String()
			c := s.dial("a", options...)
			if tt.hold {
				c.ask("join", n+" 00000000")
				c.ask("join", n)
				if in := c.groups(); len(in) != 0 {
					t.Errorf("%s: entered without the PIN: %v", tt.name, in)
				}
				c.must("join", n+" "+pin)
			} else {
				c.must("join", n)
			}
			// Whatever is asked later, the PIN is in no answer.
			for _, r := range [][2]string{
				{"show", `{"g":` + n + `}`}, {"list", ""}, {"members", n}, {"update", `{"g":` + n + `,"members_events":true}`},
				{"update", `{"g":` + n + `,"name":"other"}`}, {"show", `{"device":"a"}`}, {"delete", `{"g":` + n + `}`},
			} {
				var m map[string]any
				_, b := op.askRaw(r[0], r[1])
				if err := json.Unmarshal(b, &m); err != nil || m["code"] != 0.0 || m["pin"] != nil || tt.told && strings.Contains(string(b), pin) {
					t.Errorf("%s: %s %s: %s", tt.name, r[0], r[1], b)
				}
			}
			if tt.told && strings.Contains(s.log.String(), pin) {
				t.Errorf("%s: the PIN is in the log", tt.name)
			}
		}
	}
}

// A deletion ends all memberships at once, of those who listen, are away, and
// in other groups too, and after a restart. [GRP-6.8-2]
func TestDeleteGroup(t *testing.T) {
	for version, options := range versions {
		for _, restart := range []bool{false, true} {
			s := serve(t, nil)
			op := s.operator(v5)
			op.must("create", `{"name":"lamps"}`)
			op.must("create", `{"name":"yard"}`)
			listens, mute, side := s.dial("listens", options...), s.dial("mute", options...), s.dial("away~1", options...)
			away := s.dial("away", append([]option{persistent}, options...)...)
			slow := s.dial("slow", append([]option{withoutAcks, persistent}, options...)...)
			outside := s.dial("outside", options...)
			epochs := map[string]group.Epoch{}
			for _, c := range []*client{listens, mute, away, slow} {
				c.must("join", "yard")
				epochs[c.id] = c.must("join", "lamps").Epoch
			}
			epochs["outside"] = outside.must("join", "yard").Epoch
			for _, c := range []*client{listens, side, outside} {
				c.subscribe("$G/me")
				c.notice()
			}
			for i := range 70 { // beyond the window of one who does not acknowledge
				op.publish("g/1/all/muster", fmt.Sprint(i), 1)
			}
			s.cut(op, away)
			for _, c := range []*client{listens, mute, slow} {
				c.flushed()
			}
			a := op.must("delete", `{"g":"lamps"}`)
			if a.N != 1 || a.Name != "lamps" || a.G.IsZero() {
				t.Errorf("%s: %+v", version, a)
			}
			for _, c := range []*client{listens, side} {
				device := strings.TrimSuffix(c.id, "~1")
				if n := c.notice(); n.Code != group.MembershipTerminated || n.Kind != "delete" || n.From != 1 || n.Epoch != epochs[device]+1 {
					t.Errorf("%s: %s is told %+v, was at %d", version, c.id, n, epochs[device])
				}
			}
			if restart {
				s.restart()
				op = s.operator(v5)
				listens, mute, slow = s.dial("listens", options...), s.dial("mute", options...), s.dial("slow", options...)
				outside = s.dial("outside", options...)
			}
			away = s.dial("away", append([]option{persistent}, options...)...)
			if got := op.publish("g/1/all/muster", "late", 1); got != 0x87 {
				t.Errorf("%s: a PUBLISH to the deleted group: 0x%02x", version, got)
			}
			op.publish("g/2/all/muster", "yard", 1)
			for _, c := range []*client{listens, mute, slow, away} {
				for _, m := range c.messages() {
					if strings.HasPrefix(m, "g/1/") {
						t.Errorf("%s: %s received %q", version, c.id, m)
					}
				}
				if m := c.must("mine", ""); m.Epoch != epochs[c.id]+1 || len(m.List) != 1 || m.List[0].N != 2 {
					t.Errorf("%s, restart %v: %s: %+v, was at epoch %d", version, restart, c.id, m, epochs[c.id])
				}
				c.refused(group.GroupDeleted, "join", "1")
			}
			if m := outside.must("mine", ""); m.Epoch != epochs["outside"] {
				t.Errorf("%s: the epoch of one who was not in it is %d, was %d", version, m.Epoch, epochs["outside"])
			}
			if !restart {
				for _, pk := range outside.flushed() {
					if pk.FixedHeader.Type == packets.Publish && strings.Contains(string(pk.Payload), "delete") {
						t.Errorf("%s: one who was not in it is told %s", version, pk.Payload)
					}
				}
			}
			op.refused(group.GroupDeleted, "members", "1")
			op.refused(group.GroupDeleted, "update", `{"g":1,"name":"x"}`)
			if a := op.must("create", `{"name":"lamps"}`); a.N != 3 || len(op.must("members", "lamps").List) != 0 {
				t.Errorf("%s: the next group of that name: %+v", version, a)
			}
		}
	}
}

// A change of a group's record changes nobody's membership, epoch or messages.
// [GRP-6.8-3]
func TestUpdateLeavesMembers(t *testing.T) {
	for version, options := range versions {
		s := serve(t, nil)
		op := s.operator()
		op.must("create", `{"name":"lamps"}`)
		c, away := s.dial("a", options...), s.dial("b", options...)
		c.must("join", `{"g":"lamps","qos":0,"filter":["x"]}`)
		away.must("join", "lamps")
		away.disconnect()
		c.subscribe("$G/me")
		c.notice()
		devices := func() string { _, b := op.askRaw("list", `{"kind":"device"}`); return withoutRev(b) }
		members := func() string {
			a := op.must("members", "1")
			return jsonOf(a.List)
		}
		beforeD, beforeM := devices(), members()
		mine := func() string { a := c.must("mine", ""); a.List[0].Name = ""; return jsonOf(a) }
		beforeMine := mine()
		for i, body := range []string{
			`{"g":1,"name":"lights"}`, `{"g":1,"name":"LIGHTS"}`, `{"g":1,"policy":"pin","pin":"4711"}`, `{"g":1,"pin":"4712"}`, `{"g":1,"visible":"members"}`,
			`{"g":1,"members_to":true}`, `{"g":1,"members_events":true}`, `{"g":1,"pin_in_topic":false}`, `{"g":1,"policy":"open"}`, `{"g":1}`,
		} {
			op.must("update", body)
			if d, m, own := devices(), members(), mine(); d != beforeD || m != beforeM || own != beforeMine {
				t.Errorf("%s: %s:\n%s\n%s\n%s, was\n%s\n%s\n%s", version, body, d, m, own, beforeD, beforeM, beforeMine)
			}
			op.publish("g/1/all/muster/x", fmt.Sprint(i), 1)
			c.expectMessages(fmt.Sprintf("g/1/all/muster/x %d", i))
		}
		s.restart()
		op = s.operator()
		if d, m := devices(), strings.ReplaceAll(members(), `"Online":true`, `"Online":false`); d != strings.ReplaceAll(beforeD, `"online":true`, `"online":false`) || m != strings.ReplaceAll(beforeM, `"Online":true`, `"Online":false`) {
			t.Errorf("%s: after a restart:\n%s\n%s, was\n%s\n%s", version, d, m, beforeD, beforeM)
		}
	}
}

// withoutRev hides the rev of what was read.
func withoutRev(answer []byte) string {
	var m map[string]any
	if err := json.Unmarshal(answer, &m); err != nil {
		return err.Error()
	}
	delete(m, "rev")
	return jsonOf(m)
}

// A password that was not given is told once, and logs in. [GRP-6.9-1]
func TestGeneratedPassword(t *testing.T) {
	for version, options := range versions {
		s := serve(t, nil)
		op := s.operator(options...)
		logsIn := func(password string) bool {
			c := attempt(t, "tcp", s.addr, "a", append([]option{login("ann", password)}, options...)...)
			defer c.nc.Close()
			return c.connack.ReasonCode == 0
		}
		var told []string
		for _, body := range []string{
			`{"op":"add","user":"ann","id":"1"}`, `{"op":"passwd","user":"ANN"}`, `{"op":"passwd","user":"ann","id":"2"}`,
		} {
			a := op.must("account", body)
			if a.Secret == "" || authz.CheckPassword(a.Secret) != nil || slices.Contains(told, a.Secret) || a.User != "ann" || a.Role != "device" {
				t.Fatalf("%s: %s: %+v, told before: %q", version, body, a, told)
			}
			if told = append(told, a.Secret); !logsIn(a.Secret) {
				t.Errorf("%s: %s: the password does not log in", version, body)
			}
			for _, old := range told[:len(told)-1] {
				if logsIn(old) {
					t.Errorf("%s: %s: an old password logs in", version, body)
				}
			}
		}
		if a := op.must("account", `{"op":"passwd","user":"ann","secret":"correct horse battery"}`); a.Secret != "" || !logsIn("correct horse battery") {
			t.Errorf("%s: %+v", version, a)
		}
		for _, r := range [][2]string{
			{"account", `{"op":"list"}`}, {"account", `{"op":"update","user":"ann","findable":true}`}, {"account", `{"op":"add","user":"ann","id":"1"}`},
			{"account", `{"op":"passwd","user":"ann","id":"2"}`}, {"account", `{"op":"remove","user":"ann"}`},
		} {
			var m map[string]any
			_, b := op.askRaw(r[0], r[1])
			if err := json.Unmarshal(b, &m); err != nil || m["code"] != 0.0 || m["secret"] != nil {
				t.Errorf("%s: %s %s: %s", version, r[0], r[1], b)
			}
		}
		for _, secret := range append(told, "correct horse battery") {
			if strings.Contains(s.log.String(), secret) {
				t.Errorf("%s: a password is in the log", version)
			}
			if logsIn(secret) {
				t.Errorf("%s: the removed account logs in", version)
			}
		}
	}
}

// [GRP-6.9-2]
func TestRemoveAccount(t *testing.T) {
	const password = "correct horse battery"
	for version, options := range versions {
		for _, restart := range []bool{false, true} {
			s := serve(t, nil)
			op := s.operator()
			op.must("create", `{"name":"lamps"}`)
			for _, user := range []string{"ann", "bob"} {
				op.must("account", `{"op":"add","user":"`+user+`","secret":"`+password+`"}`)
			}
			as := func(user, id string) *client {
				return attempt(t, "tcp", s.addr, id, append([]option{login(user, password), persistent}, options...)...)
			}
			main, side, idle, other := s.accepted(as("ann", "a")), s.accepted(as("ann", "a~1")), s.accepted(as("ann", "b")), s.accepted(as("bob", "c"))
			away, unfit := s.accepted(as("ann", "d")), s.accepted(as("ann", "a/b"))
			for _, c := range []*client{main, other, away} {
				c.must("join", "lamps")
			}
			s.cut(op, away)
			if a := op.must("account", `{"op":"remove","user":"ANN"}`); a.User != "ann" {
				t.Errorf("%s: %+v", version, a)
			}
			for _, c := range []*client{main, side, idle, unfit} {
				c.ended()
			}
			if restart {
				s.restart()
				op, other = s.operator(), s.accepted(as("bob", "c"))
			}
			var in []string
			for _, e := range op.must("members", "lamps").List {
				in = append(in, string(e.Device))
			}
			if !slices.Equal(in, []string{"c"}) {
				t.Errorf("%s: the members are %q", version, in)
			}
			for _, id := range []string{"a", "b", "d"} {
				op.refused(group.NoSuchDevice, "show", `{"device":"`+id+`"}`)
			}
			if c := as("ann", "e"); c.connack.ReasonCode == 0 {
				t.Errorf("%s: the removed account logs in", version)
			}
			op.refused(group.NoSuchAccount, "account", `{"op":"remove","user":"ann"}`)
			// Its devices are free, and so is its name, which gives back nothing.
			for _, id := range []string{"a", "d"} {
				if c := s.accepted(as("bob", id)); len(c.groups()) != 0 || c.connack.SessionPresent {
					t.Errorf("%s: %s is in a group, or has the Session of before", version, id)
				}
			}
			op.must("account", `{"op":"add","user":"Ann","secret":"`+password+`"}`)
			if c := s.accepted(as("ann", "b")); len(c.groups()) != 0 || c.connack.SessionPresent {
				t.Errorf("%s: the new account has what the old one had", version)
			}
			op.publish("g/1/all/muster", "x", 1)
			other.expectMessages("g/1/all/muster x")
		}
	}
}

// [GRP-6.9-3]
func TestForgetDevice(t *testing.T) {
	const password = "correct horse battery"
	for version, options := range versions {
		for _, state := range []string{"connected", "away", "gone"} {
			s := serve(t, nil)
			op := s.operator()
			op.must("create", `{"name":"lamps"}`)
			op.must("account", `{"op":"add","user":"bob","secret":"`+password+`"}`)
			asBob := append([]option{login("bob", password), persistent}, options...)
			c := s.dial("a", append([]option{persistent}, options...)...)
			c.must("join", "lamps")
			op.must("join", `{"device":"never-there","g":1}`)
			if refused := attempt(t, "tcp", s.addr, "a", asBob...); refused.connack.ReasonCode == 0 {
				t.Fatalf("%s: another account may use the Client Identifier", version)
			}
			op.refused(group.NoSuchDevice, "forget", `{"device":"unknown"}`)
			op.refused(group.NoSuchDevice, "forget", `{"device":"A"}`)
			switch state {
			case "away":
				s.cut(op, c)
			case "gone":
				c.disconnect()
				s.restart()
				op = s.operator()
			}
			if a := op.must("forget", `{"device":"a"}`); a.Device != "a" {
				t.Errorf("%s: %+v", version, a)
			}
			if state == "connected" {
				c.ended()
			}
			op.must("forget", `{"device":"never-there"}`)
			if got := op.must("members", "lamps").List; len(got) != 0 {
				t.Errorf("%s, %s: the members are %+v", version, state, got)
			}
			op.refused(group.NoSuchDevice, "show", `{"device":"a"}`)
			op.refused(group.NoSuchDevice, "forget", `{"device":"a"}`)
			next := s.dial("a", asBob...)
			if len(next.groups()) != 0 || next.connack.SessionPresent {
				t.Errorf("%s, %s: the next owner has what the last one had", version, state)
			}
			op.publish("g/1/all/muster", "x", 1)
			next.expectMessages()
			if shown := op.must("show", `{"device":"a"}`); shown.User != "bob" {
				t.Errorf("%s: it belongs to %q", version, shown.User)
			}
		}
	}
}
