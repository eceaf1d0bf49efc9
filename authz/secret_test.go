package authz

import (
	"regexp"
	"strings"
	"testing"
)

func TestCheckPIN(t *testing.T) {
	tests := []struct {
		name, pin string
		ok        bool
	}{
		{"4 digits", "4711", true},
		{"64 characters", strings.Repeat("x", 64), true},
		{"every kind", "azAZ09-_.", true},
		{"3 characters", "471", false},
		{"65 characters", strings.Repeat("x", 65), false},
		{"empty", "", false},
		{"a space", "47 11", false},
		{"a level", "47/11", false},
		{"a wildcard", "471+", false},
		{"a letter outside ASCII", "pi\u00f1a", false},
		{"a digit outside ASCII", "471\u0661", false},
		{"a control character", "471\x00", false},
		{"no UTF-8", "471\xff", false},
	}
	for _, tt := range tests {
		if err := CheckPIN(tt.pin); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for c := range 256 {
		pin := "471" + string([]byte{byte(c)})
		if ok := regexp.MustCompile(`^[0-9A-Za-z._-]+$`).MatchString(pin); ok != (CheckPIN(pin) == nil) {
			t.Errorf("character %#x: %t", c, !ok)
		}
	}
}

func TestCheckPassword(t *testing.T) {
	for n, ok := range map[int]bool{0: false, 7: false, 8: true, 256: true, 257: false} {
		if err := CheckPassword(strings.Repeat("x", n)); (err == nil) != ok {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// A generated PIN has 8 digits, each as likely in each place. That a digit of
// 20,000 PINs comes up fewer than 1,600 or more than 2,400 times in one place is
// less likely than 1 in 10^18.
func TestNewPIN(t *testing.T) {
	var count [8][10]int
	for range 20_000 {
		pin := NewPIN()
		if len(pin) != 8 || CheckPIN(pin) != nil {
			t.Fatalf("PIN %q", pin)
		}
		for i := range pin {
			count[i][pin[i]-'0']++
		}
	}
	for i := range count {
		for d, n := range count[i] {
			if n < 1600 || n > 2400 {
				t.Errorf("digit %d comes up %d times in place %d of 20,000", d, n, i)
			}
		}
	}
}

func TestNewPassword(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		plain, hash := NewPassword()
		if seen[plain] || !regexp.MustCompile(`^[a-z2-7]{32}$`).MatchString(plain) ||
			!regexp.MustCompile(`^sha256:[0-9a-f]{64}$`).MatchString(hash) || CheckPassword(plain) != nil {
			t.Fatalf("password %q with hash %q", plain, hash)
		}
		seen[plain] = true
		if !generated(hash, []byte(plain)) || generated(hash, []byte(plain[1:])) || generated(hash, nil) {
			t.Fatalf("password %q is not that of its hash", plain)
		}
	}
}
