package broker

import (
	"slices"
	"strings"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/topics"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// maxVerbs bounds the verbs of one packet. Beyond them and as many filters as a
// Session may hold, the filters of a packet are refused unread.
const maxVerbs = 64

// A subscribing is one SUBSCRIBE on its way to its SUBACK.
type subscribing struct {
	c     *conn
	sub   *wire.Subscribe
	codes []wire.Reason
	// ordinary and own are what is to be entered.
	ordinary []topics.Subscription
	own      []fanout.Filter
	verbs    []control.Request
	at       []int      // places of the verbs
	unread   group.Code // why the last verb that could not be read was refused
	me       bool
	events   []group.Number // whose snapshots are to be sent
	wild     bool
}

// subscribe takes a SUBSCRIBE: verbs, filters over groups, control topics and
// ordinary filters, each with its code in one SUBACK.
func (c *conn) subscribe(sub *wire.Subscribe) error {
	b := &subscribing{c: c, sub: sub, codes: make([]wire.Reason, len(sub.Filters))}
	for i := range sub.Filters {
		if b.codes[i] = wire.QuotaExceeded; i < c.s.limits.Filters+maxVerbs {
			b.codes[i] = b.one(i)
		}
	}
	b.logRefused()
	if b.wild {
		// Ahead of the filter: behind the SUBACK no event is missed. Between two changes:
		// one that is answered is not told of to who subscribes after that.
		c.s.ledger.Ordered(func() { c.s.events.watch(c.session) })
	}
	if len(b.verbs) == 0 {
		b.enter(b.suback(nil))
	} else {
		b.enter(nil)
		x := newExchange(c, func(answers []control.Answer) [][]byte { return [][]byte{b.suback(answers)} })
		x.joinIDs = b.joinIDs
		c.s.ledger.Do(c.session.asker(c, true), b.verbs, c.s.cfg.now(), x)
		x.wait(func() *goodbye {
			b.goOn()
			return nil
		})
		return nil
	}
	b.goOn()
	return nil
}

// goOn does what follows the SUBACK, and leaves long rosters to a worker where a loop
// is not to be held.
func (b *subscribing) goOn() {
	if b.c.looped == nil || len(b.events) == 0 {
		b.follow()
		return
	}
	b.c.paused = &pause{work: func() *goodbye {
		b.follow()
		return nil
	}}
}

// logRefused has one line for the filters that are refused before the ledger is
// asked. They are not named: a verb may hold a PIN.
func (b *subscribing) logRefused() {
	refused, reason := 0, wire.Success
	for _, code := range b.codes {
		if code >= 0x80 {
			refused++
			reason = code
		}
	}
	if refused > 0 {
		c := b.c
		c.s.log.Info("refused", "op", "subscribe", "client", c.session.id, "by", c.session.account.Load().Name, "addr", c.addr, "filters", refused, "reason", reason.String())
	}
}

// one finds out what a filter is, and returns its code if that is known before
// the ledger is asked.
func (b *subscribing) one(i int) wire.Reason {
	c, f := b.c, b.sub.Filters[i]
	_, rest, shared := wire.SplitShare(f.Filter)
	switch {
	case !wire.ValidFilter(f.Filter) || wire.Levels(f.Filter) > c.s.limits.TopicLevels:
		return wire.TopicFilterInvalid
	case shared && (control.IsGroupTopic(rest) || control.IsVerb(rest) || control.IsControl(rest)):
		return wire.SharedSubscriptionsNotSupported
	case control.IsVerb(f.Filter):
		return b.verb(i)
	case control.IsAnswerFilter(f.Filter):
		return wire.Success // it brings answers, which come without it too
	case control.IsMe(f.Filter):
		b.me = true
		return wire.Success
	case control.IsControl(f.Filter):
		return wire.NotAuthorized
	case control.IsGroupTopic(f.Filter):
		return b.group(i)
	}
	plain := f.Filter
	if shared {
		plain = rest
	}
	if slices.Contains(c.s.cfg.RefuseFilters, f.Filter) {
		return wire.UnspecifiedError
	}
	if !c.s.hooks.OnACLCheck(c.client, plain, false) {
		return wire.NotAuthorized
	}
	if !b.room(f.Filter) {
		return wire.QuotaExceeded
	}
	sub := topics.Subscription{
		Filter: f.Filter, QoS: f.QoS, NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished,
		RetainHandling: f.RetainHandling, SubID: b.sub.SubID,
	}
	// The same filter again in one packet takes the place of the first.
	if i := slices.IndexFunc(b.ordinary, func(o topics.Subscription) bool { return o.Filter == f.Filter }); i >= 0 {
		b.ordinary[i] = sub
	} else {
		b.ordinary = append(b.ordinary, sub)
	}
	return wire.Reason(f.QoS)
}

// room reports whether the Session may hold one more filter, if it is one more.
func (b *subscribing) room(filter string) bool {
	sess := b.c.session
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if _, ok := sess.subs[filter]; ok {
		return true
	}
	for i := range sess.own {
		if sess.own[i].Filter == filter {
			return true
		}
	}
	fresh := map[string]bool{} // of this packet
	for _, sub := range b.ordinary {
		if _, known := sess.subs[sub.Filter]; !known {
			fresh[sub.Filter] = true
		}
	}
	for i := range b.own {
		if !slices.ContainsFunc(sess.own, func(f fanout.Filter) bool { return f.Filter == b.own[i].Filter }) {
			fresh[b.own[i].Filter] = true
		}
	}
	return fresh[filter] || len(sess.subs)+len(sess.own)+len(fresh) < b.c.s.limits.Filters
}

// verb reads a verb. What it asks for is decided with the others of the packet.
func (b *subscribing) verb(i int) wire.Reason {
	f := b.sub.Filters[i]
	r, code := control.ParseVerb(f.Filter)
	switch {
	case code != group.OK:
		b.unread = code
		return wire.Reason(control.SubackReason(code))
	case !b.c.session.groupable || b.c.session.reserved:
		return wire.NotAuthorized
	case len(b.verbs) == maxVerbs:
		return wire.QuotaExceeded
	}
	qos := min(f.QoS, 1)
	r.QoS = &qos
	if r.Secret == "" {
		r.Secret, r.SecretInTopic = b.sub.Secret, false
	}
	b.verbs = append(b.verbs, r)
	b.at = append(b.at, i)
	return wire.Reason(qos) // if it is granted
}

// joinIDs returns what the packet's Subscription Identifier is for.
func (b *subscribing) joinIDs(answers []control.Answer) map[group.Number]uint32 {
	if b.c.version < 5 {
		return nil
	}
	ids := map[group.Number]uint32{}
	for _, a := range answers {
		if a.Code.Success() && a.N != 0 && a.State == "member" {
			ids[a.N] = b.sub.SubID
		}
	}
	return ids
}

// suback returns the SUBACK. A 5.0 client is told why verbs were refused, and of
// one verb what the answer to a request would tell.
func (b *subscribing) suback(answers []control.Answer) []byte {
	c := b.c
	text, user := ackText(b.unread), []wire.UserProperty(nil)
	for k, a := range answers {
		switch {
		case !a.Code.Success():
			b.codes[b.at[k]] = wire.Reason(control.SubackReason(a.Code))
			text = ackText(a.Code)
		case a.State == "member":
			b.codes[b.at[k]] = wire.Reason(a.QoS)
		}
		if len(answers) == 1 {
			user = answerProperties(&a)
		}
	}
	if !c.problem {
		text, user = "", nil
	}
	codes := make([]byte, len(b.codes))
	for i, r := range b.codes {
		codes[i] = byte(r)
		if c.version < 5 && r >= 0x80 {
			codes[i] = 0x80
		}
	}
	full := wire.AppendSuback(nil, c.version, b.sub.ID, codes, text, user)
	if c.maxPacket > 0 && len(full) > c.maxPacket { // MQTT 5.0, 3.9.2.1.2
		return c.fit(wire.AppendSuback(nil, c.version, b.sub.ID, codes, "", nil))
	}
	return full
}

// answerProperties tell a 5.0 client what the answer to a request would.
func answerProperties(a *control.Answer) []wire.UserProperty {
	var user []wire.UserProperty
	if a.N != 0 {
		user = append(user, wire.UserProperty{Key: "n", Value: a.N.String()})
	}
	if a.Epoch != 0 {
		user = append(user, wire.UserProperty{Key: "epoch", Value: epochText(a.Epoch)})
	}
	return user
}

// enter makes the subscriptions that are granted, and queues the SUBACK, if it
// is known, ahead of what they bring.
func (b *subscribing) enter(suback []byte) {
	c, sess := b.c, b.c.session
	sess.mu.Lock()
	if sess.dead.Load() {
		sess.mu.Unlock()
		return
	}
	var kept []fanout.Delivery
	for _, sub := range b.ordinary {
		if !sess.mayRead(plainFilter(sub.Filter)) {
			continue // the right has ended since, and the subscription with it
		}
		_, known := sess.subs[sub.Filter]
		sess.subs[sub.Filter] = sub
		c.s.tree.Subscribe(sess.key, sub.Filter)
		if sub.RetainHandling == 0 || sub.RetainHandling == 1 && !known { // MQTT 5.0, 3.8.3.1
			kept = b.retained(kept, sub)
		}
	}
	// What is published from here on waits for sess.mu, and comes behind it.
	if len(b.own) > 0 {
		for _, f := range b.own {
			sess.addOwn(f)
		}
		sess.member.SetOwn(sess.own, c, suback)
	} else {
		c.send(suback)
	}
	for _, d := range kept {
		sess.member.Enqueue(d)
	}
	sess.mu.Unlock()
}

func (sess *session) addOwn(f fanout.Filter) {
	for i := range sess.own {
		if sess.own[i].Filter == f.Filter {
			sess.own[i] = f
			return
		}
	}
	sess.own = append(sess.own, f)
}

// retained appends the retained messages of a new subscription. They are found
// before the SUBACK is queued, so that what is published behind it comes once. The
// caller holds the session's mu.
func (b *subscribing) retained(dst []fanout.Delivery, sub topics.Subscription) []fanout.Delivery {
	if strings.HasPrefix(sub.Filter, "$share/") {
		return dst // MQTT 5.0, 4.8.2
	}
	b.c.s.tree.Retained(sub.Filter, b.c.s.cfg.now(), func(m *wire.Shared) {
		if !b.c.session.mayRead(m.Topic()) {
			return
		}
		d := fanout.Delivery{Frame: m, QoS: min(sub.QoS, m.QoS()), Retain: true, Spare: true}
		if sub.SubID != 0 {
			d.SubIDs = []uint32{sub.SubID}
		}
		dst = append(dst, d)
	})
	return dst
}

// follow sends what follows the SUBACK: the own state, and rosters.
func (b *subscribing) follow() {
	if b.me {
		b.c.listenMe()
	}
	for _, n := range b.events {
		b.c.s.events.follow(b.c, n)
	}
}

// unsubscribe takes an UNSUBSCRIBE.
func (c *conn) unsubscribe(u *wire.Unsubscribe) error {
	codes := make([]wire.Reason, len(u.Filters))
	var verbs []control.Request
	var at []int
	for i, f := range u.Filters {
		switch {
		case control.IsVerb(f):
			r, nothing, code := control.ParseUnverb(f)
			switch {
			case code != group.OK:
				codes[i] = wire.TopicFilterInvalid
			case nothing:
			case !c.session.groupable || c.session.reserved:
				codes[i] = wire.NotAuthorized
			case len(verbs) == maxVerbs:
				codes[i] = wire.QuotaExceeded
			default:
				verbs, at = append(verbs, r), append(at, i)
			}
		case control.IsMe(f):
			c.unlistenMe()
		case control.IsAnswerFilter(f):
		default:
			codes[i] = c.drop(f)
		}
	}
	c.refreshEvents()
	unsuback := func() []byte {
		b := make([]byte, len(codes))
		for i, r := range codes {
			b[i] = byte(r)
		}
		return c.fit(wire.AppendUnsuback(nil, c.version, u.ID, b, "", nil))
	}
	if len(verbs) == 0 {
		c.send(unsuback())
		return nil
	}
	failed := false
	x := newExchange(c, func(answers []control.Answer) [][]byte {
		for k, a := range answers {
			codes[at[k]] = unsubackReason(a.Code)
			failed = failed || codes[at[k]] == wire.ImplementationSpecificError
		}
		if failed && c.version < 5 {
			return nil
		}
		return [][]byte{unsuback()}
	})
	c.s.ledger.Do(c.session.asker(c, true), verbs, c.s.cfg.now(), x)
	x.wait(func() *goodbye {
		if failed && c.version < 5 {
			// 3.1.1 has no UNSUBACK that refuses: without one the client asks again.
			return &goodbye{silent: true}
		}
		return nil
	})
	return nil
}

// unsubackReason maps the answer to a leave: what the device was not in, for
// whatever reason, is no subscription; what could not be recorded is an error.
func unsubackReason(code group.Code) wire.Reason {
	switch {
	case code.Success():
		return wire.Success
	case code >= 20 && code < 50:
		return wire.NoSubscriptionExisted
	case code == group.BadRequest:
		return wire.TopicFilterInvalid
	}
	return wire.ImplementationSpecificError
}

// drop ends one subscription.
func (c *conn) drop(f string) wire.Reason {
	sess := c.session
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if control.IsGroupTopic(f) {
		for i := range sess.own {
			if sess.own[i].Filter == f {
				sess.own = append(sess.own[:i:i], sess.own[i+1:]...)
				sess.member.SetOwn(sess.own, nil)
				return wire.Success
			}
		}
		return wire.NoSubscriptionExisted
	}
	if _, ok := sess.subs[f]; !ok {
		return wire.NoSubscriptionExisted
	}
	delete(sess.subs, f)
	c.s.tree.Unsubscribe(sess.key, f)
	return wire.Success
}
