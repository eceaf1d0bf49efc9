package ledger_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/ledger"
)

func TestAdminister(t *testing.T) {
	create := func(r control.Request) control.Request { r.Op = control.OpCreate; return r }
	update := func(n group.Number, r control.Request) control.Request {
		r.Op, r.G = control.OpUpdate, number(n)
		return r
	}
	tests := []struct {
		name string
		r    control.Request
		code group.Code
		want string // policy, visibility, whether a PIN was generated
	}{
		{"create", create(control.Request{Name: "lamps"}), 0, "open all false"},
		// [GRP-6.8-1]
		{"create by a PIN", create(control.Request{Name: "lamps", Policy: "pin"}), 0, "pin members true"},
		{"create by a PIN that is given", create(control.Request{Name: "lamps", PIN: "4711"}), 0, "pin members false"},
		{"create by a PIN, for all to see", create(control.Request{Name: "lamps", Policy: "pin", Visible: "all"}), 0, "pin all true"},
		{"create without a name", create(control.Request{}), 10, ""},
		{"create with a PIN that is none", create(control.Request{Name: "lamps", PIN: "1"}), 10, ""},
		{"create an open group with a PIN", create(control.Request{Name: "lamps", Policy: "open", PIN: "4711"}), 10, ""},
		{"create by an unknown policy", create(control.Request{Name: "lamps", Policy: "magic"}), 10, ""},
		{"create with an unknown visibility", create(control.Request{Name: "lamps", Visible: "magic"}), 10, ""},
		// [GRP-3.1-2]
		{"create with a name that is taken", create(control.Request{Name: "NORTH"}), 53, ""},
		{"rename", update(1, control.Request{Name: "lamps"}), 0, "open all false"},
		{"rename to a name that is taken", update(1, control.Request{Name: "South"}), 53, ""},
		{"a policy", update(1, control.Request{Policy: "pin"}), 0, "pin all true"},
		{"another PIN", update(3, control.Request{PIN: "5000"}), 0, "pin members false"},
		{"opened", update(3, control.Request{Policy: "open"}), 0, "open members false"},
		{"a PIN of an open group", update(1, control.Request{PIN: "4711"}), 10, ""},
		{"no group", control.Request{Op: control.OpUpdate}, 10, ""},
		{"a group that never was", update(9, control.Request{}), 20, ""},
		{"delete a group that never was", control.Request{Op: control.OpDelete, G: number(9)}, 20, ""},
		{"delete", control.Request{Op: control.OpDelete, G: number(1)}, 0, ""},
	}
	for _, tt := range tests {
		h := newHouse(t)
		h.want(h.ask(device("a"), join(1)), group.OK)
		h.want(h.ask(device("a"), tt.r), group.NotAuthorized) // [GRP-6-1]
		before, _ := h.Device("a")
		a := h.operate(tt.r)
		got := ""
		if len(a.List) > 0 {
			got = fmt.Sprint(a.List[0].Policy, " ", a.List[0].Visible, " ", a.PIN != "")
		}
		if a.Code != tt.code || got != tt.want {
			t.Errorf("%s: %v, %q, want %v, %q", tt.name, a.Code, got, tt.code, tt.want)
		}
		h.reopen()
		// [GRP-6.8-3]
		if after, _ := h.Device("a"); tt.r.Op != control.OpDelete && fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%s: the member became %+v", tt.name, after)
		}
		if a.PIN != "" {
			r := join(a.N)
			r.Secret = a.PIN
			h.want(h.ask(device("b"), r), group.OK)
			if show := h.operate(control.Request{Op: control.OpShow, G: number(a.N)}); show.PIN != "" {
				t.Errorf("%s: the PIN is told again", tt.name)
			}
		}
		if tt.r.Op == control.OpDelete && tt.code == 0 {
			h.want(h.operate(tt.r), group.GroupDeleted)
			a := h.want(h.operate(create(control.Request{Name: "north"})), group.OK)
			if a.N != 4 { // [GRP-3.1-1]
				t.Errorf("the new group has the number %d", a.N)
			}
		}
	}
}

