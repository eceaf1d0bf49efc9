package topics

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-mqtt/muster/broker/wire"
)

// noon is the time at which tests begin.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// names are levels that meet each other often, among them what the tree or mochi
// treats in a way of its own.
var names = []string{"", "a", "b", "g", "$x", "$SYS", "$share", "$SHARE"}

// topicOf draws a Topic Name.
func topicOf() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.SampledFrom(names), 1, 5).Draw(t, "levels")
		if topic := strings.Join(levels, "/"); topic != "" {
			return topic
		}
		return "/"
	})
}

// filterOf draws a valid Topic Filter, shared or not.
func filterOf() *rapid.Generator[string] {
	level := rapid.SampledFrom(append([]string{"+", "+"}, names...))
	return rapid.Custom(func(t *rapid.T) string {
		filter := strings.Join(rapid.SliceOfN(level, 1, 5).Draw(t, "levels"), "/")
		if rapid.Bool().Draw(t, "all below") {
			filter += "/#"
			if rapid.Bool().Draw(t, "all") {
				filter = "#"
			}
		}
		filter = rapid.SampledFrom([]string{"", "", "$share/s/", "$share/t/"}).Draw(t, "share") + filter
		return filter
	}).Filter(wire.ValidFilter)
}

// matches says of one filter what the tree should, level by level.
func matches(filter, topic string) bool {
	if _, rest, ok := wire.SplitShare(filter); ok {
		filter = rest
	}
	if wild(filter) && strings.HasPrefix(topic, "g/") {
		return false
	}
	return wire.Match(filter, topic)
}

// subscribers returns what the tree finds, in order, and fails if it names a
// Session twice.
func subscribers(t rapid.TB, tree *Tree, topic string) []Key {
	t.Helper()
	var found []Key
	tree.Subscribers(topic, func(k Key) { found = append(found, k) })
	slices.Sort(found)
	if n := len(found); len(slices.Compact(slices.Clone(found))) != n {
		t.Fatalf("%q: a Session twice in %v", topic, found)
	}
	return found
}

// shares returns the shared subscriptions that the tree finds, their members in
// order.
func shares(t rapid.TB, tree *Tree, topic string) map[string][]Key {
	t.Helper()
	found := map[string][]Key{}
	tree.Shared(topic, func(share string, members []Key) {
		if found[share] != nil {
			t.Fatalf("%q: %q twice", topic, share)
		}
		found[share] = slices.Sorted(slices.Values(members))
	})
	return found
}

// Whatever is subscribed and unsubscribed, in whatever order, a match finds what
// a list of all subscriptions does.
func TestSubscriptionsLikeAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree := New(Limits{})
		list := map[string]map[Key]bool{}
		total := 0
		change := func(t *rapid.T, f func(k Key, filter string), here bool) {
			k, filter := Key(rapid.IntRange(1, 4).Draw(t, "key")), filterOf().Draw(t, "filter")
			f(k, filter)
			if list[filter][k] == here {
				return
			}
			if here {
				if list[filter] == nil {
					list[filter] = map[Key]bool{}
				}
				list[filter][k] = true
				total++
				return
			}
			delete(list[filter], k)
			total--
		}
		add := func(t *rapid.T) { change(t, tree.Subscribe, true) }
		t.Repeat(map[string]func(*rapid.T){
			"subscribe":       add,
			"subscribe more":  add,
			"subscribe again": add,
			"unsubscribe":     func(t *rapid.T) { change(t, tree.Unsubscribe, false) },
			"unsubscribe what is there": func(t *rapid.T) {
				for filter, keys := range list {
					for k := range keys {
						tree.Unsubscribe(k, filter)
						delete(keys, k)
						total--
						return
					}
				}
			},
			"": func(t *rapid.T) {
				if n, _ := tree.Counts(); n != total {
					t.Fatalf("%d subscriptions, want %d", n, total)
				}
				topic := topicOf().Draw(t, "topic")
				plain, shared := map[Key]bool{}, map[string][]Key{}
				for filter, keys := range list {
					switch {
					case len(keys) == 0 || !matches(filter, topic):
					case strings.HasPrefix(filter, "$share/"):
						shared[filter] = slices.Sorted(maps.Keys(keys))
					default:
						maps.Copy(plain, keys)
					}
				}
				if got, want := subscribers(t, tree, topic), slices.Sorted(maps.Keys(plain)); !slices.Equal(got, want) {
					t.Fatalf("%q: Sessions %v, want %v", topic, got, want)
				}
				if got := shares(t, tree, topic); !maps.EqualFunc(got, shared, slices.Equal) {
					t.Fatalf("%q: shares %v, want %v", topic, got, shared)
				}
			},
		})
		for filter, keys := range list {
			for k := range keys {
				tree.Unsubscribe(k, filter)
			}
		}
		if n := levels(tree.plain) + levels(tree.shared); n != 0 {
			t.Fatalf("%d levels are left of no subscription", n)
		}
	})
}

