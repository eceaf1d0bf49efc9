package group

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The bounds of an account's rules.
const (
	// MaxTopicRules is how many rules an account may have.
	MaxTopicRules = 64
	// MaxTopicRule is the length in bytes of the longest rule, as text.
	MaxTopicRule = 256
)

// A TopicRule says something of an account's right to ordinary topics: those
// that are neither a group's nor the server's. It is plain data; package store
// encodes it, and package authz decides by it.
type TopicRule struct {
	Deny               bool // else it allows
	Publish, Subscribe bool // one of them at least
	// Filter is a Topic Filter in which %c stands for the Client Identifier, of a
	// side connection the part before ~, %u for the account's name and %% for %.
	Filter string
}

// ParseTopicRule reads a rule from its text: "allow" or "deny", then "publish",
// "subscribe" or "both", then the filter, which may hold spaces, with one space
// between. The error says what is wrong with it.
func ParseTopicRule(s string) (TopicRule, error) {
	if len(s) > MaxTopicRule {
		return TopicRule{}, fmt.Errorf("a rule has at most %d bytes", MaxTopicRule)
	}
	verdict, rest, _ := strings.Cut(s, " ")
	what, filter, _ := strings.Cut(rest, " ")
	r := TopicRule{Deny: verdict == "deny", Filter: filter}
	switch what {
	case "publish":
		r.Publish = true
	case "subscribe":
		r.Subscribe = true
	case "both":
		r.Publish, r.Subscribe = true, true
	default:
		return TopicRule{}, errors.New("a rule is such as \"allow publish sensors/%c/#\"")
	}
	if verdict != "allow" && verdict != "deny" {
		return TopicRule{}, errors.New("a rule begins with allow or deny")
	}
	if err := checkRuleFilter(filter); err != nil {
		return TopicRule{}, err
	}
	return r, nil
}

// String returns the rule's text.
func (r TopicRule) String() string {
	verdict, what := "allow", "both"
	if r.Deny {
		verdict = "deny"
	}
	switch {
	case !r.Publish:
		what = "subscribe"
	case !r.Subscribe:
		what = "publish"
	}
	return verdict + " " + what + " " + r.Filter
}

// checkRuleFilter reports what is wrong with a rule's filter.
func checkRuleFilter(s string) error {
	switch {
	case s == "":
		return errors.New("a rule ends with a Topic Filter")
	case !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0:
		return errors.New("the Topic Filter is not a text")
	case s[0] == '$':
		return errors.New("topics that begin with $ are the server's")
	case s == "g" || strings.HasPrefix(s, "g/"):
		return errors.New("topics below g are those of groups")
	}
	for more := true; more; {
		var level string
		level, s, more = strings.Cut(s, "/")
		if len(level) > 1 && strings.ContainsAny(level, "+#") || level == "#" && more {
			return errors.New("a wildcard is a whole level, and # the last one")
		}
		for i := strings.IndexByte(level, '%'); i >= 0; i = strings.IndexByte(level, '%') {
			if level = level[i+1:]; level == "" || strings.IndexByte("cu%", level[0]) < 0 {
				return errors.New("after % stands c, u or %")
			}
			level = level[1:]
		}
	}
	return nil
}
