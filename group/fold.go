package group

import (
	"strings"
	"unicode"
)

// Fold returns the form under which a name is compared: names that differ only
// in case fold to the same text (Unicode simple case folding). The name must
// be in Unicode normal form C, as package control makes it.
func Fold(name string) string {
	plain := true
	for i := 0; i < len(name); i++ {
		if c := name[i]; c >= 0x80 || 'A' <= c && c <= 'Z' {
			plain = false
			break
		}
	}
	if plain {
		return name
	}
	return strings.Map(foldRune, name)
}

// foldRune returns the smallest letter of those that differ from r in case only,
// or the lower-case one for ASCII. (A combining mark differs from the letter
// iota in case only, and is no part of a name.)
func foldRune(r rune) rune {
	least := r
	for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
		if unicode.IsLetter(o) {
			least = min(least, o)
		}
	}
	if 'A' <= least && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}
