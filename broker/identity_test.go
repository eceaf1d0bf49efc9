package broker_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/group"
)

// members returns the Client Identifiers of the roster, as an operator sees it.
func members(op *client, ref string) []string {
	op.t.Helper()
	out := []string{}
	for _, e := range op.must("members", ref).List {
		out = append(out, string(e.Device))
	}
	return out
}

// untilMembers waits until the roster is as wanted.
func untilMembers(op *client, ref string, want ...string) {
	op.t.Helper()
	var got []string
	for start := time.Now(); time.Since(start) < patience; {
		if got = members(op, ref); slices.Equal(got, want) {
			return
		}
	}
	op.t.Fatalf("members of %s: %q, want %q", ref, got, want)
}

// expectMembers compares the roster.
func expectMembers(op *client, ref string, want ...string) {
	op.t.Helper()
	if got := members(op, ref); !slices.Equal(got, want) {
		op.t.Fatalf("members of %s: %q, want %q", ref, got, want)
	}
}

// [GRP-2.2-1] A Client Identifier belongs to the account that used it first, and
// nobody else's CONNECT changes anything for its owner.
func TestClientIdentifierBelongsToItsAccount(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann, bob, root := addAccount(op, "ann", "device"), addAccount(op, "bob", "device"), addAccount(op, "root", "operator")
	op.must("create", `{"name":"lamps"}`)
	strangers := func(d dialect) {
		for _, who := range [][]option{{bob}, {root}, nil, {bob, persistent}, {bob, withWill("g/1/all/lamp-7/gone", "forged", 1)}} {
			s.refuse(d.code(0x85, 2), "lamp-7", d.plus(who...)...)
			s.refuse(d.code(0x85, 2), "lamp-7~1", d.plus(who...)...)
		}
		refusedConnect(t, attempt(t, "unix", s.socket, "lamp-7", d.with...), d.code(0x85, 2)) // local is an account as well
	}
	c := s.dial("lamp-7", ann, persistent, v5)
	epoch := c.must("join", "lamps").Epoch
	inDialects(t, func(d dialect) {
		strangers(d)
		op.publish("g/1/all/muster/x", "connected", 1)
		c.expectMessages("g/1/all/muster/x connected")
	})
	s.lose(c)
	inDialects(t, strangers)
	c = s.dial("lamp-7", ann, persistent, v5)
	if !c.connack.SessionPresent {
		t.Error("the owner's Session is gone")
	}
	if a := c.must("mine", ""); a.Epoch != epoch || len(a.List) != 1 {
		t.Errorf("epoch %d with %d groups, want %d with 1", a.Epoch, len(a.List), epoch)
	}
	s.restart()
	op = s.operator()
	inDialects(t, strangers)
	expectMembers(op, "lamps", "lamp-7")
	s.dial("lamp-7", ann).must("leave", "lamps")
	inDialects(t, strangers) // it belongs to ann with no membership, too
}

// An identifier of anonymous goes to a named account only while nothing holds
// it: neither a connection, a Session, a side connection nor a membership.
// [GRP-2.2-1]
func TestAnonymousIdentifierInUse(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "device")
	op.must("create", `{"name":"lamps"}`)
	inDialects(t, func(d dialect) {
		refused := func(what string) {
			t.Helper()
			t.Log(what)
			s.refuse(d.code(0x85, 2), "lamp-7", d.plus(ann)...)
			s.refuse(d.code(0x85, 2), "lamp-7~x", d.plus(ann)...)
		}
		c := s.dial("lamp-7", d.plus(persistent)...)
		refused("connected")
		c.must("mine", "")
		s.lose(c)
		refused("a Session without a connection")
		if c = s.dial("lamp-7", d.plus(persistent)...); !c.connack.SessionPresent {
			t.Error("the Session is gone")
		}
		c.must("join", "lamps")
		s.dial("lamp-7", d.with...).disconnect()
		refused("a membership")
		side := s.dial("lamp-7~1", d.with...)
		side.must("leave", "lamps")
		refused("a side connection")
		side.must("mine", "")
		s.lose(side)
		s.dial("lamp-7", d.plus(ann)...).disconnect()
		s.refuse(d.code(0x85, 2), "lamp-7", d.with...)
		op.must("forget", `{"device":"lamp-7"}`)
	})
}

// [GRP-2.2-2] Of two connections with one identifier the new one lives, and the
// memberships are as they were.
func TestTakeOver(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	inDialects(t, func(d dialect) {
		for _, options := range [][]option{nil, {persistent}} {
			old := s.dial("lamp-7", d.plus(options...)...)
			old.subscribe("$join/lamps")
			epoch := old.must("mine", "").Epoch
			c := s.dial("lamp-7", d.plus(options...)...)
			if got := c.connack.SessionPresent; got != (options != nil) {
				t.Errorf("Session Present %v", got)
			}
			rest := old.ended()
			if d.v5 && (len(rest) != 1 || rest[0].FixedHeader.Type != packets.Disconnect || rest[0].ReasonCode != 0x8E) {
				t.Errorf("the old connection was told %v, want DISCONNECT 0x8E", rest)
			}
			if !d.v5 && len(rest) > 0 {
				t.Errorf("the old connection was told %v", rest)
			}
			op.publish("g/1/all/muster/x", "1", 1)
			c.expectMessages("g/1/all/muster/x 1")
			if got := c.must("mine", "").Epoch; got != epoch {
				t.Errorf("epoch %d, want %d", got, epoch)
			}
			expectMembers(op, "lamps", "lamp-7")
			c.disconnect()
		}
	})
}

