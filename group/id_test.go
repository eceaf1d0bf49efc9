package group_test

import (
	"strings"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/group"
)

// The ULID specification's own example of a time, and the bounds.
func TestIDText(t *testing.T) {
	tests := []struct {
		name    string
		ms      int64
		entropy [10]byte
		want    string
	}{
		{"the specification's example", 1469918176385, [10]byte{}, "01ARYZ6S410000000000000000"},
		{"the beginning", 0, [10]byte{9: 1}, "00000000000000000000000001"},
		{"the last time", 1<<48 - 1, [10]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"},
	}
	for _, tt := range tests {
		id := group.NewID(time.UnixMilli(tt.ms), tt.entropy)
		if got := id.String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if back, err := group.ParseID(strings.ToLower(tt.want)); err != nil || back != id {
			t.Errorf("%s: read back as %v, %v", tt.name, back, err)
		}
	}
}

func TestParseIDRefuses(t *testing.T) {
	for name, s := range map[string]string{
		"too short":           "01ARYZ6S41000000000000000",
		"too long":            "01ARYZ6S4100000000000000000",
		"beyond 128 bits":     "80000000000000000000000000",
		"not in the alphabet": "01ARYZ6S41000000000000000U",
		"not ASCII":           "01ARYZ6S4100000000000000é",
		"nothing":             "",
	} {
		if id, err := group.ParseID(s); err == nil || !id.IsZero() {
			t.Errorf("%s: %q was read as %v", name, s, id)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("01ARYZ6S410000000000000000")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := group.ParseID(s)
		if err == nil && id.String() != strings.ToUpper(s) {
			t.Errorf("%q was read as %v", s, id)
		}
	})
}
