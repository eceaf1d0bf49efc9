package authz

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-mqtt/muster/group"
)

// rules reads an account's rules.
func rules(t testing.TB, lines ...string) []group.TopicRule {
	t.Helper()
	var all []group.TopicRule
	for _, l := range lines {
		r, err := group.ParseTopicRule(l)
		if err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		all = append(all, r)
	}
	return all
}

func TestTopics(t *testing.T) {
	tests := []struct {
		name   string
		rules  string // separated by ";"
		client group.ClientID
		may    string // "p" for publish, "r" for read and the topic or filter, separated by spaces
		mayNot string
	}{
		{"allow publish", "allow publish a/b", "c", "p:a/b", "r:a/b p:a p:a/b/c p:a/B"},
		{"allow subscribe", "allow subscribe a/+", "c", "r:a/b r:a/+ r:a/", "p:a/b r:a r:a/# r:# r:+/b"},
		{"both", "allow both a/#", "c", "p:a p:a/b/c r:a r:a/# r:a/+/c", "r:# r:+/# r:+ r:b p:b"},
		{"everything", "allow both #", "c", "r:# r:+/# r:+ p:a/b", "r:$SYS/# p:$SYS/x r:$x"},
		{"everything, in other words", "allow both +/#", "c", "r:# r:+/# p:a", "p:$SYS"},
		{"one level", "allow subscribe +", "c", "r:+ r:a", "r:# r:+/# r:a/b"},
		{"no rule covers all", "allow subscribe a; allow subscribe a/+/#", "c", "r:a r:a/b/c", "r:a/#"},
		{"deny wins", "deny both a/secret; allow both a/#", "c", "r:a/b p:a/b", "r:a/secret p:a/secret r:a/# r:a/+ r:+/secret"},
		{"whatever the order", "allow both a/#; deny publish a/secret", "c", "r:a/# r:a/secret", "p:a/secret"},
		{"a deny below", "allow subscribe #; deny subscribe a/+/key/#", "c", "r:a r:a/x r:b/# r:a/x/lock", "r:# r:a/# r:a/x/key r:a/x/key/1 r:a/+/+ r:+/x/#"},
		{"a deny that reaches the parent", "allow both #; deny both a/#", "c", "r:b r:b/#", "r:a r:+ p:a"},
		{"Client Identifier", "allow publish s/%c/#", "lamp-7", "p:s/lamp-7 p:s/lamp-7/t", "p:s/lamp-8/t p:s/%c/t"},
		{"user name", "allow both %u/%c", "lamp-7", "p:ann/lamp-7", "p:Ann/lamp-7 p:ann/ann"},
		{"parts of a level", "allow publish s-%c-x/%u.%u", "7", "p:s-7-x/ann.ann", "p:s-8-x/ann.ann"},
		{"a percent sign", "allow publish 100%%c", "7", "p:100%c", "p:1007"},
		{"a name is put in once", "allow publish s/%c", "%u", "p:s/%u", "p:s/ann"},
		{"a name with a level", "allow both s/%c/#", "a/b", "", "p:s/a/b r:s/a/b/#"},
		{"a name that is a wildcard", "allow both s/%c", "+", "", "r:s/+ p:s/x"},
		{"a name that is the other wildcard", "allow both s/%c", "#", "", "r:s/# r:s p:s"},
		{"no way round a deny", "allow both #; deny publish s/%c/config", "a/b", "r:#", "p:s/a/b/config p:x"},
		{"a name that is the server's", "allow both %c/#", "$SYS", "", "r:$SYS/# p:$SYS/x"},
	}
	for _, tt := range tests {
		acc := &group.Account{Name: "ann", Topics: rules(t, strings.Split(tt.rules, "; ")...)}
		topics := NewTopics(acc, tt.client)
		check := func(list string, want bool) {
			for _, s := range strings.Fields(list) {
				got := topics.MayPublish
				if s[0] == 'r' {
					got = topics.MayRead
				}
				if got(s[2:]) != want {
					t.Errorf("%s: %s is %t", tt.name, s, !want)
				}
			}
		}
		check(tt.may, true)
		check(tt.mayNot, false)
	}
}

// Without rules the role decides; an account that is not in use has no rights,
// whatever its role and rules.
func TestTopicsOfAccounts(t *testing.T) {
	some := rules(t, "allow both a")
	tests := []struct {
		name      string
		acc       group.Account
		all, some bool
	}{
		{"operator", group.Account{Role: group.RoleOperator}, true, true},
		{"operator with rules", group.Account{Role: group.RoleOperator, Topics: some}, false, true},
		{"observer", group.Account{Role: group.RoleObserver}, false, false},
		{"device", group.Account{}, false, false},
		{"device with rules", group.Account{Topics: some}, false, true},
		{"disabled", group.Account{Role: group.RoleOperator, Disabled: true}, false, false},
		{"removed", group.Account{Topics: some, Removed: true}, false, false},
	}
	for _, tt := range tests {
		topics := NewTopics(&tt.acc, "c")
		for topic, want := range map[string]bool{"x/y": tt.all, "a": tt.some} {
			if topics.MayPublish(topic) != want || topics.MayRead(topic) != want {
				t.Errorf("%s: %s: publish %t, read %t, want %t", tt.name, topic, topics.MayPublish(topic), topics.MayRead(topic), want)
			}
		}
	}
}

