package authz

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/group"
)

// A new key comes every week, and a grant of the old one opens as long as it
// lives.
func TestKeysRotate(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name  string
		after time.Duration // since the step before
		ids   string
		other bool
	}{
		{"at once", 0, "[1]", false},
		{"a week later, but for a second", 7*day - time.Second, "[1]", false},
		{"a week later", time.Second, "[1 2]", true},
		{"grants of the old key may live", day, "[1 2]", false},
		{"they are over", time.Hour, "[2]", true},
		{"two weeks later", 6 * day, "[2 3]", true},
		{"after a long stop", 100 * day, "[3 4]", true},
		{"a day and an hour later", 25 * time.Hour, "[4]", true},
		{"the clock goes back a little", -30 * time.Minute, "[4]", false},
		{"the clock was wrong by weeks", -30 * day, "[4 5]", true},
		{"and was right after all", 30 * day, "[5 6]", true},
	}
	k, now := NewKeys(noon), noon
	for _, tt := range tests {
		now = now.Add(tt.after)
		next, other := k.Rotate(now)
		if got := ids(next); got != tt.ids || other != tt.other {
			t.Errorf("%s: keys %s, others %t; want %s, %t", tt.name, got, other, tt.ids, tt.other)
		}
		k = next
	}
	// Whatever the clock does, there are few.
	for i := range 1000 {
		now = now.Add(time.Duration(i%7-3) * 5 * day)
		if k, _ = k.Rotate(now); len(k.all) > maxKeys || len(k.all) == 0 {
			t.Fatalf("%d keys", len(k.all))
		}
		if again, err := DecodeKeys(k.Encode()); err != nil || ids(again) != ids(k) {
			t.Fatalf("keys %s: %s, %v", ids(k), ids(again), err)
		}
	}
	if k, other := (Keys{}).Rotate(now); len(k.all) != 1 || !other {
		t.Errorf("from no keys: %v, %t", k, other)
	}
}

func ids(k Keys) string {
	var all []byte
	for _, k := range k.all {
		all = append(all, k.id)
	}
	return fmt.Sprint(all)
}

// A grant outlives a rotation and a restart, but not its key.
func TestGrantOutlivesRotation(t *testing.T) {
	a := New(Config{Argon2: tiny})
	old := NewKeys(noon)
	a.SetKeys(old)
	g := minute()
	now := noon.Add(keyLife - time.Second)
	g.Expires = now.Add(MaxTTL)
	b := issue(t, a, g)
	k := old
	for ; now.Before(g.Expires); now = now.Add(time.Minute) {
		k, _ = k.Rotate(now)
		restarted, err := DecodeKeys(k.Encode())
		if err != nil {
			t.Fatal(err)
		}
		a.SetKeys(restarted)
		if _, err := a.Open(b, pump7, now); err != nil {
			t.Fatalf("%v before its end: %v", g.Expires.Sub(now), err)
		}
	}
	if newer := issue(t, a, g); bytes.Equal(newer, b) || ids(k) != "[1 2]" {
		t.Errorf("keys %s sign the same", ids(k))
	}
	k, _ = k.Rotate(now.Add(keyGrace))
	a.SetKeys(k)
	if _, err := a.Open(b, pump7, now); codeOf(err) != group.GrantUnknown {
		t.Errorf("without its key: %v", err)
	}
}

// Keys do not get into a log.
func TestKeysAreNotShown(t *testing.T) {
	k := NewKeys(noon)
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		fmt.Fprintf(&out, verb+"\n", k)
		fmt.Fprintf(&out, verb+"\n", &k)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "keys", k)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "keys", k)
	for _, b := range []string{fmt.Sprint(k.all[0].secret[:4]), fmt.Sprintf("%x", k.all[0].secret[:4]), fmt.Sprintf("%#x", k.all[0].secret[0])} {
		if strings.Contains(out.String(), strings.Trim(b, "[]")) {
			t.Errorf("keys are shown: %s", out.String())
		}
	}
}

func TestDecodeKeysErrors(t *testing.T) {
	k := NewKeys(noon)
	rec := func(id byte, made int64, secret int) keyRecord {
		return keyRecord{ID: id, Made: made, Secret: make([]byte, secret)}
	}
	record := func(version uint8, keys ...keyRecord) []byte { return encode(keysRecord{Version: version, Keys: keys}) }
	if _, err := DecodeKeys(record(1, rec(1, 0, 32), rec(2, 1<<40, 32))); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"no key":          record(1),
		"five keys":       record(1, rec(1, 0, 32), rec(2, 0, 32), rec(3, 0, 32), rec(4, 0, 32), rec(5, 0, 32)),
		"an id twice":     record(1, rec(1, 0, 32), rec(1, 1, 32)),
		"a short key":     record(1, rec(1, 0, 31)),
		"a long key":      record(1, rec(1, 0, 33)),
		"before 1970":     record(1, rec(1, -1, 32)),
		"much too late":   record(1, rec(1, 1<<40+1, 32)),
		"another version": record(2, rec(1, 0, 32)),
		"cut short":       k.Encode()[:30],
		"and more":        append(k.Encode(), 0),
	} {
		if k, err := DecodeKeys(b); err == nil || len(k.all) != 0 {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
}

// FuzzDecodeKeys reads hostile records: what decodes encodes to the same bytes.
func FuzzDecodeKeys(f *testing.F) {
	k := NewKeys(noon)
	f.Add(k.Encode())
	k, _ = k.Rotate(noon.Add(keyLife))
	f.Add(k.Encode())
	f.Add([]byte{0x82, 0x01, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := DecodeKeys(b)
		if err == nil && (!bytes.Equal(k.Encode(), b) || len(k.all) == 0 || len(k.all) > maxKeys) {
			t.Errorf("%x was read as %s and is %x", b, ids(k), k.Encode())
		}
	})
}
