package wire

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// maxString is the most bytes that a string has (MQTT 5.0, 1.5.4).
const maxString = 65_535

// topic reads a Topic Name (4.7).
func (r *reader) topic() []byte {
	b := r.text()
	switch {
	case r.err != nil:
	case len(b) == 0:
		r.protocol("a Topic Name is empty (4.7.3)")
	case wild(b):
		r.protocol("a Topic Name holds a wildcard (4.7.1)")
	}
	return b
}

// ValidTopicName reports whether b is a Topic Name: 1 to 65,535 bytes of UTF-8
// without U+0000, "+" and "#" (MQTT 5.0, 4.7).
func ValidTopicName(b []byte) bool {
	return len(b) > 0 && len(b) <= maxString && validText(b) && !wild(b)
}

// ValidFilter reports whether s is a Topic Filter: 1 to 65,535 bytes of UTF-8
// without U+0000, each "+" a whole level and "#" the whole last level (MQTT 5.0,
// 4.7). One that begins with "$share/" must have a name and a filter after it
// (4.8.2).
func ValidFilter(s string) bool {
	if len(s) > maxString || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return false
	}
	if strings.HasPrefix(s, sharePrefix) {
		_, rest, ok := SplitShare(s)
		return ok && validLevels(rest)
	}
	return validLevels(s)
}

func validLevels(s string) bool {
	if s == "" {
		return false
	}
	for more := true; more; {
		var level string
		level, s, more = strings.Cut(s, "/")
		if len(level) > 1 && strings.ContainsAny(level, "+#") || level == "#" && more {
			return false
		}
	}
	return true
}

// Levels returns the number of levels of a Topic Name or Topic Filter: one more
// than it has "/".
func Levels(s string) int { return strings.Count(s, "/") + 1 }

const sharePrefix = "$share/"

// SplitShare takes the Topic Filter of a Shared Subscription apart,
// "$share/<share>/<rest>" (MQTT 5.0, 4.8.2). ok is false if s is another filter,
// or if its share or rest is empty or its share holds a wildcard.
func SplitShare(s string) (share, rest string, ok bool) {
	after, ok := strings.CutPrefix(s, sharePrefix)
	if !ok {
		return "", "", false
	}
	share, rest, _ = strings.Cut(after, "/")
	if share == "" || rest == "" || strings.ContainsAny(share, "+#") {
		return "", "", false
	}
	return share, rest, true
}

// Match reports whether a Topic Filter, which must be valid, matches a Topic
// Name (MQTT 5.0, 4.7). A filter that begins with a wildcard matches no topic
// that begins with "$". Match does not know Shared Subscriptions: see
// [SplitShare].
func Match(filter, topic string) bool {
	if filter == "" || topic == "" {
		return false
	}
	if topic[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	t := 0
	for f := range len(filter) {
		switch c := filter[f]; {
		case c == '#':
			return true
		case c == '+':
			for t < len(topic) && topic[t] != '/' {
				t++
			}
		case t == len(topic):
			return filter[f:] == "/#" // "a/#" matches "a" too
		case c != topic[t]:
			return false
		default:
			t++
		}
	}
	return t == len(topic)
}

// wild reports whether b holds a wildcard character.
func wild(b []byte) bool {
	return bytes.IndexByte(b, '+') >= 0 || bytes.IndexByte(b, '#') >= 0
}
