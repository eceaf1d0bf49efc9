package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/group"
)

// unlimited lets a device guess as often as it likes.
func unlimited(c *broker.Config) {
	c.Authority.PINGuesses, c.Authority.PINGuessesAddress = 10_000, 10_000
}

// A place is where a join of 5.0 or 3.1.1 may hold its PIN; an empty PIN is none.
type place struct {
	name  string
	v5    bool // only there
	topic bool
	join  func(c *client, ref, pin string) group.Code
}

// subackCode is the code of a refused verb as a 5.0 client is told it.
func subackCode(c *client, ack packets.Packet) group.Code {
	if ack.ReasonCodes[0] < 2 {
		return group.OK
	}
	if c.version < 5 {
		return group.Code(0x80)
	}
	name, _, _ := strings.Cut(ack.Properties.ReasonString, ":")
	for code := range group.Code(100) {
		if code.Error() == name {
			return code
		}
	}
	return group.Code(ack.ReasonCodes[0])
}

var places = []place{
	{name: "JSON", join: func(c *client, ref, pin string) group.Code {
		m := map[string]any{"g": ref}
		if pin != "" {
			m["secret"] = pin
		}
		return c.ask("join", jsonOf(m)).Code
	}},
	{name: "CBOR", join: func(c *client, ref, pin string) group.Code {
		m := map[int]any{2: ref}
		if pin != "" {
			m[5] = pin
		}
		return c.inCBOR("join", m).Code
	}},
	{name: "bare word", join: func(c *client, ref, pin string) group.Code { return c.ask("join", ref+" "+pin).Code }},
	{name: "PUBLISH property", v5: true, join: func(c *client, ref, pin string) group.Code {
		c.publishWith(func(pk *packets.Packet) {
			if pin != "" {
				asUserProperty(pin)(pk)
			}
		}, "$G/join", ref, 0)
		a, _ := c.answer()
		return a.Code
	}},
	{name: "SUBSCRIBE property", v5: true, join: func(c *client, ref, pin string) group.Code {
		return subackCode(c, c.subscribeWith(func(pk *packets.Packet) {
			if pin != "" {
				asUserProperty(pin)(pk)
			}
		}, "$join/"+ref))
	}},
	{name: "verb", topic: true, join: func(c *client, ref, pin string) group.Code {
		return subackCode(c, c.subscribeWith(nil, strings.TrimSuffix("$join/"+ref+"/"+pin, "/")))
	}},
}

// expectCode compares a code; a 3.1.1 verb tells no more than that it failed.
func expectCode(t *testing.T, what string, got, want group.Code) {
	t.Helper()
	if got == group.Code(0x80) && want != group.OK {
		return
	}
	if got != want {
		t.Errorf("%s: answered %d %s, want %d %s", what, uint8(got), got, uint8(want), want)
	}
}

