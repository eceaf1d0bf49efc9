package authz

import (
	"fmt"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/group"
)

// A step is a try after some time, and the code that answers it.
type step struct {
	after                 time.Duration
	device, account, addr string // of account "", the anonymous one
	secret                string
	code                  group.Code
	retry                 int
}

const right, wrong = "40718835", "11111111"

// repeat returns n steps that differ in nothing but the text for %d.
func repeat(n int, s step) []step {
	all := make([]step, n)
	for i := range all {
		all[i] = s
		all[i].device, all[i].account, all[i].addr = number(s.device, i), number(s.account, i), number(s.addr, i)
	}
	return all
}

func number(s string, i int) string {
	for j := range len(s) - 1 {
		if s[j:j+2] == "%d" {
			return fmt.Sprintf(s, i)
		}
	}
	return s
}

func steps(parts ...[]step) (all []step) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func TestLimits(t *testing.T) {
	m := time.Minute
	tests := []struct {
		name    string
		visible bool
		steps   []step
	}{
		{"a device waits after 5, with the right PIN too, and nobody else does", true, steps( // [GRP-3.3-3]
			repeat(5, step{0, "a", "ann", "192.0.2.1", wrong, group.BadSecret, 0}),
			[]step{
				{0, "a", "ann", "192.0.2.1", wrong, group.RateLimited, 600},
				{0, "a", "ann", "192.0.2.1", right, group.RateLimited, 600},
				{0, "b", "ann", "192.0.2.1", right, group.OK, 0},
				{0, "c", "bob", "192.0.2.1", right, group.OK, 0},
				{m, "a", "ann", "192.0.2.9", right, group.RateLimited, 540},
				{9*m - time.Nanosecond, "a", "ann", "192.0.2.1", right, group.RateLimited, 1},
				{time.Nanosecond, "a", "ann", "192.0.2.1", right, group.OK, 0},
			})},
		{"the window slides: each failure counts for as long", true, []step{
			{0, "a", "ann", "x", wrong, group.BadSecret, 0},
			{9 * m, "a", "ann", "x", wrong, group.BadSecret, 0},
			{0, "a", "ann", "x", wrong, group.BadSecret, 0},
			{0, "a", "ann", "x", wrong, group.BadSecret, 0},
			{m, "a", "ann", "x", wrong, group.BadSecret, 0}, // the first is over
			{0, "a", "ann", "x", wrong, group.BadSecret, 0},
			{0, "a", "ann", "x", right, group.RateLimited, 540},
			{9 * m, "a", "ann", "x", right, group.OK, 0},
		}},
		{"a right PIN in between takes nothing back", true, steps(
			repeat(4, step{0, "a", "ann", "x", wrong, group.BadSecret, 0}),
			repeat(9, step{0, "a", "ann", "x", right, group.OK, 0}),
			[]step{
				{0, "a", "ann", "x", wrong, group.BadSecret, 0},
				{0, "a", "ann", "x", right, group.RateLimited, 600},
			})},
		{"waiting makes it no longer", true, steps(
			repeat(5, step{0, "a", "ann", "x", wrong, group.BadSecret, 0}),
			repeat(9, step{m, "a", "ann", "x", wrong, group.RateLimited, 0}),
			[]step{{m, "a", "ann", "x", right, group.OK, 0}})},
		{"no PIN is no guess where the group is seen", true, steps(
			repeat(200, step{0, "a", "ann", "x", "", group.BadSecret, 0}),
			[]step{{0, "a", "ann", "x", right, group.OK, 0}})},
		{"no PIN counts as a wrong one where it is not", false, steps(
			repeat(5, step{0, "a", "ann", "x", "", group.NotAuthorized, 0}),
			[]step{{0, "a", "ann", "x", right, group.RateLimited, 600}})},
		{"made-up Client Identifiers count for the account", true, steps(
			repeat(50, step{0, "a%d", "ann", "192.0.2.%d", wrong, group.BadSecret, 0}),
			[]step{
				{0, "new", "ann", "new", right, group.RateLimited, 600},
				{0, "new", "Ann", "new", right, group.RateLimited, 600},
				{0, "b", "bob", "192.0.2.1", right, group.OK, 0},
				{0, "c", "", "192.0.2.1", right, group.OK, 0},
			})},
		{"the anonymous account is nobody's, and not limited", true, steps(
			repeat(60, step{0, "a%d", "", "192.0.2.%d", wrong, group.BadSecret, 0}),
			[]step{{0, "b", "", "new", right, group.OK, 0}})},
		{"made-up accounts count for the address", true, steps(
			repeat(100, step{0, "a%d", "ann%d", "192.0.2.1:%d", wrong, group.BadSecret, 0}),
			[]step{
				{0, "b", "bob", "192.0.2.1:99", right, group.RateLimited, 600},
				{0, "b", "bob", "192.0.2.2:99", right, group.OK, 0},
			})},
		{"an IPv6 subscriber is one address", true, steps(
			repeat(100, step{0, "a%d", "ann%d", "[2001:db8:0:1::%d]:1883", wrong, group.BadSecret, 0}),
			[]step{
				{0, "b", "bob", "[2001:db8:0:1:ffff::1]:1", right, group.RateLimited, 600},
				{0, "b", "bob", "[2001:db8:0:2::1]:1", right, group.OK, 0},
			})},
		{"past a group's budget who has failed waits, nobody else", true, steps(
			[]step{
				{0, "old", "old", "x1", right, group.OK, 0},
				{m, "old", "old", "x1", wrong, group.BadSecret, 0},
			},
			repeat(999, step{0, "a%d", "a%d", "b%d", wrong, group.BadSecret, 0}),
			[]step{
				{m, "a1", "a1", "b1", right, group.RateLimited, 540},      // has failed
				{0, "a1-new", "a1", "new", right, group.RateLimited, 540}, // its account has
				{0, "new", "new", "b1", wrong, group.BadSecret, 0},        // had not failed
				{0, "new", "new", "b1", right, group.RateLimited, 540},    // the oldest go, and with them the budget is not spent
				{0, "newer", "newer", "b1", right, group.OK, 0},
				{0, "old", "old", "x1", right, group.OK, 0}, // has failed, and has passed once
				{9 * m, "a1", "a1", "b1", right, group.OK, 0},
			})},
		{"hidden groups have one budget", false, steps(
			repeat(1000, step{0, "a%d", "a%d", "b%d", wrong, group.NotAuthorized, 0}),
			[]step{
				{0, "a1", "a1", "b1", right, group.RateLimited, 600},
				{0, "new", "new", "b1", right, group.OK, 0},
			})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Config{})
			_, pin, _ := b.groups(t)
			for i, s := range tt.steps {
				b.pass(s.after)
				q := Ask{
					Client: group.ClientID(s.device), Account: s.account, Addr: s.addr, To: pin, Visible: tt.visible, Secret: s.secret,
				}
				if s.account == "" {
					q.Account, q.Anonymous = "anonymous", true
				}
				v, _ := b.judge(t, q)
				if v.Code != s.code || s.retry != 0 && v.Retry != s.retry || (v.Code == group.RateLimited) != (v.Retry > 0) {
					t.Fatalf("step %d, %+v: %+v", i, s, v)
				}
			}
			// Whatever happened, members join again. [GRP-3.3-3]
			for _, s := range tt.steps {
				q := Ask{Client: group.ClientID(s.device), Account: s.account, Addr: s.addr, To: pin, Member: true, Secret: wrong}
				if v, ok := b.Quick(q); !ok || v.Code != group.OK {
					t.Fatalf("member %s: %+v", s.device, v)
				}
			}
		})
	}
}

