package device

import (
	"cmp"
	"slices"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// receive takes one message off the connection, in the order in which the
// server sent it. It does not wait for anybody.
func (d *Device) receive(l *link, m mqtt.Message) {
	d.mu.Lock()
	epoch, late := d.epoch, l.n != d.links
	d.mu.Unlock()
	if late {
		return // a newer connection has its own word of everything
	}
	switch topic := m.Topic(); topic {
	case control.AnswerTopic:
		a, err := control.DecodeAnswer(m.Payload())
		if err != nil {
			d.log.Warn("the server sent an answer that cannot be read", "client", d.clientID, "err", err)
			break
		}
		d.answered(l, &a)
	case control.MeTopic:
		n, err := control.DecodeNotice(m.Payload())
		if err != nil {
			d.log.Warn("the server sent a notice that cannot be read", "client", d.clientID, "err", err)
			break
		}
		d.noticed(l, &n)
	default:
		d.arrived(l, m, epoch)
		return
	}
	if m.Qos() > 0 {
		m.Ack()
	}
}

// arrived queues a message for the receiver.
func (d *Device) arrived(l *link, m mqtt.Message, epoch group.Epoch) {
	it := &item{
		message: Message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retained: m.Retained(), Dup: m.Duplicate(), Epoch: epoch},
	}
	if t, ok := control.ParseTopic(m.Topic()); ok && t.Number != 0 {
		it.message.Group, it.message.Part = t.Number, t.Part
		it.message.Sender, it.message.Member, it.message.Rest = t.Sender, t.Member, t.Rest
	}
	if m.Qos() > 0 {
		it.ack, it.id, it.link = m.Ack, m.MessageID(), l.n
	}
	if !d.queue.put(it) {
		l.guard.fail(errFlood)
	}
}

// answered gives an answer to who waits for it, and applies what it says of the
// device's own groups at this point of the stream.
func (d *Device) answered(l *link, a *control.Answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, w := d.asked(a)
	if w != nil {
		delete(d.waiting, id)
		defer func() { w.answer <- *a }() // has room for one
	}
	if !a.Code.Success() || !l.known || a.Device != "" && a.Device != d.self {
		return
	}
	switch a.Op {
	case control.OpMine:
		if w != nil && w.whole && a.Next == "" {
			d.setState(a.List, a.Epoch)
		}
		return
	case control.OpJoin, control.OpLeave, control.OpSwitch, control.OpMove, control.OpRemove:
	default:
		return
	}
	if a.Epoch <= d.epoch {
		return
	}
	if a.From == 0 && a.To == 0 {
		d.askDetails() // a repeat, which says no more than that something is different
		return
	}
	d.apply(Change{Kind: Kind(a.Op), From: a.From, To: a.To, Epoch: a.Epoch, Own: true, Why: a.Why}, a.Rev, w != nil && w.fetches)
}

// asked returns the request that the answer is for, nil if there is none. A
// server that could not read a request does not know its ID: its refusal is for
// the only one of that op. The caller holds d.mu.
func (d *Device) asked(a *control.Answer) (id string, w *waiter) {
	if w = d.waiting[string(a.ID)]; w != nil && (a.Op == w.op || a.Op == "") {
		return string(a.ID), w
	}
	if len(a.ID) > 0 || a.Code.Success() {
		return "", nil
	}
	w = nil
	for i, other := range d.waiting {
		if other.op != a.Op {
			continue
		}
		if w != nil {
			return "", nil
		}
		id, w = i, other
	}
	return id, w
}

// noticed applies what the server tells of the device's groups.
func (d *Device) noticed(l *link, n *control.Notice) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch n.Kind {
	case "state":
		d.setState(n.List, n.Epoch)
		if !l.known {
			l.known = true
			close(l.told)
		}
		return
	case "refused":
		d.tell(Change{Kind: Refused, Epoch: d.epoch, Code: n.Code, Topic: n.Topic, Count: n.Count})
		return
	}
	if !l.known || n.Epoch <= d.epoch {
		return // the state holds it already
	}
	d.apply(Change{
		Kind: Kind(n.Kind), From: n.From, To: n.To, Epoch: n.Epoch, Forced: n.Code == group.MembershipTerminated, By: n.By, Why: n.Why,
	}, 0, false)
}

// apply makes a change that the server has told. A membership's details, and
// what a gap in the epochs hides, are asked for unless somebody else fetches
// them. The caller holds d.mu.
func (d *Device) apply(c Change, since group.Rev, fetched bool) {
	gap := c.Epoch != d.epoch+1
	_, was := d.member(c.To)
	if c.From != 0 {
		d.groups = slices.DeleteFunc(d.groups, func(m Membership) bool { return m.Number == c.From })
	}
	if c.To != 0 && !was {
		d.groups = append(d.groups, Membership{Number: c.To, QoS: 1, Recv: true, Since: since})
		slices.SortFunc(d.groups, byNumber)
	}
	switch {
	case was && c.From == 0:
		c.Kind = Updated
	case c.Kind == "forget":
		c.Kind = Removed
	}
	d.epoch = c.Epoch
	d.tell(c)
	if (gap || c.To != 0) && !fetched {
		d.askDetails()
	}
}

// setState makes the server's word of the whole state the device's own, and
// tells what is different. The caller holds d.mu.
func (d *Device) setState(list []control.Entry, epoch group.Epoch) {
	next := make([]Membership, 0, len(list))
	for i := range list {
		if list[i].N != 0 && (list[i].State == "" || list[i].State == "member") {
			next = append(next, membershipOf(&list[i]))
		}
	}
	slices.SortFunc(next, byNumber)
	next = slices.CompactFunc(next, func(a, b Membership) bool { return a.Number == b.Number })
	before, known, moved := d.groups, d.known, epoch != d.epoch
	d.groups, d.epoch, d.known = next, epoch, true
	if !known {
		return
	}
	for _, m := range before {
		if _, ok := d.member(m.Number); !ok {
			d.tell(Change{Kind: Left, From: m.Number, Epoch: epoch, Missed: true})
		}
	}
	for _, m := range next {
		i, ok := slices.BinarySearchFunc(before, m, byNumber)
		switch {
		case !ok:
			d.tell(Change{Kind: Joined, To: m.Number, Epoch: epoch, Missed: true})
		case moved && !before[i].same(m):
			d.tell(Change{Kind: Updated, To: m.Number, Epoch: epoch, Missed: true})
		}
	}
}

// tell queues a change for the receiver. The caller holds d.mu.
func (d *Device) tell(c Change) { d.queue.put(&item{change: &c}) }

// member returns the membership of group n. The caller holds d.mu.
func (d *Device) member(n group.Number) (Membership, bool) {
	if i, ok := slices.BinarySearchFunc(d.groups, Membership{Number: n}, byNumber); ok {
		return d.groups[i], true
	}
	return Membership{}, false
}

// membershipOf reads an entry of a list of the device's groups.
func membershipOf(e *control.Entry) Membership {
	m := Membership{Number: e.N, ID: e.G, Name: e.Name, QoS: 1, Recv: e.Recv == nil || *e.Recv, Filter: e.Filter, Since: e.Since}
	if e.QoS != nil {
		m.QoS = *e.QoS
	}
	if e.At != 0 {
		m.At = time.Unix(e.At, 0).UTC()
	}
	return m
}

func byNumber(a, b Membership) int { return cmp.Compare(a.Number, b.Number) }
