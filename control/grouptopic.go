package control

import (
	"strconv"
	"strings"

	"github.com/muster-mqtt/muster/group"
)

// A Part is what a group topic is for: its third level in the full form.
type Part uint8

// The parts of a group. Agg and Re are reserved: no topic has them yet.
const (
	All Part = iota + 1 // to every member and observer
	Up                  // to observers
	To                  // to one member
	Evt                 // roster events, by the server
	Agg
	Re
)

var partNames = [...]string{All: "all", Up: "up", To: "to", Evt: "evt", Agg: "agg", Re: "re"}

// String returns the level that stands for the part, or "" if there is none.
func (p Part) String() string {
	if int(p) < len(partNames) {
		return partNames[p]
	}
	return ""
}

// A Topic is a topic of a group, taken apart. In the full form, g/<n>/…, Number
// and, but in [Evt], Sender are set. A short form leaves out the sender, and
// the number: it has the group's Name, or neither if it means the device's only
// group.
type Topic struct {
	Number group.Number // 0 in a short form
	Name   string       // folded; in a short form that names its group
	Part   Part
	// Member is to whom the message goes; in part To.
	Member group.ClientID
	// Sender is who published; empty in a short form and in part Evt.
	Sender group.ClientID
	// Rest is what the application adds, after the '/'. HasRest tells an empty
	// one from none.
	Rest    string
	HasRest bool
	Short   bool
}

// IsGroupTopic reports whether a Topic Name or Topic Filter is, or lies below,
// "g".
func IsGroupTopic(s string) bool { return under(s, "g") }

// ParseTopic takes a Topic Name apart, which must be a valid one. It is false
// for a topic outside g/ and for one in none of the forms of the protocol. It
// does not say who may publish there, nor whether Sender and Member are Client
// Identifiers fit for groups. Unless a name is not in lower case it does not
// allocate.
func ParseTopic(topic string) (Topic, bool) {
	rest, ok := strings.CutPrefix(topic, "g/")
	if !ok {
		return Topic{}, false
	}
	first, after, more := strings.Cut(rest, "/")
	switch {
	case allDigits(first):
		n, ok := parseNumber(first)
		if !ok || !more {
			return Topic{}, false
		}
		return parseFull(n, after)
	case first == "all" || first == "up" || first == "to":
		return parseShort("", rest)
	case !more:
		return Topic{}, false
	}
	name, err := Name(first)
	if err != nil {
		return Topic{}, false
	}
	return parseShort(group.Fold(name), after)
}

// parseNumber reads a group's number as it stands in topics: no leading zeros.
func parseNumber(s string) (group.Number, bool) {
	if s[0] == '0' || len(s) > 10 {
		return 0, false
	}
	var n uint64
	for i := 0; i < len(s); i++ {
		n = n*10 + uint64(s[i]-'0')
	}
	return group.Number(n), n <= 1<<32-1
}

// parseFull reads what follows g/<n>/.
func parseFull(n group.Number, s string) (Topic, bool) {
	if s == "evt" {
		return Topic{Number: n, Part: Evt}, true
	}
	t := Topic{Number: n}
	s, more, ok := t.parsePart(s)
	var sender string
	sender, t.Rest, t.HasRest = strings.Cut(s, "/")
	if !ok || !more || sender == "" {
		return Topic{}, false
	}
	t.Sender = group.ClientID(sender)
	return t, true
}

// parseShort reads a short form from its part on.
func parseShort(name, s string) (Topic, bool) {
	t := Topic{Name: name, Short: true}
	var ok bool
	if t.Rest, t.HasRest, ok = t.parsePart(s); !ok {
		return Topic{}, false
	}
	return t, true
}

// parsePart reads the part and, of To, the member. It returns what follows, and
// whether a level does.
func (t *Topic) parsePart(s string) (rest string, more, ok bool) {
	part, rest, more := strings.Cut(s, "/")
	switch part {
	case "all":
		t.Part = All
	case "up":
		t.Part = Up
	case "to":
		t.Part = To
		var member string
		member, rest, more = strings.Cut(rest, "/")
		if member == "" {
			return "", false, false
		}
		t.Member = group.ClientID(member)
	default:
		return "", false, false
	}
	return rest, more, true
}

// String returns the full form, g/<n>/…: what a message is delivered under. Of
// a short form Number and Sender must have been filled in.
func (t Topic) String() string { return string(AppendTopic(nil, t)) }

// AppendTopic appends what [Topic.String] returns to dst.
func AppendTopic(dst []byte, t Topic) []byte {
	dst = append(dst, 'g', '/')
	dst = strconv.AppendUint(dst, uint64(t.Number), 10)
	dst = append(dst, '/')
	dst = append(dst, t.Part.String()...)
	if t.Part == To {
		dst = append(dst, '/')
		dst = append(dst, t.Member...)
	}
	if t.Part != Evt {
		dst = append(dst, '/')
		dst = append(dst, t.Sender...)
	}
	if t.HasRest {
		dst = append(dst, '/')
		dst = append(dst, t.Rest...)
	}
	return dst
}
