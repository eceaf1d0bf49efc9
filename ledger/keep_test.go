package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/ledger"
)

// [GRP-6.8-2]
func TestDeletedGroup(t *testing.T) {
	const members = 1500
	h := newHouse(t)
	var all []<-chan []control.Answer
	for i := range members {
		c := group.ClientID(fmt.Sprint("pump-", i))
		for n := range group.Number(2) {
			all = append(all, h.begin(operator, control.Request{Op: control.OpJoin, Device: c, G: number(n + 1)}))
		}
	}
	for _, c := range all {
		h.want((<-c)[0], group.OK)
	}
	before := h.devices()
	rev := h.store.Rev()
	h.want(h.operate(control.Request{Op: control.OpDelete, G: number(1)}), group.OK)
	if h.store.Rev() != rev+1 || len(h.Roster(1)) != 0 || len(h.Roster(2)) != members {
		t.Fatalf("%d writes, rosters of %d and %d", h.store.Rev()-rev, len(h.Roster(1)), len(h.Roster(2)))
	}
	look := func(when string) {
		t.Helper()
		for _, b := range before {
			if d, _ := h.Device(b.ClientID); len(b.Groups) == 2 && (d.Epoch != b.Epoch+1 || fmt.Sprint(d.Groups) != fmt.Sprint(b.Groups[1:])) {
				t.Fatalf("%s %s is %+v, was %+v", when, b.ClientID, d, b)
			}
		}
	}
	look("at once")
	h.reopen()
	look("after a restart, before the records are tidied")
	h.want(h.ask(device("a"), join(2)), group.OK)
	h.Tidy()
	look("tidied")
	if tidied := h.store.Rev(); tidied < rev+members {
		t.Errorf("%d records were written", tidied-rev)
	}
	h.reopen()
	look("after a restart, tidied")
	rev = h.store.Rev()
	h.Tidy()
	if h.store.Rev() != rev {
		t.Error("tidied records are tidied again")
	}
}

// Run tidies when a group is deleted, and ends what it began.
func TestRun(t *testing.T) {
	h := newHouse(t)
	h.want(h.ask(device("a"), join(1)), group.OK)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	h.want(h.operate(control.Request{Op: control.OpDelete, G: number(1)}), group.OK)
	cancel()
	<-ended
	h.Tidy()
	rev := h.store.Rev()
	h.reopen()
	h.Tidy()
	if h.store.Rev() != rev {
		t.Error("a record was left untidy")
	}
}

