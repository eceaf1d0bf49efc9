package ledger_test

import (
	"fmt"
	"testing"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/ledger"
)

// [GRP-3.4-1]
func TestStrangerLearnsNothing(t *testing.T) {
	h := newHouse(t)
	h.want(h.operate(control.Request{Op: control.OpCreate, Name: "gone"}), group.OK)
	h.want(h.operate(control.Request{Op: control.OpCreate, Name: "club", Visible: "members"}), group.OK)
	h.want(h.operate(control.Request{Op: control.OpAccount, Sub: "update", User: "bob", Findable: new(true)}), group.OK)
	h.bind("bob", "b-1")
	h.want(h.operate(control.Request{Op: control.OpJoin, Device: "b-1", G: number(3)}), group.OK)
	h.want(h.operate(control.Request{Op: control.OpDelete, G: number(4)}), group.OK)
	refs := map[string]group.Ref{
		"unknown, by number": number(99), "unknown, by name": {Name: "nothing"}, "unknown, by ID": {ID: group.ID{9}}, "unknown user": {User: "zoe"},
		"deleted": number(4), "deleted, by name": {Name: "gone"}, "not findable": {User: "ann"},
		"by a PIN, by number": number(3), "by a PIN, by name": {Name: "vault"}, "by a PIN, by user": {User: "bob"}, "hidden": number(5),
	}
	asks := map[string]func(group.Ref) control.Request{
		"join":            func(r group.Ref) control.Request { return control.Request{Op: "join", G: r} },
		"join with a PIN": func(r group.Ref) control.Request { return control.Request{Op: "join", G: r, Secret: "1234"} },
		"leave":           func(r group.Ref) control.Request { return control.Request{Op: "leave", G: r} },
		"switch to":       func(r group.Ref) control.Request { return control.Request{Op: "switch", From: number(1), To: r} },
		"switch from":     func(r group.Ref) control.Request { return control.Request{Op: "switch", From: r, To: number(2)} },
		"grant":           func(r group.Ref) control.Request { return control.Request{Op: "grant", Sub: "join", G: r} },
		"members":         func(r group.Ref) control.Request { return control.Request{Op: "members", G: r} },
		"show":            func(r group.Ref) control.Request { return control.Request{Op: "show", G: r} },
		"update":          func(r group.Ref) control.Request { return control.Request{Op: "update", G: r, Name: "x"} },
		"delete":          func(r group.Ref) control.Request { return control.Request{Op: "delete", G: r} },
		"join with an id": func(r group.Ref) control.Request { return control.Request{Op: "join", G: r, ID: []byte("1")} },
	}
	h.want(h.ask(device("a"), join(1)), group.OK)
	for op, ask := range asks {
		for _, verb := range []bool{false, true} {
			want := ""
			for name, ref := range refs {
				who := device("a")
				who.Verb = verb
				a := h.ask(who, ask(ref))
				if a.Code != group.NotAuthorized {
					t.Errorf("%s of what is %s: %v", op, name, a.Code)
				}
				if got := fmt.Sprintf("%+v", a); want == "" {
					want = got
				} else if got != want {
					t.Errorf("%s of what is %s: %s, else %s", op, name, got, want)
				}
				h.now = h.now.Add(2 * ledger.RepeatLife) // wrong PINs are another test's
			}
		}
	}
	// Being in the other group already tells nothing of the one to be left, and
	// records nothing of it.
	for name, ref := range refs {
		r := control.Request{Op: "switch", From: ref, To: number(1), Recv: new(false)}
		h.want(h.ask(device("a"), r), group.OK)
		if a := h.ask(device("a"), control.Request{Op: "leave", G: ref}); a.Code != group.NotAuthorized {
			t.Errorf("after a switch from what is %s its leave is answered %v", name, a.Code)
		}
		h.want(h.ask(device("a"), control.Request{Op: "join", G: number(1), Recv: new(true)}), group.OK)
		if a := h.ask(device("a"), control.Request{Op: "switch", From: ref, To: number(1)}); a.Code != group.Unchanged || a.From != 0 {
			t.Errorf("a switch to where one is, from what is %s: %+v", name, a)
		}
	}
	r := join(3)
	r.Secret = "4711"
	h.want(h.ask(device("a"), r), group.OK)
}

// [GRP-3.4-2]
func TestOperatorsAreToldWhatIsDeleted(t *testing.T) {
	h := newHouse(t)
	h.want(h.operate(control.Request{Op: control.OpDelete, G: number(2)}), group.OK)
	watcher := ledger.Asker{Client: "w", Account: "bob", Role: group.RoleObserver}
	limited := ledger.Asker{Client: "w", Account: "bob", Role: group.RoleObserver, Groups: []group.Number{1}}
	tests := []struct {
		name          string
		who           ledger.Asker
		never, before group.Code
	}{
		{"operator", operator, group.NoSuchGroup, group.GroupDeleted},
		{"observer", watcher, group.NoSuchGroup, group.GroupDeleted},
		{"observer of another group", limited, group.NotAuthorized, group.NotAuthorized},
		{"device", device("a"), group.NotAuthorized, group.NotAuthorized},
	}
	for _, tt := range tests {
		for _, op := range []control.Op{control.OpShow, control.OpMembers} {
			if a := h.ask(tt.who, control.Request{Op: op, G: number(99)}); a.Code != tt.never {
				t.Errorf("%s, %s, never there: %v, want %v", tt.name, op, a.Code, tt.never)
			}
			if a := h.ask(tt.who, control.Request{Op: op, G: number(2)}); a.Code != tt.before {
				t.Errorf("%s, %s, deleted: %v, want %v", tt.name, op, a.Code, tt.before)
			}
		}
	}
}

