package authz

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-mqtt/muster/group"
)

func (b *bench) login(t testing.TB, acc *group.Account, password []byte, addr string) (group.Code, int) {
	t.Helper()
	b.took()
	err := b.Login(t.Context(), acc, password, addr)
	code := group.OK
	var e *group.Error
	if err != nil && (!errors.As(err, &e) || !errors.As(err, &code)) {
		t.Fatalf("Login: %v", err)
	}
	return code, len(b.took())
}

// Failures are one answer at one cost, whatever they fail for; what is right
// costs a run of argon2id at most once, and a generated password none.
func TestLogin(t *testing.T) {
	b := newBench(t, Config{Argon2: Params{Memory: 64 << 10, Time: 3, Threads: 2}})
	chosen := group.Account{Name: "ann", Secret: b.hashed(t, "correct horse")}
	plain, hash := NewPassword()
	made := group.Account{Name: "pump-7", Secret: hash}
	removed := chosen
	removed.Name, removed.Removed = "gone", true
	tests := []struct {
		name     string
		acc      *group.Account
		password []byte
		code     group.Code
		runs     int
	}{
		{"chosen, right", &chosen, []byte("correct horse"), group.OK, 1},
		{"chosen, right again", &chosen, []byte("correct horse"), group.OK, 0},
		{"chosen, wrong", &chosen, []byte("correct horsE"), group.NotAuthorized, 1},
		{"chosen, wrong again", &chosen, []byte("correct horsE"), group.NotAuthorized, 1},
		{"chosen, cut", &chosen, []byte("correct hors"), group.NotAuthorized, 1},
		{"chosen, much too long", &chosen, []byte("correct horse" + strings.Repeat("x", 65535)), group.NotAuthorized, 1},
		{"chosen, none", &chosen, nil, group.NotAuthorized, 1},
		{"chosen, empty", &chosen, []byte{}, group.NotAuthorized, 1},
		{"generated, right", &made, []byte(plain), group.OK, 0},
		{"generated, wrong", &made, []byte(plain[1:]), group.NotAuthorized, 1},
		{"generated, its hash", &made, []byte(hash), group.NotAuthorized, 1},
		{"generated, none", &made, nil, group.NotAuthorized, 1},
		{"unknown", nil, []byte("correct horse"), group.NotAuthorized, 1},
		{"unknown, none", nil, nil, group.NotAuthorized, 1},
		{"unknown, by name", &group.Account{Name: "bob"}, []byte("correct horse"), group.NotAuthorized, 1},
		{"unknown, by name, empty", &group.Account{Name: "bob"}, []byte{}, group.NotAuthorized, 1},
		{"removed", &removed, []byte("correct horse"), group.NotAuthorized, 1},
		{"a damaged record", &group.Account{Name: "bob", Secret: "sha256:xyz"}, []byte("xyz"), group.NotAuthorized, 1},
		{"a record of nothing", &group.Account{Name: "bob", Secret: "sha256:"}, []byte{}, group.NotAuthorized, 1},
	}
	cost := ""
	for _, tt := range tests {
		err := b.Login(t.Context(), tt.acc, tt.password, tt.name)
		code := group.OK
		if errors.As(err, &code); code != tt.code || (err == nil) != (tt.code == group.OK) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.code)
		}
		runs := b.took()
		if cost == "" {
			cost = runs[0]
		}
		if !slices.Equal(runs, slices.Repeat([]string{cost}, tt.runs)) {
			t.Errorf("%s: took %q, want %d of %q", tt.name, runs, tt.runs, cost)
		}
	}
}

