package authz

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	minPIN, maxPIN           = 4, 64
	minPassword, maxPassword = 8, 256
	maxSecret                = maxPassword
)

// CheckPIN returns why a text may not be a group's PIN, or nil: it has 4 to 64 of
// ASCII letters, digits, "-", "_" and ".".
func CheckPIN(pin string) error {
	if len(pin) < minPIN || len(pin) > maxPIN {
		return fmt.Errorf("a PIN has %d to %d characters", minPIN, maxPIN)
	}
	for i := range len(pin) {
		switch c := pin[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_', c == '.':
		default:
			return errors.New(`a PIN is made of ASCII letters, digits, "-", "_" and "."`)
		}
	}
	return nil
}

// CheckPassword returns why a text may not be an account's password, or nil: it
// has 8 to 256 bytes, of any kind.
func CheckPassword(password string) error {
	if len(password) < minPassword || len(password) > maxPassword {
		return fmt.Errorf("a password has %d to %d bytes", minPassword, maxPassword)
	}
	return nil
}

// NewPIN returns a PIN of 8 digits, each of the hundred million as likely as any
// other.
func NewPIN() string {
	const pins = 100_000_000
	for {
		var b [4]byte
		rand.Read(b[:])
		if n := binary.BigEndian.Uint32(b[:]); n < 42*pins { // the rest of 2^32 would favour low ones
			return fmt.Sprintf("%08d", n%pins)
		}
	}
}

// sha256Prefix begins the hash of a generated password.
const sha256Prefix = "sha256:"

// NewPassword returns a password of 160 random bits, as 32 lower-case letters
// and digits, and the hash to be recorded. It needs no slow hash: nobody finds
// it by trying.
func NewPassword() (plain, hash string) {
	var b [20]byte
	rand.Read(b[:])
	plain = strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
	sum := sha256.Sum256([]byte(plain))
	return plain, sha256Prefix + hex.EncodeToString(sum[:])
}

// generated reports whether the hash is of a generated password, and this one's.
func generated(hash string, password []byte) bool {
	digits, ok := strings.CutPrefix(hash, sha256Prefix)
	want, err := hex.DecodeString(digits)
	if !ok || err != nil {
		return false
	}
	sum := sha256.Sum256(password)
	return subtle.ConstantTimeCompare(sum[:], want) == 1
}

// clip cuts what is longer than any secret can be, so that it costs no more to
// find wrong.
func clip[T string | []byte](secret T, most int) T { return secret[:min(len(secret), most+1)] }
