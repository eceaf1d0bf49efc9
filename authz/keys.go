package authz

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	keyLife  = 7 * 24 * time.Hour // after which there is a new key
	keyGrace = MaxTTL + time.Hour // for which the one before it is kept
	maxKeys  = 4                  // of which the oldest goes
	maxMade  = int64(1) << 40     // seconds since 1970
)

// Keys holds the keys that sign grants. It is plain data; the caller records
// what Encode returns, which must stay secret. Keys is never changed: Rotate
// makes another. The zero Keys has none.
type Keys struct {
	all []signKey // oldest first; the last one signs
}

// A signKey is one key, known by its id.
type signKey struct {
	id     byte
	made   int64 // seconds since 1970
	secret [32]byte
}

// NewKeys returns one new key.
func NewKeys(now time.Time) Keys { return Keys{all: []signKey{newKey(1, now)}} }

// seconds returns the time as keys hold it.
func seconds(t time.Time) int64 { return min(max(t.Unix(), 0), maxMade) }

func newKey(id byte, now time.Time) signKey {
	k := signKey{id: id, made: seconds(now)}
	rand.Read(k.secret[:])
	return k
}

func (k Keys) byID(id byte) (signKey, bool) {
	if i := slices.IndexFunc(k.all, func(k signKey) bool { return k.id == id }); i >= 0 {
		return k.all[i], true
	}
	return signKey{}, false
}

// String says how many keys there are, and shows none.
func (k Keys) String() string { return fmt.Sprintf("%d keys of grants", len(k.all)) }

// GoString returns the same as [Keys.String].
func (k Keys) GoString() string { return k.String() }

// Rotate returns the keys that are to be used from now on, and whether they are
// others than k: after 7 days there is a new key, and the one before it is kept
// for as long as a grant that it signed can live. A key from the future, made
// when the clock was wrong, is replaced too.
func (k Keys) Rotate(now time.Time) (Keys, bool) {
	if len(k.all) == 0 {
		return NewKeys(now), true
	}
	all := slices.Clone(k.all)
	at := seconds(now)
	last := all[len(all)-1]
	if age := at - last.made; age >= int64(keyLife/time.Second) || age < -int64(time.Hour/time.Second) {
		all = append(all, newKey(last.id+1, now))
	}
	old := max(len(all)-maxKeys, 0)
	for old+1 < len(all) && at-all[old+1].made >= int64(keyGrace/time.Second) {
		old++
	}
	all = all[old:]
	return Keys{all: all}, len(all) != len(k.all) || all[len(all)-1].id != last.id
}

// SetKeys makes the Authority sign with the newest of the keys, and know grants
// that any of them has signed.
func (a *Authority) SetKeys(k Keys) { a.keys.Store(&Keys{all: slices.Clone(k.all)}) }

// keysRecord and keyRecord are what is recorded: [1, [[id, made, secret], ...]].
type keysRecord struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	Keys    []keyRecord
}

type keyRecord struct {
	_      struct{} `cbor:",toarray"`
	ID     byte
	Made   int64
	Secret []byte
}

const keysVersion = 1

var errKeys = errors.New("not a record of 1 to 4 keys")

// Encode returns the bytes to be recorded.
func (k Keys) Encode() []byte {
	r := keysRecord{Version: keysVersion, Keys: make([]keyRecord, len(k.all))}
	for i := range k.all {
		r.Keys[i] = keyRecord{ID: k.all[i].id, Made: k.all[i].made, Secret: k.all[i].secret[:]}
	}
	return encode(r)
}

// DecodeKeys returns the keys that were encoded. What it accepts encodes to the
// same bytes; an error shows nothing of them.
func DecodeKeys(b []byte) (Keys, error) {
	var r keysRecord
	if err := decMode.Unmarshal(b, &r); err != nil || len(r.Keys) == 0 || len(r.Keys) > maxKeys {
		return Keys{}, errKeys
	}
	if r.Version != keysVersion {
		return Keys{}, fmt.Errorf("a record of keys has version %d, which is newer than this release", r.Version)
	}
	var k Keys
	for _, rec := range r.Keys {
		key := signKey{id: rec.ID, made: rec.Made}
		if _, twice := k.byID(rec.ID); twice || copy(key.secret[:], rec.Secret) != len(key.secret) || len(rec.Secret) != len(key.secret) ||
			rec.Made < 0 || rec.Made > maxMade {
			return Keys{}, errKeys
		}
		k.all = append(k.all, key)
	}
	if !bytes.Equal(k.Encode(), b) {
		return Keys{}, errKeys
	}
	return k, nil
}
