package control

import (
	"reflect"
	"strings"
	"testing"

	"github.com/muster-mqtt/muster/group"
)

// A verb with a wildcard, a missing reference or a level too many is refused, on
// 5.0 with 0x8F. [GRP-7-8]
func TestParseVerb(t *testing.T) {
	lamps, east := group.Ref{Name: "lamps"}, group.Ref{Name: "lamps-east"}
	tests := []struct {
		filter string
		want   Request // without Encoding and Body
		code   group.Code
	}{
		{"$join/lamps", Request{Op: OpJoin, G: lamps}, group.OK},
		{"$join/LAMPS", Request{Op: OpJoin, G: lamps}, group.OK},
		{"$join/1", Request{Op: OpJoin, G: group.Ref{Number: 1}}, group.OK},
		{"$join/@ann", Request{Op: OpJoin, G: group.Ref{User: "ann"}}, group.OK},
		{"$join/lamps/4711", Request{Op: OpJoin, G: lamps, Secret: "4711", SecretInTopic: true}, group.OK},
		{"$switch/lamps/lamps-east", Request{Op: OpSwitch, From: lamps, To: east}, group.OK},
		{"$grant/AQID", Request{Grant: []byte{1, 2, 3}}, group.OK},

		{"$join", Request{}, group.BadRequest},
		{"$join/", Request{}, group.BadRequest},
		{"$join//4711", Request{}, group.BadRequest},
		{"$join/lamps/", Request{}, group.BadRequest},
		{"$join/lamps/4711/x", Request{}, group.BadRequest},
		{"$join/lamps/4711/", Request{}, group.BadRequest},
		{"$join/#", Request{}, group.BadRequest},
		{"$join/+", Request{}, group.BadRequest},
		{"$join/lamps/#", Request{}, group.BadRequest},
		{"$join/lamps/+", Request{}, group.BadRequest},
		{"$join/0", Request{}, group.BadRequest},
		{"$join/all", Request{}, group.BadRequest},
		{"$join/a\xff", Request{}, group.BadRequest},
		{"$join/lamps/" + strings.Repeat("1", maxSecret+1), Request{}, group.BadRequest},
		{"$switch", Request{}, group.BadRequest},
		{"$switch/lamps", Request{}, group.BadRequest},
		{"$switch/lamps/", Request{}, group.BadRequest},
		{"$switch//lamps", Request{}, group.BadRequest},
		{"$switch/lamps/+", Request{}, group.BadRequest},
		{"$switch/lamps/lamps-east/x", Request{}, group.BadRequest},
		{"$grant", Request{}, group.BadRequest},
		{"$grant/", Request{}, group.BadRequest},
		{"$grant/AQID/x", Request{}, group.BadRequest},
		{"$grant/AQ=", Request{}, group.BadRequest},
		{"$grant/+", Request{}, group.BadRequest},
		{"$grant/" + strings.Repeat("A", 200), Request{}, group.BadRequest},
		{"$leave/lamps", Request{}, group.BadRequest},
		{"lamps", Request{}, group.BadRequest},

		{"$grant/A", Request{}, group.GrantUnknown},     // no length of base64
		{"$grant/AQIDA", Request{}, group.GrantUnknown}, // no length of base64
		{"$grant/AQJ", Request{}, group.GrantUnknown},   // bits beyond the last byte
	}
	for _, test := range tests {
		got, code := ParseVerb(test.filter)
		if code == group.OK && (got.Body == [16]byte{} || got.Encoding != Bare) {
			t.Errorf("ParseVerb(%q) has no digest, or encoding %d", test.filter, got.Encoding)
		}
		got.Body, got.Encoding = [16]byte{}, 0
		if !reflect.DeepEqual(got, test.want) || code != test.code {
			t.Errorf("ParseVerb(%q) = %+v, %v; want %+v, %v", test.filter, got, code, test.want, test.code)
		}
		if code == group.BadRequest && SubackReason(code) != 0x8F {
			t.Errorf("ParseVerb(%q) is refused with %#x", test.filter, SubackReason(code))
		}
	}
}

func TestParseUnverb(t *testing.T) {
	lamps := group.Ref{Name: "lamps"}
	tests := []struct {
		filter  string
		g       group.Ref
		nothing bool
		code    group.Code
	}{
		{"$join/lamps", lamps, false, group.OK},
		{"$join/lamps/4711", lamps, false, group.OK},
		{"$join/lamps/", lamps, false, group.OK},
		{"$join/lamps/a/b/c", lamps, false, group.OK},
		{"$switch/1/lamps", lamps, false, group.OK},
		{"$grant/AQID", group.Ref{}, true, group.OK},
		{"$join", group.Ref{}, false, group.BadRequest},
		{"$join/", group.Ref{}, false, group.BadRequest},
		{"$join/#", group.Ref{}, false, group.BadRequest},
		{"$join/lamps/#", group.Ref{}, false, group.BadRequest},
		{"$switch/lamps", group.Ref{}, false, group.BadRequest},
		{"$switch/lamps/", group.Ref{}, false, group.BadRequest},
		{"$switch/1/2/3", group.Ref{}, false, group.BadRequest},
		{"a/b", group.Ref{}, false, group.BadRequest},
	}
	for _, test := range tests {
		r, nothing, code := ParseUnverb(test.filter)
		if r.G != test.g || nothing != test.nothing || code != test.code {
			t.Errorf("ParseUnverb(%q) = %+v, %t, %v", test.filter, r, nothing, code)
		}
		if !r.G.IsZero() && (r.Op != OpLeave || r.Body == [16]byte{} || r.Secret != "") {
			t.Errorf("ParseUnverb(%q) = %+v", test.filter, r)
		}
	}
}

// FuzzParseVerb reads any filter as a verb. What is one says the same as a
// request.
func FuzzParseVerb(f *testing.F) {
	for _, s := range []string{"$join/a", "$join/a/1", "$switch/a/b", "$grant/AQID", "$join/#", "$join//", "$grant/A"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, nothing, code := ParseUnverb(s); nothing && code != group.OK {
			t.Fatalf("UNSUBSCRIBE %q: nothing, and %v", s, code)
		}
		r, code := ParseVerb(s)
		if code != group.OK {
			if !reflect.DeepEqual(r, Request{}) {
				t.Fatalf("%q is refused with %+v", s, r)
			}
			return
		}
		if !IsVerb(s) || hasWildcard(s) {
			t.Fatalf("%q is read as %+v", s, r)
		}
		body, err := EncodeRequest(r, JSON)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		again, err := ParseRequest(r.Op, body)
		again.Encoding, again.Body, again.SecretInTopic = r.Encoding, r.Body, r.SecretInTopic
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%q is %+v, and %s is %+v, %v", s, r, body, again, err)
		}
	})
}