// However many connect at once, one lives and receives each message once.
// [GRP-2.2-2]
func TestTakeOverByMany(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	op.must("join", `{"device":"lamp-7","g":"lamps"}`)
	clients := make([]*client, 16)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() { clients[i] = attempt(t, "tcp", s.addr, "lamp-7", dialects[i%2].with...) })
	}
	wg.Wait()
	op.publish("g/1/all/muster/x", "1", 1)
	alive, received := 0, 0
	for _, c := range clients {
		s.accepted(c) // who is taken over at once is told of both
		c.raw([]byte{0xC0, 0})
		for {
			pk, err := c.tryNext()
			if err != nil {
				break
			}
			if pk.FixedHeader.Type == packets.Publish {
				received++
			}
			if pk.FixedHeader.Type == packets.Pingresp {
				alive++
				break
			}
		}
	}
	if alive != 1 || received != 1 {
		t.Errorf("%d live and received %d, want 1 and 1", alive, received)
	}
}

// [GRP-2.2-3] The memberships of an identifier that the server made end with its
// Session, whoever made them.
func TestAssignedClientIdentifier(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	op.must("create", `{"name":"pumps"}`)
	one := func() string {
		t.Helper()
		got := members(op, "lamps")
		if len(got) != 1 {
			t.Fatalf("members %q, want one", got)
		}
		return got[0]
	}
	inDialects(t, func(d dialect) {
		c := s.dial("", d.with...)
		if codes := c.subscribe("$join/lamps"); codes[0] != 1 {
			t.Fatalf("SUBACK %v", codes)
		}
		id := one()
		if !d.v5 {
			c.id = id
		} else if got := c.connack.Properties.AssignedClientID; got != id {
			t.Errorf("member %q, CONNACK said %q", id, got)
		}
		op.publish("g/1/all/muster/x", "1", 1)
		c.expectMessages("g/1/all/muster/x 1")
		c.must("switch", "pumps")
		expectMembers(op, "pumps", id)
		s.lose(c)
		untilMembers(op, "pumps")
	})

	t.Log("a Session that outlives its connection")
	c := s.dial("", v5, persistent)
	id := c.connack.Properties.AssignedClientID
	c.must("join", "lamps")
	s.lose(c)
	expectMembers(op, "lamps", id)
	c = s.dial(id, v5, persistent)
	if !c.connack.SessionPresent {
		t.Fatal("the Session is gone")
	}
	op.publish("g/1/all/muster/x", "2", 1)
	c.expectMessages("g/1/all/muster/x 2")
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}}
	pk.Properties.SessionExpiryIntervalFlag = true
	c.write(&pk, (*packets.Packet).DisconnectEncode)
	c.ended()
	untilMembers(op, "lamps")

	t.Log("a clean start ends the Session")
	c = s.dial("", v5, persistent)
	id = c.connack.Properties.AssignedClientID
	c.must("join", "lamps")
	s.lose(c)
	c = s.dial(id, v5)
	if got := c.groups(); len(got) != 0 {
		t.Errorf("in %v after a clean start, want none", got)
	}
	c.must("join", "lamps")
	op.publish("g/1/all/muster/x", "3", 1)
	c.expectMessages("g/1/all/muster/x 3")
	c.must("leave", "lamps")
	c.disconnect()

	t.Log("made a member by an operator, or by a side connection")
	c = s.dial("", v5)
	id = c.connack.Properties.AssignedClientID
	op.must("join", jsonOf(map[string]any{"device": id, "g": "lamps"}))
	s.lose(c)
	untilMembers(op, "lamps")
	c = s.dial("", v5)
	id = c.connack.Properties.AssignedClientID
	side := s.dial(id+"~1", v5)
	side.must("join", "lamps")
	c.must("join", "pumps")
	s.lose(c)
	untilMembers(op, "lamps")
	untilMembers(op, "pumps")

	t.Log("a restart ends all Sessions")
	s.dial("", v5, persistent).must("join", "lamps")
	c = s.dial("", v5, persistent)
	op.must("join", jsonOf(map[string]any{"device": c.connack.Properties.AssignedClientID, "g": "lamps"}))
	s.dial("lamp-9").must("join", "lamps")
	s.restart()
	expectMembers(s.operator(), "lamps", "lamp-9")
}

