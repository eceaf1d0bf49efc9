package store

import (
	"encoding/binary"

	"github.com/muster-mqtt/muster/group"
)

// A Key names one record or one hint. Keys are ordered byte by byte. Texts in a
// key, which may hold any byte, are preceded by their length, so no two records
// share a key and no key is the beginning of another record's.
type Key string

// The prefixes of keys, one for each kind of record, for [Store.Scan].
const (
	AccountPrefix Key = "a"
	DevicePrefix  Key = "d"
	GroupPrefix   Key = "g"
	HintPrefix    Key = "h" // hints alone have keys with this prefix
	MetaPrefix    Key = "m"
)

// GroupKey returns the key of the group's record. Group records are in the
// order of their numbers.
func GroupKey(n group.Number) Key {
	return Key(binary.BigEndian.AppendUint32([]byte(GroupPrefix), uint32(n)))
}

// DeviceKey returns the key of the device's record.
func DeviceKey(c group.ClientID) Key { return appendText(DevicePrefix, string(c)) }

// AccountKey returns the key of an account's record. The name is folded (see
// [group.Fold]).
func AccountKey(folded string) Key { return appendText(AccountPrefix, folded) }

// MetaKey returns the key of a record that the server keeps for itself.
func MetaKey(name string) Key { return appendText(MetaPrefix, name) }

// HintKey returns the key of a hint, named by one part or more. HintKey of the
// first parts alone is the prefix of all hints whose names begin with them.
func HintKey(parts ...string) Key {
	k := HintPrefix
	for _, p := range parts {
		k = appendText(k, p)
	}
	return k
}

// IsHint reports whether k is the key of a hint.
func (k Key) IsHint() bool { return len(k) > 0 && k[:1] == HintPrefix }

// ParseGroupKey returns the number in a key that [GroupKey] made, and whether
// it is one.
func ParseGroupKey(k Key) (group.Number, bool) {
	if len(k) != 5 || k[:1] != GroupPrefix {
		return 0, false
	}
	return group.Number(binary.BigEndian.Uint32([]byte(k[1:]))), true
}

// ParseDeviceKey returns the Client Identifier in a key that [DeviceKey] made,
// and whether it is one.
func ParseDeviceKey(k Key) (group.ClientID, bool) {
	s, ok := parseText(k, DevicePrefix)
	return group.ClientID(s), ok
}

// ParseAccountKey returns the folded name in a key that [AccountKey] made, and
// whether it is one.
func ParseAccountKey(k Key) (string, bool) { return parseText(k, AccountPrefix) }

// ParseMetaKey returns the name in a key that [MetaKey] made, and whether it is
// one.
func ParseMetaKey(k Key) (string, bool) { return parseText(k, MetaPrefix) }

// ParseHintKey returns the parts of a key that [HintKey] made, and whether it
// is one.
func ParseHintKey(k Key) ([]string, bool) {
	if !k.IsHint() {
		return nil, false
	}
	var parts []string
	for rest := k[1:]; len(rest) > 0; {
		var s string
		var ok bool
		if s, rest, ok = cutText(rest); !ok {
			return nil, false
		}
		parts = append(parts, s)
	}
	return parts, true
}

// appendText appends the length of s and s.
func appendText(k Key, s string) Key {
	b := make([]byte, 0, len(k)+binary.MaxVarintLen64+len(s))
	b = binary.AppendUvarint(append(b, k...), uint64(len(s)))
	return Key(append(b, s...))
}

// cutText is the reverse of appendText: it returns the text with which k
// begins, and what follows. A length that is not in its shortest form is none.
func cutText(k Key) (s string, rest Key, ok bool) {
	head := []byte(k[:min(len(k), binary.MaxVarintLen64)])
	n, size := binary.Uvarint(head)
	if size <= 0 || size > 1 && head[size-1] == 0 || n > uint64(len(k)-size) {
		return "", "", false
	}
	end := size + int(n)
	return string(k[size:end]), k[end:], true
}

func parseText(k, prefix Key) (string, bool) {
	if len(k) == 0 || k[:1] != prefix {
		return "", false
	}
	s, rest, ok := cutText(k[1:])
	return s, ok && rest == ""
}
