//go:build soak

package broker

import (
	"maps"
	"slices"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/group"
)

// Delivered returns, for each device that has a Session of its own, the groups whose
// messages are delivered to it.
func (s *Server) Delivered() map[group.ClientID][]group.Number {
	s.mu.RLock()
	sessions := slices.Collect(maps.Values(s.keys))
	s.mu.RUnlock()
	all := map[group.ClientID][]group.Number{}
	for _, sess := range sessions {
		if sess.isMember() {
			all[sess.device], _ = sess.member.Groups()
		}
	}
	return all
}

// Budget returns what is charged for all that waits.
func (s *Server) Budget() *fanout.Budget { return s.budget }

// Counts returns how many connections and Sessions the Server holds, and how many
// addresses and kinds of log lines it remembers.
func (s *Server) Counts() (conns, sessions, addrs, kinds int) {
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	s.calm.mu.Lock()
	defer s.calm.mu.Unlock()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.admission.all, s.sessions, len(s.admission.addrs), len(s.calm.kinds)
}
