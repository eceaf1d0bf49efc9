package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/ledger"
)

// Each row asks all requests but the last one, and looks at the last answer.
func TestChange(t *testing.T) {
	forced := func(op control.Op, c group.ClientID, n group.Number) control.Request {
		return control.Request{Op: op, Device: c, G: number(n)}
	}
	type ask struct {
		who ledger.Asker
		r   control.Request
	}
	a, b, v := device("a"), device("b"), verbs("a")
	zero := byte(0)
	quiet := join(1)
	quiet.QoS = &zero
	tests := []struct {
		name  string
		asks  []ask
		code  group.Code
		n     group.Number // in the answer
		state string
		in    string // where device a is afterwards
	}{
		// [GRP-6.1-1]
		{"join", []ask{{a, join(1)}}, 0, 1, "member", "[1]"},
		{"join of a member", []ask{{a, join(1)}, {a, join(1)}}, 1, 1, "member", "[1]"},
		{"join of a member with another QoS", []ask{{a, join(1)}, {a, quiet}}, 0, 1, "member", "[1]"},
		// [GRP-6.2-1]
		{"leave", []ask{{a, join(1)}, {a, leave(1)}}, 0, 1, "out", "[]"},
		{"leave repeated", []ask{{a, join(1)}, {a, leave(1)}, {a, leave(1)}}, 1, 1, "out", "[]"},
		{"leave of a group one was never in", []ask{{a, leave(1)}}, 36, 0, "", "[]"},
		{"leave of a group that is not there to see", []ask{{a, leave(3)}}, 30, 0, "", "[]"},
		{"leave of a group that is not there", []ask{{a, leave(9)}}, 30, 0, "", "[]"},
		{"leave of a hidden group from which one was removed", []ask{{operator, forced("join", "a", 3)}, {operator, remove("a", 3)}, {a, leave(3)}}, 36, 0, "", "[]"},
		// [GRP-6.3-1]
		{"switch", []ask{{a, join(1)}, {a, change(1, 2)}}, 0, 2, "member", "[2]"},
		{"switch by one who is in neither", []ask{{a, change(1, 2)}}, 36, 0, "", "[]"},
		{"switch by one who is there", []ask{{a, join(2)}, {a, change(1, 2)}}, 1, 2, "member", "[2]"},
		{"switch from a group that is not there", []ask{{a, join(1)}, {a, change(9, 2)}}, 30, 0, "", "[1]"},
		{"switch without from", []ask{{a, join(1)}, {a, control.Request{Op: "switch", To: number(2)}}}, 0, 2, "member", "[2]"},
		{"switch without from, in none", []ask{{a, control.Request{Op: "switch", To: number(2)}}}, 36, 0, "", "[]"},
		{"switch without from, in two", []ask{{a, join(1)}, {a, join(2)}, {a, control.Request{Op: "switch", To: number(1)}}}, 21, 0, "", "[1 2]"},
		// [GRP-6.3-2]
		{"switch to a group that is not there", []ask{{a, join(1)}, {a, change(1, 9)}}, 30, 0, "", "[1]"},
		{"switch without the PIN", []ask{{a, join(1)}, {a, change(1, 3)}}, 30, 0, "", "[1]"},

		// [GRP-7-2]
		{"$switch repeated, its from hidden and long past", []ask{
			{operator, forced("join", "a", 3)}, {v, change(3, 1)}, {a, join(2)}, {v, change(3, 1)},
		}, 1, 1, "member", "[1 2]"},
		// [GRP-7-3]
		{"$join after a move", []ask{{a, join(1)}, {operator, move("a", 1, 2)}, {v, join(1)}}, 1, 2, "member", "[2]"},
		{"$join after a move out of a hidden group", []ask{
			{operator, forced("join", "a", 3)}, {operator, move("a", 3, 2)}, {v, join(3)},
		}, 1, 2, "member", "[2]"},
		{"$switch after a move, its from hidden", []ask{
			{operator, forced("join", "a", 3)}, {v, change(3, 1)}, {operator, move("a", 1, 2)}, {v, change(3, 1)},
		}, 1, 2, "member", "[2]"},
		// [GRP-7-4]
		{"$join after a removal", []ask{{a, join(1)}, {operator, remove("a", 1)}, {v, join(1)}}, 35, 0, "", "[]"},
		{"join by PUBLISH after a removal", []ask{{a, join(1)}, {operator, remove("a", 1)}, {a, join(1)}}, 0, 1, "member", "[1]"},
		// [GRP-7-5]
		{"UNSUBSCRIBE after a move", []ask{{a, join(1)}, {operator, move("a", 1, 2)}, {v, leave(1)}}, 0, 1, "out", "[]"},

		// [GRP-6.7-2]
		{"for another device", []ask{{b, forced("join", "a", 1)}}, 30, 0, "", "[]"},
		{"move by a device", []ask{{a, join(1)}, {a, move("a", 1, 2)}}, 30, 0, "", "[1]"},
		{"an operator's leave for an unknown device", []ask{{operator, forced("leave", "x", 1)}}, 23, 0, "", "[]"},
		{"an operator's grant for an unknown device", []ask{{operator, control.Request{Op: "grant", Sub: "join", Device: "x", G: number(1)}}}, 23, 0, "", "[]"},
		{"an operator's mine for an unknown device", []ask{{operator, control.Request{Op: "mine", Device: "x"}}}, 23, 0, "", "[]"},
		{"an operator's join for an unknown device", []ask{{operator, forced("join", "x", 1)}}, 0, 1, "member", "[]"},
		{"an operator's join for what can be no member", []ask{{operator, forced("join", "a/b", 1)}}, 10, 0, "", "[]"},
		{"an operator's join for the reserved identifier", []ask{{operator, forced("join", "muster", 1)}}, 10, 0, "", "[]"},
		{"an operator needs no PIN for a device of his own", []ask{{ledger.Asker{Client: "a", Account: "local", Role: group.RoleOperator}, join(3)}}, 0, 3, "member", "[3]"},
		// [GRP-3.4-2]
		{"an operator's leave of a deleted group", []ask{{operator, control.Request{Op: "delete", G: number(2)}}, {operator, remove("a", 2)}}, 22, 0, "", "[]"},
		{"an operator's leave of a group that never was", []ask{{operator, remove("a", 9)}}, 20, 0, "", "[]"},

		{"no group", []ask{{a, control.Request{Op: "join"}}}, 10, 0, "", "[]"},
		{"no device", []ask{{ledger.Asker{Account: "ann"}, join(1)}}, 10, 0, "", "[]"},
		{"no op", []ask{{a, control.Request{}}}, 11, 0, "", "[]"},
		{"an unknown account", []ask{{ledger.Asker{Client: "a", Account: "zoe"}, join(1)}}, 30, 0, "", "[]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t)
			var last control.Answer
			before := h.devices()
			for i, x := range tt.asks {
				if last = h.ask(x.who, x.r); i < len(tt.asks)-1 && !last.Code.Success() {
					t.Fatalf("request %d is answered %v", i, last.Code)
				}
				if i < len(tt.asks)-1 {
					before = h.devices()
				}
			}
			if h.want(last, tt.code); last.N != tt.n || last.State != tt.state || h.groups("a") != tt.in {
				t.Errorf("%+v, and a is in %s, want %d, %s and %s", last, h.groups("a"), tt.n, tt.state, tt.in)
			}
			if last.Code != group.OK && fmt.Sprint(h.devices()) != fmt.Sprint(before) {
				t.Errorf("with %v the records became %v, were %v", last.Code, h.devices(), before)
			}
			h.reopen()
			if h.groups("a") != tt.in {
				t.Errorf("after the restart a is in %s, want %s", h.groups("a"), tt.in)
			}
		})
	}
}

