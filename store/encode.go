package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// A record or note is a version byte, a CBOR map with integer keys, and the
// CRC-32C of both. Keys that this release does not know are ignored, so a later
// one may add some. A change that an older release must not overlook gets a new
// version.
const version = 1

// minTime and maxTime bound the times that a record can hold: the years 1 to
// 9999.
var (
	minTime = time.Time{}.Unix()
	maxTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix()
)

var (
	encMode = must(cbor.CoreDetEncOptions().UserBufferEncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  8,
		UTF8:             cbor.UTF8DecodeInvalid, // a name is kept as it was given
		MaxArrayElements: MaxRecord,
		MaxMapPairs:      1 << 16,
	}.DecMode())
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func must[T any](mode T, err error) T {
	if err != nil {
		panic(err)
	}
	return mode
}

var errDamaged = errors.New("damaged")

// encode returns the bytes of v, a pointer to a struct of this package.
func encode(v any) []byte {
	var b bytes.Buffer
	b.Grow(128)
	b.WriteByte(version)
	if err := encMode.MarshalToBuffer(v, &b); err != nil {
		panic(err) // our own types, made of numbers and texts, always encode
	}
	return binary.BigEndian.AppendUint32(b.Bytes(), crc32.Checksum(b.Bytes(), castagnoli))
}

// decode is the reverse of encode. After an error v may be half filled.
func decode(b []byte, v any) error {
	if len(b) > 0 && b[0] > version {
		return fmt.Errorf("it has version %d, and this release knows up to %d", b[0], version)
	}
	end := len(b) - crc32.Size
	if end < 1 || b[0] != version || binary.BigEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
		return errDamaged
	}
	return decMode.Unmarshal(b[1:end], v)
}

// seconds is a time in whole seconds of Unix time, made so that 0 is the zero
// time and is left out: what is not after 1970 counts down from -1.
type seconds int64

func toSeconds(t time.Time) seconds {
	s := min(max(t.Unix(), minTime), maxTime)
	switch {
	case s == minTime:
		return 0
	case s <= 0:
		s--
	}
	return seconds(s)
}

func (s seconds) time() (time.Time, error) {
	switch {
	case s == 0:
		return time.Time{}, nil
	case s < 0:
		s++
	}
	if int64(s) <= minTime || int64(s) > maxTime {
		return time.Time{}, errors.New("a time is out of range")
	}
	return time.Unix(int64(s), 0).UTC(), nil
}
