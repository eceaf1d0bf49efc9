package broker

import (
	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/group"
)

// revoked is what a change of rights has ended.
type revoked struct {
	subscriptions, messages int
	back                    []fanout.Reclaimed // of shared subscriptions: others may have them
}

// regard makes what the Session holds fit the account's record as it is now: it
// ends the subscriptions to ordinary topics, and discards the messages of them,
// to which there is no right any more, and adds them to r.
func (s *Server) regard(sess *session, acc group.Account, r *revoked) {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	sess.account.Store(&acc)
	sess.rights.Store(authz.NewTopics(&acc, sess.device))
	for f := range sess.subs {
		if !sess.mayRead(plainFilter(f)) {
			delete(sess.subs, f)
			s.tree.Unsubscribe(sess.key, f)
			r.subscriptions++
		}
	}
	dropped, back := sess.member.Revoke(func(topic string) bool { return isOrdinary(topic) && !sess.mayRead(topic) })
	r.messages += dropped + sess.member.Unwatch(sess.observes)
	r.back = append(r.back, back...)
}

// plainFilter returns what a filter matches by, without $share.
func plainFilter(filter string) string {
	if _, rest, ok := wire.SplitShare(filter); ok {
		return rest
	}
	return filter
}

// accountNow returns an account as it is recorded now, and whether its clients
// may be here.
func (s *Server) accountNow(was *group.Account, anonymous bool) (acc group.Account, ok bool) {
	if anonymous || was.Name == group.Local {
		return *was, true
	}
	s.ledger.View(func(st *group.State) { acc, ok = st.Account(was.Name) })
	return acc, ok && !acc.Removed && !acc.Disabled
}
