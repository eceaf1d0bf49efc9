package authz

import (
	"errors"
	"strings"
	"testing"

	"github.com/muster-mqtt/muster/group"
)

// A hash names its own costs, and keeps them when the configuration changes.
func TestHashSecret(t *testing.T) {
	old := newBench(t, Config{Argon2: Params{Memory: 64 << 10, Time: 3, Threads: 2}})
	hash, err := old.HashSecret(t.Context(), "correct horse")
	if err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$m=64,t=3,p=2$") {
		t.Fatalf("%q, %v", hash, err)
	}
	if again, _ := old.HashSecret(t.Context(), "correct horse"); again == hash {
		t.Error("two hashes of one secret are the same")
	}
	b := newBench(t, Config{})
	if code, _ := b.login(t, &group.Account{Name: "ann", Secret: hash}, []byte("correct horse"), "x"); code != group.OK {
		t.Errorf("under other costs: %v", code)
	}
}

func TestHashSecretErrors(t *testing.T) {
	b := newBench(t, Config{})
	for _, secret := range []string{"", strings.Repeat("x", 257)} {
		if h, err := b.HashSecret(t.Context(), secret); h != "" || !errors.Is(err, group.BadRequest) || strings.Contains(err.Error(), "xx") {
			t.Errorf("%d bytes: %q, %v", len(secret), h, err)
		}
	}
	ctx, cancel := canceled(t)
	cancel()
	if h, err := b.HashSecret(ctx, "1234"); h != "" || !errors.Is(err, group.Unavailable) || !errors.Is(err, ctx.Err()) {
		t.Errorf("after the end: %q, %v", h, err)
	}
	if len(b.took()) != 0 {
		t.Error("a refused secret was hashed")
	}
}

// The reference implementation's hash of "password", as its own test has it.
func TestForeignHash(t *testing.T) {
	b := newBench(t, Config{})
	const hash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	matches := false
	err := b.verify(t.Context(), forLogin, hash, []byte("password"), func(right bool) bool {
		matches = right
		return false
	})
	if !matches || err != nil {
		t.Errorf("%t, %v", matches, err)
	}
}

// FuzzParsePHC reads hostile hashes: what is accepted is within bounds and is
// written the same again.
func FuzzParsePHC(f *testing.F) {
	salt, sum := "c29tZXNhbHQ", "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	f.Add("$argon2id$v=19$m=256,t=2,p=1$" + salt + "$" + sum)
	for _, bad := range refusedHashes(salt, sum) {
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, ok := parsePHC(s)
		if !ok {
			return
		}
		if h.Memory < 8<<10 || h.Memory > 1<<30 || h.Time < 1 || h.Time > 100 || h.Threads < 1 || h.Threads > 64 ||
			len(h.salt) > 64 || len(h.sum) > 64 || len(h.sum) < 16 || h.String() != s {
			t.Errorf("%q was read as %+v", s, h)
		}
	})
}

func refusedHashes(salt, sum string) []string {
	head := "$argon2id$v=19$m=256,t=2,p=1$"
	return []string{
		"", "$", "$$$$$", "argon2id", head, head + salt, head + salt + "$", head + "$" + sum, head + salt + "$" + sum + "$",
		head + salt + "$" + sum + "=", head + salt + "$" + sum[:20], head + salt + "$" + sum[:len(sum)-1] + "5",
		head + "c2FsdA$" + sum, head + strings.Repeat("c29tZXNhbHQ", 20) + "$" + sum,
		"$argon2i$v=19$m=256,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=16$m=256,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=1048577,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=4294967295,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=99999999999999999999,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=7,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=256,t=0,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=256,t=101,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=256,t=2,p=0$" + salt + "$" + sum,
		"$argon2id$v=19$m=2560,t=2,p=65$" + salt + "$" + sum,
		"$argon2id$v=19$m=256,t=2,p=-1$" + salt + "$" + sum,
		"$argon2id$v=19$m=0256,t=2,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=256,t=2$" + salt + "$" + sum,
		"$argon2id$v=19$256,2,1$" + salt + "$" + sum,
	}
}

// A hash that this package could not have made is none, whatever it would cost.
func TestRefusedHashes(t *testing.T) {
	for _, s := range refusedHashes("c29tZXNhbHQ", "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4") {
		if h, ok := parsePHC(s); ok {
			t.Errorf("%q was read as %+v", s, h)
		}
	}
}
