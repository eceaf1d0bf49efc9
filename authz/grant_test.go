package authz

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/muster-mqtt/muster/group"
)

// pump7 is who presents the grants of these tests.
var pump7 = HolderOf("pumps", "pump-7")

// minute returns a grant that lives one minute from noon.
func minute() group.Grant {
	return group.Grant{Holder: pump7, Op: group.OpSwitch, From: 1, To: 2, Expires: noon.Add(time.Minute), Base: 7, PolicyRev: 3}
}

// widest is the grant with the largest value in each place.
func widest() group.Grant {
	return group.Grant{
		Holder: pump7, Op: group.OpSwitch, From: math.MaxUint32, To: math.MaxUint32,
		Expires: time.Unix(math.MaxUint32, 0).UTC(), Base: math.MaxUint32, PolicyRev: math.MaxUint32,
	}
}

func withKeys(t testing.TB) *Authority {
	t.Helper()
	a := New(Config{Argon2: tiny})
	a.SetKeys(NewKeys(noon))
	return a
}

func issue(t testing.TB, a *Authority, g group.Grant) []byte {
	t.Helper()
	b, err := a.Issue(g)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is issued comes back the same, in at most 64 bytes.
func TestGrantSizes(t *testing.T) { // [GRP-8-1]
	a := withKeys(t)
	join, leave := minute(), minute()
	join.Op, join.From = group.OpJoin, 0
	leave.Op, leave.To = group.OpLeave, 0
	least := group.Grant{Op: group.OpJoin, To: 1, Expires: time.Unix(1, 0).UTC()}
	for _, tt := range []struct {
		name string
		g    group.Grant
		most int
	}{
		{"switch", minute(), 55}, {"join", join, 55}, {"leave", leave, 55}, {"least", least, 55}, {"widest", widest(), MaxGrant},
	} {
		b := issue(t, a, tt.g)
		if len(b) > tt.most {
			t.Errorf("%s: %d bytes are more than %d", tt.name, len(b), tt.most)
		}
		got, err := a.Open(b, tt.g.Holder, tt.g.Expires.Add(-time.Second))
		if err != nil || got != tt.g {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.g)
		}
	}
}

// A grant is what RFC 9052 says: any COSE library reads it.
func TestGrantIsCOSE(t *testing.T) {
	a := withKeys(t)
	b := issue(t, a, minute())
	var m struct {
		_           struct{} `cbor:",toarray"`
		Protected   []byte
		Unprotected map[int][]byte
		Payload     []byte
		Tag         []byte
	}
	if err := cbor.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	var alg map[int]int
	if err := cbor.Unmarshal(m.Protected, &alg); err != nil || len(alg) != 1 || alg[1] != 4 {
		t.Errorf("protected header %v, %v", alg, err)
	}
	k := a.keys.Load().all[0]
	if id := m.Unprotected[4]; len(m.Unprotected) != 1 || !bytes.Equal(id, []byte{k.id}) {
		t.Errorf("unprotected header %v", m.Unprotected)
	}
	structure, err := cbor.Marshal([]any{"MAC0", m.Protected, []byte{}, m.Payload})
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, k.secret[:])
	mac.Write(structure)
	if want := mac.Sum(nil)[:8]; !bytes.Equal(m.Tag, want) {
		t.Errorf("tag %x, want %x", m.Tag, want)
	}
	var c map[int]any
	if err := cbor.Unmarshal(m.Payload, &c); err != nil || c[4] != uint64(minute().Expires.Unix()) || len(c) != 7 {
		t.Errorf("claims %v, %v", c, err)
	}
}

// keptGrant is the grant minute() under the key of 32 bytes 0 to 31 with id 1.
const keptGrant = "8443a10104a1044101581ba7041a6b057c7c204883b0ac76dc0149df2103220123022407250348bf06f943eb0068dd"

// The bytes of a grant are for ever: those that an earlier release has issued
// open in this one.
func TestGrantOfEarlierRelease(t *testing.T) {
	a := New(Config{Argon2: tiny})
	k := Keys{all: []signKey{{id: 1, made: noon.Unix()}}}
	for i := range k.all[0].secret {
		k.all[0].secret[i] = byte(i)
	}
	a.SetKeys(k)
	b, err := hex.DecodeString(keptGrant)
	if err != nil {
		t.Fatal(err)
	}
	if g, err := a.Open(b, pump7, noon); err != nil || g != minute() {
		t.Errorf("%+v, %v", g, err)
	}
	if now := issue(t, a, minute()); !bytes.Equal(now, b) {
		t.Errorf("today it is %x", now)
	}
}

func TestOpen(t *testing.T) { // [GRP-8-3]
	a := withKeys(t)
	tests := []struct {
		name   string
		holder group.Holder
		age    time.Duration // of the grant when presented; it lives one minute
		code   group.Code
	}{
		{"at once", pump7, 0, group.OK},
		{"last instant", pump7, time.Minute - 1, group.OK},
		{"expired", pump7, time.Minute, group.GrantExpired},
		{"long ago", pump7, 24 * time.Hour, group.GrantExpired},
		{"another device", HolderOf("pumps", "pump-8"), 0, group.GrantMismatch},
		{"another account", HolderOf("pump", "pump-7"), 0, group.GrantMismatch},
		{"the same letters", HolderOf("pumpsp", "ump-7"), 0, group.GrantMismatch},
		{"another device, expired", HolderOf("pumps", "pump-8"), time.Hour, group.GrantMismatch},
		{"the account in another case", HolderOf("Pumps", "pump-7"), 0, group.OK},
		{"the device in another case", HolderOf("pumps", "Pump-7"), 0, group.GrantMismatch},
	}
	b := issue(t, a, minute())
	for _, tt := range tests {
		g, err := a.Open(b, tt.holder, noon.Add(tt.age))
		if code := codeOf(err); code != tt.code || err != nil && g != (group.Grant{}) {
			t.Errorf("%s: %+v, %v; want %v", tt.name, g, err, tt.code)
		}
	}
	other := withKeys(t) // with the same key id
	if _, err := other.Open(b, pump7, noon); codeOf(err) != group.GrantUnknown {
		t.Errorf("another server's grant: %v", err)
	}
	if _, err := New(Config{Argon2: tiny}).Open(b, pump7, noon); codeOf(err) != group.GrantUnknown {
		t.Errorf("without keys: %v", err)
	}
}

