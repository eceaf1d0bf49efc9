package broker_test

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A clock goes only when it is told to.
type clock struct{ nanos atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(0, c.nanos.Load()) }

func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// serveAt starts a Server with a clock of its own.
func serveAt(t *testing.T) (*testServer, *clock) {
	t.Helper()
	c := &clock{}
	c.nanos.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return serve(t, func(cfg *broker.Config) {
		cfg.SetClock(c.now)
		cfg.Authority.Now = c.now
	}), c
}

// create makes a group, and returns its number and ID.
func create(op *client, body string) (group.Number, string) {
	op.t.Helper()
	a := op.must("create", body)
	return a.N, a.G.String()
}

// A form is a way to write a request with one reference.
type form struct {
	name string
	// join and leave return the code of the answer.
	join, leave func(c *client, ref string) group.Code
}

// verbCode turns what a verb is answered into a code, as far as it tells.
func verbCode(reason byte) group.Code {
	switch {
	case reason < 2:
		return group.OK
	case reason == 0x11:
		return group.NotMember
	}
	return group.NotAuthorized
}

// inCBOR makes a request in CBOR, with the keys by number.
func (c *client) inCBOR(op string, keys map[int]any) control.Answer {
	c.t.Helper()
	b, err := cbor.Marshal(keys)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.ask(op, string(b))
}

// digits reports whether a reference is a number.
func digits(ref string) bool { return strings.Trim(ref, "0123456789") == "" }

// number is a reference as a number where it is one.
func number(ref string) any {
	var n uint32
	if digits(ref) {
		fmt.Sscan(ref, &n)
		return n
	}
	return ref
}

var forms = []form{
	{"JSON text", func(c *client, ref string) group.Code { return c.ask("join", jsonOf(map[string]any{"g": ref})).Code },
		func(c *client, ref string) group.Code {
			return c.ask("leave", jsonOf(map[string]any{"from": ref})).Code
		}},
	{"JSON number", func(c *client, ref string) group.Code {
		return c.ask("join", jsonOf(map[string]any{"to": number(ref)})).Code
	},
		func(c *client, ref string) group.Code {
			return c.ask("leave", jsonOf(map[string]any{"g": number(ref)})).Code
		}},
	{"CBOR", func(c *client, ref string) group.Code { return c.inCBOR("join", map[int]any{2: number(ref)}).Code },
		func(c *client, ref string) group.Code { return c.inCBOR("leave", map[int]any{2: ref}).Code }},
	{"bare word", func(c *client, ref string) group.Code { return c.ask("join", " "+ref+"  ").Code },
		func(c *client, ref string) group.Code { return c.ask("leave", ref).Code }},
	{"verb", func(c *client, ref string) group.Code { return verbCode(c.subscribe("$join/" + ref)[0]) },
		func(c *client, ref string) group.Code {
			if codes := c.unsubscribe("$join/" + ref).ReasonCodes; len(codes) > 0 {
				return verbCode(codes[0])
			}
			return group.OK // 3.1.1 tells no more
		}},
}

// [GRP-3.1-1] Numbers and IDs are given once.
func TestNumbersAndIDsAreGivenOnce(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	seen := map[string]bool{}
	add := func(name string) group.Number {
		t.Helper()
		n, id := create(op, jsonOf(map[string]any{"name": name}))
		for _, k := range []string{n.String(), id} {
			if seen[k] {
				t.Fatalf("%s was given twice", k)
			}
			seen[k] = true
		}
		return n
	}
	for range 3 {
		a := add("lamps")
		b := add("pumps")
		_, id := a, op.must("show", `{"g":"pumps"}`).G.String()
		op.must("delete", jsonOf(map[string]any{"g": a}))
		op.must("delete", jsonOf(map[string]any{"g": id}))
		c := add("lamps")
		if c <= b {
			t.Errorf("number %d after %d", c, b)
		}
		s.restart()
		op = s.operator()
		d := add("pumps")
		if d <= c {
			t.Errorf("number %d after %d and a restart", d, c)
		}
		dev := s.dial("lamp-7")
		for _, ref := range []string{a.String(), b.String(), id} {
			op.refused(group.GroupDeleted, "show", jsonOf(map[string]any{"g": ref}))
			dev.refused(group.NotAuthorized, "join", ref)
		}
		op.must("delete", `{"g":"lamps"}`)
		op.must("delete", `{"g":"pumps"}`)
		s.restart()
		op = s.operator()
	}
}

