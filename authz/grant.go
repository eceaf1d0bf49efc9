package authz

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/muster-mqtt/muster/group"
)

// MaxGrant is the size of the largest grant in bytes.
const MaxGrant = 64

// HolderOf returns who may present a grant for the device of the account: the
// first 8 bytes of SHA-256 over the folded account, a zero byte and the Client
// Identifier.
func HolderOf(account string, c group.ClientID) (h group.Holder) {
	b := append([]byte(group.Fold(account)), 0) // no account name holds one
	sum := sha256.Sum256(append(b, c...))
	copy(h[:], sum[:])
	return h
}

// A grant is an untagged COSE_Mac0 (RFC 9052, 6.2): an array of
//
//	protected header  h'a10104'   {1 (alg): 4 (HMAC 256/64)}
//	unprotected       {4 (kid): h'kk'}
//	payload           the claims
//	tag               8 bytes
const (
	protected = "\x43\xa1\x01\x04"
	opening   = "\x84" + protected + "\xa1\x04\x41" // and the key id
	tagSize   = 8
	tagHead   = "\x48"
)

// claims is the payload, a CWT Claims Set (RFC 8392). It is at most 43 bytes.
type claims struct {
	Exp    uint32 `cbor:"4,keyasint"` // seconds since 1970
	Holder []byte `cbor:"-1,keyasint"`
	Op     uint8  `cbor:"-2,keyasint"`
	From   uint32 `cbor:"-3,keyasint,omitempty"`
	To     uint32 `cbor:"-4,keyasint,omitempty"`
	Base   uint32 `cbor:"-5,keyasint,omitempty"`
	Policy uint32 `cbor:"-6,keyasint,omitempty"`
}

// grantOps holds the operations of grants by their number there.
var grantOps = [...]group.Op{1: group.OpJoin, 2: group.OpLeave, 3: group.OpSwitch}

// opNumber returns the number of the grant's operation; 0 if its groups are not
// those of such a change.
func opNumber(g *group.Grant) uint8 {
	switch {
	case g.Op == group.OpJoin && g.From == 0 && g.To != 0:
		return 1
	case g.Op == group.OpLeave && g.From != 0 && g.To == 0:
		return 2
	case g.Op == group.OpSwitch && g.From != 0 && g.To != 0:
		return 3
	}
	return 0
}

var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 16, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode())
)

func must[T any](mode T, err error) T {
	if err != nil {
		panic(err) // the options are ours
	}
	return mode
}

// encode returns the bytes of v, a value of this package.
func encode(v any) []byte {
	b, err := encMode.Marshal(v)
	if err != nil {
		panic(err) // numbers and bytes always encode
	}
	return b
}

// appendBytes appends a CBOR byte string of at most 255 bytes.
func appendBytes(b, s []byte) []byte {
	if len(s) < 24 {
		b = append(b, 0x40|byte(len(s)))
	} else {
		b = append(b, 0x58, byte(len(s)))
	}
	return append(b, s...)
}

// tag returns the tag of a payload: the first 8 bytes of HMAC-SHA-256 over the
// MAC_structure ["MAC0", protected header, h”, payload] (RFC 9052, 6.3).
func tag(secret, payload []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	var buf [96]byte
	b := append(buf[:0], "\x84\x64MAC0"+protected+"\x40"...)
	mac.Write(appendBytes(b, payload))
	return mac.Sum(nil)[:tagSize]
}

// Why a grant is not issued.
var (
	errNoKeys  = errors.New("there are no keys")
	errChange  = errors.New("not a join, leave or switch of groups that fit it")
	errExpires = errors.New("the expiry is not between 1970 and 2106")
)

// Issue signs the grant, whose Expires counts in whole seconds. It records
// nothing.
//
// The error has Code BadRequest if g is no join, leave or switch or its expiry
// does not fit 32 bits, Unavailable if there are no keys.
func (a *Authority) Issue(g group.Grant) ([]byte, error) {
	keys := a.keys.Load()
	if keys == nil || len(keys.all) == 0 {
		return nil, fmt.Errorf("issue a grant: %w: %w", group.Unavailable, errNoKeys)
	}
	op, exp := opNumber(&g), g.Expires.Unix()
	if op == 0 {
		return nil, fmt.Errorf("issue a grant: %w: %w", group.BadRequest, errChange)
	}
	if exp <= 0 || exp > math.MaxUint32 {
		return nil, fmt.Errorf("issue a grant: %w: %w", group.BadRequest, errExpires)
	}
	payload := encode(claims{
		Exp: uint32(exp), Holder: g.Holder[:], Op: op, From: uint32(g.From), To: uint32(g.To),
		Base: g.Base, Policy: g.PolicyRev,
	})
	k := keys.all[len(keys.all)-1]
	b := append(make([]byte, 0, MaxGrant), opening...)
	b = append(b, k.id)
	b = appendBytes(b, payload)
	return append(append(b, tagHead...), tag(k.secret[:], payload)...), nil
}

// cut returns the parts of a grant, if it has the one form that Issue gives it.
func cut(b []byte) (id byte, payload, tag []byte, ok bool) {
	b, ok = bytes.CutPrefix(b, []byte(opening))
	if !ok || len(b) < 2 {
		return 0, nil, nil, false
	}
	id, head, b := b[0], b[1], b[2:]
	n := int(head) - 0x40
	if head == 0x58 && len(b) > 0 {
		n, b = int(b[0]), b[1:]
		ok = n >= 24
	} else {
		ok = n >= 0 && n < 24
	}
	if !ok || len(b) != n+len(tagHead)+tagSize || string(b[n:n+len(tagHead)]) != tagHead {
		return 0, nil, nil, false
	}
	return id, b[:n], b[n+len(tagHead):], true
}

// Open returns the grant in b, if h may present it at time now. Whether its
// device and groups are still as they were when it was issued is the caller's to
// check.
//
// The error is GrantUnknown for what this server has not signed with a key that
// it still has, GrantMismatch for the grant of another holder, and GrantExpired.
func (a *Authority) Open(b []byte, h group.Holder, now time.Time) (group.Grant, error) {
	keys := a.keys.Load()
	if keys == nil || len(b) > MaxGrant {
		return group.Grant{}, group.GrantUnknown
	}
	id, payload, got, ok := cut(b)
	if !ok {
		return group.Grant{}, group.GrantUnknown
	}
	k, ok := keys.byID(id)
	if !ok || !hmac.Equal(got, tag(k.secret[:], payload)) {
		return group.Grant{}, group.GrantUnknown
	}
	var c claims
	if err := decMode.Unmarshal(payload, &c); err != nil || len(c.Holder) != len(h) || int(c.Op) >= len(grantOps) {
		return group.Grant{}, group.GrantUnknown
	}
	g := group.Grant{
		Holder: group.Holder(c.Holder), Op: grantOps[c.Op], From: group.Number(c.From), To: group.Number(c.To),
		Expires: time.Unix(int64(c.Exp), 0).UTC(), Base: c.Base, PolicyRev: c.Policy,
	}
	switch {
	case opNumber(&g) == 0:
		return group.Grant{}, group.GrantUnknown
	case g.Holder != h:
		return group.Grant{}, group.GrantMismatch
	case !now.Before(g.Expires):
		return group.Grant{}, group.GrantExpired
	}
	return g, nil
}
