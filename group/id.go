package group

import (
	"encoding/binary"
	"errors"
	"strconv"
	"time"
)

// ID is a group's permanent identifier, a ULID: 48 bits of milliseconds since
// 1970 and 80 random bits. The zero ID means none.
type ID [16]byte

// crockford is the alphabet of the text form (ULID specification).
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewID makes an ID from a time and 80 bits of entropy.
func NewID(now time.Time, entropy [10]byte) ID {
	var id ID
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(id[:6], ms[2:])
	copy(id[6:], entropy[:])
	return id
}

// String returns the 26 characters of the ULID text form.
func (id ID) String() string {
	hi, lo := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	var s [26]byte
	for i := len(s) - 1; i >= 0; i-- {
		s[i] = crockford[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(s[:])
}

// IsZero reports whether id is no ID.
func (id ID) IsZero() bool { return id == ID{} }

var errID = errors.New("not a ULID: want 26 characters of Crockford's base 32")

// ParseID reads the text form, in either case. Text that is not a ULID, or one
// beyond 128 bits, is an error.
func ParseID(s string) (ID, error) {
	if len(s) != 26 || s[0] > '7' {
		return ID{}, errID
	}
	var hi, lo uint64
	for i := 0; i < len(s); i++ {
		v := digit(s[i])
		if v < 0 {
			return ID{}, errID
		}
		hi = hi<<5 | lo>>59
		lo = lo<<5 | uint64(v)
	}
	var id ID
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	return id, nil
}

func digit(c byte) int {
	if c >= 'a' && c <= 'z' {
		c -= 'a' - 'A'
	}
	for i := 0; i < len(crockford); i++ {
		if crockford[i] == c {
			return i
		}
	}
	return -1
}

func quote(s string) string { return strconv.Quote(s) }
