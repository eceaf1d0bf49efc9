package broker

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/ledger"
)

// Apply acts on one recorded change. It is the one way in which what a device
// receives changes, also at its return.
func (s *Server) Apply(a ledger.Applied) {
	switch {
	case a.Change.NextGroup != nil:
		s.applyGroup(&a)
	case a.Change.NextAccount != nil:
		s.applyAccount(&a)
	default:
		s.applyDevice(&a)
	}
}

// answer gives the answers to whoever asked.
func answer(a *ledger.Applied) {
	if a.Reply != nil {
		a.Reply.Answer(a.Answers)
	}
}

// answerDropped gives the answers with the number of messages that the change
// has discarded.
func answerDropped(a *ledger.Applied, dropped int) {
	setDropped(a, dropped)
	answer(a)
}

// setDropped puts the number into the first answer that changes something.
func setDropped(a *ledger.Applied, dropped int) {
	for i := range a.Answers {
		if a.Answers[i].Code == group.OK {
			a.Answers[i].Dropped = dropped
			break
		}
	}
}

// applyDevice makes one device's memberships the recorded ones.
func (s *Server) applyDevice(a *ledger.Applied) {
	c := &a.Change
	lost, gained := c.Lost(), c.Gained()
	if c.Delete {
		s.killSides(c.Client)
	}
	sess := s.main(c.Client)
	if sess == nil || !sess.isMember() {
		s.events.changed(c, a.Rev, lost, gained)
		s.tellSides(c, a.Reply)
		answer(a)
		return
	}
	s.engine.Enter(sess.member, gained...)
	x, _ := a.Reply.(*exchange)
	change := fanout.Change{
		In: memberships(&c.Next), Epoch: c.Next.Epoch,
		Packets: func(sink fanout.Sink, dropped int) [][]byte {
			setDropped(a, dropped)
			cn, ok := sink.(*conn)
			if !ok {
				return nil
			}
			if x != nil && x.c == cn {
				return x.inQueue(a.Answers)
			}
			if sess.listening.Load() && c.Next.Epoch != c.Prev.Epoch {
				return [][]byte{cn.noticePacket(changeNotice(c, dropped))}
			}
			return nil
		},
	}
	if x != nil && x.c.session == sess && x.joinIDs != nil {
		change.JoinIDs = x.joinIDs(a.Answers)
	}
	if c.Forced {
		purge := c.Op == group.OpRemove || c.Op == group.OpForget
		sess.member.Force(change, purge, s.cfg.patience, func(dropped int) { answerDropped(a, dropped) })
	} else {
		sess.member.Set(change)
		answer(a) // where it did not stand in the device's own queue
	}
	s.engine.Exit(sess.member, lost...)
	s.events.changed(c, a.Rev, lost, gained)
	s.tellSides(c, a.Reply)
	if c.Delete {
		s.kill(sess, goodbyeRights)
	}
}

// sidesOf returns the device's side connections that listen.
func (s *Server) sidesOf(c group.ClientID) []*session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var listeners []*session
	for sess := range s.sides[c] {
		if sess.listening.Load() {
			listeners = append(listeners, sess)
		}
	}
	return listeners
}

// killSides ends the device's side connections and their Sessions.
func (s *Server) killSides(c group.ClientID) {
	s.mu.RLock()
	sides := slices.Collect(maps.Keys(s.sides[c]))
	s.mu.RUnlock()
	for _, sess := range sides {
		s.kill(sess, goodbyeRights)
	}
}

// tellSides tells the device's side connections that listen.
func (s *Server) tellSides(c *group.Change, reply ledger.Reply) {
	x, _ := reply.(*exchange)
	for _, sess := range s.sidesOf(c.Client) {
		if x != nil && x.c.session == sess || c.Next.Epoch == c.Prev.Epoch {
			continue
		}
		sess.tell(changeNotice(c, 0))
	}
}

// tell queues a notice for the client, if it is connected.
func (sess *session) tell(n control.Notice) {
	sess.member.PushMade(0, func(sink fanout.Sink) []byte {
		if c, ok := sink.(*conn); ok {
			return c.noticePacket(n)
		}
		return nil
	})
}

// applyGroup takes over a group's record. Where it was deleted, the answer waits
// until no message of it can reach any of its members.
func (s *Server) applyGroup(a *ledger.Applied) {
	g := a.Change.NextGroup
	s.setGroup(g)
	if !g.Deleted {
		if a.Change.Op == group.OpUpdate {
			s.events.updated(g.Number, &a.Change, a.Rev)
		}
		answer(a)
		return
	}
	var left, dropped atomic.Int64
	left.Store(int64(len(a.Ended)) + 1)
	done := func(n int) {
		dropped.Add(int64(n))
		if left.Add(-1) == 0 {
			answerDropped(a, int(dropped.Load()))
		}
	}
	for i := range a.Ended {
		s.applyEnded(&a.Ended[i], a, done)
	}
	s.events.deleted(g.Number, &a.Change, a.Rev, a.Ended)
	done(0)
}

// applyEnded ends one membership of a deleted group.
func (s *Server) applyEnded(d *group.Device, a *ledger.Applied, done func(int)) {
	n := a.Change.To
	notice := control.Notice{
		Code: group.MembershipTerminated, Kind: "delete", From: n, Epoch: d.Epoch, By: a.Change.By, Why: a.Change.Rule,
	}
	for _, side := range s.sidesOf(d.ClientID) {
		side.tell(notice)
	}
	sess := s.main(d.ClientID)
	if sess == nil || !sess.isMember() {
		done(0)
		return
	}
	sess.member.Force(fanout.Change{
		In: memberships(d), Epoch: d.Epoch,
		Packets: func(sink fanout.Sink, dropped int) [][]byte {
			cn, ok := sink.(*conn)
			if !ok || !sess.listening.Load() {
				return nil
			}
			notice.Dropped = dropped
			return [][]byte{cn.noticePacket(notice)}
		},
	}, true, s.cfg.patience, done)
	s.engine.Exit(sess.member, n)
}

// applyAccount takes over an account's record: one that was removed or disabled,
// or has another role, loses its connections and Sessions.
func (s *Server) applyAccount(a *ledger.Applied) {
	next := a.Change.NextAccount
	over := next.Removed || next.Disabled || a.Change.Delete || a.Change.PrevAccount.Role != next.Role
	var r revoked
	for _, sess := range s.sessionsOf(group.Fold(next.Name)) {
		s.regard(sess, *next, &r) // its Will is judged by this, too
		if over {
			s.kill(sess, goodbyeRights)
		}
	}
	if r.subscriptions > 0 || r.messages > 0 {
		s.log.Info("revoked", "op", "account", "account", next.Name, "subscriptions", r.subscriptions, "messages", r.messages)
	}
	answerDropped(a, r.messages)
	if len(r.back) > 0 {
		s.wg.Go(func() { s.reassign(r.back) })
	}
}

func (s *Server) sessionsOf(account string) []*session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []*session
	for _, sess := range s.keys {
		if group.Fold(sess.account.Load().Name) == account {
			found = append(found, sess)
		}
	}
	return found
}
