package authz

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/muster-mqtt/muster/group"
)

const (
	saltSize = 16 // bytes, of a new hash
	sumSize  = 32
)

// raw64 is the base64 of the PHC string format.
var raw64 = base64.RawStdEncoding.Strict()

// A phc is a hash in the PHC string format:
// $argon2id$v=19$m=<KiB>,t=<passes>,p=<threads>$<salt>$<sum>.
type phc struct {
	Params
	salt, sum []byte
}

func (h phc) String() string {
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", h.Memory>>10, h.Time, h.Threads,
		raw64.EncodeToString(h.salt), raw64.EncodeToString(h.sum))
}

// parsePHC reads a hash, if it is one that this package could have made: a
// damaged record must not cost more memory or time than a sound one.
func parsePHC(s string) (phc, bool) {
	var h phc
	parts := strings.Split(s, "$")
	if len(s) > 256 || len(parts) != 6 {
		return h, false
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return h, false
	}
	number := func(s, name string) int {
		n, err := strconv.ParseUint(strings.TrimPrefix(s, name+"="), 10, 21)
		if err != nil {
			return 0
		}
		return int(n)
	}
	h.Memory, h.Time, h.Threads = number(costs[0], "m")<<10, number(costs[1], "t"), number(costs[2], "p")
	var err1, err2 error
	h.salt, err1 = raw64.DecodeString(parts[4])
	h.sum, err2 = raw64.DecodeString(parts[5])
	ok := err1 == nil && err2 == nil && len(h.salt) >= 8 && len(h.salt) <= 64 && len(h.sum) >= 16 && len(h.sum) <= 64 &&
		h.Threads >= 1 && h.Threads <= maxThreads && h.Time >= 1 && h.Time <= maxTime &&
		h.Memory >= h.Threads*8<<10 && h.Memory <= maxMemory && h.String() == s
	return h, ok
}

// run is one run of argon2id.
func (a *Authority) run(secret []byte, p Params, salt []byte, length int) []byte {
	return a.derive(secret, salt, uint32(p.Time), uint32(p.Memory>>10), uint8(p.Threads), uint32(length))
}

// HashSecret returns the argon2id hash of a PIN or password in the PHC string
// format. It waits its turn, and takes as long as [Config.Argon2] makes it.
//
// The error has Code BadRequest if the secret is empty or over 256 bytes, and
// Unavailable if ctx ends before its turn or too many wait.
func (a *Authority) HashSecret(ctx context.Context, secret string) (string, error) {
	if len(secret) == 0 || len(secret) > maxSecret {
		return "", fmt.Errorf("hash a secret: %w: %d bytes are not between 1 and %d", group.BadRequest, len(secret), maxSecret)
	}
	if err := a.line.enter(ctx, forSetting); err != nil {
		return "", fmt.Errorf("hash a secret: %w: %w", group.Unavailable, err)
	}
	defer a.line.leave()
	salt := make([]byte, saltSize)
	rand.Read(salt)
	sum := a.run([]byte(secret), a.params, salt, sumSize)
	return phc{Params: a.params, salt: salt, sum: sum}.String(), nil
}

// verify reports whether the secret is that of the hash, after one run of
// argon2id. A hash that cannot be read is matched by nothing, at the same cost.
// A secret that turned out to be right while this one waited needs no run: so settle,
// which is told and says whether to remember the secret, runs before the next in
// the line has its turn.
func (a *Authority) verify(ctx context.Context, c class, hash string, secret []byte, settle func(right bool) (remember bool)) error {
	h, ok := parsePHC(hash)
	if !ok {
		hash = a.dummy
		h, _ = parsePHC(hash)
	}
	if err := a.line.enter(ctx, c); err != nil {
		return err
	}
	defer a.line.leave()
	right := a.known.has(hash, secret)
	if !right {
		right = subtle.ConstantTimeCompare(a.run(secret, h.Params, h.salt, len(h.sum)), h.sum) == 1
	}
	if settle(right) {
		a.known.add(hash, secret)
	}
	return nil
}
