package ledger_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/ledger"
)

// grant asks for a grant.
func (h *house) grant(who ledger.Asker, sub string, r control.Request) []byte {
	h.t.Helper()
	r.Op, r.Sub = control.OpGrant, sub
	return h.want(h.ask(who, r), group.OK).Grant
}

func redeem(op control.Op, grant []byte) control.Request {
	return control.Request{Op: op, Grant: grant}
}

// [GRP-8-2]
func TestGrant(t *testing.T) {
	for _, restart := range []bool{false, true} {
		h := newHouse(t)
		h.want(h.ask(device("a"), join(1)), group.OK)
		before := h.store.Rev()
		g := h.grant(device("a"), "switch", control.Request{From: number(1), To: number(3), Secret: "4711", TTL: 300})
		// [GRP-8-4]
		if h.store.Rev() != before || h.groups("a") != "[1]" {
			t.Error("asking for a grant has changed something")
		}
		if restart {
			h.reopen()
		}
		h.now = h.now.Add(300*time.Second - 1)
		h.want(h.ask(device("b"), redeem("switch", g)), group.GrantMismatch)
		h.want(h.ask(device("a"), redeem("join", g)), group.GrantMismatch)
		other := redeem("switch", g)
		other.To = number(2)
		h.want(h.ask(device("a"), other), group.GrantMismatch)
		cut := redeem("switch", g[:len(g)-1])
		h.want(h.ask(device("a"), cut), group.GrantUnknown)
		altered := bytes.Clone(g)
		altered[len(g)/2] ^= 1
		h.want(h.ask(device("a"), redeem("switch", altered)), group.GrantUnknown)
		if h.groups("a") != "[1]" {
			t.Fatalf("a refused grant has changed something: a is in %s", h.groups("a"))
		}
		if a := h.want(h.ask(device("a"), redeem("switch", g)), group.OK); a.N != 3 || a.From != 1 || a.Why != "grant" {
			t.Errorf("%+v", a)
		}
		if restart {
			h.reopen()
		}
		h.want(h.ask(device("a"), redeem("switch", g)), group.GrantUsed)
		if h.groups("a") != "[3]" {
			t.Errorf("a is in %s", h.groups("a"))
		}
	}
}

// [GRP-8-3]
func TestGrantIsOvertaken(t *testing.T) {
	tests := []struct {
		name  string
		event func(h *house)
		code  group.Code
	}{
		{"nothing", func(*house) {}, group.OK},
		{"time", func(h *house) { h.now = h.now.Add(time.Minute) }, group.GrantExpired},
		{"another change", func(h *house) { h.ask(device("a"), join(1)) }, group.GrantUsed},
		{"a change and its undoing", func(h *house) { h.ask(device("a"), join(1)); h.ask(device("a"), leave(1)) }, group.GrantUsed},
		{"another's change", func(h *house) { h.ask(device("b"), join(1)) }, group.OK},
		{"a rename", func(h *house) { h.operate(control.Request{Op: "update", G: number(2), Name: "syd"}) }, group.OK},
		{"the group's policy", func(h *house) { h.operate(control.Request{Op: "update", G: number(2), Policy: "pin"}) }, group.GrantUsed},
		{"the group's deletion", func(h *house) { h.operate(control.Request{Op: "delete", G: number(2)}) }, group.GrantUsed},
		{"forgetting the device", func(h *house) {
			h.operate(control.Request{Op: "forget", Device: "a"})
			h.bind("ann", "a")
		}, group.GrantUsed},
		{"forgetting the device, which another account takes", func(h *house) {
			h.operate(control.Request{Op: "forget", Device: "a"})
			h.bind("bob", "a")
		}, group.GrantMismatch},
		{"a rotation of the keys", func(h *house) { h.Keep(h.t.Context()) }, group.OK},
	}
	for _, tt := range tests {
		h := newHouse(t)
		g := h.grant(device("a"), "join", control.Request{G: number(2)})
		tt.event(h)
		if a := h.ask(device("a"), redeem("join", g)); a.Code != tt.code {
			t.Errorf("%s: %v, want %v", tt.name, a.Code, tt.code)
		}
	}
}