// [GRP-3.1-3]
func TestOldNameAfterARestart(t *testing.T) {
	h := newHouse(t)
	h.want(h.operate(control.Request{Op: control.OpUpdate, G: number(1), Name: "lamps"}), group.OK)
	h.reopen()
	h.now = h.now.Add(group.AliasLife - time.Second)
	byName := control.Request{Op: control.OpShow, G: group.Ref{Name: "north"}}
	if a := h.want(h.ask(device("a"), byName), group.OK); a.N != 1 || a.Name != "lamps" {
		t.Errorf("%+v", a)
	}
	create := control.Request{Op: control.OpCreate, Name: "North"}
	h.want(h.operate(create), group.NameTaken)
	h.now = h.now.Add(time.Second)
	h.want(h.ask(device("a"), byName), group.NotAuthorized)
	h.want(h.operate(create), group.OK)
}

func TestAccounts(t *testing.T) {
	h := newHouse(t)
	account := func(sub string, r control.Request) control.Request {
		r.Op, r.Sub = control.OpAccount, sub
		return r
	}
	tests := []struct {
		name string
		r    control.Request
		code group.Code
	}{
		{"add", account("add", control.Request{User: "cid", Role: "observer", Groups: []group.Ref{number(1)}, SetGroups: true}), 0},
		{"add again, in another case", account("add", control.Request{User: "CID"}), 53},
		{"add without a name", account("add", control.Request{}), 10},
		{"add with a reserved name", account("add", control.Request{User: "Local"}), 10},
		{"add with another reserved name", account("add", control.Request{User: "anonymous"}), 10},
		{"add with an unknown role", account("add", control.Request{User: "dan", Role: "king"}), 10},
		{"add with a password that is none", account("add", control.Request{User: "dan", Secret: "\x00"}), 10},
		{"add with a group that never was", account("add", control.Request{User: "dan", Groups: []group.Ref{number(9)}, SetGroups: true}), 20},
		{"update", account("update", control.Request{User: "Cid", Findable: new(true)}), 0},
		{"update of an unknown one", account("update", control.Request{User: "zoe"}), 24},
		{"passwd of an unknown one", account("passwd", control.Request{User: "zoe"}), 24},
		{"remove of an unknown one", account("remove", control.Request{User: "zoe"}), 24},
		{"remove of a reserved one", account("remove", control.Request{User: "local"}), 24},
		{"another op", account("dance", control.Request{User: "cid"}), 10},
	}
	for _, tt := range tests {
		h.want(h.ask(device("a"), tt.r), group.NotAuthorized)
		if a := h.operate(tt.r); a.Code != tt.code {
			t.Errorf("%s: %v, want %v", tt.name, a.Code, tt.code)
		}
	}
	h.reopen()
	list := h.want(h.operate(account("list", control.Request{})), group.OK).List
	if len(list) != 3 || list[2].User != "cid" || list[2].Role != "observer" || !*list[2].Findable || len(list[2].Groups) != 1 {
		t.Errorf("%+v", list)
	}
}

// [GRP-6.9-1]
func TestLogin(t *testing.T) {
	h := newHouse(t)
	login := func(user, password string) group.Code {
		_, err := h.Login(t.Context(), user, []byte(password), "192.0.2.1")
		code := group.OK
		if err != nil {
			code = group.Internal
			errors.As(err, &code)
		}
		return code
	}
	secret := h.want(h.operate(control.Request{Op: control.OpAccount, Sub: "add", User: "cid"}), group.OK).Secret
	chosen := "correct horse battery staple"
	h.want(h.operate(control.Request{Op: control.OpAccount, Sub: "passwd", User: "bob", Secret: chosen}), group.OK)
	h.reopen()
	tests := []struct {
		user, password string
		code           group.Code
	}{
		{"cid", secret, 0}, {"CID", secret, 0}, {"bob", chosen, 0},
		{"cid", "wrong", group.NotAuthorized}, {"zoe", secret, group.NotAuthorized}, {"bob", secret, group.NotAuthorized}, {"bob", "", group.NotAuthorized},
	}
	for _, tt := range tests {
		if code := login(tt.user, tt.password); code != tt.code {
			t.Errorf("%s: %v, want %v", tt.user, code, tt.code)
		}
	}
	h.want(h.operate(control.Request{Op: control.OpAccount, Sub: "passwd", User: "cid"}), group.OK)
	if code := login("cid", secret); code != group.NotAuthorized {
		t.Errorf("the old password: %v", code)
	}
}

