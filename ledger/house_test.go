package ledger_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/ledger"
	"github.com/muster-mqtt/muster/store"
	"github.com/muster-mqtt/muster/store/storetest"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// An actor stands in for the broker: it holds what each device would be
// delivered, and looks at the order in which changes come.
type actor struct {
	mu        sync.Mutex
	rev       group.Rev
	disorder  []string
	delivered map[group.ClientID]map[group.Number]bool
	epochs    map[group.ClientID]group.Epoch
	present   map[group.ClientID]bool
	applied   int
}

func newActor() *actor {
	return &actor{
		delivered: map[group.ClientID]map[group.Number]bool{}, epochs: map[group.ClientID]group.Epoch{}, present: map[group.ClientID]bool{},
	}
}

func (a *actor) Apply(x ledger.Applied) {
	a.mu.Lock()
	if x.Rev <= a.rev {
		a.disorder = append(a.disorder, fmt.Sprintf("rev %d after %d", x.Rev, a.rev))
	}
	a.rev = x.Rev
	a.applied++
	if c := &x.Change; c.NextGroup == nil && c.NextAccount == nil {
		if !maps.Equal(a.delivered[c.Client], in(c.Prev)) {
			a.disorder = append(a.disorder, fmt.Sprintf("%s: a change of %v, delivered is %v", c.Client, c.Prev.Groups, a.delivered[c.Client]))
		}
		a.set(c.Next)
	}
	for _, d := range x.Ended {
		a.set(d)
	}
	a.mu.Unlock()
	if x.Reply != nil {
		x.Reply.Answer(x.Answers)
	}
}

func (a *actor) set(d group.Device) {
	if a.epochs[d.ClientID] > d.Epoch {
		a.disorder = append(a.disorder, fmt.Sprintf("%s: epoch %d after %d", d.ClientID, d.Epoch, a.epochs[d.ClientID]))
	}
	a.epochs[d.ClientID] = d.Epoch
	if a.delivered[d.ClientID] = in(d); len(d.Groups) == 0 {
		delete(a.delivered, d.ClientID)
	}
}

func in(d group.Device) map[group.Number]bool {
	var m map[group.Number]bool
	for _, g := range d.Groups {
		if m == nil {
			m = map[group.Number]bool{}
		}
		m[g.Number] = true
	}
	return m
}

func (a *actor) Online(c group.ClientID) bool { return a.Present(c) }

func (a *actor) Present(c group.ClientID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.present[c]
}

// A house is a ledger with all that it needs, over a store in memory.
type house struct {
	*ledger.Ledger
	t      testing.TB
	store  *storetest.Memory
	engine store.Store // the store, or what stands before it
	actor  *actor
	config ledger.Config
	now    time.Time
}

// newHouse opens a ledger with the accounts ann and bob and the groups north
// (1, open), south (2, open) and vault (3, by the PIN 4711, for its members to
// see).
func newHouse(t testing.TB, edit ...func(*ledger.Config)) *house {
	t.Helper()
	h := &house{t: t, store: storetest.NewMemory(), now: noon}
	h.engine = h.store
	h.config = quietConfig()
	h.config.Now = func() time.Time { return h.now }
	for _, f := range edit {
		f(&h.config)
	}
	h.open()
	t.Cleanup(h.close)
	for _, name := range []string{"ann", "bob"} {
		h.want(h.operate(control.Request{Op: control.OpAccount, Sub: "add", User: name}), group.OK)
	}
	h.want(h.operate(control.Request{Op: control.OpCreate, Name: "north"}), group.OK)
	h.want(h.operate(control.Request{Op: control.OpCreate, Name: "south"}), group.OK)
	h.want(h.operate(control.Request{Op: control.OpCreate, Name: "vault", Policy: "pin", PIN: "4711"}), group.OK)
	for _, c := range []group.ClientID{"a", "b", "c"} {
		h.bind("ann", c)
	}
	return h
}

func quietConfig() ledger.Config {
	return ledger.Config{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: func() time.Time { return noon }}
}

func (h *house) open() {
	h.t.Helper()
	h.actor = newActor()
	c := h.config
	c.Store, c.Actor = h.engine, h.actor
	c.Authority = authz.New(authz.Config{Argon2: authz.Params{Memory: 8 << 10, Time: 1}, Now: func() time.Time { return h.now }})
	var err error
	if h.Ledger, err = ledger.Open(context.Background(), c); err != nil {
		h.t.Fatal(err)
	}
	for _, d := range h.devices() {
		h.actor.set(d)
	}
}

func (h *house) devices() (all []group.Device) {
	h.View(func(s *group.State) { all = s.Devices("", 1<<20) })
	return all
}

