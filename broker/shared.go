package broker

import (
	"slices"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/topics"
	"github.com/muster-mqtt/muster/broker/wire"
)

// deliverShared gives the message to one member of a shared subscription: the
// first that is connected, else the first (MQTT 5.0, 4.8.2).
func (s *Server) deliverShared(m *wire.Shared, share string, members []topics.Key) {
	for _, connected := range []bool{true, false} {
		for _, k := range members {
			sess := s.byKey(k)
			if sess != nil && sess.member.Attached() == connected && sess.take(m, share) {
				return
			}
		}
	}
}

// take queues a message of a shared subscription, if the Session still has that
// and may read the message.
func (sess *session) take(m *wire.Shared, share string) bool {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	sub, ok := sess.subs[share]
	if !ok || !sess.mayRead(m.Topic()) {
		return false
	}
	d := fanout.Delivery{Frame: m, QoS: min(sub.QoS, m.QoS()), Retain: sub.RetainAsPublished && m.Retain(), Share: share}
	if sub.SubID != 0 {
		d.SubIDs = []uint32{sub.SubID}
	}
	sess.member.Enqueue(d)
	return true
}

// handOver gives what a connection that was lost has left undelivered of shared
// subscriptions to other members, where one is connected (MQTT 5.0, 4.8.2). What
// nobody else can take waits for the client.
func (s *Server) handOver(sess *session) {
	var elsewhere []string
	for _, share := range sess.member.Shares() {
		if s.connectedMember(share, sess.key) {
			elsewhere = append(elsewhere, share)
		}
	}
	if len(elsewhere) > 0 {
		s.reassign(sess.member.Reclaim(func(share string) bool { return slices.Contains(elsewhere, share) }))
	}
}

// connectedMember reports whether a shared subscription has a member with a
// connection, other than one.
func (s *Server) connectedMember(share string, other topics.Key) bool {
	for _, k := range s.tree.Members(share) {
		if sess := s.byKey(k); k != other && sess != nil && sess.member.Attached() {
			return true
		}
	}
	return false
}

// reassign gives messages of shared subscriptions to other members than the one
// that had them.
func (s *Server) reassign(back []fanout.Reclaimed) {
	for _, r := range back {
		s.deliverShared(r.Frame, r.Share, s.tree.Members(r.Share))
	}
}
