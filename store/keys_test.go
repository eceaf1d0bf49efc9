package store

import (
	"slices"
	"strings"
	"testing"

	"github.com/muster-mqtt/muster/group"
)

func TestKeys(t *testing.T) {
	tests := []struct {
		name string
		key  Key
		want Key
	}{
		{"group", GroupKey(0x01020304), "g\x01\x02\x03\x04"},
		{"device", DeviceKey("pump-7"), "d\x06pump-7"},
		{"account", AccountKey("ann"), "a\x03ann"},
		{"meta", MetaKey("grant-keys"), "m\x0agrant-keys"},
		{"hint", HintKey("cursor", "pump-7"), "h\x06cursor\x06pump-7"},
		{"no text", DeviceKey(""), "d\x00"},
		{"a long text", DeviceKey(group.ClientID(strings.Repeat("x", 300))), "d\xac\x02" + Key(strings.Repeat("x", 300))},
	}
	for _, test := range tests {
		if test.key != test.want {
			t.Errorf("%s: %q, want %q", test.name, test.key, test.want)
		}
	}
}

// Groups are scanned in the order of their numbers.
func TestGroupKeyOrder(t *testing.T) {
	numbers := []group.Number{0, 1, 2, 9, 10, 255, 256, 65535, 65536, 1<<32 - 1}
	for i := 1; i < len(numbers); i++ {
		if a, b := GroupKey(numbers[i-1]), GroupKey(numbers[i]); a >= b {
			t.Errorf("the key of %d, %q, is not before that of %d, %q", numbers[i-1], a, numbers[i], b)
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	tests := []struct {
		name string
		key  Key
	}{
		{"nothing", ""},
		{"a prefix", "d"},
		{"a group without a number", "g\x00\x00\x00"},
		{"a group with more than a number", "g\x00\x00\x00\x00\x00"},
		{"another kind", "q\x01a"},
		{"a text cut short", "d\x02a"},
		{"more than a text", "d\x01ab"},
		{"a length cut short", "d\x80"},
		{"a length not in its shortest form", "d\x81\x00a"},
		{"a length beyond 64 bits", "d\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"},
		{"a length near 64 bits", "d\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"},
		{"a hint's part cut short", "h\x01a\x05b"},
	}
	for _, test := range tests {
		_, isGroup := ParseGroupKey(test.key)
		_, isDevice := ParseDeviceKey(test.key)
		_, isAccount := ParseAccountKey(test.key)
		_, isMeta := ParseMetaKey(test.key)
		_, isHint := ParseHintKey(test.key)
		if isGroup || isDevice || isAccount || isMeta || isHint {
			t.Errorf("%s: %q is taken for a key", test.name, test.key)
		}
	}
}

func TestCheck(t *testing.T) {
	long := strings.Repeat("x", MaxKey)
	large := make([]byte, MaxRecord+1)
	tests := []struct {
		name string
		w    Write
		want error
	}{
		{"a write", Write{Key: MetaKey("k"), Value: large[1:], Note: large[1:]}, nil},
		{"no key", Write{}, ErrKey},
		{"a hint's key", Write{Key: HintKey("k")}, ErrKey},
		{"a long key", Write{Key: MetaKey(long)}, ErrTooLarge},
		{"a large value", Write{Key: MetaKey("k"), Value: large}, ErrTooLarge},
		{"a large note", Write{Key: MetaKey("k"), Note: large}, ErrTooLarge},
	}
	for _, test := range tests {
		if err := test.w.Check(); err != test.want {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	hints := []struct {
		name  string
		key   Key
		value []byte
		want  error
	}{
		{"a hint", HintKey("k"), large[1:], nil},
		{"a record's key", MetaKey("k"), nil, ErrKey},
		{"no key", "", nil, ErrKey},
		{"a long key", HintKey(long), nil, ErrTooLarge},
		{"a large value", HintKey("k"), large, ErrTooLarge},
	}
	for _, test := range hints {
		if err := CheckHint(test.key, test.value); err != test.want {
			t.Errorf("hint, %s: %v, want %v", test.name, err, test.want)
		}
	}
}

// FuzzKeys makes keys of any texts. Keys of two different records differ, none
// is the beginning of another's, and each gives back what it was made of. Bytes
// that parse as a key are the key of what they parse to.
func FuzzKeys(f *testing.F) {
	f.Add("pump-7", "pump-70", uint32(7), "d\x01a")
	f.Add("", "\x00", uint32(0), "h")
	f.Add("a\x01", "a\x01b", uint32(0x01610000), "g\x00\x00\x00\x01")
	f.Add(strings.Repeat("x", 127), strings.Repeat("x", 128), uint32(1<<31), "m\x80\x01")
	f.Fuzz(func(t *testing.T, a, b string, n uint32, raw string) {
		keys := map[string]Key{
			"group": GroupKey(group.Number(n)),
			"d a":   DeviceKey(group.ClientID(a)), "d b": DeviceKey(group.ClientID(b)),
			"a a": AccountKey(a), "a b": AccountKey(b),
			"m a": MetaKey(a), "m b": MetaKey(b),
			"h a": HintKey(a), "h b": HintKey(b),
		}
		for x, k := range keys {
			for y, l := range keys {
				if x != y && strings.HasPrefix(string(l), string(k)) && (a != b || x[:1] != y[:1]) {
					t.Errorf("with %q and %q the key %q of %s begins the key %q of %s", a, b, k, x, l, y)
				}
			}
		}
		if slices.Equal([]string{a, b}, []string{a + b, ""}) != (HintKey(a, b) == HintKey(a+b, "")) {
			t.Errorf("hints of %q and %q share a key", a, b)
		}
		if got, ok := ParseGroupKey(GroupKey(group.Number(n))); !ok || uint32(got) != n {
			t.Errorf("group %d: %d, %v", n, got, ok)
		}
		if got, ok := ParseDeviceKey(DeviceKey(group.ClientID(a))); !ok || string(got) != a {
			t.Errorf("device %q: %q, %v", a, got, ok)
		}
		if got, ok := ParseAccountKey(AccountKey(a)); !ok || got != a {
			t.Errorf("account %q: %q, %v", a, got, ok)
		}
		if got, ok := ParseMetaKey(MetaKey(a)); !ok || got != a {
			t.Errorf("meta %q: %q, %v", a, got, ok)
		}
		if got, ok := ParseHintKey(HintKey(a, b, a)); !ok || !slices.Equal(got, []string{a, b, a}) {
			t.Errorf("hint %q %q: %q, %v", a, b, got, ok)
		}

		k := Key(raw)
		if n, ok := ParseGroupKey(k); ok && GroupKey(n) != k {
			t.Errorf("%q parses to group %d", k, n)
		}
		if c, ok := ParseDeviceKey(k); ok && DeviceKey(c) != k {
			t.Errorf("%q parses to device %q", k, c)
		}
		if s, ok := ParseAccountKey(k); ok && AccountKey(s) != k {
			t.Errorf("%q parses to account %q", k, s)
		}
		if s, ok := ParseMetaKey(k); ok && MetaKey(s) != k {
			t.Errorf("%q parses to meta %q", k, s)
		}
		if s, ok := ParseHintKey(k); ok && HintKey(s...) != k {
			t.Errorf("%q parses to hint %q", k, s)
		}
	})
}