// [GRP-2.2-4] Who has an identifier that is unfit for groups can do nothing
// there, whatever the form.
func TestUnfitClientIdentifier(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "device")
	root := addAccount(op, "root", "operator")
	op.must("create", `{"name":"lamps"}`)
	op.must("create", `{"name":"pumps"}`)
	w := s.watcher()
	for i, id := range []string{
		"a/b", "/", "a+b", "+", "a#b", "#", "a\x01b", "a\x7f", "a\u0085b", "$a", "$join", strings.Repeat("x", 65), strings.Repeat("ü", 33),
		"b/c~1", "$b~1", strings.Repeat("y", 65) + "~1",
	} {
		inDialects(t, func(d dialect) {
			t.Logf("%q", id)
			who := ann
			if i%2 == 1 {
				who = root // an operator can no more
			}
			c := s.dial(id, d.plus(who)...)
			for _, verb := range []string{"$join/lamps", "$join/1", "$switch/lamps/pumps", "$grant/AAAA"} {
				if codes := c.subscribe(verb); codes[0] != d.code(0x87, 0x80) {
					t.Errorf("%s: SUBACK 0x%02x", verb, codes[0])
				}
			}
			for _, r := range [][2]string{
				{"join", "lamps"}, {"leave", "lamps"}, {"switch", "lamps pumps"}, {"grant", `{"op":"join","g":1}`}, {"mine", ""}, {"show", "{}"},
				{"members", "lamps"}, {"create", `{"name":"x"}`}, {"join", `{"device":"lamp-9","g":1}`},
			} {
				c.refused(group.NotAuthorized, r[0], r[1])
			}
			for _, topic := range []string{"g/all/x", "g/up/x", "g/lamps/all/x", "g/lamps/up/x", "g/1/all/muster/x", "g/1/to/lamp-9/x"} {
				if got := c.publish(topic, "1", 1); got != d.code(0x87, 0) {
					t.Errorf("%s: PUBACK 0x%02x", topic, got)
				}
			}
			if sender := strings.TrimSuffix(id, "~1"); !strings.ContainsAny(id, "+#") {
				if got := c.publish("g/1/all/"+sender+"/x", "1", 1); got != d.code(0x87, 0) {
					t.Errorf("as %q: PUBACK 0x%02x", sender, got)
				}
			}
			c.unsubscribe("$join/lamps")
			c.disconnect()
		})
		body := jsonOf(map[string]any{"device": strings.TrimSuffix(id, "~1"), "g": 1})
		op.refused(group.BadRequest, "join", body)
	}
	w.expectMessages()
	expectMembers(op, "lamps")
	// The longest that is fit.
	s.dial(strings.Repeat("x", 64)).must("join", "lamps")
	s.dial(strings.Repeat("x", 64)+"~"+strings.Repeat("y", 190)).must("leave", "lamps")
}

// Identifiers that stand for nothing are refused.
func TestImpossibleClientIdentifier(t *testing.T) {
	s := serve(t, nil)
	inDialects(t, func(d dialect) {
		for _, id := range []string{"~", "~1", "~~", strings.Repeat("x", 257)} {
			s.refuse(d.code(0x85, 2), id, d.with...)
		}
	})
}

// sometimes is the option or none.
func sometimes(yes bool, o option) option {
	if yes {
		return o
	}
	return func(*packets.Packet, *client) {}
}

// Whoever connects, and whenever the identifier is forgotten: of all that were
// let in at most one lives, it is the account's that owns the identifier, and it
// receives by that account's membership. [GRP-2.2-1] [GRP-2.2-2]
func TestOneOwnerAtATime(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	users := []string{"ann", "bob", "anonymous"}
	logins := []option{addAccount(op, "ann", "device"), addAccount(op, "bob", "device"), func(*packets.Packet, *client) {}}
	op.must("create", `{"name":"lamps"}`)
	var mu sync.Mutex
	letIn := map[*client]string{} // by account
	var wg sync.WaitGroup
	for i, who := range logins {
		wg.Go(func() {
			for k := range 20 {
				options := []option{who, sometimes(k%2 == 0, v5), sometimes(k%3 == 0, persistent)}
				c := attempt(t, "tcp", s.addr, "lamp-7"+[]string{"", "", "~1"}[k%3], options...)
				if c.connack.ReasonCode != 0 {
					continue
				}
				mu.Lock()
				letIn[c] = users[i]
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for range 30 {
			op.ask("forget", `{"device":"lamp-7"}`)
		}
	})
	wg.Wait()
	owner := ""
	if a := op.ask("show", `{"device":"lamp-7"}`); a.Code == group.OK {
		owner = a.User
	}
	alive := map[string]int{}
	for c, user := range letIn {
		c.raw([]byte{0xC0, 0})
		for {
			pk, err := c.tryNext()
			if err != nil {
				break
			}
			if pk.FixedHeader.Type != packets.Pingresp {
				continue
			}
			if alive[c.id]++; user != owner {
				t.Errorf("%s of %s lives, and %s owns it", c.id, user, owner)
			}
			break
		}
	}
	if alive["lamp-7"] > 1 || alive["lamp-7~1"] > 1 {
		t.Errorf("%v live", alive)
	}
}