// close ends the ledger, and looks for drift between the records, the rosters
// and what is delivered.
func (h *house) close() {
	h.t.Helper()
	if err := h.Close(context.Background()); err != nil {
		h.t.Error(err)
	}
	if requests, lanes := h.UnderWay(); requests != 0 || lanes != 0 {
		h.t.Errorf("%d requests are under way, in %d lanes", requests, lanes)
	}
	h.audit()
}

func (h *house) audit() {
	h.t.Helper()
	h.actor.mu.Lock()
	defer h.actor.mu.Unlock()
	for _, s := range h.actor.disorder {
		h.t.Error(s)
	}
	members := 0
	for _, d := range h.devices() {
		if !maps.Equal(in(d), h.actor.delivered[d.ClientID]) {
			h.t.Errorf("%s is in %v, is delivered %v", d.ClientID, d.Groups, h.actor.delivered[d.ClientID])
		}
		members += len(d.Groups)
	}
	h.View(func(s *group.State) {
		for _, g := range s.Groups(0, 1<<20) {
			for _, c := range s.Members(g.Number, "", 1<<20) {
				if members--; !h.actor.delivered[c][g.Number] {
					h.t.Errorf("%s is on the roster of %s", c, g.Name)
				}
			}
		}
	})
	if members != 0 {
		h.t.Errorf("the rosters lack %d members", members)
	}
}

// reopen is a restart. What is read afterwards is what was read before, but for
// Sessions, which end.
func (h *house) reopen() {
	h.t.Helper()
	before := h.devices()
	h.close()
	if err := h.store.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.store.Reopen()
	h.open()
	if after := h.devices(); !slices.EqualFunc(before, after, func(a, b group.Device) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
		h.t.Errorf("after the restart: %v, before: %v", after, before)
	}
}

// device is an asker of the account ann.
func device(c group.ClientID) ledger.Asker {
	return ledger.Asker{Client: c, Account: "ann", Addr: "192.0.2.1"}
}

// verbs is the same, asking by SUBSCRIBE or UNSUBSCRIBE.
func verbs(c group.ClientID) ledger.Asker {
	who := device(c)
	who.Verb = true
	return who
}

var operator = ledger.Asker{Account: "local", Role: group.RoleOperator}

// digest stands in for what package control makes of a body.
func digest(r control.Request) control.Request {
	id := r.ID
	r.ID = nil
	sum := sha256.Sum256(fmt.Append(nil, r))
	r.ID, r.Body = id, [16]byte(sum[:16])
	return r
}

// begin asks, and returns where the answers will be.
func (h *house) begin(who ledger.Asker, rs ...control.Request) <-chan []control.Answer {
	for i := range rs {
		rs[i] = digest(rs[i])
	}
	c := make(chan []control.Answer, 2) // a second answer would be found by the end of the test
	h.Do(who, rs, h.now, ledger.ReplyFunc(func(as []control.Answer) { c <- as }))
	return c
}

func (h *house) ask(who ledger.Asker, r control.Request) control.Answer {
	h.t.Helper()
	as := <-h.begin(who, r)
	if len(as) != 1 {
		h.t.Fatalf("%d answers", len(as))
	}
	return as[0]
}

func (h *house) operate(r control.Request) control.Answer {
	h.t.Helper()
	return h.ask(operator, r)
}

func (h *house) bind(account string, c group.ClientID) error {
	done := make(chan error, 2)
	h.Bind(account, c, h.now, func(err error) { done <- err })
	return <-done
}

// want looks at the code of an answer.
func (h *house) want(a control.Answer, code group.Code) control.Answer {
	h.t.Helper()
	if a.Code != code {
		h.t.Errorf("%s is answered %v, want %v: %+v", a.Op, a.Code, code, a)
	}
	return a
}

// groups returns where the device is.
func (h *house) groups(c group.ClientID) string {
	d, _ := h.Device(c)
	return fmt.Sprint(slices.Sorted(maps.Keys(in(d))))
}

func number(n group.Number) group.Ref { return group.Ref{Number: n} }

func join(n group.Number) control.Request  { return control.Request{Op: control.OpJoin, G: number(n)} }
func leave(n group.Number) control.Request { return control.Request{Op: control.OpLeave, G: number(n)} }
func change(from, to group.Number) control.Request {
	return control.Request{Op: control.OpSwitch, From: number(from), To: number(to)}
}
func move(c group.ClientID, from, to group.Number) control.Request {
	return control.Request{Op: control.OpMove, Device: c, From: number(from), To: number(to)}
}
func remove(c group.ClientID, n group.Number) control.Request {
	return control.Request{Op: control.OpRemove, Device: c, G: number(n)}
}
func withID(r control.Request, id string) control.Request {
	r.ID = []byte(id)
	return r
}
