package topics

import (
	"slices"
	"strings"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// An index finds the filters that match a Topic Name and the Sessions that have
// them. To mochi's index each filter is one client, named by the filter.
type index struct {
	mu      sync.RWMutex // guards all below; one match or one change at a time holds it
	mochi   *mqtt.TopicsIndex
	filters map[string]*holders // by filter as subscribed
	count   int                 // pairs of Session and filter
}

// A part is one shared subscription found: its members end before end.
type part struct {
	filter string
	end    int
}

func newIndex() *index {
	return &index{mochi: mqtt.NewTopicsIndex(), filters: map[string]*holders{}}
}

// noIDs keeps mochi from making such a map for each filter it finds. It is never
// written to, since all Identifiers are 0.
var noIDs = map[string]int{}

// add enters filter for k, to be matched as rest.
func (x *index) add(k Key, filter, rest string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.filters[filter]
	if h == nil {
		h = new(holders)
		x.filters[filter] = h
		forms(rest, func(form string) {
			x.mochi.Subscribe(filter, packets.Subscription{Filter: form, Identifiers: noIDs})
		})
	}
	if h.add(k) {
		x.count++
	}
}

// remove undoes add.
func (x *index) remove(k Key, filter, rest string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.filters[filter]
	if h == nil || !h.remove(k) {
		return
	}
	x.count--
	if len(h.keys) == 0 {
		delete(x.filters, filter)
		forms(rest, func(form string) { x.mochi.Unsubscribe(form, filter) })
	}
}

// match calls f for each filter that matches topic. The caller holds mu.
func (x *index) match(topic string, f func(filter string, h *holders)) {
	if x.count == 0 {
		return
	}
	hide := hidden(topic)
	for filter, sub := range x.mochi.Subscribers(plain(topic)).Subscriptions {
		if hide && wild(sub.Filter) {
			continue
		}
		f(filter, x.filters[filter])
	}
}

// subscribers appends each Session that has a filter that matches, once.
func (x *index) subscribers(dst []Key, topic string) []Key {
	x.mu.RLock()
	found := 0
	x.match(topic, func(_ string, h *holders) {
		dst = append(dst, h.keys...)
		found++
	})
	x.mu.RUnlock()
	if found > 1 {
		slices.Sort(dst)
		dst = slices.Compact(dst)
	}
	return dst
}

// groups appends the Sessions that have each filter that matches, filter by
// filter, each beginning with whose turn it is.
func (x *index) groups(dst []Key, topic string) ([]Key, []part) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var parts []part
	x.match(topic, func(filter string, h *holders) {
		first := h.next()
		dst = append(dst, h.keys[first:]...)
		dst = append(dst, h.keys[:first]...)
		parts = append(parts, part{filter, len(dst)})
	})
	return dst, parts
}

// members returns the Sessions that have a filter, beginning with whose turn it
// is.
func (x *index) members(filter string) []Key {
	x.mu.RLock()
	defer x.mu.RUnlock()
	h := x.filters[filter]
	if h == nil {
		return nil
	}
	first := h.next()
	return slices.Concat(h.keys[first:], h.keys[:first])
}

func (x *index) len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.count
}

// forms calls f with each form in which mochi must know a filter to match what
// it matches: mochi does not see that "+/#" matches the parent as well.
func forms(filter string, f func(form string)) {
	filter = plain(filter)
	f(filter)
	if parent, ok := strings.CutSuffix(filter, "/#"); ok && (parent == "+" || strings.HasSuffix(parent, "/+")) {
		f(parent)
	}
}

// plain returns a filter or topic as it is for mochi, which takes a first level
// "$SHARE" in any case for a share: a U+0000, which is in no Topic Name, keeps
// it from that.
func plain(s string) string {
	const share = "$share"
	if len(s) >= len(share) && s[0] == '$' && strings.EqualFold(s[:len(share)], share) {
		return "$\x00" + s[1:]
	}
	return s
}
