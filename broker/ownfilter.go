package broker

import (
	"slices"
	"strconv"
	"strings"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// group judges a filter over g/: "of the groups that I am in, now and later",
// and of those that an observer reads.
func (b *subscribing) group(i int) wire.Reason {
	c, f := b.c, b.sub.Filters[i]
	if !c.mayOwn(f.Filter) {
		return wire.NotAuthorized
	}
	if !b.room(f.Filter) {
		return wire.QuotaExceeded
	}
	qos := min(f.QoS, 1)
	b.own = append(b.own, fanout.Filter{Filter: f.Filter, QoS: qos, SubID: b.sub.SubID, NoLocal: f.NoLocal})
	if n, exact := eventsOf(f.Filter); exact {
		if !slices.Contains(b.events, n) {
			b.events = append(b.events, n)
		}
	} else if coversEvents(f.Filter) {
		b.wild = true
	}
	return wire.Reason(qos)
}

// mayOwn reports whether the client has the right to what a filter over g/
// names.
func (c *conn) mayOwn(filter string) bool {
	sess := c.session
	if sess.side {
		return false // a side connection receives nothing of groups
	}
	levels := strings.Split(filter, "/")
	if len(levels) < 2 {
		return false // "g" alone is no topic
	}
	part := "#"
	if len(levels) > 2 {
		part = levels[2]
	}
	observer := sess.account.Load().Role != group.RoleDevice
	if levels[1] == "#" {
		return true
	}
	if levels[1] == "+" {
		switch part {
		case "#", "+", "all", "to":
			return true
		case "up", "evt", "agg":
			return observer
		}
		return false
	}
	n, ok := parseNumber(levels[1])
	if !ok {
		return false // delivered topics have the group's number
	}
	info, ok := c.s.group(n)
	if !ok {
		return false
	}
	in, sees := sess.member.In(n), sess.observes(n)
	switch part {
	case "#", "+", "all":
		return in || sees
	case "to":
		return in
	case "up", "agg":
		return sees
	case "evt":
		return sees || in && info.membersEvents
	}
	return false
}

func parseNumber(s string) (group.Number, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return group.Number(n), err == nil && n != 0 && group.Number(n).String() == s
}

// eventsOf reports whether the filter is exactly that of one group's events.
func eventsOf(filter string) (group.Number, bool) {
	t, ok := control.ParseTopic(filter)
	if !ok || t.Part != control.Evt || t.Short {
		return 0, false
	}
	return t.Number, true
}

// coversEvents reports whether the filter, which has a wildcard, may match
// topics of events.
func coversEvents(filter string) bool {
	l := strings.Split(filter, "/")
	if last := l[len(l)-1]; last == "#" && len(l) <= 4 {
		l = l[:len(l)-1]
	} else if len(l) != 3 {
		return false
	}
	return len(l) < 3 || l[2] == "+" || l[2] == "evt"
}

// wantsEvents reports whether a filter of the client's matches the topic.
func (sess *session) wantsEvents(topic string) bool { return sess.member.Wants(topic) }

// refreshEvents makes the client follow the events that its filters still cover.
func (c *conn) refreshEvents() {
	sess := c.session
	exact, wild := map[group.Number]bool{}, false
	sess.mu.Lock()
	for i := range sess.own {
		if n, ok := eventsOf(sess.own[i].Filter); ok {
			exact[n] = true
		} else {
			wild = wild || coversEvents(sess.own[i].Filter)
		}
	}
	sess.mu.Unlock()
	c.s.events.refresh(sess, exact, wild)
}
