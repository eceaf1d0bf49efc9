package broker_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// record returns all that an operator can read, with the rev of the last thing
// that was recorded.
func (s *testServer) record(op *client) string {
	s.t.Helper()
	var all []string
	for _, r := range [][2]string{{"list", ""}, {"list", `{"kind":"device"}`}, {"account", `{"op":"list"}`}} {
		a, b := op.askRaw(r[0], r[1])
		if a.Code != group.OK || a.Next != "" {
			s.t.Fatalf("%s %s: %s", r[0], r[1], b)
		}
		all = append(all, string(b))
		for _, e := range a.List {
			if r[1] == "" {
				_, b = op.askRaw("members", e.N.String())
				all = append(all, string(b))
			}
		}
	}
	return strings.Join(all, "\n")
}

// unbroken makes sure that a client is let ask, receives, and asks on the same
// connection.
func unbroken(t *testing.T, c *client) {
	t.Helper()
	if got := c.groups(); len(got) != 1 || got[0] != 1 {
		t.Errorf("%s: the device is in %v", c.id, got)
	}
}

// cborMap writes a map in CBOR with any keys.
func cborMap(t *testing.T, m map[any]any) string {
	t.Helper()
	b, err := cbor.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Whatever a device sends, and whatever an operator, is answered with its code,
// changes nothing, and the connection goes on. Each is sent with every QoS, by
// 3.1.1 and by 5.0. [GRP-5.1-3] [GRP-5.2-2] [GRP-5.2-3]
func TestRefusedRequests(t *testing.T) {
	key := func(k, v any) string { return cborMap(t, map[any]any{k: v}) }
	deep := strings.Repeat("[", 4000) + strings.Repeat("]", 4000)
	tests := []struct {
		name, who, op, body string
		code                group.Code
	}{
		// What is no JSON.
		{"cut short", "a", "join", `{"g":1`, 10},
		{"brace alone", "a", "join", `{`, 10},
		{"two values", "a", "join", `{"g":2}{"g":2}`, 10},
		{"rubbish behind", "a", "join", `{"g":2} x`, 10},
		{"trailing comma", "a", "join", `{"g":2,}`, 10},
		{"invalid UTF-8", "a", "join", "{\"g\":\"\xff\"}", 10},
		{"invalid UTF-8 in an unknown key", "a", "join", "{\"g\":2,\"\xff\":1}", 10},
		{"half a surrogate pair", "a", "join", `{"g":"\ud800"}`, 10},
		{"NUL", "a", "join", `{"g":"\u0000"}`, 10},
		{"a key twice", "a", "join", `{"g":2,"g":2}`, 10},
		{"a key twice, once escaped", "a", "join", `{"g":2,"\u0067":2}`, 10},
		{"deep", "a", "join", `{"g":` + deep[:3000], 10},
		// What is no CBOR.
		{"CBOR cut short", "a", "join", "\xA1\x02", 10},
		{"CBOR, more pairs than bytes", "a", "join", "\xBB\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 10},
		{"CBOR, endless", "a", "join", "\xBF\x02\x02", 10},
		{"CBOR, reserved length", "a", "join", "\xBC", 10},
		{"CBOR, text longer than the body", "a", "join", "\xA1\x02\x7B\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 10},
		{"CBOR, rubbish behind", "a", "join", "\xA1\x02\x02\x00", 10},
		{"CBOR, a key twice", "a", "join", "\xA2\x02\x02\x02\x02", 10},
		{"CBOR, invalid UTF-8", "a", "join", "\xA1\x02\x61\xFF", 10},
		{"CBOR, deep", "a", "join", "\xA1\x18\x64" + strings.Repeat("\x81", 6000) + "\x00", 10},
		// Wrong types and values out of range.
		{"group is a list", "a", "join", `{"g":[2]}`, 10},
		{"group is null", "a", "join", `{"g":null}`, 10},
		{"group is 0", "a", "join", `{"g":0}`, 10},
		{"group below 0", "a", "join", `{"g":-1}`, 10},
		{"group is a fraction", "a", "join", `{"g":2.0}`, 10},
		{"group has an exponent", "a", "join", `{"g":2e0}`, 10},
		{"group beyond 32 bits", "a", "join", `{"g":4294967298}`, 10},
		{"group beyond 64 bits", "a", "join", `{"g":18446744073709551618}`, 10},
		{"CBOR, group beyond 32 bits", "a", "join", key(2, uint64(1)<<32+2), 10},
		{"CBOR, group below 0", "a", "join", key(2, -1), 10},
		{"CBOR, group is bytes", "a", "join", key(2, []byte("yard")), 10},
		{"CBOR, group is a fraction", "a", "join", key(2, 2.0), 10},
		{"reference with #", "a", "join", `{"g":"#"}`, 10},
		{"reference with +", "a", "join", `{"g":"ya+rd"}`, 10},
		{"reference with /", "a", "join", `{"g":"yard/x"}`, 10},
		{"reference too long", "a", "join", `{"g":"` + strings.Repeat("y", 65) + `"}`, 10},
		{"empty reference", "a", "join", `{"g":""}`, 10},
		{"reserved word", "a", "join", `{"g":"all"}`, 10},
		{"user without a name", "a", "join", `{"g":"@"}`, 10},
		{"qos 2", "a", "join", `{"g":2,"qos":2}`, 10},
		{"qos is text", "a", "join", `{"g":2,"qos":"1"}`, 10},
		{"recv is a number", "a", "join", `{"g":2,"recv":0}`, 10},
		{"filter is text", "a", "join", `{"g":2,"filter":"x"}`, 10},
		{"filter is none", "a", "join", `{"g":2,"filter":["x/#/y"]}`, 10},
		{"filter is empty text", "a", "join", `{"g":2,"filter":[""]}`, 10},
		{"filter is a number", "a", "join", `{"g":2,"filter":[1]}`, 10},
		{"too many filters", "a", "join", `{"g":2,"filter":["x"` + strings.Repeat(`,"x"`, 16) + `]}`, 10},
		{"secret is a number", "a", "join", `{"g":2,"secret":4711}`, 10},
		{"epoch is text", "a", "join", `{"g":2,"epoch":"1"}`, 10},
		{"epoch below 0", "a", "join", `{"g":2,"epoch":-1}`, 10},
		{"id of 17 bytes", "a", "join", `{"g":2,"id":"0123456789abcdefg"}`, 10},
		{"id is a number", "a", "join", `{"g":2,"id":1}`, 10},
		{"CBOR, id of 17 bytes", "a", "join", cborMap(t, map[any]any{1: make([]byte, 17), 2: 2}), 10},
		{"grant is no base64", "a", "join", `{"grant":"???"}`, 10},
		{"grant is a number", "a", "join", `{"grant":1}`, 10},
		{"grant far too long", "a", "join", `{"grant":"` + strings.Repeat("A", 4000) + `"}`, 10},
		{"grant of rubbish", "a", "join", `{"grant":"AAAA"}`, 40},
		{"CBOR, grant of rubbish", "a", "join", key(9, []byte{1, 2, 3}), 40},
		{"a key of other ops with a wrong type", "a", "join", `{"g":2,"policy":1}`, 10},
		{"a key of answers with a wrong type", "a", "join", `{"g":2,"code":"x"}`, 10},
		{"device is empty", "a", "join", `{"g":2,"device":""}`, 10},
		{"limit below 0", "a", "mine", `{"limit":-1}`, 10},
		{"next is a number", "a", "mine", `{"next":1}`, 10},
		{"next that no answer had", "a", "mine", `{"next":"x"}`, 10},
		{"ttl 0", "a", "grant", `{"op":"join","g":2,"ttl":0}`, 10},
		{"ttl of more than a day", "a", "grant", `{"op":"join","g":2,"ttl":86401}`, 10},
		{"grant for another op", "a", "grant", `{"op":"delete","g":2}`, 10},
		{"grant for nothing", "a", "grant", `{"g":2}`, 10},
		// Keys that are missing.
		{"join without a group", "a", "join", `{}`, 10},
		{"CBOR, join without a group", "a", "join", "\xA0", 10},
		{"leave without a group", "a", "leave", `{}`, 10},
		{"switch to nothing", "a", "switch", `{"from":1}`, 10},
		{"members of nothing", "a", "members", `{}`, 10},
		{"show nothing", "a", "show", `{}`, 10},
		{"create without a name", "op", "create", `{}`, 10},
		{"update nothing", "op", "update", `{"name":"x"}`, 10},
		{"delete nothing", "op", "delete", `{}`, 10},
		{"move nobody", "op", "move", `{"from":1,"to":2}`, 10},
		{"remove nobody", "op", "remove", `{"g":1}`, 10},
		{"move from nothing", "op", "move", `{"device":"a","to":2}`, 10},
		{"forget nobody", "op", "forget", `{}`, 10},
		{"account without op", "op", "account", `{"user":"bob"}`, 10},
		{"add nobody", "op", "account", `{"op":"add"}`, 10},
		// Values that operators give.
		{"name with a space", "op", "create", `{"name":"a b"}`, 10},
		{"name of digits", "op", "create", `{"name":"12"}`, 10},
		{"name is an ID", "op", "create", `{"name":"01JDFQ5K6V7W8X9YZABCDEFGHJ"}`, 10},
		{"name is taken", "op", "create", `{"name":"LAMPS"}`, 53},
		{"unknown policy", "op", "create", `{"name":"x","policy":"rule"}`, 10},
		{"unknown visibility", "op", "create", `{"name":"x","visible":"nobody"}`, 10},
		{"PIN too short", "op", "create", `{"name":"x","pin":"123"}`, 10},
		{"PIN too long", "op", "create", `{"name":"x","pin":"` + strings.Repeat("1", 65) + `"}`, 10},
		{"PIN with a slash", "op", "create", `{"name":"x","pin":"47/11"}`, 10},
		{"PIN for an open group", "op", "create", `{"name":"x","policy":"open","pin":"4711"}`, 10},
		{"PIN for a group that is open", "op", "update", `{"g":1,"pin":"4711"}`, 10},
		{"role of nobody", "op", "account", `{"op":"add","user":"x","role":"root"}`, 10},
		{"role member is none of accounts", "op", "account", `{"op":"add","user":"x","role":"member"}`, 10},
		{"reserved user", "op", "account", `{"op":"add","user":"Local"}`, 10},
		{"user is there", "op", "account", `{"op":"add","user":"ANN"}`, 53},
		{"unknown user", "op", "account", `{"op":"passwd","user":"x"}`, 24},
		{"op of accounts", "op", "account", `{"op":"drop","user":"ann"}`, 10},
		{"groups that are not", "op", "account", `{"op":"add","user":"x","role":"observer","groups":[99]}`, 20},
		{"groups that are deleted", "op", "account", `{"op":"update","user":"ann","groups":[3]}`, 22},
		{"groups is text", "op", "account", `{"op":"update","user":"ann","groups":"1"}`, 10},
		{"a page that is none", "op", "list", `{"next":"x"}`, 10},
		{"kind of list", "op", "list", `{"kind":"account"}`, 10},
		{"device with a slash", "op", "join", `{"device":"a/b","g":1}`, 10},
		{"side connection as device", "op", "join", `{"device":"a~1","g":1}`, 10},
		{"device of the operator's", "op", "join", `{"device":"muster","g":1}`, 10},
		{"device too long", "op", "join", `{"device":"` + strings.Repeat("d", 65) + `","g":1}`, 10},
		{"nobody's own join", "op", "join", `{"g":1}`, 10},
		// Requests that can be read, and are refused.
		{"unknown group", "a", "join", `{"g":99}`, 30},
		{"unknown name", "a", "join", `{"g":"nowhere"}`, 30},
		{"unknown user's group", "a", "join", `{"g":"@bob"}`, 30},
		{"group that is hidden", "a", "join", `{"g":"vault"}`, 30},
		{"deleted group", "a", "join", `{"g":3}`, 30},
		{"deleted group, told to an operator", "op", "join", `{"device":"a","g":3}`, 22},
		{"unknown group, told to an operator", "op", "join", `{"device":"a","g":99}`, 20},
		{"wrong PIN", "a", "join", `{"g":"doors","secret":"0000"}`, 31},
		{"out of a group it is not in", "a", "leave", `{"g":2}`, 36},
		{"switch from where it is not", "a", "switch", `{"from":2,"to":4}`, 36},
		{"stale epoch", "a", "join", `{"g":2,"epoch":999999}`, 50},
		{"somebody else's device", "a", "join", `{"device":"b","g":2}`, 30},
		{"roster of a group it is not in", "a", "members", `{"g":2}`, 36},
		{"roster of a hidden group", "a", "members", `{"g":"vault"}`, 30},
		{"unknown device", "op", "move", `{"device":"nobody","from":1,"to":2}`, 23},
		{"deleted, again", "op", "delete", `{"g":3}`, 22},
		// Bodies beyond 8 KiB, in each encoding, of known and of unknown ops.
		{"too large", "a", "join", `{"g":2,"x":"` + strings.Repeat("x", control.MaxBody) + `"}`, 13},
		{"one byte too large", "a", "join", `{"g":2}` + strings.Repeat(" ", control.MaxBody-6), 13},
		{"too large and no JSON", "a", "join", "{" + strings.Repeat("x", control.MaxBody), 13},
		{"CBOR, too large", "a", "join", key("x", make([]byte, control.MaxBody)), 13},
		{"bare word, too large", "a", "join", "yard" + strings.Repeat(" ", control.MaxBody), 13},
		{"much too large", "a", "mine", strings.Repeat("x", 200<<10), 13},
		{"too large, from an operator", "op", "delete", `{"g":1,"x":"` + strings.Repeat("x", control.MaxBody) + `"}`, 13},
	}
	for version, options := range versions {
		t.Run(version, func(t *testing.T) {
			s := serve(t, func(c *broker.Config) { c.Authority.PINGuesses = 1000 })
			clients := map[string]*client{"op": s.operator(options...), "a": s.dial("a", options...)}
			op, a := clients["op"], clients["a"]
			for _, r := range [][2]string{
				{"create", `{"name":"lamps"}`}, {"create", `{"name":"yard"}`}, {"create", `{"name":"gone"}`},
				{"create", `{"name":"doors","pin":"4711","visible":"all"}`}, {"create", `{"name":"vault","pin":"4711"}`},
				{"delete", `{"g":"gone"}`}, {"account", `{"op":"add","user":"ann"}`}, {"join", `{"device":"b","g":1}`},
			} {
				op.must(r[0], r[1])
			}
			a.must("join", "lamps")
			before := s.record(op)
			for i, tt := range tests {
				c := clients[tt.who]
				answer, reason := c.answered("$G/"+tt.op, []byte(tt.body), byte(i%3))
				got, err := control.DecodeAnswer(answer)
				if err != nil || got.Code != tt.code {
					t.Errorf("%s: answered %q, want %d", tt.name, answer, tt.code)
				}
				if isCBOR := answer[0] != '{'; isCBOR != (control.EncodingOf([]byte(tt.body)) == control.CBOR) {
					t.Errorf("%s: answered %q, in another encoding", tt.name, answer)
				}
				want := byte(0)
				if c.version == 5 && i%3 > 0 {
					want = control.PubackReason(tt.code)
				}
				if reason != want {
					t.Errorf("%s: acknowledged with 0x%02x, want 0x%02x", tt.name, reason, want)
				}
				if after := s.record(op); after != before {
					t.Fatalf("%s: the record is\n%s, was\n%s", tt.name, after, before)
				}
			}
			unbroken(t, a)
			if got := op.publish("g/1/all/muster/x", "still there", 1); got != 0 {
				t.Errorf("the operator may not publish: 0x%02x", got)
			}
			a.expectMessages("g/1/all/muster/x still there")
		})
	}
}

// What is not a known key is ignored, at the greatest size too. [GRP-5.2-2] [GRP-5.2-3]
func TestUnknownKeysOfARequest(t *testing.T) {
	for version, options := range versions {
		s := serve(t, nil)
		op := s.operator(options...)
		a := s.dial("a", options...)
		for i, body := range []string{
			`{"G":9,"g":1,"":0,"x":{"g":[9,{"y":null}]}}`,
			`{"g":2,"x":"` + strings.Repeat("x", control.MaxBody-len(`{"g":2,"x":""}`)) + `"}`,
			cborMap(t, map[any]any{2: 3, 99: 1, "g": 9, -2: 9, 1.5: []any{map[any]any{2: 9}}}),
			"4" + strings.Repeat(" ", control.MaxBody-1),
			`{"g":5,"for":[{}]}`,
		} {
			op.must("create", fmt.Sprintf(`{"name":"g%d"}`, i))
			answer, _ := a.answered("$G/join", []byte(body), 1)
			if got, err := control.DecodeAnswer(answer); err != nil || got.Code != group.OK || int(got.N) != i+1 {
				t.Errorf("%s: %.40q: %q", version, body, answer)
			}
		}
	}
}

// Another's grant, as a request and as a verb, a verb from where one is not, and
// hostile verbs: each has its code, changes nothing, and the connection goes on.
// [GRP-5.1-3]
func TestRefusedVerbsAndGrants(t *testing.T) {
	for version, options := range versions {
		t.Run(version, func(t *testing.T) {
			s := serve(t, func(c *broker.Config) { c.Authority.PINGuesses = 1000 })
			op := s.operator()
			op.must("create", `{"name":"lamps"}`)
			op.must("create", `{"name":"yard"}`)
			op.must("create", `{"name":"gone"}`)
			op.must("delete", "{\"g\":3}")
			a, b := s.dial("a", options...), s.dial("b", options...)
			a.must("join", "lamps")
			others := base64.RawURLEncoding.EncodeToString(b.must("grant", `{"op":"join","g":"yard"}`).Grant)
			mine := base64.RawURLEncoding.EncodeToString(a.must("grant", `{"op":"join","g":"yard"}`).Grant)
			before := s.record(op)
			a.refused(group.GrantMismatch, "join", `{"grant":"`+others+`"}`)
			a.refused(group.GrantMismatch, "join", `{"grant":"`+mine+`","g":1}`)
			a.refused(group.GrantMismatch, "join", `{"grant":"`+mine+`","g":"nowhere"}`)
			a.refused(group.GrantMismatch, "leave", `{"grant":"`+mine+`"}`)
			verbs := []struct {
				filter string
				v5     byte
			}{
				{"$grant/" + others, 0x87},
				{"$grant/" + mine[:len(mine)-2], 0x87},
				{"$grant/" + mine + "A", 0x87},
				{"$grant/", 0x8F},
				{"$grant/" + mine + "/x", 0x8F},
				{"$join/#", 0x8F},
				{"$join/+", 0x8F},
				{"$join", 0x8F},
				{"$join/", 0x8F},
				{"$join/yard/4711/x", 0x8F},
				{"$join/gone", 0x87},
				{"$join/3", 0x87},
				{"$join/99", 0x87},
				{"$join/ya rd", 0x8F},
				{"$switch/yard/gone", 0x87},
				{"$switch/99/yard", 0x87},
				{"$switch/yard/99", 0x87},
				{"$switch/lamps/gone", 0x87},
				{"$switch/lamps", 0x8F},
				{"$switch/lamps/#", 0x8F},
				{"$switch/lamps/yard/x", 0x8F},
				{"$share/x/$join/yard", 0x9E},
			}
			for _, tt := range verbs {
				want := byte(0x80)
				if a.version == 5 {
					want = tt.v5
				}
				if got := a.subscribe(tt.filter); len(got) != 1 || got[0] != want {
					t.Errorf("%s: SUBACK % x, want %02x", tt.filter, got, want)
				}
				if after := s.record(op); after != before {
					t.Fatalf("%s: the record is\n%s, was\n%s", tt.filter, after, before)
				}
			}
			// In no group: there is nothing to switch from.
			want := byte(0x80)
			if b.version == 5 {
				want = 0x87
			}
			if got := b.subscribe("$switch/lamps/yard"); got[0] != want {
				t.Errorf("SUBACK % x, want %02x", got, want)
			}
			if after := s.record(op); after != before {
				t.Errorf("the record is\n%s, was\n%s", after, before)
			}
			unbroken(t, a)
			a.must("join", `{"grant":"`+mine+`"}`)
		})
	}
}

// A QoS 2 request that is sent again before its PUBREL is not made again.
// [GRP-5.1-3]
func TestQoS2RequestSentAgain(t *testing.T) {
	for version, options := range versions {
		s := serve(t, nil)
		s.operator().must("create", `{"name":"lamps"}`)
		c := s.dial("a", append([]option{withoutAcks}, options...)...)
		pk := packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2}, TopicName: "$G/join", Payload: []byte("lamps"), PacketID: 7,
		}
		c.write(&pk, (*packets.Packet).PublishEncode)
		pk.FixedHeader.Dup, pk.ProtocolVersion = true, 0
		c.write(&pk, (*packets.Packet).PublishEncode)
		var recs, answers int
		for _, got := range c.flushed() {
			switch got.FixedHeader.Type {
			case packets.Pubrec:
				recs++
			case packets.Publish:
				answers++
			}
		}
		if recs != 2 || answers != 1 {
			t.Errorf("%s: %d PUBRECs and %d answers", version, recs, answers)
		}
	}
}
