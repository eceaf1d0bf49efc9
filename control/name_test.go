package control

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/muster-mqtt/muster/group"
	"golang.org/x/text/unicode/norm"
)

const ulid = "01JDFQ5K6V7W8X9YZABCDEFGHJ"

// The rule for names of groups and accounts.
func TestName(t *testing.T) {
	tests := []struct {
		rule, in, want string // want is empty if in breaks the rule
	}{
		{"plain", "lamps", "lamps"},
		{"as its creator wrote it", "Lamps-East_2.0", "Lamps-East_2.0"},
		{"other scripts", "ομάδα", "ομάδα"},
		{"normal form C", "cafe\u0301", "caf\u00e9"},
		{"normal form C, singleton", "\u212a1", "K1"},
		{"one character", "x", "x"},
		{"64 characters", strings.Repeat("é", 64), strings.Repeat("é", 64)},
		{"64 characters after normalising", strings.Repeat("e\u0301", 64), strings.Repeat("é", 64)},
		{"dots", "..", ".."},
		{"digits and a letter", "1a", "1a"},
		{"empty", "", ""},
		{"65 characters", strings.Repeat("a", 65), ""},
		{"huge", strings.Repeat("a", 1<<20), ""},
		{"digits", "42", ""},
		{"digits of another script", "٤٢", ""},
		{"ULID", ulid, ""},
		{"ULID in lower case", strings.ToLower(ulid), ""},
		{"space", "a b", ""},
		{"slash", "a/b", ""},
		{"wildcard", "a+", ""},
		{"at sign", "@ann", ""},
		{"mark without a letter", "\u0301", ""},
		{"control character", "a\x00", ""},
		{"not UTF-8", "a\xff", ""},
		{"reserved", "all", ""},
		{"reserved", "up", ""},
		{"reserved", "to", ""},
		{"reserved", "evt", ""},
		{"reserved", "agg", ""},
		{"reserved in another case", "Re", ""},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			got, err := Name(test.in)
			if got != test.want || (err != nil) != (test.want == "") {
				t.Errorf("Name(%q) = %q, %v; want %q", test.in, got, err, test.want)
			}
			if err != nil && !errors.Is(err, group.BadRequest) {
				t.Errorf("Name(%q): %v is not bad_request", test.in, err)
			}
		})
	}
}

// A folded name is a name, in normal form C, and folds to itself: so what a
// reference holds can be written in a request again.
func TestFoldedNamesAreNames(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !unicode.IsLetter(r) {
			continue
		}
		name, err := Name("x" + string(r))
		if err != nil {
			continue // a letter that is several characters in normal form C
		}
		folded := group.Fold(name)
		again, err := Name(folded)
		if err != nil || again != folded || group.Fold(again) != folded || !norm.NFC.IsNormalString(folded) {
			t.Errorf("%q folds to %q, which is read as %q, %v", name, folded, again, err)
		}
	}
}

func TestAccountName(t *testing.T) {
	for _, s := range []string{"anonymous", "local", "muster", "server", "Muster", "ANONYMOUS", "all", "7", ""} {
		if name, err := AccountName(s); !errors.Is(err, group.BadRequest) {
			t.Errorf("AccountName(%q) = %q, %v; want bad_request", s, name, err)
		}
	}
	if name, err := AccountName("Ann"); name != "Ann" || err != nil {
		t.Errorf("AccountName(Ann) = %q, %v", name, err)
	}
	if ReservedAccount("ann") || !ReservedAccount("Local") {
		t.Error("local is reserved in every case, ann is not")
	}
}

func TestCheckClientID(t *testing.T) {
	tests := []struct {
		rule string
		id   group.ClientID
		ok   bool
	}{
		{"plain", "lamp-7", true},
		{"space, dot and other characters", "lamp 7.é!@*", true},
		{"$ within", "a$", true},
		{"64 bytes", group.ClientID(strings.Repeat("a", 64)), true},
		{"the replacement character itself", "\uFFFD", true},
		{"empty", "", false},
		{"65 bytes", group.ClientID(strings.Repeat("a", 65)), false},
		{"slash", "a/b", false},
		{"plus", "a+", false},
		{"number sign", "#", false},
		{"tilde", "a~1", false},
		{"begins with $", "$a", false},
		{"control character", "a\n", false},
		{"DEL", "a\x7f", false},
		{"C1 control character", "a\u0085", false},
		{"not UTF-8", "a\xff", false},
	}
	for _, test := range tests {
		if err := CheckClientID(test.id); (err == nil) != test.ok || err != nil && !errors.Is(err, group.BadRequest) {
			t.Errorf("%s: CheckClientID(%q) = %v", test.rule, test.id, err)
		}
	}
}

func TestSplitClientID(t *testing.T) {
	tests := []struct {
		id, device string
		side       bool
	}{
		{"lamp-7", "lamp-7", false},
		{"lamp-7~1", "lamp-7", true},
		{"lamp-7~a~b", "lamp-7", true},
		{"lamp-7~", "lamp-7", true},
		{"~1", "", true},
		{"", "", false},
	}
	for _, test := range tests {
		if device, side := SplitClientID(test.id); string(device) != test.device || side != test.side {
			t.Errorf("SplitClientID(%q) = %q, %t", test.id, device, side)
		}
	}
}

func TestParseRef(t *testing.T) {
	id, err := group.ParseID(ulid)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		rule, in string
		want     group.Ref // zero if refused
	}{
		{"number", "1", group.Ref{Number: 1}},
		{"greatest number", "4294967295", group.Ref{Number: 4294967295}},
		{"ID", ulid, group.Ref{ID: id}},
		{"ID in lower case", strings.ToLower(ulid), group.Ref{ID: id}},
		{"user", "@Ann", group.Ref{User: "ann"}},
		{"name", "lamps", group.Ref{Name: "lamps"}},
		{"name in another case", "LAMPS", group.Ref{Name: "lamps"}},
		{"name in another normal form", "CAFE\u0301", group.Ref{Name: group.Fold("caf\u00e9")}},
		{"0", "0", group.Ref{}},
		{"beyond 32 bits", "4294967296", group.Ref{}},
		{"beyond 64 bits", strings.Repeat("9", 40), group.Ref{}},
		{"negative", "-1", group.Ref{Name: "-1"}},
		{"user of digits", "@1", group.Ref{}},
		{"no user", "@", group.Ref{}},
		{"empty", "", group.Ref{}},
		{"wildcards", "#", group.Ref{}},
		{"wildcards", "+", group.Ref{}},
		{"levels", "a/b", group.Ref{}},
		{"reserved", "all", group.Ref{}},
	}
	for _, test := range tests {
		got, err := ParseRef(test.in)
		if got != test.want || (err != nil) != test.want.IsZero() {
			t.Errorf("%s: ParseRef(%q) = %+v, %v", test.rule, test.in, got, err)
		}
		if err != nil && !errors.Is(err, group.BadRequest) {
			t.Errorf("%s: %v is not bad_request", test.rule, err)
		}
	}
}

func ExampleParseRef() {
	for _, s := range []string{"7", "Lamps", "@ann", "lamps/east"} {
		ref, err := ParseRef(s)
		fmt.Println(ref.Number, ref.Name, ref.User, err)
	}
	// Output:
	// 7   <nil>
	// 0 lamps  <nil>
	// 0  ann <nil>
	// 0   bad_request: a name has letters, digits, '-', '_' and '.' only
}
