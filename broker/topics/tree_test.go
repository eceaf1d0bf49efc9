package topics

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/muster-mqtt/muster/broker/wire"
)

// levels returns how many first levels mochi's index holds, which is 0 only if
// it holds nothing.
func levels(x *index) int {
	root := reflect.ValueOf(x.mochi).Elem().FieldByName("root").Elem()
	return root.FieldByName("particles").FieldByName("internal").Len() + len(x.filters)
}

func TestRules(t *testing.T) {
	tests := []struct {
		rule, filter, topic string
		want                bool
	}{
		{"equal", "a/b", "a/b", true},
		{"case counts", "a", "A", false},
		{"a level more", "a", "a/", false},
		{"an empty level is one", "/a", "a", false},
		{"+ is one level", "+", "a/b", false},
		{"+ takes an empty level", "+/+", "/", true},
		{"# takes the parent", "a/#", "a", true},
		{"# takes what is below", "a/#", "a/b/c", true},
		{"# takes no neighbour", "a/#", "ab", false},
		{"# takes the parent, which is +", "+/#", "a", true},
		{"# takes the parent, whose last is +", "a/+/#", "a/b", true},
		{"and not the one above", "a/+/#", "a", false},
		{"# takes all", "#", "a/b", true},
		{"# does not take $", "#", "$SYS/a", false},
		{"+ does not take $", "+/a", "$x/a", false},
		{"+/# does not take $", "+/#", "$x", false},
		{"$ takes $", "$x/#", "$x/a", true},
		{"# does not take groups", "#", "g/1/all/a/b", false},
		{"+ does not take groups", "+/1/#", "g/1/all/a", false},
		{"a topic g is of no group", "#", "g", true},
		{"a topic ga is of no group", "#", "ga/1", true},
		{"$SHARE is no share", "$SHARE/s/a", "$SHARE/s/a", true},
		{"and shares nothing", "$SHARE/s/a", "a", false},
		{"$SHARE within a share", "$share/s/$SHARE/t/a", "$SHARE/t/a", true},
		{"a share", "$share/s/a/+/#", "a/b", true},
		{"a share does not take $", "$share/s/#", "$SYS/a", false},
		{"a share does not take groups", "$share/s/+/1/evt", "g/1/evt", false},
		{"a share is no topic", "$share/s/a", "$share/s/a", false},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			tree := New(Limits{Retained: 1, RetainedBytes: 1000})
			tree.Subscribe(1, test.filter)
			found := len(subscribers(t, tree, test.topic)) + len(shares(t, tree, test.topic))
			if found > 1 || (found == 1) != test.want {
				t.Errorf("filter %q, topic %q: found %d, want %v", test.filter, test.topic, found, test.want)
			}
			if err := tree.Retain(message(test.topic, "on"), noon); err != nil {
				t.Fatal(err)
			}
			want := test.want && !strings.HasPrefix(test.filter, "$share/")
			found = 0
			tree.Retained(test.filter, noon, func(*wire.Shared) { found++ })
			if found > 1 || (found == 1) != want {
				t.Errorf("filter %q, topic %q: retained %d, want %v", test.filter, test.topic, found, want)
			}
		})
	}
}