// Whatever is kept, replaced, removed and expires, a filter finds what a list of
// all messages does.
func TestRetainedLikeAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree := New(Limits{Retained: 20, RetainedBytes: 1 << 20})
		list := map[string]*wire.Shared{}
		now := noon
		t.Repeat(map[string]func(*rapid.T){
			"retain": func(t *rapid.T) {
				m := wire.Message{Topic: topicOf().Draw(t, "topic"), Payload: []byte("on")}
				if life := rapid.IntRange(0, 5).Draw(t, "life"); life > 0 {
					m.Expires = now.Add(time.Duration(life) * time.Second)
				}
				s := wire.NewShared(m)
				err := tree.Retain(s, now)
				maps.DeleteFunc(list, func(_ string, m *wire.Shared) bool { return m.Expired(now) })
				if full := len(list) == 20 && list[m.Topic] == nil; full != (err == ErrFull) {
					t.Fatalf("%d messages, and retaining %q: %v", len(list), m.Topic, err)
				}
				if err == nil {
					list[m.Topic] = s
				}
			},
			"remove": func(t *rapid.T) {
				topic := topicOf().Draw(t, "topic")
				if err := tree.Retain(wire.NewShared(wire.Message{Topic: topic}), now); err != nil {
					t.Fatal(err)
				}
				delete(list, topic)
			},
			"wait": func(*rapid.T) { now = now.Add(time.Second) },
			"expire": func(*rapid.T) {
				tree.Expire(now)
				maps.DeleteFunc(list, func(_ string, m *wire.Shared) bool { return m.Expired(now) })
				if _, n := tree.Counts(); n != len(list) {
					t.Fatalf("%d messages, want %d", n, len(list))
				}
			},
			"": func(t *rapid.T) {
				filter := filterOf().Draw(t, "filter")
				want := map[*wire.Shared]bool{}
				for topic, m := range list {
					if !strings.HasPrefix(filter, "$share/") && matches(filter, topic) && !m.Expired(now) {
						want[m] = true
					}
				}
				got := map[*wire.Shared]bool{}
				tree.Retained(filter, now, func(m *wire.Shared) {
					if got[m] {
						t.Fatalf("%q: %q twice", filter, m.Topic())
					}
					got[m] = true
				})
				if !maps.Equal(got, want) {
					t.Fatalf("%q: %d messages, want %d of %q", filter, len(got), len(want), slices.Collect(maps.Keys(list)))
				}
			},
		})
		now = now.Add(time.Hour)
		tree.Expire(now)
		for topic, m := range list {
			if m.Expires().IsZero() {
				if err := tree.Retain(wire.NewShared(wire.Message{Topic: topic}), now); err != nil {
					t.Fatal(err)
				}
			}
		}
		checkEmpty(t, tree)
	})
}

// checkEmpty fails if anything is left where no message is retained.
func checkEmpty(t rapid.TB, tree *Tree) {
	t.Helper()
	if r := tree.retained; r.count != 0 || r.bytes != 0 || r.root.below != nil || len(r.due) != 0 {
		t.Fatalf("left: %d messages, %d bytes, %d first levels, %d that expire", r.count, r.bytes, len(r.root.below), len(r.due))
	}
}
