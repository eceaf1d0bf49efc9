package authz

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/muster-mqtt/muster/group"
)

// groups returns one group of each kind.
func (b *bench) groups(t testing.TB) (open, pin, deleted *group.Group) {
	open = &group.Group{Number: 1, Policy: group.PolicyOpen, PolicyRev: 3}
	pin = &group.Group{Number: 2, Policy: group.PolicyPIN, PIN: b.hashed(t, "40718835"), PolicyRev: 5}
	deleted = &group.Group{Number: 3, Policy: group.PolicyPIN, Deleted: true, PolicyRev: 7}
	return open, pin, deleted
}

// Each row is one rule. Beside the verdict stand the runs of argon2id that it
// cost.
func TestVerdicts(t *testing.T) {
	b := newBench(t, Config{})
	open, pin, deleted := b.groups(t)
	damaged := &group.Group{Number: 4, Policy: group.PolicyPIN, PIN: "$argon2id$v=19$m=8", PolicyRev: 9}
	future := &group.Group{Number: 5, Policy: 77, PIN: pin.PIN, PolicyRev: 11}
	tests := []struct {
		name string
		q    Ask
		code group.Code
		rule string
		rev  uint64
		runs int
	}{
		{"an operator, for a device", Ask{To: pin, Operator: true}, group.OK, "operator", 5, 0},
		{"an operator, for his own device", Ask{To: pin, Role: group.RoleOperator}, group.OK, "operator", 5, 0},
		{"an operator, nothing there", Ask{Operator: true}, group.NoSuchGroup, "unknown", 0, 0},
		{"an operator, deleted", Ask{To: deleted, Role: group.RoleOperator}, group.GroupDeleted, "deleted", 7, 0},

		{"a member, no PIN", Ask{To: pin, Member: true, Visible: true}, group.OK, "member", 5, 0},                         // [GRP-3.3-2]
		{"a member, wrong PIN", Ask{To: pin, Member: true, Visible: true, Secret: "11111111"}, group.OK, "member", 5, 0},  // [GRP-3.3-2]
		{"a member that is not said to see it", Ask{To: pin, Member: true, Secret: "11111111"}, group.OK, "member", 5, 0}, // [GRP-3.3-2]
		{"a member of a deleted group is none", Ask{To: deleted, Member: true, Visible: true}, group.GroupDeleted, "deleted", 7, 0},

		{"open", Ask{To: open, Visible: true}, group.OK, "open", 3, 0},
		{"open, a needless PIN", Ask{To: open, Visible: true, Secret: "1234"}, group.OK, "open", 3, 0},

		{"visible, no PIN", Ask{To: pin, Visible: true}, group.BadSecret, "pin", 5, 0},
		{"visible, wrong PIN", Ask{To: pin, Visible: true, Secret: "11111111"}, group.BadSecret, "pin", 5, 1},
		{"visible, right PIN", Ask{To: pin, Visible: true, Secret: "40718835"}, group.OK, "pin", 5, 1},
		{"an observer needs the PIN", Ask{To: pin, Visible: true, Role: group.RoleObserver}, group.BadSecret, "pin", 5, 0},
		{"visible, deleted", Ask{To: deleted, Visible: true}, group.GroupDeleted, "deleted", 7, 0},
		{"visible, a damaged record", Ask{To: damaged, Visible: true, Secret: "40718835"}, group.BadSecret, "pin", 9, 1},

		{"hidden, right PIN", Ask{To: pin, Secret: "40718835"}, group.OK, "pin", 5, 0}, // known by now
		{"hidden, wrong PIN", Ask{To: pin, Secret: "11111111"}, group.NotAuthorized, "unknown", 5, 1},
		{"hidden, no PIN", Ask{To: pin}, group.NotAuthorized, "unknown", 5, 1},
		{"hidden and open", Ask{To: open}, group.NotAuthorized, "unknown", 3, 1},
		{"a policy that this release does not know", Ask{To: future, Secret: "40718835"}, group.NotAuthorized, "unknown", 11, 1},
	}
	for i, tt := range tests {
		tt.q.Client, tt.q.Account = group.ClientID(tt.name), tt.name
		tt.q.Addr = "192.0.2." + string(rune('0'+i%10))
		v, quick := b.judge(t, tt.q)
		want := group.Verdict{Code: tt.code, Rule: tt.rule, PolicyRev: tt.rev}
		runs := b.took()
		if v != want || len(runs) != tt.runs || quick != (tt.runs == 0) {
			t.Errorf("%s: %+v after %d runs, quickly %t; want %+v after %d", tt.name, v, len(runs), quick, want, tt.runs)
		}
	}
}