// [GRP-7-6]
func TestVerbsOfOnePacketAreOneWrite(t *testing.T) {
	h := newHouse(t)
	h.want(h.ask(device("a"), join(1)), group.OK)
	rev, applied := h.store.Rev(), h.actor.applied
	before, _ := h.Device("a")
	as := <-h.begin(verbs("a"), change(1, 2), join(9), join(2), leave(1), join(1))
	codes := []group.Code{group.OK, group.NotAuthorized, group.Unchanged, group.NotMember, group.OK}
	for i, a := range as {
		if h.want(a, codes[i]); a.Epoch != before.Epoch+1 {
			t.Errorf("verb %d is answered with epoch %d, want %d", i, a.Epoch, before.Epoch+1)
		}
	}
	if len(as) != len(codes) || h.store.Rev() != rev+1 || h.actor.applied != applied+1 || h.groups("a") != "[1 2]" {
		t.Errorf("%d answers, %d writes, %d changes, a is in %s", len(as), h.store.Rev()-rev, h.actor.applied-applied, h.groups("a"))
	}
	for _, a := range <-h.begin(verbs("a"), make([]control.Request, ledger.MaxRequests+1)...) {
		h.want(a, group.TooLarge)
	}
}

// A write that fails leaves the verbs of its packet without any effect, those
// of a device that had no record too.
func TestFailedWrite(t *testing.T) {
	h := newHouse(t)
	h.want(h.ask(device("a"), join(1)), group.OK)
	before := h.devices()
	h.store.Fail(errors.New("no space"))
	for range 2 { // the write that fails, and what comes when the store is read-only
		for _, a := range <-h.begin(verbs("a"), change(1, 2), join(1)) {
			h.want(a, group.Unavailable)
		}
		h.want(h.operate(control.Request{Op: control.OpJoin, Device: "new", G: number(1)}), group.Unavailable)
		h.want(h.operate(control.Request{Op: control.OpDelete, G: number(1)}), group.Unavailable)
		h.want(h.operate(control.Request{Op: control.OpCreate, Name: "lamps"}), group.Unavailable)
		h.want(h.operate(control.Request{Op: control.OpAccount, Sub: "add", User: "cid"}), group.Unavailable)
		if err := h.bind("bob", "newer"); !errors.Is(err, group.Unavailable) {
			t.Errorf("bind: %v", err)
		}
	}
	if after := h.devices(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("%v, was %v", after, before)
	}
	h.want(h.ask(device("a"), join(1)), group.Unchanged) // what is so is still said
	if a := h.ask(device("a"), control.Request{Op: control.OpMine}); len(a.List) != 1 || a.Retry != 0 {
		t.Errorf("mine is %+v", a)
	}
	if err := h.bind("ann", "a"); err != nil {
		t.Errorf("a device that is known cannot connect: %v", err)
	}
	h.reopen()
	h.want(h.ask(device("a"), change(1, 2)), group.OK)
	h.want(h.operate(control.Request{Op: control.OpCreate, Name: "lamps"}), group.OK)
}

