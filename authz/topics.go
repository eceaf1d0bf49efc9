package authz

import (
	"slices"
	"strings"

	"github.com/muster-mqtt/muster/group"
)

// Topics is what one client may do with ordinary topics: an account's rules,
// made ready for one Client Identifier. It does not change; its methods may be
// called by several goroutines at once, and do not allocate.
//
// A topic is allowed by one rule that allows it, unless any rule denies it; the
// order of the rules does not count. A nil Topics allows nothing.
type Topics struct {
	publish, read rights
}

// rights are the filters of one direction.
type rights struct {
	allow, deny []string
}

// NewTopics makes the account's rules ready for a Client Identifier. An operator
// without rules may do everything, another account without rules nothing, and
// an account that is disabled or removed nothing either.
//
// A name with a wildcard or a "/" in it cannot stand in a filter. A rule that is
// to hold it allows nothing if it allows, and denies everything if it denies: a
// client does not choose its way round a rule.
func NewTopics(acc *group.Account, c group.ClientID) *Topics {
	switch {
	case acc.Disabled || acc.Removed || len(acc.Topics) == 0 && acc.Role != group.RoleOperator:
		return nil
	case len(acc.Topics) == 0:
		all := rights{allow: []string{"#"}}
		return &Topics{publish: all, read: all}
	}
	t := new(Topics)
	for _, r := range acc.Topics {
		filter, ok := expand(r.Filter, string(c), acc.Name)
		switch {
		case !ok && !r.Deny:
			continue
		case !ok:
			filter = "#"
		}
		if r.Publish {
			t.publish.add(r.Deny, filter)
		}
		if r.Subscribe {
			t.read.add(r.Deny, filter)
		}
	}
	return t
}

func (r *rights) add(deny bool, filter string) {
	to := &r.allow
	if deny {
		to = &r.deny
	}
	if !slices.Contains(*to, filter) {
		*to = append(*to, filter)
	}
}

// expand puts the names in their places, and reports whether they fit there.
func expand(filter, client, user string) (string, bool) {
	if strings.IndexByte(filter, '%') < 0 {
		return filter, true
	}
	var b strings.Builder
	for i := 0; i < len(filter); i++ {
		if filter[i] != '%' || i+1 == len(filter) {
			b.WriteByte(filter[i])
			continue
		}
		i++
		name := "%"
		switch filter[i] {
		case 'c':
			name = client
		case 'u':
			name = user
		}
		if name == "" || strings.ContainsAny(name, "+#/\x00") {
			return "", false
		}
		b.WriteString(name)
	}
	return b.String(), true
}

// MayPublish reports whether the client may publish to the Topic Name.
func (t *Topics) MayPublish(topic string) bool { return t != nil && t.publish.cover(topic) }

// MayRead reports whether the client may read each topic that a Topic Filter
// matches, without $share, or the one topic if it is a Topic Name: one rule allows
// all of them, and none denies any.
func (t *Topics) MayRead(filter string) bool { return t != nil && t.read.cover(filter) }

func (r *rights) cover(filter string) bool {
	if filter == "" || filter[0] == '$' {
		return false
	}
	if len(r.deny) > 0 {
		meets := cover // of a Topic Name both are the same
		if strings.IndexByte(filter, '+') >= 0 || strings.IndexByte(filter, '#') >= 0 {
			meets = overlap
		}
		for _, f := range r.deny {
			if meets(f, filter) {
				return false
			}
		}
	}
	for _, f := range r.allow {
		if cover(f, filter) {
			return true
		}
	}
	return false
}

// cover reports whether rule matches each Topic Name that filter matches. Both
// are valid Topic Filters.
func cover(rule, filter string) bool {
	if filter == "#" {
		filter = "+/#" // the same, as each Topic Name has a level
	}
	at := 0 // in filter
	for i := range len(rule) {
		switch c := rule[i]; {
		case c == '#':
			return true
		case c == '+':
			if at < len(filter) && filter[at] == '#' {
				return false
			}
			for at < len(filter) && filter[at] != '/' {
				at++
			}
		case at == len(filter):
			return rule[i:] == "/#" // "a/#" matches "a" too
		case c != filter[at]:
			return false
		default:
			at++
		}
	}
	return at == len(filter)
}

// overlap reports whether there is a Topic Name that both match. Both are valid
// Topic Filters.
func overlap(a, b string) bool {
	for {
		x, rest, more := strings.Cut(a, "/")
		y, left, deeper := strings.Cut(b, "/")
		switch {
		case x == "#" || y == "#":
			return true
		case x != y && x != "+" && y != "+":
			return false
		case !more && !deeper:
			return true
		case !more:
			return left == "#"
		case !deeper:
			return rest == "#"
		}
		a, b = rest, left
	}
}
