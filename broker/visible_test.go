package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/muster-mqtt/muster/group"
)

// hiddenRefs are references to what a stranger may not know of: all are one to
// it.
func hiddenRefs(s *testServer, op *client) (refs []string, stranger func(id string, options ...option) *client) {
	ann := addAccount(op, "ann", "device")
	op.must("account", `{"op":"update","user":"ann","findable":true}`)
	addAccount(op, "bob", "device")
	n, id := create(op, `{"name":"vault","pin":"4711"}`)
	m, mid := create(op, `{"name":"club","visible":"members"}`)
	k, kid := create(op, `{"name":"gone"}`)
	create(op, `{"name":"hall"}`)
	create(op, `{"name":"attic"}`)
	create(op, `{"name":"late","pin":"4711"}`)
	op.must("update", `{"g":"late","name":"later"}`)
	s.dial("ann-1", ann).must("join", "vault 4711")
	op.must("delete", `{"g":"gone"}`)
	refs = []string{
		"vault", n.String(), id, "@ann", "club", m.String(), mid, "late", "later", "gone", k.String(), kid, "nothing", "99", "4294967295",
		"01JDFQ5K6V7W8X9YZABCDEFGHJ", "@bob", "@nobody", "@local",
	}
	return refs, func(id string, options ...option) *client {
		c := s.dial(id, options...)
		c.must("join", "hall")
		return c
	}
}

// [GRP-3.4-1] To a stranger all that it may not know of is one answer, to the
// byte.
func TestStrangerIsAnsweredAlike(t *testing.T) {
	s := serve(t, unlimited)
	op := s.operator()
	refs, stranger := hiddenRefs(s, op)
	w := s.watcher()
	inDialects(t, func(d dialect) {
		c := stranger("lamp-7", d.with...)
		c.publish("g/hall/all/x", "1", 1)
		w.messages()
		asks := []struct {
			name string
			ask  func(ref string) string // what comes back
		}{}
		request := func(name, op string, body func(ref string) string) {
			asks = append(asks, struct {
				name string
				ask  func(ref string) string
			}{name, func(ref string) string {
				a, raw := c.askRaw(op, body(ref))
				if a.Code != group.NotAuthorized {
					t.Errorf("%s %s: answered %s", name, ref, a.Code)
				}
				return string(raw)
			}})
		}
		of := func(keys map[string]any, key string) func(string) string {
			return func(ref string) string {
				m := map[string]any{key: number(ref)}
				for k, v := range keys {
					m[k] = v
				}
				return jsonOf(m)
			}
		}
		request("join", "join", func(ref string) string { return ref })
		request("join with a PIN", "join", func(ref string) string { return ref + " 0000" })
		request("join in JSON", "join", of(map[string]any{"qos": 0, "id": "x"}, "g"))
		request("join in JSON with a PIN", "join", of(map[string]any{"secret": "0000"}, "to"))
		request("leave", "leave", func(ref string) string { return ref })
		request("switch to", "switch", func(ref string) string { return "hall " + ref })
		request("switch to, with a PIN", "switch", of(map[string]any{"secret": "0000"}, "to"))
		request("switch from", "switch", func(ref string) string { return ref + " attic" })
		request("switch from, in JSON", "switch", of(map[string]any{"to": "attic"}, "from"))
		request("grant join", "grant", of(map[string]any{"op": "join"}, "g"))
		request("grant join with a PIN", "grant", of(map[string]any{"op": "join", "secret": "0000"}, "g"))
		request("grant leave", "grant", of(map[string]any{"op": "leave"}, "g"))
		request("grant switch", "grant", of(map[string]any{"op": "switch", "from": "hall"}, "to"))
		request("members", "members", func(ref string) string { return ref })
		request("show", "show", of(nil, "g"))
		request("update", "update", of(map[string]any{"name": "x"}, "g"))
		request("delete", "delete", of(nil, "g"))
		request("remove", "remove", of(map[string]any{"device": "ann-1"}, "g"))
		raw := func(name string, ask func(ref string) string) {
			asks = append(asks, struct {
				name string
				ask  func(ref string) string
			}{name, ask})
		}
		verb := func(filter func(ref string) string) {
			raw(filter("REF"), func(ref string) string {
				ack := c.subscribeWith(nil, filter(ref))
				if ack.ReasonCodes[0] != d.code(0x87, 0x80) {
					t.Errorf("%s: SUBACK 0x%02x", filter(ref), ack.ReasonCodes[0])
				}
				return fmt.Sprint(ack.ReasonCodes, ack.Properties.ReasonString, ack.Properties.User)
			})
		}
		verb(func(ref string) string { return "$join/" + ref })
		verb(func(ref string) string { return "$join/" + ref + "/0000" })
		verb(func(ref string) string { return "$switch/hall/" + ref })
		verb(func(ref string) string { return "$switch/" + ref + "/attic" })
		raw("UNSUBSCRIBE", func(ref string) string {
			ack := c.unsubscribe("$join/" + ref)
			return fmt.Sprint(ack.ReasonCodes, ack.Properties.ReasonString, ack.Properties.User)
		})
		raw("publish", func(ref string) string {
			if strings.HasPrefix(ref, "@") || len(ref) == 26 {
				ref = "nothing" // no topic has these
			}
			out := ""
			for _, topic := range []string{"g/" + ref + "/all/x", "g/" + ref + "/all/lamp-7/x", "g/" + ref + "/up/x", "g/" + ref + "/to/ann-1/x"} {
				ack := c.publishWith(nil, topic, "1", 1)
				out += fmt.Sprint(ack.ReasonCode, ack.Properties.ReasonString, ack.Properties.User)
			}
			return out
		})
		raw("filters", func(ref string) string {
			out := ""
			for _, f := range []string{"#", "all/#", "evt", "up/#"} {
				if ack := c.subscribeWith(nil, "g/"+ref+"/"+f); ack.ReasonCodes[0] != d.code(0x87, 0x80) {
					t.Errorf("g/%s/%s: SUBACK 0x%02x", ref, f, ack.ReasonCodes[0])
				} else {
					out += fmt.Sprint(ack.ReasonCodes, ack.Properties.ReasonString)
				}
			}
			return out
		})
		for _, a := range asks {
			want := ""
			for i, ref := range refs {
				got := a.ask(ref)
				if i == 0 {
					want = got
				}
				if got != want {
					t.Errorf("%s: of %s is told %q, of %s %q", a.name, refs[0], want, ref, got)
				}
			}
		}
		if got := c.groups(); !slices.Equal(got, []group.Number{4}) {
			t.Errorf("in %v, want 4", got)
		}
		w.expectMessages()
		c.must("leave", "hall")
		// The right PIN opens what cannot be seen, unless it is not by PIN.
		c.must("join", "vault 4711")
		c.must("leave", "vault")
		c.refused(group.NotAuthorized, "join", "club")
		c.refused(group.BadSecret, "join", "vault 0000") // its last change tells of it
		c.must("join", "hall")
		c.refused(group.NotAuthorized, "join", "vault 0000")
		c.must("leave", "hall")
	})
}