// What an asker may not know of is one answer at one cost, and counted alike:
// to somebody who tries, these rows cannot be told apart.
func TestHiddenGroupsAreOneAnswer(t *testing.T) { // [GRP-3.4-1]
	b := newBench(t, Config{Argon2: Params{Memory: 64 << 10, Time: 3, Threads: 2}})
	open, pin, deleted := b.groups(t)
	kept := *pin
	kept.Deleted = true
	damaged := *pin
	damaged.PIN = "argon2id"
	tests := []struct {
		name   string
		to     *group.Group
		secret string
	}{
		{"unknown, no PIN", nil, ""},
		{"unknown, a PIN", nil, "11111111"},
		{"unknown, another group's PIN", nil, "40718835"},
		{"hidden, no PIN", pin, ""},
		{"hidden, wrong PIN", pin, "11111111"},
		{"hidden, much too long a PIN", pin, strings.Repeat("1", 100_000)},
		{"hidden, the PIN and more", pin, "40718835" + strings.Repeat("1", 100_000)},
		{"hidden, no PIN could be", pin, "\x00\xff"},
		{"hidden, open", open, ""},
		{"hidden, open, a PIN", open, "40718835"},
		{"hidden, deleted", deleted, ""},
		{"hidden, deleted, its PIN", &kept, "40718835"},
		{"hidden, a damaged record", &damaged, "40718835"},
	}
	if _, ok := b.judge(t, Ask{Client: "first", Account: "first", Addr: "192.0.2.1", To: pin, Secret: "40718835"}); ok {
		t.Fatal("the first right PIN was quick")
	}
	cost := b.took()
	if len(cost) != 1 {
		t.Fatalf("a right PIN took %q", cost)
	}
	for _, tt := range tests {
		q := Ask{Op: group.OpJoin, Client: group.ClientID(tt.name), Account: tt.name, Addr: tt.name, To: tt.to, Secret: tt.secret}
		for i := range 5 {
			v, _ := b.judge(t, q)
			v.PolicyRev = 0 // is told to nobody
			if want := (group.Verdict{Code: group.NotAuthorized, Rule: "unknown"}); v != want {
				t.Fatalf("%s: try %d: %+v, want %+v", tt.name, i+1, v, want)
			}
			if runs := b.took(); !slices.Equal(runs, cost) {
				t.Errorf("%s: try %d took %q, want %q", tt.name, i+1, runs, cost)
			}
		}
		v, quick := b.judge(t, q)
		v.PolicyRev = 0
		if want := (group.Verdict{Code: group.RateLimited, Rule: "guesses", Retry: 600}); v != want || !quick || len(b.took()) != 0 {
			t.Errorf("%s: try 6: %+v, want %+v", tt.name, v, want)
		}
	}
}

// A PIN that was right costs no argon2id again, until there is another; a wrong
// one costs a run each time.
func TestRightPINIsRemembered(t *testing.T) {
	b := newBench(t, Config{})
	_, pin, _ := b.groups(t)
	ask := func(device, secret string) (group.Code, int) {
		v, _ := b.judge(t, Ask{Client: group.ClientID(device), Account: device, Addr: device, To: pin, Secret: secret})
		return v.Code, len(b.took())
	}
	steps := []struct {
		device, secret string
		code           group.Code
		runs           int
	}{
		{"a", "11111111", group.NotAuthorized, 1},
		{"b", "11111111", group.NotAuthorized, 1},
		{"a", "40718835", group.OK, 1},
		{"a", "40718835", group.OK, 0},
		{"c", "40718835", group.OK, 0},
		{"c", "4071883", group.NotAuthorized, 1},
		{"c", "40718836", group.NotAuthorized, 1},
	}
	for _, s := range steps {
		if code, runs := ask(s.device, s.secret); code != s.code || runs != s.runs {
			t.Errorf("%s gives %s: %v after %d runs, want %v after %d", s.device, s.secret, code, runs, s.code, s.runs)
		}
	}
	pin.PIN = b.hashed(t, "newer")
	if code, runs := ask("d", "40718835"); code != group.NotAuthorized || runs != 1 {
		t.Errorf("the old PIN: %v after %d runs", code, runs)
	}
	if code, runs := ask("d", "newer"); code != group.OK || runs != 1 {
		t.Errorf("the new PIN: %v after %d runs", code, runs)
	}
}

// A Judge that cannot wait says so, and nothing is counted.
func TestJudgeIsInterrupted(t *testing.T) {
	b := newBench(t, Config{})
	_, pin, _ := b.groups(t)
	ctx, cancel := canceled(t)
	cancel()
	for range 20 {
		_, err := b.Judge(ctx, Ask{Op: group.OpJoin, Client: "pump-7", Account: "pump-7", To: pin, Secret: "11111111"})
		var e *group.Error
		if !errors.Is(err, group.Unavailable) || !errors.As(err, &e) || e.Client != "pump-7" {
			t.Fatalf("Judge after the end: %v", err)
		}
	}
	if v, _ := b.judge(t, Ask{Client: "pump-7", Account: "pump-7", To: pin, Secret: "40718835"}); v.Code != group.OK {
		t.Errorf("afterwards: %+v", v)
	}
}
