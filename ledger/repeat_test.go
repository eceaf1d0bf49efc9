package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/ledger"
)

// [GRP-5.5-1]
func TestRepeatHasItsEffectOnce(t *testing.T) {
	h := newHouse(t)
	first := h.want(h.ask(device("a"), withID(join(1), "1")), group.OK)
	repeat := func(when, in string, state string) {
		t.Helper()
		again := h.want(h.ask(device("a"), withID(join(1), "1")), group.OK)
		d, _ := h.Device("a")
		if again.Why != "repeat" || again.State != state || again.N != 1 || again.Epoch != d.Epoch || h.groups("a") != in {
			t.Errorf("%s: %+v, the device is in %s", when, again, h.groups("a"))
		}
	}
	repeat("at once", "[1]", "member")
	if d, _ := h.Device("a"); d.Epoch != first.Epoch {
		t.Errorf("the repeat has moved the epoch")
	}
	h.want(h.ask(device("a"), leave(1)), group.OK)
	repeat("after its effect was undone", "[]", "out")
	h.reopen()
	repeat("after a restart", "[]", "out")
	h.now = h.now.Add(ledger.RepeatLife - time.Second)
	h.Keep(t.Context())
	repeat("in the tenth minute", "[]", "out")
	h.now = h.now.Add(time.Second)
	h.want(h.ask(device("a"), withID(join(1), "1")), group.OK)
	if h.groups("a") != "[1]" {
		t.Errorf("after ten minutes the device is in %s", h.groups("a"))
	}
	h.now = h.now.Add(ledger.RepeatLife - time.Second)
	h.want(h.ask(device("a"), leave(1)), group.OK)
	repeat("ten minutes after the second time", "[]", "out")
}

// [GRP-5.5-2]
func TestIDOfAnother(t *testing.T) {
	tests := []struct {
		name string
		who  ledger.Asker
		r    control.Request
		code group.Code
	}{
		{"another op", device("a"), leave(1), group.IDReused},
		{"another group", device("a"), join(2), group.IDReused},
		{"another device", device("b"), join(1), group.OK},
		{"another account, for the same device", operator, remove("a", 1), group.OK},
	}
	for _, tt := range tests {
		for _, restart := range []bool{false, true} {
			h := newHouse(t)
			h.want(h.ask(device("a"), withID(join(1), "1")), group.OK)
			if restart {
				h.reopen()
			}
			if a := h.ask(tt.who, withID(tt.r, "1")); a.Code != tt.code {
				t.Errorf("%s, restart %v: %v, want %v", tt.name, restart, a.Code, tt.code)
			}
		}
	}
}

// [GRP-5.5-3]
func TestRefusedRequestIsDecidedAnew(t *testing.T) {
	h := newHouse(t)
	r := withID(leave(1), "1")
	h.want(h.ask(device("a"), r), group.NotMember)
	h.want(h.ask(device("a"), join(1)), group.OK)
	h.want(h.ask(device("a"), r), group.OK)
	if h.groups("a") != "[]" {
		t.Errorf("the device is in %s", h.groups("a"))
	}
}

// A request that changed nothing is not remembered, and one that could not be
// recorded neither.
func TestUnrecordedRequestIsNotRemembered(t *testing.T) {
	h := newHouse(t)
	h.want(h.ask(device("a"), join(1)), group.OK)
	h.want(h.ask(device("a"), withID(join(1), "1")), group.Unchanged)
	h.want(h.ask(device("a"), withID(leave(1), "1")), group.OK)
	h.store.Fail(fmt.Errorf("no space"))
	h.want(h.ask(device("a"), withID(join(1), "2")), group.Unavailable)
	h.reopen()
	h.want(h.ask(device("a"), withID(join(1), "2")), group.OK)
	if h.groups("a") != "[1]" {
		t.Errorf("the device is in %s", h.groups("a"))
	}
}