// [GRP-7-2]
func TestGrantVerbRepeated(t *testing.T) {
	h := newHouse(t)
	g := h.grant(device("a"), "join", control.Request{G: number(3), Secret: "4711"})
	h.want(h.ask(verbs("a"), redeem("", g)), group.OK)
	h.want(h.ask(verbs("a"), redeem("", g)), group.Unchanged)
	h.now = h.now.Add(time.Hour) // a client that reconnects much later
	h.want(h.ask(verbs("a"), redeem("", g)), group.Unchanged)
	h.want(h.ask(device("a"), redeem("join", g)), group.GrantExpired)
	h.want(h.ask(device("a"), leave(3)), group.OK)
	h.want(h.ask(verbs("a"), redeem("", g)), group.GrantExpired)
	if h.groups("a") != "[]" {
		t.Errorf("a is in %s", h.groups("a"))
	}
}

// [GRP-8-4]
func TestAskingForAGrantIsJudged(t *testing.T) {
	tests := []struct {
		name string
		r    control.Request
		code group.Code
	}{
		{"join", control.Request{Sub: "join", G: number(1)}, group.OK},
		{"join without the PIN", control.Request{Sub: "join", G: number(3)}, group.NotAuthorized},
		{"join with the PIN", control.Request{Sub: "join", G: number(3), Secret: "4711"}, group.OK},
		{"leave of a group one is not in", control.Request{Sub: "leave", G: number(1)}, group.NotMember},
		{"the shortest life", control.Request{Sub: "join", G: number(1), TTL: 1}, group.OK},
		{"the longest life", control.Request{Sub: "join", G: number(1), TTL: 86_400}, group.OK},
		{"too long a life", control.Request{Sub: "join", G: number(1), TTL: 86_401}, group.BadRequest},
		{"a negative life", control.Request{Sub: "join", G: number(1), TTL: -1}, group.BadRequest},
		{"another op", control.Request{Sub: "forget"}, group.BadRequest},
		{"no op", control.Request{G: number(1)}, group.BadRequest},
	}
	h := newHouse(t)
	rev := h.store.Rev()
	for _, tt := range tests {
		tt.r.Op = control.OpGrant
		if a := h.ask(device("a"), tt.r); a.Code != tt.code || (len(a.Grant) > 0) != (a.Code == group.OK) {
			t.Errorf("%s: %+v, want %v", tt.name, a, tt.code)
		}
	}
	if h.store.Rev() != rev {
		t.Error("something was recorded")
	}
}

// An operator's grant for a device is the device's to use.
func TestOperatorsGrant(t *testing.T) {
	h := newHouse(t)
	g := h.grant(operator, "join", control.Request{Device: "a", G: number(3)})
	h.want(h.ask(device("b"), redeem("join", g)), group.GrantMismatch)
	h.want(h.ask(device("a"), redeem("join", g)), group.OK)
}

// A device that the server named has no record yet: others' changes do not use
// its grant up.
func TestGrantOfAnAssignedDevice(t *testing.T) {
	h := newHouse(t)
	who := device("auto-1")
	who.Assigned = true
	g := h.grant(who, "join", control.Request{G: number(1)})
	h.want(h.ask(device("b"), join(1)), group.OK)
	h.want(h.ask(who, redeem("join", g)), group.OK)
	h.want(h.ask(who, leave(1)), group.OK)
	h.want(h.ask(who, redeem("join", g)), group.GrantUsed)
}

// A grant may be issued for a device before it has ever connected: whoever it
// belongs to then can use it, once.
func TestGrantForADeviceThatHasNotConnected(t *testing.T) {
	h := newHouse(t)
	h.want(h.operate(control.Request{Op: control.OpJoin, Device: "new", G: number(1)}), group.OK)
	g := h.grant(operator, "switch", control.Request{Device: "new", From: number(1), To: number(2)})
	if err := h.bind("ann", "new"); err != nil {
		t.Fatal(err)
	}
	h.want(h.ask(device("b"), redeem(control.OpSwitch, g)), group.GrantMismatch)
	h.want(h.ask(device("new"), redeem(control.OpSwitch, g)), group.OK)
	h.want(h.ask(device("new"), redeem(control.OpSwitch, g)), group.GrantUsed)
	if in := h.groups("new"); in != "[2]" {
		t.Errorf("new is in %s, want [2]", in)
	}
}

// The rule that allowed a request does not stand in a refusal that it did not
// decide.
func TestRefusalNamesNoRuleThatAllowed(t *testing.T) {
	h := newHouse(t)
	if a := h.want(h.ask(device("a"), change(1, 2)), group.NotMember); a.Why != "" {
		t.Errorf("refused by %q", a.Why)
	}
}