// The budget of hidden groups does not tell which of them exist.
func TestBudgetHidesGroups(t *testing.T) { // [GRP-3.4-1]
	b := newBench(t, Config{})
	_, pin, deleted := b.groups(t)
	for i := range 1000 {
		b.judge(t, Ask{Client: group.ClientID(number("a%d", i)), Account: number("a%d", i), Addr: number("a%d", i), To: pin, Secret: wrong})
	}
	for _, to := range []*group.Group{nil, pin, deleted} {
		v, _ := b.judge(t, Ask{Client: "a1", Account: "a1", Addr: "a1", To: to, Secret: wrong})
		if v.Code != group.RateLimited || v.Retry != 600 {
			t.Errorf("group %v: %+v", to, v)
		}
	}
}

// Tries that are under way together are no way round a limit: whoever is
// answered after the fifth failure does not learn whether the PIN was right.
func TestLimitHoldsForTriesAtOnce(t *testing.T) {
	b := newBench(t, Config{Argon2: Params{Memory: 8 << 10, Time: 1, Threads: 1, Runs: 64}})
	_, pin, _ := b.groups(t)
	begun := make(chan bool)
	release := map[string]chan bool{right: make(chan bool), wrong: make(chan bool)}
	real := b.derive
	b.derive = func(secret, salt []byte, passes, kib uint32, threads uint8, size uint32) []byte {
		begun <- true
		<-release[string(secret)]
		return real(secret, salt, passes, kib, threads, size)
	}
	codes := make(chan group.Code)
	try := func(secret string) {
		v, err := b.Judge(t.Context(), Ask{Client: "a", Account: "ann", To: pin, Visible: true, Secret: secret})
		if err != nil {
			t.Error(err)
		}
		codes <- v.Code
	}
	go try(right)
	for range 40 {
		go try(wrong)
	}
	for range 41 {
		<-begun
	}
	count := map[group.Code]int{}
	close(release[wrong])
	for range 40 {
		count[<-codes]++
	}
	if count[group.BadSecret] != 5 || count[group.RateLimited] != 35 {
		t.Errorf("40 wrong PINs at once: %v", count)
	}
	close(release[right])
	if code := <-codes; code != group.RateLimited {
		t.Errorf("the right one, after them: %v", code)
	}
}

func TestPlace(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:1883":          "192.0.2.1",
		"192.0.2.1":               "192.0.2.1",
		"[::ffff:192.0.2.1]:1883": "192.0.2.1",
		"[2001:db8::1]:1883":      "2001:db8::/64",
		"2001:db8::2":             "2001:db8::/64",
		"[fe80::1%eth0]:1883":     "fe80::/64",
		"[fe80::1%eth1]:1883":     "fe80::/64",
		"@":                       "@",
		"":                        "",
		"pump-7.example.com:1883": "pump-7.example.com:1883",
	} {
		if got := place(addr); got != want {
			t.Errorf("place(%q) = %q, want %q", addr, got, want)
		}
	}
}
