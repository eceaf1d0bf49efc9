package fanout

import (
	"slices"

	"github.com/muster-mqtt/muster/broker/wire"
)

// A Reclaimed message is one that was given to the Session as a member of a
// Shared Subscription, and that another one may have instead.
type Reclaimed struct {
	Share string // the whole filter, $share/<name>/<filter>
	Frame *wire.Shared
}

// Shares returns the Shared Subscriptions of which messages wait here for their
// delivery to be completed, so that [Member.Reclaim] would give some.
func (m *Member) Shares() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var shares []string
	note := func(it *item) bool {
		if it.reclaimable() && !slices.Contains(shares, it.share) {
			shares = append(shares, it.share)
		}
		return false
	}
	m.held.any(note)
	for i := range m.win.flights {
		if f := &m.win.flights[i]; !f.started() {
			note(&f.item)
		}
	}
	return shares
}

// Reclaim takes the messages of Shared Subscriptions back that the client has not
// acknowledged, in their order (MQTT 5.0, 4.8.2): those that choose wants. A
// message with QoS 2 that it may have seen stays, as it must not reach another.
// There must be no connection; if there is one, nothing is taken back.
func (m *Member) Reclaim(choose func(share string) bool) []Reclaimed {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sink != nil {
		return nil
	}
	var back []Reclaimed
	take := func(it *item) bool {
		if !it.reclaimable() || !choose(it.share) {
			return false
		}
		back = append(back, Reclaimed{it.share, it.frame})
		return true
	}
	m.win.keep(func(f *flight) bool { return f.started() || !take(&f.item) })
	m.held.cut(take)
	m.settle()
	return back
}

// reclaimable reports whether the item is a message of a Shared Subscription.
func (it *item) reclaimable() bool { return it.frame != nil && it.share != "" }

// started reports whether the flight is bound to the client: a QoS 2 message that
// was sent (MQTT 5.0, 4.8.2).
func (f *flight) started() bool { return f.qos == 2 && f.ever || f.released }