// What an operator is answered again names what was made, and no secret.
func TestRepeatOfAnOperator(t *testing.T) {
	h := newHouse(t)
	r := withID(control.Request{Op: control.OpCreate, Name: "lamps", Policy: "pin"}, "1")
	first := h.want(h.operate(r), group.OK)
	add := withID(control.Request{Op: control.OpAccount, Sub: "add", User: "cid"}, "2")
	if a := h.want(h.operate(add), group.OK); a.Secret == "" || first.PIN == "" {
		t.Errorf("no secret was generated: %+v, %+v", a, first)
	}
	for range 2 {
		if a := h.want(h.operate(r), group.OK); a.N != first.N || a.G != first.G || a.PIN != "" || a.Why != "repeat" {
			t.Errorf("%+v, first %+v", a, first)
		}
		if a := h.want(h.operate(add), group.OK); a.Secret != "" || a.User != "cid" {
			t.Errorf("%+v", a)
		}
		h.reopen()
	}
	gone := withID(control.Request{Op: control.OpAccount, Sub: "remove", User: "cid"}, "3")
	h.want(h.operate(gone), group.OK)
	h.want(h.operate(gone), group.OK)
}

// The journal is trimmed, but never of what repeats need.
func TestTrimKeepsTenMinutes(t *testing.T) {
	h := newHouse(t, func(c *ledger.Config) { c.JournalKeep = time.Second })
	h.want(h.ask(device("a"), withID(join(1), "1")), group.OK)
	h.now = h.now.Add(5 * time.Minute)
	h.want(h.ask(device("b"), withID(join(1), "1")), group.OK)
	h.now = h.now.Add(5*time.Minute - time.Second)
	h.Keep(t.Context())
	h.reopen()
	if a := h.ask(device("a"), withID(join(1), "1")); a.Why != "repeat" {
		t.Errorf("the note of ten minutes ago is gone: %+v", a)
	}
	h.now = h.now.Add(2 * time.Minute)
	h.Keep(t.Context())
	notes := 0
	h.store.Journal(t.Context(), 0, func(group.Rev, []byte) error { notes++; return nil })
	if notes != 1 {
		t.Errorf("%d notes are left, want b's", notes)
	}
	h.reopen()
	if a := h.ask(device("b"), withID(join(1), "1")); a.Why != "repeat" {
		t.Errorf("b's note is gone: %+v", a)
	}
}

// [GRP-5.5-4]
func TestStaleEpoch(t *testing.T) {
	h := newHouse(t)
	epoch := h.ask(device("a"), join(1)).Epoch
	for _, e := range []group.Epoch{epoch - 1, epoch + 1} {
		r := join(2)
		r.Epoch = &e
		if a := h.want(h.ask(device("a"), r), group.StaleEpoch); a.Epoch != epoch || h.groups("a") != "[1]" {
			t.Errorf("%+v, the device is in %s", a, h.groups("a"))
		}
	}
	r := join(2)
	r.Epoch = &epoch
	h.want(h.ask(device("a"), r), group.OK)
}

// [GRP-12-1]
func TestChangesPerMinute(t *testing.T) {
	h := newHouse(t, func(c *ledger.Config) { c.ChangesPerMinute = 4 })
	step := func(seconds int, r control.Request, code group.Code, retry int) {
		t.Helper()
		h.now = noon.Add(time.Duration(seconds) * time.Second)
		if a := h.want(h.ask(device("a"), r), code); a.Retry != retry {
			t.Errorf("at %d s: retry %d, want %d", seconds, a.Retry, retry)
		}
	}
	step(0, join(1), group.OK, 0)
	step(40, leave(1), group.OK, 0)
	step(50, join(1), group.OK, 0)
	step(55, leave(1), group.OK, 0)
	step(59, join(1), group.RateLimited, 1)
	step(59, leave(1), group.Unchanged, 0) // what changes nothing is no change
	h.want(h.operate(control.Request{Op: control.OpJoin, Device: "a", G: number(1)}), group.OK)
	h.want(h.operate(remove("a", 1)), group.OK)
	h.want(h.ask(device("b"), join(1)), group.OK)
	step(60, join(1), group.OK, 0)
	step(61, leave(1), group.RateLimited, 39) // no window of one minute holds more than four
	step(100, leave(1), group.OK, 0)
	step(101, join(1), group.RateLimited, 9)
	h.Keep(t.Context())
	step(200, join(1), group.OK, 0)
	for i := range 10 {
		if h.want(h.operate(move("a", group.Number(1+i%2), group.Number(2-i%2))), group.OK); t.Failed() {
			break
		}
	}
	step(201, leave(1), group.OK, 0)
}
