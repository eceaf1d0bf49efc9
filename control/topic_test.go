package control

import (
	"testing"

	"github.com/muster-mqtt/muster/group"
)

// Both prefixes name the same op; an unknown op is 11, another version 12.
func TestParseRequestTopic(t *testing.T) {
	tests := []struct {
		topic string
		op    Op
		code  group.Code
		ours  bool
	}{
		{"$CONTROL/group/v1/join", OpJoin, group.OK, true},
		{"$G/join", OpJoin, group.OK, true},
		{"$G/account", OpAccount, group.OK, true},
		{"$G/Join", "", group.UnknownOp, true},
		{"$G/join/x", "", group.UnknownOp, true},
		{"$G/", "", group.UnknownOp, true},
		{"$G/me", "", group.UnknownOp, true},
		{"$CONTROL/group/v1/res/me", "", group.UnknownOp, true},
		{"$CONTROL/group/v1", "", group.UnknownOp, true},
		{"$CONTROL/group/v2/join", "", group.UnsupportedVersion, true},
		{"$CONTROL/group/v2", "", group.UnsupportedVersion, true},
		{"$CONTROL/group/join", "", group.UnsupportedVersion, true},
		{"$CONTROL/other/v1/join", "", group.UnknownOp, false},
		{"$CONTROL", "", group.UnknownOp, false},
		{"$G", "", group.UnknownOp, false},
		{"$GG/join", "", group.UnknownOp, false},
		{"a/b", "", group.UnknownOp, false},
		{"", "", group.UnknownOp, false},
	}
	for _, test := range tests {
		op, code, ours := ParseRequestTopic(test.topic)
		if op != test.op || code != test.code || ours != test.ours {
			t.Errorf("ParseRequestTopic(%q) = %q, %v, %t", test.topic, op, code, ours)
		}
	}
	for _, op := range ops {
		long, _, _ := ParseRequestTopic("$CONTROL/group/v1/" + string(op))
		short, _, _ := ParseRequestTopic("$G/" + string(op))
		if long != op || short != op {
			t.Errorf("op %s is %q and %q", op, long, short)
		}
	}
}

func TestControlTopics(t *testing.T) {
	tests := []struct {
		s                   string
		control, answer, me bool
		verb, groupTopic    bool
	}{
		{"$CONTROL", true, false, false, false, false},
		{"$CONTROL/x", true, false, false, false, false},
		{"$CONTROLS/x", false, false, false, false, false},
		{"$G", true, false, false, false, false},
		{"$G/#", true, false, false, false, false},
		{"$G/me", true, false, true, false, false},
		{"$G/me/x", true, false, false, false, false},
		{MeTopic, true, false, true, false, false},
		{AnswerTopic, true, true, false, false, false},
		{"$G/res/1", true, true, false, false, false},
		{"$G/res/1/2", true, true, false, false, false},
		{"$G/res/#", true, true, false, false, false},
		{"$G/res/+", true, true, false, false, false},
		{"$G/res/a/+", true, true, false, false, false},
		{"$CONTROL/group/v1/res/#", true, true, false, false, false},
		{"$G/res/+/a", true, false, false, false, false},
		{"$G/res/+/#", true, false, false, false, false},
		{"$G/res/a#", true, false, false, false, false},
		{"$G/res/", true, false, false, false, false},
		{"$G/res", true, false, false, false, false},
		{"$G/+/1", true, false, false, false, false},
		{"$CONTROL/group/v2/res/1", true, false, false, false, false},
		{"$join", false, false, false, true, false},
		{"$join/a", false, false, false, true, false},
		{"$joint/a", false, false, false, false, false},
		{"$switch/#", false, false, false, true, false},
		{"$grant/x", false, false, false, true, false},
		{"g", false, false, false, false, true},
		{"g/#", false, false, false, false, true},
		{"gg/1", false, false, false, false, false},
		{"#", false, false, false, false, false},
		{"", false, false, false, false, false},
	}
	for _, test := range tests {
		for name, is := range map[string]struct{ got, want bool }{
			"IsControl":      {IsControl(test.s), test.control},
			"IsAnswerFilter": {IsAnswerFilter(test.s), test.answer},
			"IsMe":           {IsMe(test.s), test.me},
			"IsVerb":         {IsVerb(test.s), test.verb},
			"IsGroupTopic":   {IsGroupTopic(test.s), test.groupTopic},
		} {
			if is.got != is.want {
				t.Errorf("%s(%q) = %t", name, test.s, is.got)
			}
		}
	}
}