// [GRP-3.1-2] What is no name is refused with 10, what is taken with 53.
func TestNames(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	create(op, `{"name":"Lamps"}`)
	create(op, `{"name":"Caf\u00e9"}`)
	create(op, `{"name":"Straße.1_2-x"}`)
	create(op, `{"name":"other"}`)
	long := strings.Repeat("ö", 64)
	tests := []struct {
		name string
		code group.Code
		kept string
	}{
		{"", group.BadRequest, ""},
		{" ", group.BadRequest, ""},
		{"two words", group.BadRequest, ""},
		{" lamps-2", group.BadRequest, ""},
		{"a/b", group.BadRequest, ""},
		{"a+b", group.BadRequest, ""},
		{"#", group.BadRequest, ""},
		{"@ann", group.BadRequest, ""},
		{"$lamps", group.BadRequest, ""},
		{"a~b", group.BadRequest, ""},
		{"a\x00b", group.BadRequest, ""},
		{"a\u200bb", group.BadRequest, ""},
		{"a\u202eb", group.BadRequest, ""},
		{"💡", group.BadRequest, ""},
		{"12345", group.BadRequest, ""},
		{"99999999999999999999", group.BadRequest, ""},
		{"٣٤", group.BadRequest, ""}, // digits of another script
		{"01JDFQ5K6V7W8X9YZABCDEFGHJ", group.BadRequest, ""},
		{"01jdfq5k6v7w8x9yzabcdefghj", group.BadRequest, ""},
		{"all", group.BadRequest, ""},
		{"ALL", group.BadRequest, ""},
		{"up", group.BadRequest, ""},
		{"to", group.BadRequest, ""},
		{"evt", group.BadRequest, ""},
		{"Agg", group.BadRequest, ""},
		{"re", group.BadRequest, ""},
		{long + "ö", group.BadRequest, ""},
		{strings.Repeat("x", 65), group.BadRequest, ""},
		{strings.Repeat("x", 8000), group.BadRequest, ""},
		{"lamps", group.NameTaken, ""},
		{"LAMPS", group.NameTaken, ""},
		{"lampſ", group.NameTaken, ""}, // U+017F is an s in case only
		{"CAFÉ", group.NameTaken, ""},
		{"cafe\u0301", group.NameTaken, ""}, // decomposed
		{"CAFE\u0301", group.NameTaken, ""},
		{"STRAẞE.1_2-X", group.NameTaken, ""},
		{long, group.OK, long},
		{"x", group.OK, "x"},
		{"-", group.OK, "-"},
		{"1a", group.OK, "1a"},
		{"12345.", group.OK, "12345."},
		{"01JDFQ5K6V7W8X9YZABCDEFGH", group.OK, "01JDFQ5K6V7W8X9YZABCDEFGH"}, // one less than a ULID
		{"alles", group.OK, "alles"},
		{"Ламп", group.OK, "Ламп"},
		{"灯", group.OK, "灯"},
		{"A\u030angstro\u0308m", group.OK, "Ångström"}, // kept in form C
		{"lampz", group.OK, "lampz"},
	}
	body := func(m map[string]any) string { return jsonOf(m) }
	for _, tt := range tests {
		rev := op.must("list", "{}").Rev
		for i, a := range []control.Answer{
			op.ask("update", body(map[string]any{"g": "other", "name": tt.name})),
			op.ask("create", body(map[string]any{"name": tt.name})),
		} {
			want := tt.code
			switch {
			case i == 1 && want == group.OK:
				want = group.NameTaken // by the update before it
			case i == 0 && tt.name == "":
				continue // an absent name is no new one
			}
			if a.Code != want || a.Code == group.OK && a.Name != tt.kept {
				t.Errorf("%.40q: answered %s with name %q, want %s", tt.name, a.Code, a.Name, want)
			}
		}
		if tt.code == group.OK {
			op.must("update", body(map[string]any{"g": tt.name, "name": "other"}))
		} else if got := op.must("list", "{}").Rev; got != rev {
			t.Errorf("%.40q: rev %d after a refusal, was %d", tt.name, got, rev)
		}
	}
	// One's own name may change in case.
	if a := op.must("update", `{"g":1,"name":"lAMPS"}`); a.Name != "lAMPS" {
		t.Errorf("name %q", a.Name)
	}
	// Account names follow the same rule.
	for _, tt := range tests {
		if tt.code != group.BadRequest || tt.name == "" {
			continue
		}
		op.refused(group.BadRequest, "account", body(map[string]any{"op": "add", "user": tt.name}))
	}
	for _, name := range []string{"anonymous", "Local", "MUSTER"} {
		op.refused(group.BadRequest, "account", body(map[string]any{"op": "add", "user": name}))
	}
	op.must("account", `{"op":"add","user":"Zo\u00e9"}`)
	op.refused(group.NameTaken, "account", `{"op":"add","user":"ZOE\u0301"}`)
}