// matches is the rule of MQTT 5.0, 4.7, word by word.
func matches(filter, topic []string) bool {
	switch {
	case len(filter) == 0:
		return len(topic) == 0
	case filter[0] == "#":
		return true
	case len(topic) == 0:
		return false
	case filter[0] != "+" && filter[0] != topic[0]:
		return false
	}
	return matches(filter[1:], topic[1:])
}

// everyTopic holds the Topic Names of up to four levels, of the letters that
// filters use and one that none does.
var everyTopic = func() [][]string {
	var all [][]string
	last := [][]string{nil}
	for range 4 {
		var next [][]string
		for _, t := range last {
			for _, l := range []string{"a", "b", "other"} {
				next = append(next, append(t[:len(t):len(t)], l))
			}
		}
		all, last = append(all, next...), next
	}
	return all
}()

// A filter is allowed if and only if one rule allows each topic that it matches
// and none denies one: as by asking of each topic in turn.
func TestTopicsAsTopicByTopic(t *testing.T) {
	filter := rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "+"}), 0, 3).Draw(t, "levels")
		if len(levels) == 0 || rapid.Bool().Draw(t, "rest") {
			levels = append(levels, "#")
		}
		return strings.Join(levels, "/")
	})
	rapid.Check(t, func(t *rapid.T) {
		acc := &group.Account{Name: "ann"}
		for range rapid.IntRange(1, 4).Draw(t, "rules") {
			acc.Topics = append(acc.Topics, group.TopicRule{
				Deny: rapid.IntRange(0, 2).Draw(t, "deny") == 0, Publish: true, Subscribe: true, Filter: filter.Draw(t, "rule"),
			})
		}
		topics, asked := NewTopics(acc, "c"), filter.Draw(t, "asked")
		covered := make([]bool, len(acc.Topics)) // all that it matches, by one rule
		for i := range covered {
			covered[i] = !acc.Topics[i].Deny
		}
		denied := false
		for _, topic := range everyTopic {
			name := strings.Join(topic, "/")
			allowedHere, deniedHere := false, false
			in := matches(strings.Split(asked, "/"), topic)
			for i, r := range acc.Topics {
				m := matches(strings.Split(r.Filter, "/"), topic)
				deniedHere = deniedHere || m && r.Deny
				allowedHere = allowedHere || m && !r.Deny
				covered[i] = covered[i] && (m || !in)
			}
			denied = denied || in && deniedHere
			if want := allowedHere && !deniedHere; topics.MayPublish(name) != want || topics.MayRead(name) != want {
				t.Fatalf("%v: %s: publish %t, read %t, want %t", acc.Topics, name, topics.MayPublish(name), topics.MayRead(name), want)
			}
		}
		want := false
		for _, c := range covered {
			want = want || c
		}
		if want = want && !denied; topics.MayRead(asked) != want {
			t.Fatalf("%v: %s: %t, want %t", acc.Topics, asked, !want, want)
		}
	})
}

// FuzzTopics takes any rule, names and topic: nothing of the server's is ever
// allowed, and what is read back means the same.
func FuzzTopics(f *testing.F) {
	f.Add("allow both s/%c/#", "lamp-7", "ann", "s/lamp-7/x")
	f.Add("deny publish %u-%%/+", "a/b", "#", "$SYS/x")
	f.Fuzz(func(t *testing.T, rule, client, user, topic string) {
		r, err := group.ParseTopicRule(rule)
		if err != nil {
			return
		}
		if again, err := group.ParseTopicRule(r.String()); err != nil || again != r {
			t.Errorf("%q is read again as %+v, %v", r, again, err)
		}
		acc := &group.Account{Name: user, Topics: []group.TopicRule{r}}
		topics := NewTopics(acc, group.ClientID(client))
		may := topics.MayPublish(topic) || topics.MayRead(topic)
		if may && (r.Deny || topic == "" || topic[0] == '$') {
			t.Errorf("%q allows %q", rule, topic)
		}
	})
}

func BenchmarkMayPublish(b *testing.B) {
	var lines []string
	for range group.MaxTopicRules - 1 {
		lines = append(lines, "deny both plant/+/secret/x"+string(rune('a'+len(lines)%26))+string(rune('a'+len(lines)/26)))
	}
	acc := &group.Account{Name: "ann", Topics: rules(b, append(lines, "allow publish plant/%c/#")...)}
	topics := NewTopics(acc, "lamp-7")
	b.ReportAllocs()
	for b.Loop() {
		if !topics.MayPublish("plant/lamp-7/temperature/inside") {
			b.Fatal("refused")
		}
	}
}

// A check allocates nothing, however many rules there are.
func TestTopicsAllocateNothing(t *testing.T) {
	topics := NewTopics(&group.Account{Name: "ann", Topics: rules(t, "allow both plant/%c/#", "deny both plant/+/secret")}, "lamp-7")
	n := testing.AllocsPerRun(100, func() {
		topics.MayPublish("plant/lamp-7/temperature")
		topics.MayRead("plant/lamp-7/+/#")
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