// A record that the store cannot take is refused and leaves no trace.
func TestTooLargeRecord(t *testing.T) {
	h := newHouse(t)
	r := join(1)
	for i := range 1200 {
		r.Filter = append(r.Filter, fmt.Sprint(i)+strings.Repeat("x", 250))
	}
	h.want(h.ask(device("a"), r), group.TooLarge)
	h.want(h.ask(device("a"), join(1)), group.OK)
}

// Decisions see what is staged, each answer waits for its own record, and what
// is acted on is acted on in the order of revs.
func TestChangesShareACommit(t *testing.T) {
	h := newHouse(t)
	h.store.Hold()
	first := h.begin(device("a"), join(1))
	second := h.begin(device("a"), change(1, 2))
	other := h.begin(device("b"), join(1))
	if h.groups("a") != "[]" || h.store.Held() != 2 {
		t.Errorf("a is in %s, %d writes are held: one for each device", h.groups("a"), h.store.Held())
	}
	for _, c := range []<-chan []control.Answer{first, second, other} {
		select {
		case as := <-c:
			t.Errorf("answered before it was recorded: %+v", as)
		default:
		}
	}
	h.store.Release()
	for _, c := range []<-chan []control.Answer{first, second, other} {
		h.want((<-c)[0], group.OK)
	}
	if h.groups("a") != "[2]" || h.groups("b") != "[1]" {
		t.Errorf("a is in %s, b in %s", h.groups("a"), h.groups("b"))
	}
}

// While the write of a group's new policy is under way, a join is judged by the
// new policy; it neither fails nor gets in by the old one.
func TestJoinDuringAChangeOfPolicy(t *testing.T) {
	tests := []struct {
		name   string
		update control.Request
		join   control.Request
		code   group.Code
	}{
		{"what does not matter", control.Request{Name: "norden"}, join(1), group.OK},
		{"hidden", control.Request{Visible: "members"}, join(1), group.NotAuthorized},
		{"deleted", control.Request{Op: control.OpDelete}, join(1), group.NotAuthorized},
		{"opened", control.Request{Policy: "open", Visible: "all", G: number(3)}, join(3), group.OK},
	}
	for _, tt := range tests {
		h := newHouse(t)
		h.store.Hold()
		if tt.update.Op == "" {
			tt.update.Op = control.OpUpdate
		}
		if tt.update.G.IsZero() {
			tt.update.G = number(1)
		}
		update := h.begin(operator, tt.update)
		joined := h.begin(device("a"), tt.join)
		h.store.Release()
		h.want((<-update)[0], group.OK)
		if a := (<-joined)[0]; a.Code != tt.code {
			t.Errorf("%s: %v, want %v", tt.name, a.Code, tt.code)
		}
	}
}

