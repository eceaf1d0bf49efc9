package broker

import (
	"time"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A sender is who publishes to a group.
type sender struct {
	device    group.ClientID
	groupable bool
	operator  bool
	in        func(group.Number) bool
	only      func() (group.Number, int) // the only group, and how many there are
	// moved reports whether a message that is sent again may mean another group
	// than that of now.
	moved func() bool
	// session is that of the connection, for names of groups it may know.
	session *session
}

// sender returns who publishes on the connection: the rights of the device's own
// connection are those of its queue, so that they change at the switch point.
func (c *conn) sender() sender {
	sess := c.session
	if !sess.isMember() {
		return c.s.recorded(sess)
	}
	return sender{
		device: sess.device, groupable: sess.groupable, operator: sess.account.Load().Role == group.RoleOperator,
		in: sess.member.In, only: sess.member.Only, session: sess,
		moved: func() bool { return !c.epochKnown || c.epochBefore != sess.member.Epoch() },
	}
}

// recorded returns the client as a sender by its record: for side connections,
// and for Wills of those who have left.
func (s *Server) recorded(sess *session) sender {
	var d group.Device
	if !sess.reserved {
		d, _ = s.ledger.Device(sess.device)
		if group.Fold(d.Account) != group.Fold(sess.account.Load().Name) {
			d = group.Device{} // it belongs to somebody else by now
		}
	}
	return sender{
		device: sess.device, groupable: sess.groupable, operator: sess.account.Load().Role == group.RoleOperator,
		in: func(n group.Number) bool { _, ok := d.In(n); return ok },
		only: func() (group.Number, int) {
			if len(d.Groups) == 1 {
				return d.Groups[0].Number, 1
			}
			return 0, len(d.Groups)
		},
		moved: func() bool { return true }, session: sess,
	}
}

// post publishes to a group, if the client may, and acknowledges that.
func (c *conn) post(topic string, p *wire.Publish) {
	now := c.s.cfg.now()
	code := c.s.postAs(c.sender(), topic, p, now)
	if code == group.OK {
		c.acknowledge(p, wire.Success, "")
		return
	}
	c.refusePublish(topic, code)
	c.acknowledge(p, wire.Reason(control.PubackReason(code)), ackText(code))
}

// maxTopic bounds a Topic Name in bytes (MQTT 5.0, 1.5.4).
const maxTopic = 65535

// postAs publishes a message to a group: the code is OK if the sender may.
func (s *Server) postAs(who sender, topic string, p *wire.Publish, now time.Time) group.Code {
	t, ok := control.ParseTopic(topic)
	if !ok || !who.groupable || t.Part > control.To {
		return group.NotAuthorized
	}
	if code := s.complete(&who, &t, p); code != group.OK {
		return code
	}
	info, ok := s.group(t.Number)
	if !ok {
		return group.NotAuthorized
	}
	member := who.in(t.Number)
	post := fanout.Post{Group: t.Number, Sender: who.device}
	switch t.Part {
	case control.All:
		ok = member || who.operator
		post.Part = fanout.All
	case control.Up:
		ok = member
		post.Part = fanout.Up
	case control.To:
		ok = who.operator || member && info.membersTo
		post.Part, post.Target = fanout.To, t.Member
	default:
		ok = false
	}
	if !ok {
		return group.NotAuthorized
	}
	if t.Short {
		if topic = t.String(); len(topic) > maxTopic {
			return group.TooLarge
		}
	}
	post.Frame = message(topic, p, min(p.QoS, 1), false, now)
	if t.Part == control.To {
		if sess := s.main(t.Member); sess != nil {
			sess.member.Offer(&post)
		}
		return group.OK
	}
	s.engine.Publish(&post)
	return group.OK
}

// complete fills in what a short form leaves out, and checks the sender.
func (s *Server) complete(who *sender, t *control.Topic, p *wire.Publish) group.Code {
	if !t.Short {
		if t.Sender != who.device {
			return group.NotAuthorized
		}
		return group.OK
	}
	t.Sender = who.device
	if t.Name != "" {
		code := group.NotAuthorized
		s.ledger.View(func(st *group.State) {
			n, err := st.Resolve(group.Ref{Name: t.Name}, s.cfg.now(), func(*group.Group) bool { return false })
			if err == nil {
				t.Number, code = n, group.OK
			}
		})
		return code
	}
	n, count := who.only()
	switch {
	case count == 0:
		return group.NotMember
	case count > 1:
		return group.AmbiguousRef
	case p.Dup && who.moved(): // asked after only: an epoch never comes back
		return group.StaleEpoch // it may have been meant for another group
	}
	t.Number = n
	return group.OK
}
