package fanout

import (
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/group"
)

// Part is a part of a group's topics: to whom a message goes.
type Part uint8

// The parts that are delivered by membership and observation.
const (
	All Part = iota // g/<n>/all/…: to every member and observer
	Up              // g/<n>/up/…: to observers
	To              // g/<n>/to/<member>/…: to that member
)

// A Post is one message of a group.
type Post struct {
	Group  group.Number
	Part   Part
	Target group.ClientID // of To
	Sender group.ClientID // the device as which it was published
	Frame  *wire.Shared   // with its full Topic Name, and a QoS of 0 or 1

	begun uint64 // its place among the Engine's publications; 0: it is not one
}

// Offer gives the Member a message of a group if it is to have it: the check
// and the queueing are one step.
func (m *Member) Offer(p *Post) {
	m.mu.Lock()
	it, ok := m.match(p)
	if !ok {
		m.mu.Unlock()
		return
	}
	if m.sink == nil && !(m.moving && it.qos > 0) {
		m.lost++ // nothing of a group is kept for a member that is away
		m.mu.Unlock()
		return
	}
	m.finishOffer(m.enqueue(it))
}

// match decides by what right the Member gets the message, at which QoS and with
// which Subscription Identifiers. The caller holds m.mu.
func (m *Member) match(p *Post) (item, bool) {
	if m.mute {
		return item{}, false
	}
	i := m.index(p.Group)
	if i >= 0 && p.begun > 0 && p.begun <= m.in[i].from {
		// It was under way before the device joined, and may have met it in a
		// membership that has ended since.
		i = -1
	}
	mine := i >= 0 && (p.Part == All || p.Part == To && p.Target == m.Client)
	observed := p.Part != To && m.observes != nil && len(m.own) > 0 && m.observes(p.Group)
	if !mine && !observed {
		return item{}, false
	}
	it := item{frame: p.Frame, group: p.Group}
	found := false
	if mine && m.in[i].Recv && p.Sender != m.Client && (p.Part == To || m.in[i].covers(p.Frame.Topic())) {
		found = true
		it.qos = m.in[i].QoS
		if id := m.joinIDs[p.Group]; id != 0 {
			it.subIDs = append(it.subIDs, id)
		}
	}
	for f := range m.own {
		own := &m.own[f]
		if own.NoLocal && p.Sender == m.Client || !wire.Match(own.Filter, p.Frame.Topic()) {
			continue
		}
		found = true
		if observed {
			it.group, it.seen = 0, p.Group // it is to have it without being a member, too
		}
		it.qos = max(it.qos, own.QoS)
		if own.SubID != 0 {
			it.subIDs = append(it.subIDs, own.SubID)
		}
	}
	it.qos = min(it.qos, p.Frame.QoS(), 1)
	return it, found
}

// covers reports whether the membership's filters want the topic.
func (g *Membership) covers(topic string) bool {
	if len(g.Filters) == 0 {
		return true
	}
	for _, f := range g.Filters {
		if wire.Match(f, topic) {
			return true
		}
	}
	return false
}

// Wants reports whether a filter of one's own matches the topic.
func (m *Member) Wants(topic string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.own {
		if wire.Match(m.own[i].Filter, topic) {
			return true
		}
	}
	return false
}