// [GRP-3.1-3] An old name leads to its group for 30 days, and is nobody else's.
func TestOldName(t *testing.T) {
	s, clock := serveAt(t)
	op := s.operator()
	create(op, `{"name":"lamps"}`)
	create(op, `{"name":"other"}`)
	op.must("update", `{"g":"lamps","name":"lights"}`)
	dev := s.dial("lamp-7")
	w := s.watcher()
	leads := func(names ...string) {
		t.Helper()
		for _, name := range names {
			for _, f := range forms {
				if code := f.join(dev, name); code != group.OK {
					t.Fatalf("join %s by %s: %s", name, f.name, code)
				}
				expectMembers(op, "1", "lamp-7")
				if got := dev.publish("g/"+name+"/all/x", "1", 1); got != 0 {
					t.Errorf("publish by the name %s: 0x%02x", name, got)
				}
				w.expectMessages("g/1/all/lamp-7/x 1")
				if code := f.leave(dev, name); code != group.OK {
					t.Fatalf("leave %s by %s: %s", name, f.name, code)
				}
			}
		}
	}
	taken := func(name string) {
		t.Helper()
		op.refused(group.NameTaken, "create", jsonOf(map[string]any{"name": name}))
		op.refused(group.NameTaken, "update", jsonOf(map[string]any{"g": "other", "name": name}))
	}
	leads("lamps", "LAMPS", "lights")
	taken("lamps")
	taken("Lamps")
	clock.advance(30*24*time.Hour - time.Second)
	leads("lamps", "lights")
	taken("lamps")
	s.restart()
	op, dev, w = s.operator(), s.dial("lamp-7"), s.watcher()
	leads("lamps", "lights")
	taken("lamps")
	clock.advance(time.Second)
	op.refused(group.NoSuchGroup, "show", `{"g":"lamps"}`)
	dev.refused(group.NotAuthorized, "join", "lamps")
	dev.must("join", "lights")
	if got := dev.publish("g/lamps/all/x", "1", 1); got != 0 {
		t.Errorf("3.1.1: 0x%02x", got)
	}
	w.expectMessages()
	if n, _ := create(op, `{"name":"lamps"}`); n != 3 {
		t.Errorf("number %d", n)
	}
	dev.must("join", "lamps")
	expectMembers(op, "3", "lamp-7")
	// A group takes its own old name back, and the name between leads to it.
	op.must("update", `{"g":"other","name":"third"}`)
	op.must("update", `{"g":"third","name":"Other"}`)
	taken2 := op.ask("create", `{"name":"third"}`)
	if taken2.Code != group.NameTaken || op.must("show", `{"g":"third"}`).N != 2 {
		t.Errorf("the name between: %s", taken2.Code)
	}
	// With its group the old name is free.
	op.must("delete", `{"g":2}`)
	create(op, `{"name":"third"}`)
	create(op, `{"name":"other"}`)
}