// A verdict that was got under an old policy does not let in under the new one:
// the right PIN of before is wrong when the decision is made. [GRP-6.3-2]
func TestPolicyChangesBetweenVerdictAndDecision(t *testing.T) {
	h := newHouse(t)
	h.want(h.ask(device("a"), join(1)), group.OK)
	for i := range 20 {
		old, fresh := fmt.Sprint("old-", i), fmt.Sprint("new-", i)
		h.want(h.operate(control.Request{Op: control.OpUpdate, G: number(3), PIN: old}), group.OK)
		r := change(1, 3)
		r.Secret = old
		update := h.begin(operator, control.Request{Op: control.OpUpdate, G: number(3), PIN: fresh})
		joined := (<-h.begin(device("a"), r))[0]
		done := (<-update)[0]
		h.want(done, group.OK)
		switch {
		case joined.Code == group.OK && joined.Rev > done.Rev:
			t.Fatalf("rev %d: let in by the PIN that ended at rev %d", joined.Rev, done.Rev)
		case joined.Code == group.OK:
			h.want(h.ask(device("a"), change(3, 1)), group.OK)
		case h.groups("a") != "[1]":
			t.Fatalf("refused with %v, and in %s", joined.Code, h.groups("a"))
		}
		h.now = h.now.Add(2 * ledger.RepeatLife) // no guess is counted against the next
	}
}

// One request is under way and 16 wait; the next is answered 62. Others do not
// notice.
func TestSixteenWait(t *testing.T) {
	h := newHouse(t)
	h.store.Hold()
	var all []<-chan []control.Answer
	for i := range 1 + ledger.MaxWaiting {
		r := join(1)
		if i%2 == 1 {
			r = leave(1)
		}
		all = append(all, h.begin(device("a"), r))
	}
	if a := h.want(h.ask(device("a"), join(1)), group.RateLimited); a.Retry == 0 {
		t.Error("no retry")
	}
	// A stranger who connects as the device takes no place in its line, and one
	// who has the right to it does not wait in it.
	if err := h.bind("bob", "a"); !errors.Is(err, group.NotAuthorized) {
		t.Errorf("bind by another account: %v", err)
	}
	if err := h.bind("ann", "a"); err != nil {
		t.Errorf("bind by its own: %v", err)
	}
	other := h.begin(device("b"), join(1))
	h.store.Release()
	for _, c := range append(all, other) {
		h.want((<-c)[0], group.OK)
	}
}

// The next in a device's line is not served on the store's goroutine, on which
// others are answered: however slow it is, they do not notice.
func TestBusyLaneStallsNobody(t *testing.T) {
	h := newHouse(t)
	h.store.Hold()
	first := h.begin(device("a"), join(1))
	answered, slow := make(chan struct{}), make(chan struct{})
	h.Do(device("a"), []control.Request{digest(leave(9))}, h.now, ledger.ReplyFunc(func([]control.Answer) {
		<-answered
		close(slow)
	}))
	other := h.begin(device("b"), join(1))
	h.store.Release()
	h.want((<-first)[0], group.OK)
	h.want((<-other)[0], group.OK)
	close(answered)
	<-slow
}

// Close answers everything that was begun, and nothing new.
func TestClose(t *testing.T) {
	h := newHouse(t)
	h.store.Hold()
	var all []<-chan []control.Answer
	for range 5 {
		all = append(all, h.begin(device("a"), join(1)), h.begin(device("b"), join(1)), h.begin(operator, control.Request{Op: control.OpDelete, G: number(2)}))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("closed with requests under way: %v", err)
	}
	h.want(h.ask(device("c"), join(1)), group.Unavailable)
	h.want(h.operate(control.Request{Op: control.OpCreate, Name: "lamps"}), group.Unavailable)
	if err := h.bind("ann", "x"); !errors.Is(err, group.Unavailable) {
		t.Errorf("bind: %v", err)
	}
	h.store.Release()
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, c := range all {
		select {
		case as := <-c:
			if len(as) != 1 || !as[0].Code.Success() && as[0].Code != group.GroupDeleted {
				t.Errorf("request %d is answered %+v", i, as)
			}
		default:
			t.Errorf("request %d is not answered", i)
		}
	}
}