// [GRP-6.9-4] Nobody logs in to an account that is disabled or acts for it, and
// its own password is no guess of a stranger's.
func TestDisabledAccount(t *testing.T) {
	h := newHouse(t)
	h.withDevices(1)
	yes, no := true, false
	update := func(disabled *bool) {
		t.Helper()
		h.want(h.operate(control.Request{Op: control.OpAccount, Sub: "update", User: "cid", Disabled: disabled}), group.OK)
	}
	const chosen = "correct horse battery staple"
	h.want(h.operate(control.Request{Op: control.OpAccount, Sub: "passwd", User: "cid", Secret: chosen}), group.OK)
	update(&yes)
	h.reopen()
	for range 200 { // more than an address may guess
		if _, err := h.Login(t.Context(), "cid", []byte(chosen), "192.0.2.1"); !errors.Is(err, group.NotAuthorized) {
			t.Fatalf("login: %v", err)
		}
	}
	if _, err := h.Login(t.Context(), "cid", []byte("wrong"), "192.0.2.1"); !errors.Is(err, group.NotAuthorized) {
		t.Errorf("a wrong password: %v", err)
	}
	who := ledger.Asker{Client: "cid-0", Account: "cid"}
	h.want(h.ask(who, leave(1)), group.NotAuthorized)
	if err := h.bind("cid", "cid-9"); !errors.Is(err, group.NotAuthorized) {
		t.Errorf("bind: %v", err)
	}
	if len(h.Roster(1)) != 1 {
		t.Errorf("%d members are left", len(h.Roster(1)))
	}
	update(&no)
	if acc, err := h.Login(t.Context(), "cid", []byte(chosen), "192.0.2.1"); err != nil || acc.Disabled {
		t.Errorf("login: %+v, %v", acc, err)
	}
	h.want(h.ask(who, leave(1)), group.OK)
}

// A page of accounts is bounded by their rules, too, and the pages have all.
func TestPagesOfAccountsWithRules(t *testing.T) {
	h := newHouse(t)
	rules := make([]group.TopicRule, 60)
	for i := range rules {
		rules[i] = group.TopicRule{Publish: true, Filter: strings.Repeat("x", 230) + fmt.Sprint(i)}
	}
	for i := range 20 {
		h.want(h.operate(control.Request{Op: control.OpAccount, Sub: "add", User: fmt.Sprint("many-", i), Topics: rules, SetTopics: true}), group.OK)
	}
	seen, pages := 0, 0
	for next := ""; pages == 0 || next != ""; pages++ {
		a := h.operate(control.Request{Op: control.OpAccount, Sub: "list", Next: next, Limit: 1000})
		if n := len(control.EncodeAnswer(a, control.JSON)); n > 128<<10 {
			t.Errorf("a page has %d bytes", n)
		}
		for _, e := range a.List {
			if strings.HasPrefix(e.User, "many-") {
				seen++
			}
		}
		next = a.Next
	}
	if seen != 20 || pages < 3 {
		t.Errorf("%d accounts in %d pages", seen, pages)
	}
}

// members makes the account cid with devices that are members.
func (h *house) withDevices(n int) {
	h.want(h.operate(control.Request{Op: control.OpAccount, Sub: "add", User: "cid"}), group.OK)
	for i := range n {
		c := group.ClientID(fmt.Sprint("cid-", i))
		h.bind("cid", c)
		h.want(h.ask(ledger.Asker{Client: c, Account: "cid"}, join(1)), group.OK)
	}
}

