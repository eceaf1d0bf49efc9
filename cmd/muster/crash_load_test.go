//go:build crash

package main

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A crashBody is the JSON of a request.
type crashBody map[string]any

// A crashAsk is one request of a load, and its answer if one came.
type crashAsk struct {
	by     string // the device that asked, or "" for an operator
	op     control.Op
	sub    string // of account
	body   crashBody
	dev    group.ClientID // whose change it is; "" of groups and accounts
	from   group.Number
	to     group.Number
	name   string // of the group or the account that it is about
	answer *control.Answer
}

func (a *crashAsk) String() string {
	s := fmt.Sprintf("%q asks %s %v", a.by, a.op, a.body)
	if a.answer == nil {
		return s + ": no answer"
	}
	return s + fmt.Sprintf(": %d, why %s, n %d, epoch %d, rev %d", a.answer.Code, a.answer.Why, a.answer.N, a.answer.Epoch, a.answer.Rev)
}

// step returns the request as a change of a device.
func (a *crashAsk) step() crashStep {
	p := crashStep{op: a.op, from: a.from, to: a.to}
	if a.answer != nil && a.op != control.OpDelete {
		p.epoch = a.answer.Epoch
	}
	return p
}

// A crashGrant is a grant that a device was given.
type crashGrant struct {
	dev      group.ClientID
	to       group.Number
	base     group.Epoch
	text     string
	redeemed bool // and answered
}

// A crashBinding is an account's own device that was let in.
type crashBinding struct {
	account string
	client  group.ClientID
	joined  group.Number // answered; 0: not
}

// A crashLoad is what is asked of a server until it dies.
type crashLoad struct {
	w        *crashWorld
	round    int
	answers  atomic.Int64
	onAnswer func(total int64)

	mu       sync.Mutex // guards what follows, and the rest of w's lists
	count    int
	asks     []*crashAsk
	grants   []*crashGrant
	bindings []*crashBinding
	view     map[group.ClientID][]group.Number // about what the devices are in
	quiet    map[group.ClientID]bool           // who keeps a grant, and asks for no change any more
	faults   []string
}

// run puts the load on the server, and returns when the last connection has
// ended: all answers that will ever arrive have.
func (l *crashLoad) run(s *crashServer, seed uint64) {
	var wg sync.WaitGroup
	for i, d := range l.w.devices {
		if d.ghost {
			continue
		}
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			c, _, err := dialCrash("tcp", s.addr, string(d.id), d.user, d.password)
			for ; err == nil; err = l.deviceAct(c, d, rng) {
			}
			if c != nil {
				c.close()
			}
		})
	}
	for i := range 2 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(100+i)))
			c, _, err := dialCrash("unix", s.socket, fmt.Sprintf("muster~load%d", i), "", "")
			for ; err == nil; err = l.operatorAct(c, s, rng) {
			}
			if c != nil {
				c.close()
			}
		})
	}
	wg.Wait()
}

// ask makes the request with an id of its own, and keeps what was asked and what
// came.
func (l *crashLoad) ask(c *crashClient, a *crashAsk) error {
	l.mu.Lock()
	l.count++
	a.body["id"] = fmt.Sprintf("%d.%d", l.round, l.count)
	l.asks = append(l.asks, a)
	l.mu.Unlock()
	answer, err := c.ask(a.op, a.body)
	if err != nil {
		return err
	}
	l.mu.Lock()
	a.answer = &answer
	if answer.Why == "repeat" {
		l.faults = append(l.faults, "a new id is a repeat: "+a.String())
	}
	if a.dev != "" && answer.Code == group.OK {
		s, _ := crashStep{op: a.op, from: a.from, to: a.to}.after(crashState{groups: l.view[a.dev]})
		l.view[a.dev] = s.groups
	}
	l.mu.Unlock()
	l.onAnswer(l.answers.Add(1))
	return nil
}

// pick returns one of the groups that are there, and one of those the device is
// about in, or another.
func (l *crashLoad) pick(dev group.ClientID, rng *rand.Rand) (to, from group.Number) {
	l.mu.Lock()
	defer l.mu.Unlock()
	to = l.w.live[rng.IntN(len(l.w.live))]
	from = l.w.live[rng.IntN(len(l.w.live))]
	if in := l.view[dev]; len(in) > 0 {
		from = in[rng.IntN(len(in))]
	}
	return to, from
}

func (l *crashLoad) isQuiet(d *crashDevice) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.quiet[d.id]
}

