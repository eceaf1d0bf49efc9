//go:build crash

package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A crashDevice is one of the devices of the whole test. A ghost is one that is
// not connected while the server dies.
type crashDevice struct {
	id             group.ClientID
	user, password string // empty: anonymous
	ghost          bool
	keeper         bool // once it keeps a grant it waits for the crash with it
}

// A crashWorld is what is known for certain of the server's records.
type crashWorld struct {
	devices   []*crashDevice
	record    crashRecord               // as last read, when nothing was under way
	live      []group.Number            // groups that may be used
	ids       map[group.Number]group.ID // of all groups that ever were
	gone      []group.Number            // deleted groups
	passwords map[string]string         // of accounts that may be used
}

// newGroup takes over a group that was created, and returns what is wrong with
// it.
func (w *crashWorld) newGroup(n group.Number, id group.ID) (fault string) {
	for old, was := range w.ids {
		if old == n || was == id {
			fault = fmt.Sprintf("a new group has number %d and ID %s: %d has or had ID %s", n, id, old, was)
		}
	}
	w.ids[n] = id
	return fault
}

// A crashRecord is what an operator is told of everything.
type crashRecord struct {
	rev      group.Rev
	devices  map[group.ClientID]crashState
	users    map[group.ClientID]string
	groups   map[group.Number]control.Entry
	accounts map[string]bool
}

// A crashTeller asks as an operator, and fails the test where no answer comes.
type crashTeller struct {
	t *testing.T
	c *crashClient
}

// teller connects to the operator socket.
func (s *crashServer) teller(t *testing.T) *crashTeller {
	t.Helper()
	c, code, err := dialCrash("unix", s.socket, "muster~check", "", "")
	if err != nil || code != 0 {
		t.Fatalf("the operator cannot connect: %d, %v", code, err)
	}
	return &crashTeller{t, c}
}

func (o *crashTeller) ask(op control.Op, body crashBody) control.Answer {
	o.t.Helper()
	a, err := o.c.ask(op, body)
	if err != nil {
		o.t.Fatalf("%s %v: %v", op, body, err)
	}
	return a
}

// must makes a request that must be answered with the code.
func (o *crashTeller) must(code group.Code, op control.Op, body crashBody) control.Answer {
	o.t.Helper()
	a := o.ask(op, body)
	if a.Code != code {
		o.t.Fatalf("%s %v: answered %d %s, want %d %s", op, body, uint8(a.Code), a.Code, uint8(code), code)
	}
	return a
}

// pages asks for one page after the other. The rev is that of the first.
func (o *crashTeller) pages(op control.Op, body crashBody) (all []control.Entry, rev group.Rev) {
	o.t.Helper()
	for {
		a := o.must(group.OK, op, body)
		if all = append(all, a.List...); rev == 0 {
			rev = a.Rev
		}
		if a.Next == "" {
			return all, rev
		}
		body["next"] = a.Next
	}
}

// record reads all that is recorded, as of one moment: while the server still
// tidies up, it reads again. What it finds inconsistent fails the test.
func (o *crashTeller) record() crashRecord {
	o.t.Helper()
	for {
		r, faults := o.read()
		if _, rev := o.pages(control.OpList, crashBody{"kind": "group"}); rev != r.rev {
			continue
		}
		for _, f := range faults {
			o.t.Error(f)
		}
		return r
	}
}

// read reads all that is recorded. Each roster, and each device shown by itself,
// must say the same as the list of devices.
func (o *crashTeller) read() (r crashRecord, faults []string) {
	o.t.Helper()
	r = crashRecord{
		devices: map[group.ClientID]crashState{}, users: map[group.ClientID]string{}, groups: map[group.Number]control.Entry{},
		accounts: map[string]bool{},
	}
	groups, rev := o.pages(control.OpList, crashBody{"kind": "group", "limit": 3})
	r.rev = rev
	for _, e := range groups {
		r.groups[e.N] = e
	}
	accounts, _ := o.pages(control.OpAccount, crashBody{"op": "list", "limit": 3})
	for _, e := range accounts {
		r.accounts[e.User] = true
	}
	devices, _ := o.pages(control.OpList, crashBody{"kind": "device", "limit": 5})
	rosters := map[group.Number][]group.ClientID{}
	for _, e := range devices {
		r.devices[e.Device], r.users[e.Device] = crashState{e.Epoch, e.Groups}, e.User
		for _, n := range e.Groups {
			rosters[n] = append(rosters[n], e.Device)
		}
		a := o.ask(control.OpShow, crashBody{"device": e.Device})
		if shown := (crashState{a.Epoch, numbersOf(a.List)}); !shown.equal(r.devices[e.Device]) || a.User != e.User {
			faults = append(faults, fmt.Sprintf("%s is shown as %v of %s, and listed as %v of %s", e.Device, shown, a.User, r.devices[e.Device], e.User))
		}
	}
	for n := range rosters {
		if _, ok := r.groups[n]; !ok {
			faults = append(faults, fmt.Sprintf("group %d is not there, and has members: %q", n, rosters[n]))
		}
	}
	for n, e := range r.groups {
		list, _ := o.pages(control.OpMembers, crashBody{"g": n, "limit": 3})
		var roster []group.ClientID
		for _, m := range list {
			roster = append(roster, m.Device)
		}
		if !slices.Equal(roster, rosters[n]) || e.Members == nil || *e.Members != len(roster) {
			faults = append(faults, fmt.Sprintf("the roster of group %d is %q, the devices that are in it by their records %q", n, roster, rosters[n]))
		}
	}
	return r, faults
}

// numbersOf returns the numbers of the listed groups.
func numbersOf(list []control.Entry) []group.Number {
	var out []group.Number
	for _, e := range list {
		out = append(out, e.N)
	}
	return out
}