func codeOf(err error) group.Code {
	if err == nil {
		return group.OK
	}
	code := group.Internal
	errors.As(err, &code)
	return code
}

// No grant that was cut short, lengthened or altered in any bit opens.
func TestAlteredGrants(t *testing.T) { // [GRP-8-3]
	a := withKeys(t)
	for _, g := range []group.Grant{minute(), widest()} {
		b := issue(t, a, g)
		refuse := func(what string, at int, b []byte) {
			t.Helper()
			if _, err := a.Open(b, g.Holder, noon); codeOf(err) != group.GrantUnknown {
				t.Errorf("%s %d: %v", what, at, err)
			}
		}
		for n := range b {
			refuse("cut to", n, b[:n])
			refuse("without the first", n+1, b[n+1:])
			for bit := range 8 {
				altered := bytes.Clone(b)
				altered[n] ^= 1 << bit
				refuse("altered in bit", n*8+bit, altered)
			}
			for v := range 256 {
				if altered := bytes.Clone(b); altered[n] != byte(v) {
					altered[n] = byte(v)
					refuse("altered in byte", n, altered)
				}
			}
			refuse("doubled at", n, append(bytes.Clone(b[:n+1]), b[n:]...))
		}
		refuse("one byte longer than", len(b), append(bytes.Clone(b), 0))
		refuse("twice", 0, append(bytes.Clone(b), b...))
		refuse("tagged", 17, append([]byte{0xd1}, b...))
	}
}

// What is signed and does not hold a grant is none. Only a fault of the server
// could sign it.
func TestSignedNonsense(t *testing.T) {
	a := withKeys(t)
	k := a.keys.Load().all[0]
	good := claims{Exp: uint32(noon.Unix()) + 60, Holder: pump7[:], Op: 3, From: 1, To: 2}
	alter := func(f func(*claims)) []byte {
		c := good
		f(&c)
		return encode(c)
	}
	for name, payload := range map[string][]byte{
		"nothing":          {},
		"a number":         {1},
		"an empty map":     {0xa0},
		"too short":        encode(good)[:20],
		"bytes after it":   append(encode(good), 0),
		"no such op":       alter(func(c *claims) { c.Op = 4 }),
		"op 0":             alter(func(c *claims) { c.Op = 0 }),
		"a join from":      alter(func(c *claims) { c.Op = 1 }),
		"a leave to":       alter(func(c *claims) { c.Op = 2 }),
		"a short holder":   alter(func(c *claims) { c.Holder = c.Holder[:7] }),
		"an unknown claim": encode(map[int]any{4: good.Exp, -1: good.Holder, -2: 3, -3: 1, -4: 2, -7: 1}),
	} {
		b := appendBytes(append([]byte(opening), k.id), payload)
		b = append(append(b, tagHead...), tag(k.secret[:], payload)...)
		if _, err := a.Open(b, pump7, noon); codeOf(err) != group.GrantUnknown {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIssueErrors(t *testing.T) {
	a := withKeys(t)
	for name, alter := range map[string]func(*group.Grant){
		"a move":           func(g *group.Grant) { g.Op = group.OpMove },
		"no op":            func(g *group.Grant) { g.Op = "" },
		"a switch to none": func(g *group.Grant) { g.To = 0 },
		"a switch from 0":  func(g *group.Grant) { g.From = 0 },
		"a join from":      func(g *group.Grant) { g.Op = group.OpJoin },
		"a leave to":       func(g *group.Grant) { g.Op = group.OpLeave },
		"no expiry":        func(g *group.Grant) { g.Expires = time.Time{} },
		"after 2106":       func(g *group.Grant) { g.Expires = time.Unix(math.MaxUint32+1, 0) },
	} {
		g := minute()
		alter(&g)
		if b, err := a.Issue(g); b != nil || !errors.Is(err, group.BadRequest) {
			t.Errorf("%s: %x, %v", name, b, err)
		}
	}
	if b, err := New(Config{Argon2: tiny}).Issue(minute()); b != nil || !errors.Is(err, group.Unavailable) {
		t.Errorf("without keys: %x, %v", b, err)
	}
}

// FuzzOpen opens hostile bytes: nothing opens but what was issued.
func FuzzOpen(f *testing.F) {
	a := withKeys(f)
	b := issue(f, a, minute())
	f.Add(b)
	f.Add(b[:30])
	f.Add([]byte(opening))
	f.Add([]byte(opening + "\x01\x58\xff"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, got []byte) {
		g, err := a.Open(got, pump7, noon)
		if bytes.Equal(got, b) != (err == nil) || err == nil && g != minute() || err != nil && codeOf(err) != group.GrantUnknown {
			t.Errorf("%x: %+v, %v", got, g, err)
		}
	})
}