// An error is for the operator's log, and holds no password.
func TestLoginErrors(t *testing.T) {
	b := newBench(t, Config{})
	ann := &group.Account{Name: "ann", Secret: b.hashed(t, "correct horse")}
	ctx, cancel := canceled(t)
	cancel()
	for want, err := range map[string]error{
		"login: not_authorized: wrong password":           b.Login(t.Context(), ann, []byte("battery staple"), "x"),
		"login: not_authorized: no password was given":    b.Login(t.Context(), ann, nil, "x"),
		"login: not_authorized: there is no such account": b.Login(t.Context(), nil, []byte("battery staple"), "x"),
		"login: unavailable: context canceled":            b.Login(ctx, ann, []byte("battery staple"), "x"),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestLoginLimits(t *testing.T) {
	b := newBench(t, Config{})
	ann := &group.Account{Name: "ann", Secret: b.hashed(t, "correct horse")}
	bob := &group.Account{Name: "bob", Secret: b.hashed(t, "battery staple")}
	cid := &group.Account{Name: "cid", Secret: b.hashed(t, "tower bridge")}
	plain, hash := NewPassword()
	pump := &group.Account{Name: "pump-7", Secret: hash}
	check := func(what string, acc *group.Account, password, addr string, want group.Code, runs int) {
		t.Helper()
		if code, n := b.login(t, acc, []byte(password), addr); code != want || n != runs {
			t.Errorf("%s: %v after %d runs, want %v after %d", what, code, n, want, runs)
		}
	}
	check("bob, at first", bob, "battery staple", "192.0.2.1:1", group.OK, 1)
	for range 50 {
		check("a wrong password", ann, "wrong", "192.0.2.1:1", group.NotAuthorized, 1)
	}
	check("ann, from there", ann, "correct horse", "192.0.2.1:2", group.RateLimited, 0)
	check("ann, by another case", &group.Account{Name: "Ann"}, "correct horse", "192.0.2.1:2", group.RateLimited, 0)
	check("ann, from elsewhere", ann, "correct horse", "192.0.2.2:2", group.OK, 1)
	check("ann, known now, from there", ann, "correct horse", "192.0.2.1:2", group.RateLimited, 0)

	// A name that nobody has is limited like one that somebody has.
	for range 50 {
		check("nobody", &group.Account{Name: "nobody"}, "wrong", "192.0.2.1:1", group.NotAuthorized, 1)
	}
	check("nobody", &group.Account{Name: "nobody"}, "wrong", "192.0.2.3:1", group.NotAuthorized, 1)

	// The address has had its hundred.
	check("anybody", nil, "wrong", "192.0.2.1:1", group.RateLimited, 0)
	check("cid, never seen there", cid, "tower bridge", "192.0.2.1:1", group.RateLimited, 0)
	check("cid, from elsewhere", cid, "tower bridge", "192.0.2.4:1", group.OK, 1)
	check("cid, known now, from there", cid, "tower bridge", "192.0.2.1:1", group.RateLimited, 0)
	check("bob, who was let in there", bob, "battery staple", "192.0.2.1:1", group.OK, 0)
	check("a generated password", pump, plain, "192.0.2.1:1", group.OK, 0)
	check("a wrong generated one", pump, plain[1:], "192.0.2.1:1", group.RateLimited, 0)
	for range 50 {
		check("a guess at bob's", bob, "wrong", "192.0.2.1:1", group.RateLimited, 0)
	}
	check("bob, after guesses", bob, "battery staple", "192.0.2.1:1", group.RateLimited, 0)

	b.pass(10 * time.Minute)
	check("bob, later", bob, "battery staple", "192.0.2.1:1", group.OK, 0)
	check("cid, later", cid, "tower bridge", "192.0.2.1:1", group.OK, 0)
	check("ann, later", ann, "correct horse", "192.0.2.1:1", group.OK, 0)
}

// A new password makes what was known of the old one void.
func TestPasswordIsChanged(t *testing.T) {
	b := newBench(t, Config{})
	ann := &group.Account{Name: "ann", Secret: b.hashed(t, "correct horse")}
	if code, _ := b.login(t, ann, []byte("correct horse"), "x"); code != group.OK {
		t.Fatal(code)
	}
	ann.Secret = b.hashed(t, "battery staple")
	if code, _ := b.login(t, ann, []byte("correct horse"), "x"); code != group.NotAuthorized {
		t.Errorf("the old password: %v", code)
	}
	if code, _ := b.login(t, ann, []byte("battery staple"), "x"); code != group.OK {
		t.Errorf("the new password: %v", code)
	}
}

// Of many who log in at once with one password, those who waited while it was
// found right need no run of their own.
func TestLoginStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{Argon2: Params{Memory: 8 << 10, Time: 1, Threads: 1, Runs: 1}})
		ann := &group.Account{Name: "ann", Secret: b.hashed(t, "correct horse")}
		release := make(chan bool)
		real := b.derive
		b.derive = func(secret, salt []byte, passes, kib uint32, threads uint8, size uint32) []byte {
			<-release
			return real(secret, salt, passes, kib, threads, size)
		}
		errs := make(chan error)
		for range 1 + maxWaiting {
			go func() { errs <- b.Login(t.Context(), ann, []byte("correct horse"), "x") }()
		}
		synctest.Wait()
		if err := b.Login(t.Context(), ann, []byte("correct horse"), "x"); codeOf(err) != group.Unavailable {
			t.Errorf("one too many: %v", err)
		}
		close(release)
		for range 1 + maxWaiting {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if n := len(b.took()); n != 1 {
			t.Errorf("%d runs for one password", n)
		}
	})
}