// [GRP-3.3-1] The PIN opens a group in each place, and a wrong or missing one is
// answered 31.
func TestPIN(t *testing.T) {
	s := serve(t, unlimited)
	op := s.operator()
	const pin = "Aa-_.1234"
	create(op, jsonOf(map[string]any{"name": "vault", "pin": pin, "visible": "all"}))
	create(op, `{"name":"hall"}`)
	inDialects(t, func(d dialect) {
		c := s.dial("lamp-7", d.with...)
		for _, inTopic := range []bool{true, false} {
			op.must("update", jsonOf(map[string]any{"g": "vault", "pin_in_topic": inTopic}))
			for _, p := range places {
				if p.v5 && !d.v5 {
					continue
				}
				what := fmt.Sprintf("%s, pin_in_topic %v", p.name, inTopic)
				for _, wrong := range []string{"", "0000", pin + "x", pin[:len(pin)-1], strings.ToUpper(pin), "x", strings.Repeat("9", 64), "%"} {
					expectCode(t, what+", PIN "+wrong, p.join(c, "vault", wrong), group.BadSecret)
				}
				expectMembers(op, "vault")
				if p.topic && !inTopic {
					expectCode(t, what, p.join(c, "vault", pin), group.BadSecret)
					expectMembers(op, "vault")
					continue
				}
				expectCode(t, what, p.join(c, "vault", pin), group.OK)
				expectMembers(op, "vault", "lamp-7")
				c.must("leave", "vault")
			}
		}
		// A switch and a grant are joins.
		c.must("join", "hall")
		c.refused(group.BadSecret, "switch", "hall vault")
		c.refused(group.BadSecret, "switch", `{"to":"vault","secret":"0000"}`)
		c.refused(group.BadSecret, "grant", `{"op":"join","g":"vault","secret":"0000"}`)
		c.must("grant", jsonOf(map[string]any{"op": "join", "g": "vault", "secret": pin}))
		if got := c.groups(); !slices.Equal(got, []group.Number{2}) {
			t.Errorf("in %v, want 2", got)
		}
		c.must("switch", jsonOf(map[string]any{"to": "vault", "secret": pin}))
		c.must("leave", "vault")
		if d.v5 {
			c.must("join", "hall")
			ack := c.subscribeWith(asUserProperty(pin), "$switch/hall/vault")
			expectCode(t, "$switch with a property", subackCode(c, ack), group.OK)
			c.must("leave", "vault")
		}
		for _, body := range []string{`{"g":"vault","secret":4711}`, `{"g":"vault","secret":["x"]}`, jsonOf(map[string]any{"g": "vault", "secret": strings.Repeat("x", 257)})} {
			c.refused(group.BadRequest, "join", body)
		}
		for _, verb := range []string{"$join/vault/", "$join/vault/" + pin + "/x", "$join/vault/" + strings.Repeat("x", 257)} {
			if codes := c.subscribe(verb); codes[0] != d.code(0x8F, 0x80) {
				t.Errorf("%.30s: SUBACK 0x%02x", verb, codes[0])
			}
		}
		expectMembers(op, "vault")
	})
	// An operator needs none.
	op.must("join", `{"device":"lamp-9","g":"vault"}`)
	expectMembers(op, "vault", "lamp-9")
	if strings.Contains(s.log.String(), pin) {
		t.Error("the log holds the PIN")
	}
}

// What may be a PIN, what a generated one is like, and that a new one replaces
// the old at once.
func TestNewPIN(t *testing.T) {
	s := serve(t, unlimited)
	op := s.operator()
	for _, pin := range []string{"123", strings.Repeat("x", 65), "12 34", "12/34", "12+34", "1234#", "äöüß", "12\u00004"} {
		op.refused(group.BadRequest, "create", jsonOf(map[string]any{"name": "vault", "pin": pin, "policy": "pin"}))
	}
	op.refused(group.BadRequest, "create", `{"name":"vault","pin":"4711","policy":"open"}`)
	op.refused(group.BadRequest, "create", `{"name":"vault","policy":"closed"}`)
	a := op.must("create", `{"name":"vault","policy":"pin","visible":"all"}`)
	if len(a.PIN) != 8 || !digits(a.PIN) {
		t.Fatalf("generated PIN %q", a.PIN)
	}
	if shown, raw := op.askRaw("show", `{"g":"vault"}`); shown.PIN != "" || strings.Contains(string(raw), a.PIN) || strings.Contains(string(raw), "argon2") {
		t.Errorf("the PIN is shown again: %s", raw)
	}
	c := s.dial("lamp-7")
	c.must("join", "vault "+a.PIN)
	c.must("leave", "vault")
	op.must("update", `{"g":"vault","pin":"4711"}`)
	c.refused(group.BadSecret, "join", "vault "+a.PIN)
	c.must("join", "vault 4711")
	c.must("leave", "vault")
	op.must("update", `{"g":"vault","policy":"open"}`)
	c.must("join", "vault")
	c.must("leave", "vault")
	b := op.must("update", `{"g":"vault","policy":"pin"}`) // the old PIN is gone with the policy
	c.refused(group.BadSecret, "join", "vault 4711")
	c.must("join", "vault "+b.PIN)
	for _, pin := range []string{"1234", strings.Repeat("x", 64)} {
		op.must("update", jsonOf(map[string]any{"g": "vault", "pin": pin}))
		s.dial("lamp-8").must("join", "vault "+pin)
		op.must("remove", `{"device":"lamp-8","g":"vault"}`)
	}
}