// [GRP-6.9-2]
func TestRemovedAccount(t *testing.T) {
	h := newHouse(t)
	h.withDevices(300)
	remove := control.Request{Op: control.OpAccount, Sub: "remove", User: "Cid"}
	h.want(h.operate(remove), group.OK)
	if len(h.Roster(1)) != 0 || len(h.devices()) != 3 {
		t.Errorf("%d members and %d devices are left", len(h.Roster(1)), len(h.devices()))
	}
	h.want(h.operate(remove), group.NoSuchAccount)
	// Who is still connected can no longer do anything.
	who := ledger.Asker{Client: "cid-1", Account: "cid"}
	h.want(h.ask(who, join(1)), group.NotAuthorized)
	if err := h.bind("cid", "cid-1"); !errors.Is(err, group.NotAuthorized) {
		t.Errorf("bind: %v", err)
	}
	h.want(h.operate(control.Request{Op: control.OpAccount, Sub: "add", User: "cid"}), group.OK)
	if h.reopen(); len(h.devices()) != 3 {
		t.Errorf("the devices are %v", h.devices())
	}
}

// A server that ends while an account's devices are being forgotten goes on when
// it starts again; the name is not free before. A removal that cannot go on is
// not told to be done.
func TestRemovalOfAnAccountResumes(t *testing.T) {
	h := newHouse(t)
	h.withDevices(20)
	h.store.Hold()
	removed := h.begin(operator, control.Request{Op: control.OpAccount, Sub: "remove", User: "cid"})
	// A device of it that is joining meanwhile.
	joined := h.begin(ledger.Asker{Client: "cid-1", Account: "cid"}, join(2))
	ended := make(chan error)
	go func() { ended <- h.Close(t.Context()) }()
	for h.ask(device("b"), control.Request{Op: control.OpMine}).Code != group.Unavailable {
	}
	h.store.Release()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	h.want((<-removed)[0], group.Unavailable)
	<-joined
	h.store.Close()
	h.store.Reopen()
	h.open()
	add := control.Request{Op: control.OpAccount, Sub: "add", User: "cid"}
	h.want(h.operate(add), group.NameTaken)
	if err := h.bind("cid", "new"); !errors.Is(err, group.NotAuthorized) {
		t.Errorf("bind: %v", err)
	}
	if len(h.devices()) != 23 {
		t.Fatalf("%d devices", len(h.devices()))
	}
	h.Resume()
	if len(h.devices()) != 3 || len(h.Roster(1)) != 0 || len(h.Roster(2)) != 0 {
		t.Errorf("the devices are %v", h.devices())
	}
	h.Resume()
	h.want(h.operate(add), group.OK)
}

// Devices of an account that ask while it is being removed end up forgotten.
func TestAccountIsRemovedWhileItsDevicesChange(t *testing.T) {
	h := newHouse(t)
	h.withDevices(8)
	stop := make(chan struct{})
	stopped := make(chan struct{}, 8)
	for i := range 8 {
		who := ledger.Asker{Client: group.ClientID(fmt.Sprint("cid-", i)), Account: "cid"}
		go func() {
			defer func() { stopped <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
					h.ask(who, join(2))
					h.ask(who, change(2, 1))
					h.bind("cid", who.Client)
				}
			}
		}()
	}
	h.want(h.operate(control.Request{Op: control.OpAccount, Sub: "remove", User: "cid"}), group.OK)
	close(stop)
	for range 8 {
		<-stopped
	}
	if len(h.devices()) != 3 || len(h.Roster(1)) != 0 {
		t.Errorf("the devices are %v", h.devices())
	}
}

// [GRP-6.9-3]
func TestForget(t *testing.T) {
	h := newHouse(t)
	h.want(h.ask(device("a"), join(1)), group.OK)
	before, _ := h.Device("a")
	forget := control.Request{Op: control.OpForget, Device: "a"}
	h.want(h.ask(device("a"), forget), group.NotAuthorized)
	h.want(h.operate(forget), group.OK)
	if _, ok := h.Device("a"); ok || len(h.Roster(1)) != 0 {
		t.Error("the device is still there")
	}
	h.want(h.operate(forget), group.NoSuchDevice)
	h.reopen()
	if err := h.bind("bob", "a"); err != nil {
		t.Errorf("it is not free: %v", err)
	}
	if d, _ := h.Device("a"); d.Epoch <= before.Epoch {
		t.Errorf("the new record begins at epoch %d, the old one ended after %d", d.Epoch, before.Epoch)
	}
	h.want(h.operate(control.Request{Op: control.OpForget}), group.BadRequest)
}
