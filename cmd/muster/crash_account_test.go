//go:build crash

package main

import (
	"slices"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// login returns the code of a CONNECT.
func (k *crashCheck) login(id, user, password string) byte {
	k.t.Helper()
	c, code, err := dialCrash("tcp", k.s.addr, id, user, password)
	if err != nil {
		k.t.Fatal(err)
	}
	c.close()
	return code
}

// removing reports whether anybody asked for the account's end.
func (k *crashCheck) removing(account string) bool {
	return slices.ContainsFunc(k.l.asks, func(a *crashAsk) bool { return a.sub == "remove" && a.name == account })
}

// deleting reports whether anybody asked for the group's end.
func (k *crashCheck) deleting(n group.Number) bool {
	return slices.ContainsFunc(k.l.asks, func(a *crashAsk) bool { return a.op == control.OpDelete && a.from == n })
}

// bindings looks at the Client Identifiers that accounts have brought: they
// belong to them, with what they have joined. [GRP-2.2-1]
func (k *crashCheck) bindings() {
	other := k.w.devices[1]
	for _, b := range k.l.bindings {
		if k.removing(b.account) {
			continue
		}
		is, ok := k.rec.devices[b.client]
		if user := k.rec.users[b.client]; !ok || user != b.account {
			k.t.Errorf("%s belongs to %q, and was of %s", b.client, user, b.account)
		}
		if b.joined != 0 && !k.deleting(b.joined) && !slices.Contains(is.groups, b.joined) {
			k.t.Errorf("%s is in %v, and had joined %d", b.client, is.groups, b.joined)
		}
		if code := k.login(string(b.client), other.user, other.password); code != 2 {
			k.t.Errorf("%s of %s uses %s: CONNACK with %d", other.user, b.account, b.client, code)
		}
		if code := k.login(string(b.client), "", ""); code != 2 {
			k.t.Errorf("anonymous uses %s of %s: CONNACK with %d", b.client, b.account, code)
		}
	}
}

// accounts looks at the accounts that were added and removed: one that was
// answered logs in, one that was removed is gone with its devices.
func (k *crashCheck) accounts() {
	for _, a := range k.l.asks {
		if a.op != control.OpAccount {
			continue
		}
		answer := a.answer
		if answer == nil {
			again := k.done[a]
			if had := k.rec.accounts[a.name]; a.sub == "add" && had != (again.Why == "repeat") {
				k.t.Errorf("%s: asked again, answered why %q; the account was there: %v", a, again.Why, had)
			}
			answer = &again
		}
		switch {
		case answer.Code != group.OK && (a.sub != "remove" || answer.Code != group.NoSuchAccount):
			k.t.Errorf("%s: %d", a, answer.Code)
		case a.sub == "add" && !k.removing(a.name):
			k.added(a, answer)
		case a.sub == "remove":
			k.removed(a.name)
		}
	}
}

func (k *crashCheck) added(a *crashAsk, answer *control.Answer) {
	password := answer.Secret
	if password == "" { // a repeat does not tell it
		password = k.o.must(group.OK, control.OpAccount, crashBody{"op": "passwd", "user": a.name}).Secret
	}
	if code := k.login("of-"+a.name, a.name, password); code != 0 {
		k.t.Errorf("%s cannot log in: CONNACK with %d", a.name, code)
	}
	if code := k.login("of-"+a.name, a.name, password+"x"); code != 4 {
		k.t.Errorf("%s with a wrong password: CONNACK with %d", a.name, code)
	}
	k.w.passwords[a.name] = password
}

// removed looks at an account whose removal was answered, maybe by a repeat
// while the server is still at it.
func (k *crashCheck) removed(name string) {
	if code := k.login("of-"+name, name, "password"); code != 4 {
		k.t.Errorf("%s, which was removed, logs in: CONNACK with %d", name, code)
	}
	if code := k.until(group.NameTaken, control.OpAccount, crashBody{"op": "add", "user": name}); code != group.OK {
		k.t.Errorf("the name %s of a removed account is not free: %d", name, code)
	}
	k.o.must(group.NoSuchDevice, control.OpShow, crashBody{"device": "of-" + name})
	k.o.must(group.OK, control.OpAccount, crashBody{"op": "remove", "user": name})
}