// "It is so already", and what mine lists, is true at its place in the order of
// changes: it is what the device is delivered when it is said.
func TestUnchangedIsSaidInOrder(t *testing.T) {
	h := newHouse(t)
	for i := range 200 {
		n := h.want(h.operate(control.Request{Op: control.OpCreate, Name: fmt.Sprint("g", i)}), group.OK).N
		h.want(h.ask(device("a"), join(n)), group.OK)
		said := make(chan string, 2)
		ask := func(r control.Request, is func(control.Answer) bool) {
			h.Do(device("a"), []control.Request{digest(r)}, h.now, ledger.ReplyFunc(func(as []control.Answer) {
				h.actor.mu.Lock()
				defer h.actor.mu.Unlock()
				if delivered := h.actor.delivered["a"][n]; is(as[0]) && !delivered {
					said <- fmt.Sprintf("%+v, and the device is delivered %v", as[0], h.actor.delivered["a"])
					return
				}
				said <- ""
			}))
		}
		deleted := h.begin(operator, control.Request{Op: control.OpDelete, G: number(n)})
		ask(join(n), func(a control.Answer) bool { return a.Code.Success() })
		ask(control.Request{Op: control.OpMine}, func(a control.Answer) bool { return len(a.List) > 0 })
		for range 2 {
			if s := <-said; s != "" {
				t.Fatal(s)
			}
		}
		h.want((<-deleted)[0], group.OK)
	}
}

// What needs no write is answered in the order of changes all the same: not
// between a change's record and what is done about it.
func TestAnswersWithoutAWriteAreOrdered(t *testing.T) {
	h := newHouse(t)
	h.want(h.ask(device("a"), join(1)), group.OK)
	var early atomic.Bool
	var within atomic.Bool
	answered := make(chan struct{}, 2)
	h.Ordered(func() {
		within.Store(true)
		for c, r := range map[group.ClientID]control.Request{"a": join(1), "b": {Op: control.OpMine}} {
			go h.Do(device(c), []control.Request{digest(r)}, h.now, ledger.ReplyFunc(func([]control.Answer) {
				if within.Load() {
					early.Store(true)
				}
				answered <- struct{}{}
			}))
		}
		for range 1000 {
			runtime.Gosched()
		}
		within.Store(false)
	})
	<-answered
	<-answered
	if early.Load() {
		t.Error("an answer came between")
	}
}

// However busy a device is, an operator who acts on it is next: a hostile device
// cannot keep itself from being removed.
func TestOperatorGoesAheadOfABusyDevice(t *testing.T) {
	h := newHouse(t)
	h.want(h.ask(device("a"), join(1)), group.OK)
	h.store.Hold()
	first := h.begin(device("a"), leave(1))
	var waiting []<-chan []control.Answer
	for range ledger.MaxWaiting {
		waiting = append(waiting, h.begin(device("a"), join(2)))
	}
	removed := h.begin(operator, remove("a", 2))
	h.store.Release()
	h.want((<-first)[0], group.OK)
	// Removed before the device's own joins were looked at: it was not there yet.
	h.want((<-removed)[0], group.NotMember)
	h.want((<-waiting[0])[0], group.OK)
	for _, c := range waiting[1:] {
		h.want((<-c)[0], group.Unchanged)
	}
}

// A request that waits behind a forget does not make the device anew.
func TestRequestBehindAForget(t *testing.T) {
	h := newHouse(t)
	h.want(h.ask(device("a"), join(1)), group.OK)
	h.store.Hold()
	forgotten := h.begin(operator, control.Request{Op: control.OpForget, Device: "a"})
	late := h.begin(device("a"), join(2))
	mine := h.begin(device("a"), control.Request{Op: control.OpMine})
	h.store.Release()
	h.want((<-forgotten)[0], group.OK)
	h.want((<-late)[0], group.NotAuthorized)
	h.want((<-mine)[0], group.NotAuthorized)
	if _, ok := h.Device("a"); ok {
		t.Error("the device is known again")
	}
	if err := h.bind("bob", "a"); err != nil {
		t.Errorf("another account cannot have the Client Identifier: %v", err)
	}
}
