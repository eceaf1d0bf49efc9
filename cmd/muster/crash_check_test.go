//go:build crash

package main

import (
	"cmp"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A crashTally counts what the rounds have met: a test that meets nothing proves
// nothing.
type crashTally struct {
	Answered, Lost, LostRecorded, Repeats, Redeemed, Overtaken, Deleted int
}

func (a *crashTally) add(b crashTally) {
	a.Answered += b.Answered
	a.Lost += b.Lost
	a.LostRecorded += b.LostRecorded
	a.Repeats += b.Repeats
	a.Redeemed += b.Redeemed
	a.Overtaken += b.Overtaken
	a.Deleted += b.Deleted
}

// A crashCheck compares a server that was started after a crash with what was
// answered before.
type crashCheck struct {
	t     *testing.T
	s     *crashServer
	w     *crashWorld
	l     *crashLoad
	o     *crashTeller
	rec   crashRecord // when it had just started
	tally crashTally

	conns map[group.ClientID]*crashClient
	lost  []*crashAsk                  // asks that were not answered
	done  map[*crashAsk]control.Answer // what those were answered when asked again
}

func newCrashCheck(t *testing.T, s *crashServer, w *crashWorld, l *crashLoad) *crashCheck {
	t.Helper()
	k := &crashCheck{t: t, s: s, w: w, l: l, o: s.teller(t), conns: map[group.ClientID]*crashClient{}, done: map[*crashAsk]control.Answer{}}
	k.rec = k.o.record()
	for _, a := range l.asks {
		switch {
		case a.answer == nil:
			k.lost = append(k.lost, a)
		case a.answer.Code == group.OK:
			k.tally.Answered++
			if a.answer.Rev == 0 || a.answer.Rev > k.rec.rev {
				t.Errorf("%s: the server is at rev %d", a, k.rec.rev)
			}
		}
	}
	k.tally.Lost = len(k.lost)
	return k
}

func (k *crashCheck) all() {
	k.connect()
	k.bindings()
	k.askLost()
	k.changes()
	k.groups()
	k.accounts()
	k.grants()
	k.repeats()
	k.delivery()
	k.tidy()
	if k.t.Failed() {
		for _, a := range k.l.asks {
			k.t.Log(a)
		}
		for _, d := range k.w.devices {
			k.t.Logf("%s: was %v, came back as %v", d.id, k.w.record.devices[d.id], k.rec.devices[d.id])
		}
	}
	k.w.settle(k.o.record())
	k.o.c.close()
	for _, c := range k.conns {
		c.close()
	}
}

// connect connects all devices. Each is told what the record says.
func (k *crashCheck) connect() {
	for _, d := range k.w.devices {
		c, code, err := dialCrash("tcp", k.s.addr, string(d.id), d.user, d.password)
		if err != nil || code != 0 {
			k.t.Fatalf("%s cannot connect: %d, %v", d.id, code, err)
		}
		k.conns[d.id] = c
		if code, err = c.subscribe("$G/me"); err == nil && code == 0 {
			err = c.flush()
		}
		if err != nil || code != 0 || len(c.notices) != 1 {
			k.t.Fatalf("%s listens: %d, %v, and is told %v", d.id, code, err, c.notices)
		}
		n := c.notices[0]
		if told := (crashState{n.Epoch, numbersOf(n.List)}); n.Kind != "state" || !told.equal(k.rec.devices[d.id]) {
			k.t.Errorf("%s is told %s %v, its record is %v", d.id, n.Kind, told, k.rec.devices[d.id])
		}
	}
}

// ask makes the request again, as whoever made it.
func (k *crashCheck) ask(a *crashAsk) control.Answer {
	k.t.Helper()
	c := k.o.c
	if a.by != "" {
		c = k.conns[group.ClientID(a.by)]
	}
	again, err := c.ask(a.op, a.body)
	if err != nil {
		k.t.Fatalf("%s: asked again: %v", a, err)
	}
	return again
}

// askLost asks again what was not answered: what was recorded is a repeat, the
// rest has its effect now, and both once.
func (k *crashCheck) askLost() {
	for _, a := range k.lost {
		again := k.ask(a)
		k.done[a] = again
		if again.Why == "repeat" {
			k.tally.LostRecorded++
		}
		if again.Code != group.OK {
			continue
		}
		if third := k.ask(a); third.Code != group.OK || third.Why != "repeat" {
			k.t.Errorf("%s: answered %d, then %d, why %s", a, again.Code, third.Code, third.Why)
		}
	}
	after := k.o.record()
	for _, d := range k.w.devices {
		var now []crashStep
		for _, a := range k.lost {
			if k.doneNow(a) && (a.dev == d.id || a.op == control.OpDelete) {
				now = append(now, a.step())
			}
		}
		if !explains(k.rec.devices[d.id], after.devices[d.id], now, nil) {
			k.t.Errorf("%s was %v and is %v: asked again was %v", d.id, k.rec.devices[d.id], after.devices[d.id], now)
		}
	}
}

// doneNow reports whether the ask was not answered, and had its effect only when
// it was asked again.
func (k *crashCheck) doneNow(a *crashAsk) bool {
	again, lost := k.done[a]
	return lost && again.Code == group.OK && again.Why != "repeat"
}

// recorded reports whether the ask had its effect before the crash, for certain.
func (k *crashCheck) recorded(a *crashAsk) bool {
	if a.answer != nil {
		return a.answer.Code == group.OK
	}
	again := k.done[a]
	return again.Why == "repeat" && again.Code == group.OK
}

// changes compares the devices' records with what was answered: an answered
// change is there, one that was not is there wholly or not at all, and the
// deletion of a group is there for each member or for none. [GRP-6.1-2] [GRP-6.8-2]
func (k *crashCheck) changes() {
	for _, d := range k.w.devices {
		var answered, lost []crashStep
		var order []*crashAsk
		for _, a := range k.l.asks {
			switch {
			case a.dev != d.id && a.op != control.OpDelete || !k.recorded(a):
			case a.answer == nil:
				lost = append(lost, a.step())
			default:
				order = append(order, a)
			}
		}
		slices.SortFunc(order, func(a, b *crashAsk) int { return cmp.Compare(a.answer.Rev, b.answer.Rev) })
		for _, a := range order {
			answered = append(answered, a.step())
		}
		before, after := k.w.record.devices[d.id], k.rec.devices[d.id]
		if !explains(before, after, answered, lost) {
			k.t.Errorf("%s was %v and is %v; answered was %v, recorded without an answer %v", d.id, before, after, answered, lost)
		}
	}
}

// groups compares the groups with what was answered. A number and an ID are
// never given again. [GRP-3.1-1]
func (k *crashCheck) groups() {
	want := map[group.Number]string{}
	for n, e := range k.w.record.groups {
		want[n] = e.Name
	}
	renamed := map[group.Number]bool{}
	for _, a := range k.groupAsks() {
		switch a.op {
		case control.OpCreate:
			if a.answer != nil {
				want[a.answer.N] = a.name
			} else {
				want[k.created(k.done[a])] = a.name
			}
		case control.OpUpdate:
			// One without an answer may have come before the other operator's.
			if a.answer != nil || !renamed[a.to] || k.rec.groups[a.to].Name == a.name {
				want[a.to] = a.name
			}
			renamed[a.to] = true
		case control.OpDelete:
			delete(want, a.from)
			k.w.gone = append(k.w.gone, a.from)
			k.tally.Deleted++
		}
	}
	got := map[group.Number]string{}
	for n, e := range k.rec.groups {
		got[n] = e.Name
		if id, ok := k.w.ids[n]; !ok || id != e.G {
			k.t.Errorf("group %d has ID %s, and had %s", n, e.G, id)
		}
	}
	if !maps.Equal(got, want) {
		k.t.Errorf("the groups are %v, want %v", got, want)
	}
	for _, n := range k.w.gone[max(0, len(k.w.gone)-5):] {
		k.o.must(group.GroupDeleted, control.OpShow, crashBody{"g": n})
	}
	for _, a := range k.lost {
		switch {
		case k.doneNow(a) && a.op == control.OpCreate:
			k.created(k.done[a])
		case k.doneNow(a) && a.op == control.OpDelete:
			k.w.gone = append(k.w.gone, a.from)
		}
	}
}

// groupAsks returns what was recorded about groups, in order; what was not
// answered comes last.
func (k *crashCheck) groupAsks() (order []*crashAsk) {
	place := func(a *crashAsk) group.Rev {
		if a.answer == nil {
			return ^group.Rev(0)
		}
		return a.answer.Rev
	}
	for _, a := range k.l.asks {
		if a.dev == "" && a.op != control.OpAccount && k.recorded(a) {
			order = append(order, a)
		}
	}
	slices.SortStableFunc(order, func(a, b *crashAsk) int { return cmp.Compare(place(a), place(b)) })
	return order
}

// created takes over a group that an answer tells of.
func (k *crashCheck) created(a control.Answer) group.Number {
	if fault := k.w.newGroup(a.N, a.G); fault != "" {
		k.t.Error(fault)
	}
	return a.N
}

// repeats asks again what was answered: it has no effect. [GRP-5.5-1]
func (k *crashCheck) repeats() {
	before := k.o.record()
	seen := map[string]int{}
	for _, a := range slices.Backward(k.l.asks) {
		who := a.by + "/" + string(a.op)
		if a.answer == nil || a.answer.Code != group.OK || seen[who] >= 2 {
			continue
		}
		seen[who]++
		k.tally.Repeats++
		if again := k.ask(a); again.Code != group.OK || again.Why != "repeat" {
			k.t.Errorf("%s: asked again, answered %d, why %s", a, again.Code, again.Why)
		}
	}
	if after := k.o.record(); !sameRecord(before, after) {
		k.t.Errorf("repeats have changed the record: it was %+v and is %+v", before, after)
	}
}

func sameRecord(a, b crashRecord) bool {
	return a.rev == b.rev && maps.EqualFunc(a.devices, b.devices, crashState.equal) && maps.Equal(a.accounts, b.accounts)
}

// grants redeems what was not redeemed: it works once if nothing has overtaken
// it. [GRP-8-2]
func (k *crashCheck) grants() {
	now := k.o.record()
	for _, g := range k.l.grants {
		c, was := k.conns[g.dev], now.devices[g.dev]
		again, err := c.ask(control.OpJoin, crashBody{"grant": g.text})
		if err != nil {
			k.t.Fatal(err)
		}
		_, there := now.groups[g.to]
		want := group.OK
		switch {
		case g.base != was.epoch || !there || g.redeemed:
			want = group.GrantUsed
			k.tally.Overtaken++
		case slices.Contains(was.groups, g.to):
			want = group.Unchanged
		default:
			k.tally.Redeemed++
		}
		if again.Code != want {
			k.t.Errorf("%s at %v: grant for group %d with epoch %d, redeemed %v: answered %d, want %d", g.dev, was, g.to, g.base, g.redeemed, again.Code, want)
		}
		if again.Code != group.OK {
			continue
		}
		now.devices[g.dev] = crashState{again.Epoch, append(slices.Clone(was.groups), g.to)}
		if twice, err := c.ask(control.OpJoin, crashBody{"grant": g.text}); err != nil || twice.Code != group.GrantUsed {
			k.t.Errorf("%s redeems a grant twice: %d, %v", g.dev, twice.Code, err)
		}
	}
}

// delivery publishes a message to each group: those receive it who are members
// by the record, and they are told the same.
func (k *crashCheck) delivery() {
	r := k.o.record()
	for n := range r.groups {
		if err := k.o.c.publish("g/"+n.String()+"/all/muster/check", "hello"); err != nil {
			k.t.Fatal(err)
		}
	}
	for _, d := range k.w.devices {
		c, is := k.conns[d.id], r.devices[d.id]
		if err := c.flush(); err != nil {
			k.t.Fatal(err)
		}
		var want []string
		for _, n := range is.groups {
			want = append(want, "g/"+n.String()+"/all/muster/check hello")
		}
		slices.Sort(want)
		slices.Sort(c.messages)
		if !slices.Equal(c.messages, want) {
			k.t.Errorf("%s receives %q, its record is %v", d.id, c.messages, is)
		}
		a, err := c.ask(control.OpMine, crashBody{})
		if told := (crashState{a.Epoch, numbersOf(a.List)}); err != nil || !told.equal(is) {
			k.t.Errorf("%s is told %v, its record is %v: %v", d.id, told, is, err)
		}
	}
}

// tidy makes room for the next round: a new group, whose number nobody had, and
// no more than a few accounts.
func (k *crashCheck) tidy() {
	k.created(k.o.must(group.OK, control.OpCreate, crashBody{"name": k.l.newName("checked-")}))
	names := slices.Sorted(maps.Keys(k.w.passwords))
	for _, name := range names[:max(0, len(names)-4)] {
		k.o.must(group.OK, control.OpAccount, crashBody{"op": "remove", "user": name})
		delete(k.w.passwords, name)
	}
}

// until asks until the answer has another code, which it returns: what a crash
// has cut short goes on at the next start.
func (k *crashCheck) until(not group.Code, op control.Op, body crashBody) group.Code {
	k.t.Helper()
	for late := time.After(crashPatience); ; {
		if a := k.o.ask(op, body); a.Code != not {
			return a.Code
		}
		select {
		case <-late:
			k.t.Fatalf("%s %v: answered %s again and again", op, body, not)
		default:
		}
	}
}
