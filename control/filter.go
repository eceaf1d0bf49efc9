package control

import (
	"strings"
	"unicode/utf8"
)

// The bounds of a membership's filters.
const (
	maxFilters     = 16
	maxFilterSize  = 256 // bytes
	maxFilterDepth = 16  // levels
)

// validFilter reports whether s is a Topic Filter (MQTT 5.0, 4.7) within the
// bounds of a membership's.
func validFilter(s string) bool {
	if s == "" || len(s) > maxFilterSize || !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return false
	}
	levels := strings.Count(s, "/") + 1
	n := 0
	for level := range strings.SplitSeq(s, "/") {
		n++
		wild := hasWildcard(level)
		if wild && len(level) > 1 || level == "#" && n < levels {
			return false
		}
	}
	return levels <= maxFilterDepth
}

func allOf(all []string, f func(string) bool) bool {
	for _, s := range all {
		if !f(s) {
			return false
		}
	}
	return true
}
