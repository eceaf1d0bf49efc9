package group_test

import (
	"testing"

	"github.com/muster-mqtt/muster/group"
)

func TestFold(t *testing.T) {
	tests := []struct {
		name, a, b string
		same       bool
	}{
		{"case", "Lamps-East", "lAMPS-eAST", true},
		{"letters beyond ASCII", "Öfen", "öFEN", true},
		{"three forms of one letter", "ΣΑΣ", "σας", true},
		{"the Kelvin sign is a k", "\u212Ailn", "kiln", true},
		{"the long s is an s", "la\u017Fer", "laser", true},
		{"sharp s in both cases", "straße", "STRAẞE", true},
		{"another name", "lamp", "lamps", false},
		{"the dotless i is no i", "ı", "i", false},
	}
	for _, tt := range tests {
		if got := group.Fold(tt.a) == group.Fold(tt.b); got != tt.same {
			t.Errorf("%s: Fold(%q) == Fold(%q) is %v", tt.name, tt.a, tt.b, got)
		}
	}
}

// What is folded folds to itself, so that a folded name may be folded again.
func FuzzFold(f *testing.F) {
	f.Add("Öfen \u212A")
	f.Fuzz(func(t *testing.T, s string) {
		if once := group.Fold(s); group.Fold(once) != once {
			t.Errorf("%q folds to %q and then to %q", s, once, group.Fold(once))
		}
	})
}
