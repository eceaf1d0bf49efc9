package control

import (
	"strings"

	"github.com/muster-mqtt/muster/group"
)

const (
	prefix      = "$CONTROL/group/"
	shortPrefix = "$G/"
	version     = "v1"
)

// AnswerTopic is the topic of answers to requests without a Response Topic.
const AnswerTopic = prefix + version + "/res/me"

// MeTopic is the topic of a device's own state and of the notices to it.
const MeTopic = prefix + version + "/me"

// ops are the operations of version 1.
var ops = [...]Op{
	OpJoin, OpLeave, OpSwitch, OpGrant, OpMine, OpMembers, OpCreate, OpUpdate, OpDelete, OpShow, OpList, OpMove, OpRemove, OpForget, OpAccount,
}

// ParseRequestTopic returns the op of a request topic, $CONTROL/group/v1/<op> or
// $G/<op>. Ours is true for every topic below $CONTROL/group/ and $G/; the code
// is then [group.OK], [group.UnknownOp] or, below $CONTROL/group/ with another
// version, [group.UnsupportedVersion], and op is empty unless it is OK.
func ParseRequestTopic(topic string) (op Op, code group.Code, ours bool) {
	name, ours := strings.CutPrefix(topic, shortPrefix)
	if !ours {
		if name, ours = strings.CutPrefix(topic, prefix); !ours {
			return "", group.UnknownOp, false
		}
		var v string
		if v, name, _ = strings.Cut(name, "/"); v != version {
			return "", group.UnsupportedVersion, true
		}
	}
	for _, op := range ops {
		if string(op) == name {
			return op, group.OK, true
		}
	}
	return "", group.UnknownOp, true
}

// IsControl reports whether a Topic Name or Topic Filter belongs to the control
// protocol: it is, or lies below, $CONTROL or $G.
func IsControl(s string) bool { return under(s, "$CONTROL") || under(s, "$G") }

// under reports whether s is the given first level or begins with it.
func under(s, level string) bool {
	rest, ok := strings.CutPrefix(s, level)
	return ok && (rest == "" || rest[0] == '/')
}

// IsAnswerFilter reports whether a Topic Filter, or a Response Topic, lies in
// the asker's own space for answers: $CONTROL/group/v1/res/<any> or
// $G/res/<any>. Of <any>, which may have several levels, the last may be a
// wildcard.
func IsAnswerFilter(filter string) bool {
	rest, ok := strings.CutPrefix(filter, shortPrefix+"res/")
	if !ok {
		if rest, ok = strings.CutPrefix(filter, prefix+version+"/res/"); !ok {
			return false
		}
	}
	last := rest[strings.LastIndexByte(rest, '/')+1:]
	if last == "#" || last == "+" {
		rest = rest[:len(rest)-1]
		return !hasWildcard(rest)
	}
	return rest != "" && !hasWildcard(rest)
}

// IsMe reports whether a Topic Filter asks for the device's own state and
// notices: $CONTROL/group/v1/me or $G/me.
func IsMe(filter string) bool { return filter == MeTopic || filter == shortPrefix+"me" }

func hasWildcard(s string) bool { return strings.ContainsAny(s, "+#") }