// [GRP-3.2-1] The four forms of a reference are one in each form of a request.
func TestReferences(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "device")
	op.must("account", `{"op":"update","user":"ann","findable":true}`)
	create(op, `{"name":"pumps"}`)
	n, id := create(op, `{"name":"Lämps"}`)
	s.dial("ann-1", ann).must("join", "2")
	refs := []string{n.String(), "002", id, strings.ToLower(id), "@ann", "@ANN", "Lämps", "lÄMPS", "La\u0308mps"}
	inDialects(t, func(d dialect) {
		c := s.dial("lamp-7", d.with...)
		for _, ref := range refs {
			for _, f := range forms {
				t.Log(ref, f.name)
				if code := f.join(c, ref); code != group.OK {
					t.Fatalf("join %s: %s", ref, code)
				}
				expectMembers(op, "2", "ann-1", "lamp-7")
				if code := f.leave(c, ref); code != group.OK {
					t.Fatalf("leave %s: %s", ref, code)
				}
				expectMembers(op, "2", "ann-1")
			}
			c.must("join", "pumps")
			for _, back := range refs {
				if codes := c.subscribe("$switch/pumps/" + ref); codes[0] != 1 {
					t.Fatalf("$switch/pumps/%s: 0x%02x", ref, codes[0])
				}
				if a := c.must("switch", back+" pumps"); a.From != 2 || a.To != 1 {
					t.Errorf("switch %s pumps: from %d to %d", back, a.From, a.To)
				}
			}
			c.must("switch", ref)
			for _, read := range []string{"members", "show"} {
				if a := c.must(read, jsonOf(map[string]any{"g": ref})); a.N != 2 || a.Name != "Lämps" {
					t.Errorf("%s %s: %d %s", read, ref, a.N, a.Name)
				}
			}
			op.must("move", "lamp-7 "+ref+" pumps")
			op.must("remove", jsonOf(map[string]any{"device": "lamp-7", "g": "pumps"}))
			op.must("join", jsonOf(map[string]any{"device": "lamp-7", "g": ref}))
			op.must("update", jsonOf(map[string]any{"g": ref, "members_to": true}))
			c.must("leave", ref)
		}
		for _, ref := range []string{"0", "4294967296", "4294967298", "-2", "2.0x/", "@", "@@ann", "", "g/2", "2 "} {
			if codes := c.subscribe("$join/" + ref); codes[0] < 0x80 {
				t.Errorf("$join/%s was granted", ref)
			}
			if a := c.ask("join", jsonOf(map[string]any{"g": ref})); a.Code.Success() {
				t.Errorf("join %q was answered %s", ref, a.Code)
			}
		}
		for _, body := range []string{`{"g":-2}`, `{"g":2.5}`, `{"g":4294967298}`, `{"g":0}`, `{"g":true}`, `{"g":["2"]}`, `{"g":null}`, `{"g":{}}`} {
			c.refused(group.BadRequest, "join", body)
		}
		for _, body := range []string{"a10222" /* -3 */, "a102f90000", "a1021b0000000100000002", "a102420102"} {
			b, _ := hex.DecodeString(body)
			if a := c.ask("join", string(b)); a.Code != group.BadRequest {
				t.Errorf("CBOR %s: %s", body, a.Code)
			}
		}
		expectMembers(op, "2", "ann-1")
	})
}