// What callers refuse, wrong filters and the empty topic, does no harm here.
func TestBadInputIsHarmless(t *testing.T) {
	tree := New(Limits{Retained: 100, RetainedBytes: 10_000})
	bad := []string{"", "#/a", "a#", "+a", "a/#/#", "$share", "$share/", "$share/s", "$share/s/", "$share//a", "$share/+/a", "$SHARE", "$shar", "\x00", "\xff/+"}
	for _, s := range bad {
		tree.Subscribe(1, s)
		if err := tree.Retain(message(s, "on"), noon); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range bad {
		subscribers(t, tree, s)
		shares(t, tree, s)
		tree.Retained(s, noon, func(*wire.Shared) {})
	}
	for _, s := range bad {
		tree.Unsubscribe(1, s)
		if err := tree.Retain(message(s, ""), noon); err != nil {
			t.Fatal(err)
		}
	}
	if n := levels(tree.plain) + levels(tree.shared); n != 0 {
		t.Errorf("%d levels are left", n)
	}
	checkEmpty(t, tree)
}

// However many Sessions have a filter, those that remain are found.
func TestManyHoldersOfOneFilter(t *testing.T) {
	const n = 1000
	tree := New(Limits{})
	for k := range Key(n) {
		tree.Subscribe(k, "a/+")
		tree.Subscribe(k, "a/+")
	}
	for k := Key(0); k < n; k += 2 { // then from both ends
		tree.Unsubscribe(k, "a/+")
		tree.Unsubscribe(k, "a/+")
	}
	left := subscribers(t, tree, "a/b")
	for i := range Key(n / 2) {
		if left[i] != 2*i+1 {
			t.Fatalf("Session %d is missing", 2*i+1)
		}
	}
	for len(left) > 0 {
		k := left[len(left)/3]
		tree.Unsubscribe(k, "a/+")
		left = slices.DeleteFunc(left, func(l Key) bool { return l == k })
		if got := subscribers(t, tree, "a/b"); !slices.Equal(got, left) {
			t.Fatalf("found %v, want %v", got, left)
		}
	}
	if n, _ := tree.Counts(); n != 0 || levels(tree.plain) != 0 {
		t.Errorf("left: %d subscriptions, %d levels", n, levels(tree.plain))
	}
}

// Members take turns at being the first, and all are named each time.
func TestSharesTakeTurns(t *testing.T) {
	tree := New(Limits{})
	for k := range Key(4) {
		tree.Subscribe(k, "$share/s/a")
	}
	first := map[Key]int{}
	for range 100 {
		tree.Shared("a", func(_ string, members []Key) {
			first[members[0]]++
			if all := slices.Sorted(slices.Values(members)); !slices.Equal(all, []Key{0, 1, 2, 3}) {
				t.Fatalf("members %v", all)
			}
		})
	}
	for k := range Key(4) {
		if first[k] != 25 {
			t.Errorf("Session %d was first %d times of 100, want 25", k, first[k])
		}
	}
}

// A message and the Session that has it both ways: one for each share, and one.
func TestSharesAreApart(t *testing.T) {
	tree := New(Limits{})
	for _, filter := range []string{"a/b", "a/#", "$share/s/a/b", "$share/t/a/b", "$share/s/a/+"} {
		tree.Subscribe(1, filter)
	}
	tree.Subscribe(2, "$share/t/a/b")
	if got := subscribers(t, tree, "a/b"); !slices.Equal(got, []Key{1}) {
		t.Errorf("Sessions %v, want [1]", got)
	}
	want := "map[$share/s/a/+:[1] $share/s/a/b:[1] $share/t/a/b:[1 2]]"
	if got := fmt.Sprint(shares(t, tree, "a/b")); got != want {
		t.Errorf("shares %v, want %v", got, want)
	}
}

// Filters that come and go, at once or one after the other, leave nothing.
func TestFiltersComeAndGo(t *testing.T) {
	tree := New(Limits{})
	filter := func(i int) string {
		return []string{"a/%d/+", "a/%d/+/#", "%d/#", "$share/%d/b/+/#", "$share/s/%d/x", "+/%d"}[i%6]
	}
	const n = 100_000
	for i := range n {
		f := fmt.Sprintf(filter(i), i)
		tree.Subscribe(1, f)
		if i%2 == 0 {
			tree.Unsubscribe(1, f)
		}
	}
	if got, _ := tree.Counts(); got != n/2 {
		t.Errorf("%d subscriptions, want %d", got, n/2)
	}
	for i := range n {
		tree.Unsubscribe(1, fmt.Sprintf(filter(i), i))
	}
	if got, _ := tree.Counts(); got != 0 {
		t.Errorf("%d subscriptions, want none", got)
	}
	if n := levels(tree.plain) + levels(tree.shared); n != 0 {
		t.Errorf("%d levels are left", n)
	}
}

// What is called with what was found may change the tree.
func TestCallbacksMayUseTheTree(t *testing.T) {
	tree := New(Limits{Retained: 10, RetainedBytes: 1000})
	for k := range Key(3) {
		tree.Subscribe(k, "a/+")
		tree.Subscribe(k, "$share/s/a/+")
	}
	if err := tree.Retain(message("a/b", "on"), noon); err != nil {
		t.Fatal(err)
	}
	tree.Subscribers("a/b", func(k Key) {
		tree.Unsubscribe(k, "a/+")
		tree.Subscribe(k, "b")
		subscribers(t, tree, "b")
	})
	tree.Shared("a/b", func(share string, members []Key) {
		for _, k := range members {
			tree.Unsubscribe(k, share)
		}
		shares(t, tree, "a/b")
	})
	tree.Retained("#", noon, func(m *wire.Shared) {
		if err := tree.Retain(message(m.Topic(), ""), noon); err != nil {
			t.Error(err)
		}
	})
	if subs, kept := tree.Counts(); subs != 3 || kept != 0 {
		t.Errorf("%d subscriptions, %d messages, want 3 and none", subs, kept)
	}
}

// While others change the tree, a Session that always has one of two filters is
// found by each match, and once.
func TestAMatchIsOneMoment(t *testing.T) {
	tree := New(Limits{Retained: 100, RetainedBytes: 100_000})
	const rounds = 2000
	turns := func(k Key, one, other string) func() {
		tree.Subscribe(k, one)
		return func() {
			for range rounds {
				tree.Subscribe(k, other)
				tree.Unsubscribe(k, one)
				one, other = other, one
			}
		}
	}
	changes := []func(){
		turns(1, "a/b/c", "+/b/+/#"),
		turns(2, "#", "a/+/#"),
		turns(3, "$share/s/a/#", "$share/s/+/+/c"),
		func() {
			for i := range rounds {
				k, filter := Key(10+i%5), []string{"a/b/#", "a/b/c/d", "a", "$share/s/a/#"}[i/7%4]
				tree.Subscribe(k, filter)
				tree.Unsubscribe(k, filter)
			}
		},
		func() {
			for i := range rounds {
				payload := ""
				if i%3 > 0 {
					payload = "on"
				}
				if err := tree.Retain(message(fmt.Sprintf("a/%d", i/2%7), payload), noon); err != nil {
					t.Error(err)
				}
				tree.Expire(noon)
			}
		},
	}
	var changing, matching sync.WaitGroup
	for _, c := range changes {
		changing.Go(c)
	}
	stop := make(chan struct{})
	matching.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			found := map[Key]int{}
			tree.Subscribers("a/b/c", func(k Key) { found[k]++ })
			tree.Shared("a/b/c", func(_ string, members []Key) {
				if slices.Contains(members, 3) {
					found[3] = 1 // both filters may be there
				}
			})
			for k := range Key(3) {
				if found[k+1] != 1 {
					t.Errorf("Session %d: found %d times", k+1, found[k+1])
					return
				}
			}
			tree.Retained("a/+", noon, func(m *wire.Shared) { found[0]++ })
			if found[0] > 7 {
				t.Errorf("%d messages for 7 topics", found[0])
			}
			tree.Counts()
		}
	})
	changing.Wait()
	close(stop)
	matching.Wait()
}
