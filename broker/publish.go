package broker

import (
	"bytes"
	"runtime"
	"strings"
	"time"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/topics"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// publish takes a PUBLISH: to a group, to the control protocol, or to an ordinary
// topic. It is acknowledged when it has had its effect.
func (c *conn) publish(frame []byte) error {
	c.yield()
	p, err := wire.ParsePublish(frame, c.version)
	if err != nil {
		return err
	}
	topic, err := c.topic(&p)
	if err != nil {
		return err
	}
	if p.QoS == 2 {
		again, err := c.received(p.ID)
		if err != nil {
			return err
		}
		if again {
			c.send(wire.AppendAck(nil, c.version, wire.PUBREC, p.ID, wire.Success))
			return nil
		}
	}
	switch {
	case wire.Levels(topic) > c.s.limits.TopicLevels:
		c.refusePublish(topic, group.BadRequest)
		c.acknowledge(&p, wire.TopicNameInvalid, "")
	case control.IsGroupTopic(topic):
		if c.looped != nil && c.mayBeLarge(topic) {
			own := p
			own.Topic = nil // topic has it
			own.Payload, own.Props = bytes.Clone(p.Payload), bytes.Clone(p.Props)
			topic = strings.Clone(topic)
			c.looped.loop.largeFanout(c, func() { c.post(topic, &own) })
			return nil
		}
		c.post(topic, &p)
	case control.IsControl(topic):
		c.request(topic, &p)
	default:
		c.acknowledge(&p, c.ordinary(topic, &p), "")
	}
	return nil
}

// mayBeLarge reports whether publishing to the group may take longer than a loop is to
// be held, or needs a look at all groups for a name.
func (c *conn) mayBeLarge(topic string) bool {
	t, ok := control.ParseTopic(topic)
	if !ok || t.Part == control.To {
		return false
	}
	if t.Short && t.Name == "" {
		t.Number, _ = c.session.member.Only()
	}
	return t.Name != "" || c.s.engine.Larger(t.Number, c.s.cfg.large)
}

// burst is how many times as many QoS 2 messages without PUBREL are taken from a
// 3.1.1 client.
const burst = 16

// yield lets the connections go first whose bytes came before these: goroutines
// that are woken together run the last one first, so that a SUBSCRIBE would often
// miss a message that another client published after it.
func (c *conn) yield() {
	if c.fresh {
		c.fresh = false
		runtime.Gosched()
	}
}

// received enters a QoS 2 message, and reports whether it was there: then it was
// sent again and has had its effect (MQTT 5.0, 4.3.3).
func (c *conn) received(id uint16) (again bool, err error) {
	sess := c.session
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if sess.inQoS2[id] {
		return true, nil
	}
	most := c.s.limits.Inflight
	if c.version < 5 {
		most *= burst // it was told of no Receive Maximum
	}
	if len(sess.inQoS2) >= most {
		return false, &wire.Error{Reason: wire.ReceiveMaximumExceeded, Rule: "more QoS 2 messages than the Receive Maximum (3.1.2.11.3)"}
	}
	sess.inQoS2[id] = true
	return false, nil
}

// acknowledgement returns the PUBACK or PUBREC, or nothing for QoS 0. A 3.1.1
// client has no other answer than success.
func (c *conn) acknowledgement(p *wire.Publish, r wire.Reason, text string) []byte {
	typ := wire.PUBACK
	switch p.QoS {
	case 0:
		return nil
	case 2:
		typ = wire.PUBREC
	}
	if text == "" || !c.problem {
		return wire.AppendAck(nil, c.version, typ, p.ID, r)
	}
	if ack := c.fit(wire.AppendAckText(nil, c.version, typ, p.ID, r, text)); ack != nil { // MQTT 5.0, 3.4.2.2.2
		return ack
	}
	return wire.AppendAck(nil, c.version, typ, p.ID, r)
}

// acknowledge answers a PUBLISH.
func (c *conn) acknowledge(p *wire.Publish, r wire.Reason, text string) {
	c.settle(p, r)
	c.send(c.acknowledgement(p, r, text))
}

// settle ends the exchange of a QoS 2 message that a PUBREC refuses (MQTT 5.0,
// 4.3.3).
func (c *conn) settle(p *wire.Publish, r wire.Reason) {
	if p.QoS == 2 && r >= 0x80 && c.version == 5 {
		c.session.mu.Lock()
		delete(c.session.inQoS2, p.ID)
		c.session.mu.Unlock()
	}
}

// message makes what is to be delivered of a PUBLISH. Its bytes are copied.
func message(topic string, p *wire.Publish, qos byte, retain bool, now time.Time) *wire.Shared {
	m := wire.Message{
		Topic: topic, Payload: append([]byte(nil), p.Payload...), QoS: qos, Retain: retain, Props: append([]byte(nil), p.Props...),
	}
	if p.HasExpiry {
		m.Expires = now.Add(time.Duration(p.Expiry) * time.Second)
	}
	return wire.NewShared(m)
}

// ordinary publishes to an ordinary topic, if the client may.
func (c *conn) ordinary(topic string, p *wire.Publish) wire.Reason {
	now := c.s.cfg.now()
	if !c.s.hooks.OnACLCheck(c.client, topic, true) {
		c.refusePublish(topic, group.NotAuthorized)
		return wire.NotAuthorized
	}
	return c.s.publish(c.session, message(topic, p, p.QoS, p.Retain, now), now)
}

// publish delivers a message to the subscribers of an ordinary topic, and keeps
// it if it is to be retained.
func (s *Server) publish(from *session, m *wire.Shared, now time.Time) wire.Reason {
	reason := wire.Success
	if m.Retain() && s.tree.RetainOf(from.counted(), m, now) != nil {
		reason = wire.QuotaExceeded // it is delivered, and not kept
	}
	s.tree.Subscribers(m.Topic(), func(k topics.Key) {
		if sess := s.byKey(k); sess != nil {
			sess.deliver(m, from)
		}
	})
	s.tree.Shared(m.Topic(), func(share string, members []topics.Key) { s.deliverShared(m, share, members) })
	return reason
}

// deliver queues a message for the Session if its filters want it: once, at the
// highest QoS of those that match, with all their Subscription Identifiers (MQTT
// 5.0, 3.3.4).
func (sess *session) deliver(m *wire.Shared, from *session) {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	d := fanout.Delivery{Frame: m}
	found := false
	for f, sub := range sess.subs {
		if strings.HasPrefix(f, "$share/") || sub.NoLocal && sess == from || !wire.Match(f, m.Topic()) {
			continue
		}
		found = true
		d.QoS = max(d.QoS, sub.QoS)
		d.Retain = d.Retain || sub.RetainAsPublished && m.Retain()
		if sub.SubID != 0 {
			d.SubIDs = append(d.SubIDs, sub.SubID)
		}
	}
	if !found || !sess.mayRead(m.Topic()) {
		return
	}
	d.QoS = min(d.QoS, m.QoS())
	sess.member.Enqueue(d)
}

// fire publishes a Will by the rights that the account of its sender has now.
func (s *Server) fire(sess *session, w *will, now time.Time) {
	p := wire.Publish{Payload: w.payload, QoS: w.qos, Retain: w.retain, Props: w.props}
	if w.hasExpiry {
		p.HasExpiry, p.Expiry = true, uint32(w.expiry/time.Second)
	}
	code := group.NotAuthorized
	was := sess.account.Load()
	acc, ok := s.accountNow(was, sess.anonymous)
	switch {
	case !ok || was.Removed || was.Disabled: // the name may be another's by now
	case wire.Levels(w.topic) > s.limits.TopicLevels:
		code = group.BadRequest
	case control.IsGroupTopic(w.topic):
		who := s.recorded(sess)
		who.operator = acc.Role == group.RoleOperator
		code = s.postAs(who, w.topic, &p, now)
	case mayPublish(authz.NewTopics(&acc, sess.device), w.topic):
		s.publish(sess, message(w.topic, &p, w.qos, w.retain, now), now)
		code = group.OK
	}
	if code != group.OK {
		s.log.Info("refused", "op", "will", "client", sess.id, "by", was.Name, "addr", w.from, "reason", code.Error())
	}
}