// [GRP-6.6-1]
func TestMembers(t *testing.T) {
	h := newHouse(t)
	for _, c := range []group.ClientID{"c", "a", "b"} {
		h.want(h.ask(device(c), join(1)), group.OK)
	}
	h.actor.present["b"] = true
	h.want(h.operate(control.Request{Op: control.OpJoin, Device: "c", G: number(3)}), group.OK)
	h.want(h.operate(remove("c", 3)), group.OK)
	ask := func(who ledger.Asker, n group.Number, code group.Code, want string) {
		t.Helper()
		got := ""
		for next := ""; ; {
			a := h.want(h.ask(who, control.Request{Op: control.OpMembers, G: number(n), Next: next, Limit: 2}), code)
			for _, e := range a.List {
				got += fmt.Sprintf("%s/%s/%v ", e.Device, e.User, *e.Online)
			}
			if next = a.Next; next == "" {
				break
			}
		}
		if got != want {
			t.Errorf("%s asks for %d: %s, want %s", who.Client, n, got, want)
		}
	}
	all := "a/ann/false b/ann/true c/ann/false "
	ask(device("a"), 1, 0, all)
	ask(operator, 1, 0, all)
	ask(ledger.Asker{Account: "bob", Role: group.RoleObserver, Groups: []group.Number{1}}, 1, 0, all)
	ask(device("a"), 2, group.NotMember, "")
	ask(operator, 2, 0, "")
	ask(device("c"), 3, group.NotMember, "") // it may know of it
	h.bind("ann", "d")
	ask(device("d"), 3, group.NotAuthorized, "")
	ask(operator, 0, group.BadRequest, "")
	if list := h.Roster(1); len(list) != 3 || !*list[1].Online || list[1].Device != "b" {
		t.Errorf("the roster is %+v", list)
	}
}

// [GRP-5.7-1]
func TestListsComeInPages(t *testing.T) {
	h := newHouse(t)
	for i := range 7 {
		h.want(h.operate(control.Request{Op: control.OpCreate, Name: fmt.Sprint("g", i)}), group.OK)
		h.want(h.operate(control.Request{Op: control.OpAccount, Sub: "add", User: fmt.Sprint("u", i)}), group.OK)
		h.want(h.operate(control.Request{Op: control.OpJoin, Device: "a", G: number(group.Number(i + 4))}), group.OK)
	}
	h.want(h.operate(control.Request{Op: control.OpDelete, G: number(6)}), group.OK)
	limited := ledger.Asker{Account: "bob", Role: group.RoleObserver, Groups: []group.Number{2, 5, 9}}
	lists := []struct {
		name string
		who  ledger.Asker
		r    control.Request
		want int
	}{
		{"groups", operator, control.Request{Op: control.OpList}, 9},
		{"groups that one observes", limited, control.Request{Op: control.OpList}, 3},
		{"devices", operator, control.Request{Op: control.OpList, Kind: "device"}, 3},
		{"accounts", operator, control.Request{Op: control.OpAccount, Sub: "list"}, 9},
		{"mine", device("a"), control.Request{Op: control.OpMine}, 6},
	}
	for _, l := range lists {
		for limit := 1; limit <= l.want+1; limit++ {
			seen := map[string]bool{}
			pages, n := 0, 0
			for r := l.r; ; pages++ {
				r.Limit = limit
				a := h.want(h.ask(l.who, r), group.OK)
				for _, e := range a.List {
					seen[fmt.Sprint(e.N, e.Device, e.User)] = true
					n++
				}
				if r.Next = a.Next; r.Next == "" {
					break
				}
			}
			if len(seen) != l.want || n != l.want || pages != (l.want-1)/limit {
				t.Errorf("%s by %d: %d entries, %d different, %d pages more, want %d", l.name, limit, n, len(seen), pages, l.want)
			}
		}
	}
	for _, r := range []control.Request{{Op: control.OpList}, {Op: control.OpList, Kind: "device"}, {Op: control.OpAccount, Sub: "list"}, {Op: control.OpShow, Device: "b"}} {
		h.want(h.ask(device("a"), r), group.NotAuthorized)
	}
	h.want(h.operate(control.Request{Op: control.OpList, Next: "nonsense"}), group.BadRequest)
	if a := h.want(h.operate(control.Request{Op: control.OpShow, Device: "a"}), group.OK); len(a.List) != 6 || a.Kind != "offline" || a.User != "ann" {
		t.Errorf("%+v", a)
	}
	h.want(h.operate(control.Request{Op: control.OpShow, Device: "x"}), group.NoSuchDevice)
}

// [GRP-3.3-1] [GRP-3.3-2]
func TestPIN(t *testing.T) {
	h := newHouse(t)
	h.want(h.operate(control.Request{Op: control.OpUpdate, G: number(3), Visible: "all"}), group.OK)
	with := func(pin string, topic bool) control.Request {
		r := join(3)
		r.Secret, r.SecretInTopic = pin, topic
		return r
	}
	h.want(h.ask(device("a"), with("", false)), group.BadSecret)
	h.want(h.ask(device("a"), with("1234", false)), group.BadSecret)
	h.want(h.ask(device("a"), with("4711", false)), group.OK)
	h.want(h.ask(verbs("b"), with("4711", true)), group.OK)
	h.want(h.ask(device("a"), with("", false)), group.Unchanged)
	h.want(h.ask(device("a"), with("1234", false)), group.Unchanged)
	h.want(h.operate(control.Request{Op: control.OpUpdate, G: number(3), PINInTopic: new(false)}), group.OK)
	h.want(h.ask(verbs("c"), with("4711", true)), group.BadSecret)
	h.want(h.ask(verbs("b"), with("4711", true)), group.Unchanged)
	h.want(h.ask(verbs("c"), with("4711", false)), group.OK)
}