func (l *crashLoad) deviceAct(c *crashClient, d *crashDevice, rng *rand.Rand) error {
	if l.isQuiet(d) {
		_, err := c.ask(control.OpMine, crashBody{})
		return err
	}
	to, from := l.pick(d.id, rng)
	switch n := rng.IntN(10); {
	case n < 3:
		return l.ask(c, &crashAsk{by: string(d.id), op: control.OpJoin, dev: d.id, to: to, body: crashBody{"g": to}})
	case n < 5:
		return l.ask(c, &crashAsk{by: string(d.id), op: control.OpLeave, dev: d.id, from: from, body: crashBody{"g": from}})
	case n < 7:
		return l.ask(c, &crashAsk{by: string(d.id), op: control.OpSwitch, dev: d.id, from: from, to: to, body: crashBody{"from": from, "to": to}})
	}
	a, err := c.ask(control.OpGrant, crashBody{"op": "join", "to": to, "ttl": 600})
	if err != nil || a.Code != group.OK {
		return err
	}
	g := &crashGrant{dev: d.id, to: to, base: a.Epoch, text: base64.RawURLEncoding.EncodeToString(a.Grant)}
	l.mu.Lock()
	l.grants = append(l.grants, g)
	keep := rng.IntN(2) == 0
	l.quiet[d.id] = keep && d.keeper
	l.mu.Unlock()
	if keep {
		return nil
	}
	redeem := &crashAsk{by: string(d.id), op: control.OpJoin, dev: d.id, to: to, body: crashBody{"grant": g.text}}
	if err := l.ask(c, redeem); err != nil {
		return err
	}
	g.redeemed = redeem.answer.Code == group.OK
	return nil
}

func (l *crashLoad) operatorAct(c *crashClient, s *crashServer, rng *rand.Rand) error {
	d := l.w.devices[rng.IntN(len(l.w.devices))]
	if l.isQuiet(d) && rng.IntN(10) > 0 {
		return nil
	}
	to, from := l.pick(d.id, rng)
	switch n := rng.IntN(12); {
	case n < 2:
		return l.ask(c, &crashAsk{op: control.OpMove, dev: d.id, from: from, to: to, body: crashBody{"device": d.id, "from": from, "to": to}})
	case n < 4:
		return l.ask(c, &crashAsk{op: control.OpRemove, dev: d.id, from: from, body: crashBody{"device": d.id, "g": from}})
	case n < 6:
		return l.ask(c, &crashAsk{op: control.OpJoin, dev: d.id, to: to, body: crashBody{"device": d.id, "g": to}})
	case n < 7:
		return l.rename(c, to)
	case n < 9:
		return l.groups(c, rng)
	case n < 11:
		return l.addAccount(c, s, to)
	}
	return l.removeAccount(c, rng)
}

// newName returns a name that no group and no account had before.
func (l *crashLoad) newName(what string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	return fmt.Sprintf("%s%d.%d", what, l.round, l.count)
}

func (l *crashLoad) rename(c *crashClient, n group.Number) error {
	name := l.newName("renamed-")
	return l.ask(c, &crashAsk{op: control.OpUpdate, to: n, name: name, body: crashBody{"g": n, "name": name}})
}

// groups deletes a group or creates one.
func (l *crashLoad) groups(c *crashClient, rng *rand.Rand) error {
	l.mu.Lock()
	if n := len(l.w.live); n > 4 && (n > 7 || rng.IntN(2) == 0) {
		i := rng.IntN(n)
		gone := l.w.live[i]
		l.w.live = slices.Delete(l.w.live, i, i+1)
		l.mu.Unlock()
		return l.ask(c, &crashAsk{op: control.OpDelete, from: gone, body: crashBody{"g": gone}})
	}
	l.mu.Unlock()
	name := l.newName("group-")
	a := &crashAsk{op: control.OpCreate, name: name, body: crashBody{"name": name}}
	if err := l.ask(c, a); err != nil || a.answer.Code != group.OK {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if fault := l.w.newGroup(a.answer.N, a.answer.G); fault != "" {
		l.faults = append(l.faults, fault)
	}
	l.w.live = append(l.w.live, a.answer.N)
	return nil
}

// addAccount adds an account, and its device connects and joins a group.
func (l *crashLoad) addAccount(c *crashClient, s *crashServer, to group.Number) error {
	name := l.newName("user-")
	a := &crashAsk{op: control.OpAccount, sub: "add", name: name, body: crashBody{"op": "add", "user": name}}
	if err := l.ask(c, a); err != nil || a.answer.Code != group.OK {
		return err
	}
	b := &crashBinding{account: name, client: group.ClientID("of-" + name)}
	dev, code, err := dialCrash("tcp", s.addr, string(b.client), name, a.answer.Secret)
	if err != nil {
		return err
	}
	defer dev.close()
	l.mu.Lock()
	l.w.passwords[name] = a.answer.Secret
	l.bindings = append(l.bindings, b)
	if code != 0 {
		l.faults = append(l.faults, fmt.Sprintf("%s cannot log in: %d", name, code))
	}
	l.mu.Unlock()
	// The other operator may remove the account meanwhile: an error here need not
	// be the server's end.
	if joined, err := dev.ask(control.OpJoin, crashBody{"g": to}); err == nil && joined.Code == group.OK {
		l.mu.Lock()
		b.joined = to
		l.mu.Unlock()
	}
	return nil
}

func (l *crashLoad) removeAccount(c *crashClient, rng *rand.Rand) error {
	l.mu.Lock()
	var names []string
	for name := range l.w.passwords {
		names = append(names, name)
	}
	if len(names) == 0 {
		l.mu.Unlock()
		return nil
	}
	slices.Sort(names)
	name := names[rng.IntN(len(names))]
	delete(l.w.passwords, name)
	l.mu.Unlock()
	return l.ask(c, &crashAsk{op: control.OpAccount, sub: "remove", name: name, body: crashBody{"op": "remove", "user": name}})
}
