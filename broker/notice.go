package broker

import (
	"time"

	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// noticePacket returns a notice as a packet for me.
func (c *conn) noticePacket(n control.Notice) []byte {
	return c.fit(wire.AppendPublish(nil, c.version, control.MeTopic, control.EncodeNotice(n), nil))
}

// statePacket returns the notice of the device's state.
func (s *Server) statePacket(c *conn, d *group.Device) []byte {
	return c.noticePacket(control.Notice{Kind: "state", Epoch: d.Epoch, List: s.ledger.Memberships(d), HasList: true})
}

// listen has the client told of its state now, and of each change from now on.
func (c *conn) listenMe() {
	sess := c.session
	c.s.ledger.Ordered(func() {
		var d group.Device
		if !sess.reserved {
			d, _ = c.s.ledger.Device(sess.device)
		}
		sess.listening.Store(true)
		c.send(c.s.statePacket(c, &d))
	})
}

// unlistenMe ends that.
func (c *conn) unlistenMe() { c.session.listening.Store(false) }

// changeNotice returns what a device is told of a change.
func changeNotice(c *group.Change, dropped int) control.Notice {
	n := control.Notice{
		Kind: string(c.Op), From: c.From, To: c.To, Epoch: c.Next.Epoch, Why: c.Rule, By: c.By, Dropped: dropped,
	}
	if lost := c.Lost(); len(lost) == 1 && n.To == 0 {
		n.From = lost[0] // UNSUBSCRIBE $join/A leaves where somebody else has moved the device
	}
	if c.Forced && len(c.Lost()) > 0 {
		n.Code = group.MembershipTerminated
	}
	return n
}

// A refusal is one kind of refused publishes, of which a client is told once in
// a while.
type refusal struct {
	topic string
	code  group.Code
}

// refusals counts them since the client was told.
type refusals struct{ count int }

const (
	// refusedEvery is how often a client is told of the same refusal.
	refusedEvery = 10 * time.Second
	// maxRefused bounds how many kinds of refusals are told apart.
	maxRefused = 16
)

// refusePublish notes a PUBLISH that was refused: a 3.1.1 client that listens on
// me is told, once in 10 seconds for each topic and code.
func (c *conn) refusePublish(topic string, code group.Code) {
	sess := c.session
	c.s.log.Info("refused", "op", "publish", "client", sess.id, "by", sess.account.Load().Name, "addr", c.addr, "topic_levels", wire.Levels(topic), "reason", code.Error())
	if c.version >= 5 || !sess.listening.Load() {
		return
	}
	k := refusal{topic, code}
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if r := sess.refused[k]; r != nil {
		r.count++
		return
	}
	if len(sess.refused) >= maxRefused {
		return
	}
	if sess.refused == nil {
		sess.refused = map[refusal]*refusals{}
	}
	sess.refused[k] = &refusals{}
	c.s.after(refusedEvery, func() { sess.tellRefused(k) })
	c.send(c.noticePacket(control.Notice{Code: code, Kind: "refused", Topic: topic, Count: 1}))
}

// tellRefused tells of what was refused since the last time, if anything was.
func (sess *session) tellRefused(k refusal) {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	r := sess.refused[k]
	if r == nil {
		return
	}
	if r.count == 0 {
		delete(sess.refused, k)
		return
	}
	sess.tell(control.Notice{Code: k.code, Kind: "refused", Topic: k.topic, Count: r.count})
	r.count = 0
	sess.s.after(refusedEvery, func() { sess.tellRefused(k) })
}
