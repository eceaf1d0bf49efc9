package control

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/muster-mqtt/muster/group"
	"golang.org/x/text/unicode/norm"
)

// The sizes of names: characters after normalising, and bytes before it.
const (
	maxName  = 64
	maxInput = 1024
)

// MaxClientID is the greatest size, in bytes, of a Client Identifier that may
// take part in groups.
const MaxClientID = 64

// reserved are the words that stand for something else where a name may stand.
var reserved = []string{"all", "up", "to", "evt", "agg", "re"}

// reservedAccounts speak for the server itself or for nobody.
var reservedAccounts = []string{"anonymous", "local", "muster", "server"}

// Name returns a group's or an account's name in Unicode normal form C: 1 to 64
// letters and digits of any script, '-', '_' and '.', not all digits, no ULID
// and no reserved word. Every other text is an error with Code
// [group.BadRequest].
func Name(s string) (string, error) {
	if len(s) > maxInput {
		return "", bad("a name has at most %d characters", maxName)
	}
	s = norm.NFC.String(s)
	n, digits := 0, 0
	for _, r := range s {
		n++
		switch {
		case unicode.IsDigit(r):
			digits++
		case r == '-' || r == '_' || r == '.' || unicode.IsLetter(r):
		default:
			return "", bad("a name has letters, digits, '-', '_' and '.' only")
		}
	}
	switch {
	case n == 0 || n > maxName:
		return "", bad("a name has 1 to %d characters", maxName)
	case digits == n:
		return "", bad("a name is not all digits: that is a number")
	case slices.Contains(reserved, group.Fold(s)):
		return "", bad("the name %q is reserved", s)
	}
	if _, err := group.ParseID(s); err == nil {
		return "", bad("a name does not look like an ID")
	}
	return s, nil
}

// AccountName returns the name of an account that is to be created, in normal
// form C. A reserved one, and one that [Name] refuses, is an error with Code
// [group.BadRequest].
func AccountName(s string) (string, error) {
	s, err := Name(s)
	if err == nil && ReservedAccount(s) {
		return "", bad("the account name %q is reserved", s)
	}
	return s, err
}

// ReservedAccount reports whether nobody can be given the account name, in
// whichever case: anonymous, local, muster and server.
func ReservedAccount(name string) bool {
	return slices.Contains(reservedAccounts, group.Fold(norm.NFC.String(name)))
}

// CheckClientID returns an error with Code [group.BadRequest] if the Client
// Identifier may not take part in groups. It may if it is 1 to 64 bytes of
// UTF-8 without '/', '+', '#', '~' and control characters, and does not begin
// with '$'. Of a side connection it is the device that counts: see
// [SplitClientID].
func CheckClientID(c group.ClientID) error {
	if c == "" || len(c) > MaxClientID {
		return bad("a Client Identifier in groups has 1 to %d bytes", MaxClientID)
	}
	if c[0] == '$' {
		return bad("a Client Identifier in groups does not begin with '$'")
	}
	for i, r := range string(c) {
		switch {
		case r == '/' || r == '+' || r == '#' || r == '~' || unicode.IsControl(r):
			return bad("a Client Identifier in groups has no '/', '+', '#', '~' and no control character")
		case r == utf8.RuneError && !strings.HasPrefix(string(c[i:]), "\uFFFD"):
			return bad("a Client Identifier is UTF-8")
		}
	}
	return nil
}

// SplitClientID returns the device for which a connection with the Client
// Identifier s asks and publishes, and whether it is a side connection:
// "lamp-7~1" is one of "lamp-7". The device may be empty or otherwise unfit for
// groups; [CheckClientID] says.
func SplitClientID(s string) (device group.ClientID, side bool) {
	before, _, side := strings.Cut(s, "~")
	return group.ClientID(before), side
}

// ParseRef reads a reference to a group: digits are its number, 26 characters
// of a ULID its ID, '@' and an account's name the group of that user, anything
// else its name. Names are folded. Text that is none of these, and a number
// beyond 1 to 4,294,967,295, is an error with Code [group.BadRequest].
func ParseRef(s string) (group.Ref, error) {
	if id, err := group.ParseID(s); err == nil && !id.IsZero() {
		return group.Ref{ID: id}, nil
	}
	if allDigits(s) {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil || n == 0 {
			return group.Ref{}, bad("a group's number is 1 to 4294967295")
		}
		return group.Ref{Number: group.Number(n)}, nil
	}
	if user, ok := strings.CutPrefix(s, "@"); ok {
		name, err := Name(user)
		return group.Ref{User: group.Fold(name)}, err
	}
	name, err := Name(s)
	return group.Ref{Name: group.Fold(name)}, err
}

// allDigits reports whether s is one or more ASCII digits.
func allDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// bad returns an error with Code BadRequest and the detail for a person.
func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{group.BadRequest}, args...)...)
}