// The limit of wrong PINs tells a stranger nothing either. [GRP-3.4-1]
func TestLimitIsAlikeForStrangers(t *testing.T) {
	s, _ := serveAt(t)
	op := s.operator()
	refs, stranger := hiddenRefs(s, op)
	var want []string
	for i, ref := range refs {
		c := stranger(fmt.Sprint("lamp-", i+10))
		var got []string
		for k := range 7 {
			a, raw := c.askRaw("join", []string{ref, ref + " 0000"}[k%2])
			if (a.Code == group.RateLimited) != (k >= 5) {
				t.Errorf("%s: try %d is answered %s", ref, k+1, a.Code)
			}
			// All devices have an epoch of their own.
			got = append(got, strings.Replace(string(raw), fmt.Sprintf(`"epoch":%d`, a.Epoch), "", 1))
		}
		if i == 0 {
			want = got
		}
		if !slices.Equal(got, want) {
			t.Errorf("of %s is told %q, of %s %q", refs[0], want, ref, got)
		}
	}
}

// [GRP-3.4-2] Operators and observers of all groups learn which groups there
// are, were and never were.
func TestOperatorIsToldWhatIsNot(t *testing.T) {
	s := serve(t, unlimited)
	op := s.operator()
	all, some := addAccount(op, "eve", "observer"), addAccount(op, "sam", "observer")
	create(op, `{"name":"hall"}`)
	n, id := create(op, `{"name":"gone"}`)
	op.must("account", `{"op":"update","user":"sam","groups":["hall"]}`)
	op.must("join", `{"device":"lamp-7","g":"hall"}`)
	op.must("delete", `{"g":"gone"}`)
	refs := []struct {
		ref  string
		code group.Code
	}{
		{"nothing", group.NoSuchGroup}, {"99", group.NoSuchGroup}, {"01JDFQ5K6V7W8X9YZABCDEFGHJ", group.NoSuchGroup}, {"@nobody", group.NoSuchGroup},
		{n.String(), group.GroupDeleted}, {id, group.GroupDeleted}, {"gone", group.NoSuchGroup}, // its name is free
	}
	asks := func(role string, ref string) [][2]string {
		own := [][2]string{
			{"members", ref}, {"show", jsonOf(map[string]any{"g": ref})}, {"join", ref}, {"leave", ref}, {"switch", "hall " + ref},
			{"grant", jsonOf(map[string]any{"op": "join", "g": ref})},
		}
		if role != "operator" {
			return own
		}
		return [][2]string{
			own[0], own[1], {"update", jsonOf(map[string]any{"g": ref, "name": "x"})}, {"delete", jsonOf(map[string]any{"g": ref})},
			{"join", jsonOf(map[string]any{"device": "lamp-7", "g": ref})}, {"leave", jsonOf(map[string]any{"device": "lamp-7", "g": ref})},
			{"move", "lamp-7 hall " + ref}, {"move", "lamp-7 " + ref + " hall"}, {"remove", jsonOf(map[string]any{"device": "lamp-7", "g": ref})},
			{"join", jsonOf(map[string]any{"device": "lamp-99", "g": ref})},
			{"account", jsonOf(map[string]any{"op": "update", "user": "sam", "groups": []string{ref}})},
		}
	}
	observer, limited := s.dial("eve-1", all), s.dial("sam-1", some)
	observer.must("join", "hall")
	limited.must("join", "hall")
	for _, r := range refs {
		for _, who := range []struct {
			c    *client
			role string
			code group.Code
		}{{op, "operator", r.code}, {observer, "observer", r.code}, {limited, "observer", group.NotAuthorized}} {
			for _, a := range asks(who.role, r.ref) {
				if a[0] == "move" && strings.HasSuffix(a[1], " hall") {
					continue // lamp-7 is in hall already: nothing is to be done
				}
				if got := who.c.ask(a[0], a[1]).Code; got != who.code {
					t.Errorf("%s: %s %s: answered %d %s, want %d", who.c.id, a[0], a[1], uint8(got), got, uint8(who.code))
				}
			}
		}
	}
	list := op.must("list", "{}").List
	if len(list) != 1 || list[0].Name != "hall" {
		t.Errorf("groups %v, want hall", list)
	}
	expectMembers(op, "hall", "eve-1", "lamp-7", "sam-1")
}
