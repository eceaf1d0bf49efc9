package broker_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/group"
)

// A conforming server is set up as configs/conformance.yaml says, with a clock and
// timers that the test moves.
type conforming struct {
	*testServer
	mu     sync.Mutex
	now    time.Time
	timers []fakeTimer
}

type fakeTimer struct {
	at time.Time
	f  func()
}

func conform(t *testing.T) *conforming {
	t.Helper()
	s := &conforming{now: time.Now()}
	s.testServer = serve(t, func(c *broker.Config) {
		rule, err := group.ParseTopicRule("allow both #")
		if err != nil {
			t.Fatal(err)
		}
		c.AnonymousTopics = []group.TopicRule{rule}
		c.RefuseFilters = []string{"test/nosubscribe"}
		c.Limits.PacketSize, c.Limits.TopicLevels, c.Limits.KeepAliveMax = 1<<20, 200, time.Minute
		c.SetClock(func() time.Time {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.now
		})
		c.SetTimers(func(d time.Duration, f func()) *time.Timer {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.timers = append(s.timers, fakeTimer{s.now.Add(d), f})
			return time.NewTimer(d) // whom it would tell listens to nobody
		})
	})
	return s
}

// pass lets time go by. A timer that was stopped meanwhile runs all the same, and
// must do nothing.
func (s *conforming) pass(d time.Duration) {
	s.mu.Lock()
	s.now = s.now.Add(d)
	var due []func()
	s.timers = slices.DeleteFunc(s.timers, func(t fakeTimer) bool {
		if t.at.After(s.now) {
			return false
		}
		due = append(due, t.f)
		return true
	})
	s.mu.Unlock()
	for _, f := range due {
		f()
	}
}

// keptFor asks for a Session that outlives its connection by so many seconds; in
// 3.1.1 by as many as the server keeps one.
func keptFor(seconds uint32) option {
	return func(pk *packets.Packet, c *client) {
		pk.Connect.Clean = false
		sessionExpiry(seconds)(pk, c)
	}
}