func TestLapse(t *testing.T) {
	h := newHouse(t)
	h.want(h.ask(device("b"), join(1)), group.OK)
	h.want(h.ask(device("c"), join(1)), group.OK)
	h.want(h.operate(remove("c", 1)), group.OK)
	h.bind("ann", "d")
	h.actor.present["d"] = true
	known := func(want ...group.ClientID) {
		t.Helper()
		h.Keep(t.Context())
		h.actor.mu.Lock()
		defer h.actor.mu.Unlock()
		var got []group.ClientID
		for _, d := range h.devices() {
			got = append(got, d.ClientID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("at %v the devices are %v, want %v", h.now.Sub(noon), got, want)
		}
	}
	h.now = noon.Add(ledger.Lapse - time.Second)
	known("a", "b", "c", "d")
	if err := h.bind("bob", "a"); !errors.Is(err, group.NotAuthorized) {
		t.Errorf("taken before its time: %v", err)
	}
	h.now = noon.Add(ledger.Lapse)
	known("b", "c", "d") // c was removed by somebody else: that is not forgotten
	if err := h.bind("bob", "a"); err != nil {
		t.Errorf("a lapsed one is not free: %v", err)
	}
	h.actor.present["d"] = false
	h.now = noon.Add(2 * ledger.Lapse)
	h.Gone("d", h.now)
	if err := h.bind("bob", "a"); err != nil { // it connects: it is here
		t.Error(err)
	}
	known("a", "b", "c", "d")
	h.want(h.ask(device("b"), leave(1)), group.OK)
	h.now = noon.Add(3 * ledger.Lapse)
	known("c")
}

// What ends with a Session ends when it does, also if the device has filled its
// own line with requests, and if it had no record yet. [GRP-2.2-3]
func TestAssignedDeviceIsGone(t *testing.T) {
	for _, waiting := range []int{1, 1 + ledger.MaxWaiting} {
		h := newHouse(t)
		who := device("auto-1")
		who.Assigned = true
		h.store.Hold()
		var all []<-chan []control.Answer
		for i := range waiting {
			r := join(group.Number(1 + i%2))
			all = append(all, h.begin(who, r))
		}
		h.Gone("auto-1", h.now)
		h.store.Release()
		for _, c := range all {
			<-c
		}
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, ok := h.Device("auto-1"); ok || len(h.Roster(1)) != 0 {
			t.Errorf("after %d requests there is a ghost: %s", waiting, h.groups("auto-1"))
		}
		h.Gone("a", h.now)
		h.Gone("x", h.now)
	}
}

// At a restart there are no Sessions: what ended with one has ended.
func TestAssignedDeviceAfterARestart(t *testing.T) {
	h := newHouse(t)
	who := device("auto-1")
	who.Assigned = true
	h.want(h.ask(who, join(1)), group.OK)
	h.close()
	h.store.Close()
	h.store.Reopen()
	h.open()
	if h.groups("auto-1") != "[]" || len(h.Roster(1)) != 0 {
		t.Errorf("it is in %s", h.groups("auto-1"))
	}
	h.Tidy()
	if _, ok := h.Device("auto-1"); ok {
		t.Error("its record is still there")
	}
}

func TestBind(t *testing.T) {
	h := newHouse(t)
	h.want(h.operate(control.Request{Op: control.OpJoin, Device: "bob", G: number(1)}), group.OK)
	h.want(h.operate(control.Request{Op: control.OpJoin, Device: "x", G: number(1)}), group.OK)
	h.bind("anonymous", "n")
	// [GRP-2.2-1]
	tests := []struct {
		account string
		device  group.ClientID
		code    group.Code
	}{
		{"ann", "a", group.OK},
		{"ANN", "a", group.OK},
		{"bob", "a", group.NotAuthorized},
		{"anonymous", "a", group.NotAuthorized},
		{"ann", "bob", group.NotAuthorized}, // made known under the account of its name
		{"bob", "bob", group.OK},
		{"bob", "x", group.OK}, // made known without an account
		{"ann", "n", group.OK}, // anonymous, and holds nothing
		{"zoe", "y", group.NotAuthorized},
	}
	for range 2 {
		for _, tt := range tests {
			if err := h.bind(tt.account, tt.device); tt.code == group.OK && err != nil || tt.code != group.OK && !errors.Is(err, tt.code) {
				t.Errorf("%s by %s: %v, want %v", tt.device, tt.account, err, tt.code)
			}
		}
		h.reopen()
	}
	if h.groups("x") != "[1]" || h.groups("bob") != "[1]" {
		t.Error("binding has changed the groups")
	}
}

// Two connections that are the first to use an identifier: one gets it.
func TestBindAtOnce(t *testing.T) {
	h := newHouse(t)
	h.store.Hold()
	errs := map[string]chan error{"ann": make(chan error, 1), "bob": make(chan error, 1)}
	for _, account := range []string{"ann", "bob"} {
		h.Bind(account, "x", h.now, func(err error) { errs[account] <- err })
	}
	h.store.Release()
	first, second := <-errs["ann"], <-errs["bob"]
	d, _ := h.Device("x")
	if first != nil || !errors.Is(second, group.NotAuthorized) || d.Account != "ann" {
		t.Errorf("%v, %v, it belongs to %s", first, second, d.Account)
	}
}