// [GRP-3.3-2] A member needs no PIN to join again, and a wrong one does no harm.
func TestMemberJoinsAgain(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	for _, visible := range []string{"all", "members"} {
		create(op, jsonOf(map[string]any{"name": visible + "-vault", "pin": "4711", "visible": visible}))
	}
	inDialects(t, func(d dialect) {
		for _, ref := range []string{"all-vault", "members-vault"} {
			c := s.dial("lamp-"+ref, d.with...)
			epoch := c.must("join", ref+" 4711").Epoch
			for range 3 { // more often than one may guess
				for _, p := range places {
					if p.v5 && !d.v5 {
						continue
					}
					for _, pin := range []string{"", "0000", "4711"} {
						if got := p.join(c, ref, pin); !got.Success() {
							t.Errorf("%s, PIN %q: %s", p.name, pin, got)
						}
					}
				}
			}
			if got := c.must("mine", "").Epoch; got != epoch {
				t.Errorf("epoch %d, want %d", got, epoch)
			}
			op.must("update", jsonOf(map[string]any{"g": ref, "pin": "0815"}))
			c.refused(group.Unchanged, "join", ref)
			c.refused(group.Unchanged, "join", ref+" 4711")
			op.must("update", jsonOf(map[string]any{"g": ref, "pin": "4711"}))
			c.must("leave", ref)
			expectCode(t, "after a leave", c.ask("join", ref).Code, group.BadSecret) // its last change tells of the group
		}
	})
}

// [GRP-3.3-3] After 5 wrong PINs a device waits, and nobody else does.
func TestWrongPINs(t *testing.T) {
	for _, visible := range []string{"all", "members"} {
		for _, d := range dialects {
			t.Run(visible+" "+d.name, func(t *testing.T) {
				s, clock := serveAt(t)
				op := s.operator()
				create(op, jsonOf(map[string]any{"name": "vault", "pin": "4711", "visible": visible}))
				create(op, jsonOf(map[string]any{"name": "cellar", "pin": "4712", "visible": visible}))
				c := s.dial("lamp-7", d.with...)
				c.must("join", "cellar 4712")
				member := s.dial("lamp-8", d.with...)
				member.must("join", "vault 4711")
				wrong := group.BadSecret
				if visible == "members" {
					wrong = group.NotAuthorized
				}
				// Whichever connection and form they come by, they are counted together.
				guesses := []func(){
					func() { c.refused(wrong, "join", "vault 0001") },
					func() { c.subscribe("$join/vault/0002") },
					func() { s.dial("lamp-7~1", d.with...).refused(wrong, "switch", `{"to":"vault","secret":"0003"}`) },
					func() { c = s.dial("lamp-7", d.with...); c.refused(wrong, "join", `{"g":1,"secret":"0004"}`) },
					func() { c.refused(wrong, "grant", `{"op":"join","g":"vault","secret":"0005"}`) },
				}
				for _, guess := range guesses {
					guess()
					clock.advance(time.Second)
				}
				limited := func() {
					t.Helper()
					for _, r := range [][2]string{
						{"join", "vault 0006"}, {"join", "vault 4711"}, {"join", `{"g":1,"secret":"4711"}`}, {"switch", `{"to":"vault","secret":"4711"}`},
					} {
						if a := c.refused(group.RateLimited, r[0], r[1]); a.Retry < 1 || a.Retry > 600 {
							t.Errorf("retry %d", a.Retry)
						}
					}
					if codes := c.subscribe("$join/vault/4711"); codes[0] != d.code(0x97, 0x80) {
						t.Errorf("SUBACK 0x%02x", codes[0])
					}
					expectMembers(op, "vault", "lamp-8")
				}
				limited()
				c.refused(group.Unchanged, "join", "cellar 0000") // where it is a member
				member.refused(group.Unchanged, "join", "vault 0000")
				other := s.dial("lamp-9", d.with...)
				other.must("join", "vault 4711")
				other.must("leave", "vault")
				s.dial("lamp-7", d.with...)
				c = s.dial("lamp-7", d.with...) // to connect again does not help
				clock.advance(10*time.Minute - 6*time.Second)
				limited()
				clock.advance(2 * time.Second) // the first of the five is forgotten
				c.must("join", "vault 4711")
				expectMembers(op, "vault", "lamp-7", "lamp-8")
			})
		}
	}
}

// A missing PIN of a group that one can see is no guess.
func TestMissingPINIsNoGuess(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	create(op, `{"name":"vault","pin":"4711","visible":"all"}`)
	c := s.dial("lamp-7")
	for range 10 {
		c.refused(group.BadSecret, "join", "vault")
		c.subscribe("$join/vault")
	}
	c.must("join", "vault 4711")
}
