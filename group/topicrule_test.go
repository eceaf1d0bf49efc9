package group

import (
	"strings"
	"testing"
)

func TestParseTopicRule(t *testing.T) {
	long := strings.Repeat("x", MaxTopicRule)
	tests := []struct {
		name, text string
		want       TopicRule
		err        string // part of it; empty: none
	}{
		{"allow", "allow publish sensors/%c/#", TopicRule{Publish: true, Filter: "sensors/%c/#"}, ""},
		{"deny", "deny subscribe +/x", TopicRule{Deny: true, Subscribe: true, Filter: "+/x"}, ""},
		{"both", "allow both #", TopicRule{Publish: true, Subscribe: true, Filter: "#"}, ""},
		{"a filter with spaces", "allow both a b / c", TopicRule{Publish: true, Subscribe: true, Filter: "a b / c"}, ""},
		{"a space ahead of the filter", "allow both  a", TopicRule{Publish: true, Subscribe: true, Filter: " a"}, ""},
		{"names", "allow publish %u-%c/100%%", TopicRule{Publish: true, Filter: "%u-%c/100%%"}, ""},
		{"an empty level", "allow publish /", TopicRule{Publish: true, Filter: "/"}, ""},
		{"nearly a group", "allow publish G/x", TopicRule{Publish: true, Filter: "G/x"}, ""},
		{"the longest", "allow publish " + long[:MaxTopicRule-14], TopicRule{Publish: true, Filter: long[:MaxTopicRule-14]}, ""},
		{"too long", "allow publish " + long, TopicRule{}, "256 bytes"},
		{"nothing", "", TopicRule{}, "such as"},
		{"no filter", "allow publish", TopicRule{}, "ends with a Topic Filter"},
		{"an empty filter", "allow publish ", TopicRule{}, "ends with a Topic Filter"},
		{"another verdict", "permit publish a", TopicRule{}, "allow or deny"},
		{"in capitals", "ALLOW publish a", TopicRule{}, "allow or deny"},
		{"another act", "allow read a", TopicRule{}, "such as"},
		{"in the wrong order", "publish allow a", TopicRule{}, "such as"},
		{"a space too many", "allow  publish a", TopicRule{}, "such as"},
		{"the server's", "allow both $SYS/#", TopicRule{}, "the server's"},
		{"shared", "allow subscribe $share/x/a", TopicRule{}, "the server's"},
		{"a group's", "allow publish g/1/all/#", TopicRule{}, "groups"},
		{"the parent of groups", "allow publish g", TopicRule{}, "groups"},
		{"# that is not last", "allow both a/#/b", TopicRule{}, "wildcard"},
		{"a wildcard in a level", "allow both a+", TopicRule{}, "wildcard"},
		{"a wildcard beside a name", "allow both %c#", TopicRule{}, "wildcard"},
		{"an unknown name", "allow both %x", TopicRule{}, "after %"},
		{"a name cut off", "allow both a/%", TopicRule{}, "after %"},
		{"a name across levels", "allow both %/c", TopicRule{}, "after %"},
		{"not UTF-8", "allow both a\xff", TopicRule{}, "not a text"},
		{"a zero", "allow both a\x00", TopicRule{}, "not a text"},
	}
	for _, tt := range tests {
		got, err := ParseTopicRule(tt.text)
		switch {
		case got != tt.want:
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		case tt.err == "" && err != nil, tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		case err == nil && got.String() != tt.text:
			t.Errorf("%s: %q comes back as %q", tt.name, tt.text, got)
		}
	}
}
