package control

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"github.com/muster-mqtt/muster/group"
)

// The first levels of verbs.
const (
	verbJoin   = "$join"
	verbSwitch = "$switch"
	verbGrant  = "$grant"
)

// The bounds of what a request presents, in bytes.
const (
	maxSecret = 256
	maxGrant  = 96
)

// IsVerb reports whether a Topic Filter is a verb, also a malformed one.
func IsVerb(filter string) bool {
	return under(filter, verbJoin) || under(filter, verbSwitch) || under(filter, verbGrant)
}

// ParseVerb returns the request that a SUBSCRIBE with a verb makes: $join/<ref>,
// $join/<ref>/<PIN>, $switch/<from>/<to>, or $grant/<grant>, whose Op is empty.
// A filter that [IsVerb] does not take, one with a wildcard, a missing
// reference or a level too many gives [group.BadRequest], and a grant that was
// cut short [group.GrantUnknown].
func ParseVerb(filter string) (Request, group.Code) {
	verb, levels, ok := cutVerb(filter)
	if !ok {
		return Request{}, group.BadRequest
	}
	r := Request{Encoding: Bare, Body: digest(Op(verb), []byte(filter))}
	var err error
	switch {
	case verb == verbJoin && len(levels) <= 2:
		r.Op = OpJoin
		if r.G, err = ParseRef(levels[0]); err != nil {
			return Request{}, group.BadRequest
		}
		if len(levels) == 2 {
			r.Secret, r.SecretInTopic = strings.Clone(levels[1]), true
			if r.Secret == "" || len(r.Secret) > maxSecret {
				return Request{}, group.BadRequest
			}
		}
	case verb == verbSwitch && len(levels) == 2:
		r.Op = OpSwitch
		if r.From, r.To, ok = refPair(levels[0], levels[1]); !ok {
			return Request{}, group.BadRequest
		}
	case verb == verbGrant && len(levels) == 1:
		var code group.Code
		if r.Grant, code = parseGrant(levels[0]); code != group.OK {
			return Request{}, code
		}
	default:
		return Request{}, group.BadRequest
	}
	return r, group.OK
}

// ParseUnverb returns the request that an UNSUBSCRIBE with a verb makes: a leave
// of the group that $join, with or without further levels, or $switch leads to.
// Nothing is true for $grant, whose UNSUBSCRIBE has no effect. A filter that
// names no group gives [group.BadRequest].
func ParseUnverb(filter string) (r Request, nothing bool, code group.Code) {
	verb, levels, ok := cutVerb(filter)
	if !ok {
		return Request{}, false, group.BadRequest
	}
	r = Request{Op: OpLeave, Encoding: Bare, Body: digest(OpLeave, []byte(filter))}
	var err error
	switch {
	case verb == verbGrant:
		return Request{}, true, group.OK
	case verb == verbJoin:
		r.G, err = ParseRef(levels[0])
	case len(levels) == 2:
		_, r.G, ok = refPair(levels[0], levels[1])
	default:
		ok = false
	}
	if err != nil || !ok {
		return Request{}, false, group.BadRequest
	}
	return r, false, group.OK
}

// cutVerb returns a verb's first level and the others, of which there is at
// least one.
func cutVerb(filter string) (verb string, levels []string, ok bool) {
	if !IsVerb(filter) || hasWildcard(filter) || !utf8.ValidString(filter) {
		return "", nil, false
	}
	verb, rest, ok := strings.Cut(filter, "/")
	if !ok {
		return "", nil, false
	}
	return verb, strings.SplitN(rest, "/", 3), true
}

func refPair(a, b string) (from, to group.Ref, ok bool) {
	from, err := ParseRef(a)
	if err != nil {
		return from, to, false
	}
	to, err = ParseRef(b)
	return from, to, err == nil
}

// grantText is how a grant is written as text. It takes one text for each
// grant, so an altered one is noticed also where it changes no byte.
var grantText = base64.RawURLEncoding.Strict()

// parseGrant reads a grant in base64url without padding. Text that is none is
// no request; text that was cut or altered may still look like one, and is then
// no grant of this server.
func parseGrant(s string) ([]byte, group.Code) {
	if s == "" || len(s) > grantText.EncodedLen(maxGrant) {
		return nil, group.BadRequest
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return nil, group.BadRequest
		}
	}
	grant, err := grantText.DecodeString(s)
	if err != nil || len(grant) == 0 {
		return nil, group.GrantUnknown
	}
	return grant, group.OK
}