// [GRP-3.2-2] @user is the one group of a findable user.
func TestUserReference(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "device")
	for _, name := range []string{"one", "two", "three"} {
		create(op, jsonOf(map[string]any{"name": name}))
	}
	create(op, `{"name":"vault","pin":"4711"}`)
	create(op, `{"name":"cellar","pin":"4712"}`)
	a1, a2 := s.dial("ann-1", ann), s.dial("ann-2", ann)
	tests := []struct {
		name     string
		findable bool
		a1, a2   string // groups of her devices
		device   group.Code
		operator group.Code
		n        group.Number // where the device comes to be
	}{
		{"in one", true, "one", "", 0, 0, 1},
		{"both devices in one", true, "two", "two", 0, 0, 2},
		{"not findable", false, "one", "", group.NotAuthorized, group.NoSuchGroup, 0},
		{"in none", true, "", "", group.NotAuthorized, group.NoSuchGroup, 0},
		{"in two", true, "one two", "", group.AmbiguousRef, group.AmbiguousRef, 0},
		{"two devices in one each", true, "one", "three", group.AmbiguousRef, group.AmbiguousRef, 0},
		{"in two, not findable", false, "one", "three", group.NotAuthorized, group.NoSuchGroup, 0},
		{"in one that the asker may not see", true, "vault", "", group.NotAuthorized, 0, 0},
		{"in two that the asker may not see", true, "vault", "cellar", group.NotAuthorized, group.AmbiguousRef, 0},
	}
	pins := map[string]string{"vault": " 4711", "cellar": " 4712"}
	c := s.dial("lamp-7")
	for i, tt := range tests {
		t.Log(tt.name)
		op.must("account", jsonOf(map[string]any{"op": "update", "user": "ann", "findable": tt.findable}))
		in := func(f func(c *client, name string)) {
			for k, names := range []string{tt.a1, tt.a2} {
				for _, name := range strings.Fields(names) {
					f([]*client{a1, a2}[k], name)
				}
			}
		}
		in(func(c *client, name string) { c.must("join", name+pins[name]) })
		for _, f := range forms {
			code := f.join(c, "@ann")
			if f.name == "verb" && tt.device != group.OK {
				if code != group.NotAuthorized {
					t.Errorf("verb: %s", code)
				}
				continue
			}
			if code != tt.device {
				t.Errorf("%s: answered %s, want %s", f.name, code, tt.device)
			}
			if tt.device == group.OK {
				if got := c.groups(); !slices.Equal(got, []group.Number{tt.n}) {
					t.Errorf("%s: in %v, want %d", f.name, got, tt.n)
				}
				c.must("leave", tt.n.String())
			}
		}
		if a := op.ask("show", `{"g":"@ann"}`); a.Code != tt.operator {
			t.Errorf("operator: answered %s, want %s", a.Code, tt.operator)
		}
		in(func(c *client, name string) { c.must("leave", name) })
		c = s.dial(fmt.Sprint("lamp-", i)) // wrong PINs are counted for each device
	}
	c.refused(group.NotAuthorized, "join", "@nobody")
	op.refused(group.NoSuchGroup, "show", `{"g":"@nobody"}`)
	op.refused(group.NoSuchGroup, "show", `{"g":"@local"}`)
	// The PIN opens also the group of a user.
	op.must("account", `{"op":"update","user":"ann","findable":true}`)
	a1.must("join", "vault 4711")
	c.must("join", "@ann 4711")
	expectMembers(op, "vault", "ann-1", c.id)
	// With her account the reference is gone.
	op.must("account", `{"op":"remove","user":"ann"}`)
	op.refused(group.NoSuchGroup, "show", `{"g":"@ann"}`)
}

// asUserProperty gives the PIN with a SUBSCRIBE or PUBLISH of 5.0.
func asUserProperty(pin string) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		pk.Properties.User = append(pk.Properties.User, packets.UserProperty{Key: "secret", Val: pin})
	}
}
