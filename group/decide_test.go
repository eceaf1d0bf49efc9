package group_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/group"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const (
	north, south, east, west group.Number = 1, 2, 3, 4
	pump                                  = group.ClientID("pump-7")
)

// A world is a State and the store's rev.
type world struct {
	*group.State
	rev group.Rev
}

// newWorld returns a State with the groups 1 to 4.
func newWorld(l group.Limits) *world {
	w := &world{State: group.NewState(l), rev: 100}
	for i, name := range []string{"north", "south", "east", "west"} {
		w.LoadGroup(group.Group{Number: group.Number(i + 1), ID: group.ID{15: byte(i + 1)}, Name: name, Visible: group.VisibleAll, PolicyRev: 1}, group.Rev(i+1))
	}
	w.Loaded(w.rev)
	return w
}

// allow is the verdict under which the groups of newWorld are joined.
var allow = group.Verdict{PolicyRev: 1, Rule: "open"}

// record stages and settles a change.
func (w *world) record(c group.Change) group.Change {
	w.Stage(c)
	w.rev++
	c, _ = w.Settle(c, w.rev)
	return c
}

// do decides and records a request.
func (w *world) do(r group.Request) (group.Change, error) {
	c, err := w.Decide(r, allow, noon)
	if err == nil && c.Write {
		c = w.record(c)
	}
	return c, err
}

// request reads a request: "join 1", "verb join 1" for a SUBSCRIBE or
// UNSUBSCRIBE, "force move 1 2" for somebody else's, "join 1 qos=0 recv=false
// filter=a".
func request(t *testing.T, s string) group.Request {
	t.Helper()
	r := group.Request{Client: pump, Account: "ann", By: "ann"}
	words := strings.Fields(s)
	switch words[0] {
	case "verb":
		r.Verb, words = true, words[1:]
	case "force":
		r.Forced, r.By, words = true, "root", words[1:]
	}
	r.Op = group.Op(words[0])
	var n []group.Number
	for _, word := range words[1:] {
		key, value, option := strings.Cut(word, "=")
		i, err := strconv.ParseUint(word, 10, 32)
		switch {
		case option && key == "qos":
			qos := value[0] - '0'
			r.QoS = &qos
		case option && key == "recv":
			recv := value == "true"
			r.Recv = &recv
		case option && key == "filter":
			r.Filter = strings.FieldsFunc(value, func(c rune) bool { return c == ',' })
		case option && key == "epoch":
			i, _ := strconv.ParseUint(value, 10, 64)
			e := group.Epoch(i)
			r.Expect = &e
		case err == nil:
			n = append(n, group.Number(i))
		default:
			t.Fatalf("what is %q in %q?", word, s)
		}
	}
	switch {
	case len(n) == 2:
		r.From, r.To = n[0], n[1]
	case len(n) == 1 && (r.Op == group.OpLeave || r.Op == group.OpRemove):
		r.From = n[0]
	case len(n) == 1:
		r.To = n[0]
	}
	return r
}

// effect prints what a change takes and gives.
func effect(c group.Change) string {
	var parts []string
	for _, n := range c.Lost() {
		parts = append(parts, fmt.Sprintf("-%d", n))
	}
	for _, n := range c.Gained() {
		parts = append(parts, fmt.Sprintf("+%d", n))
	}
	return strings.Join(parts, " ")
}

// codeOf returns the code of a change or of its refusal.
func codeOf(c group.Change, err error) group.Code {
	if err == nil {
		return c.Code
	}
	code := group.Internal
	errors.As(err, &code)
	return code
}

// Each row makes all steps but the last, and looks at what the last one does.
// The epoch grows by one if and only if the groups or the options change.
func TestDecide(t *testing.T) {
	tests := []struct {
		name  string
		steps string
		want  string // groups lost and gained
		code  group.Code
	}{
		// [GRP-6.1-1]
		{"join", "join 1", "+1", 0},
		{"join of a member", "join 1; join 1", "", group.Unchanged},
		{"join of a member that changes the QoS", "join 1; join 1 qos=0", "", 0},
		{"join of a member with the QoS it has", "join 1 qos=0; join 1 qos=0", "", group.Unchanged},
		{"join of a member without options", "join 1 qos=0 recv=false filter=a,b; join 1", "", group.Unchanged},
		{"join of a member that changes recv", "join 1; join 1 recv=false", "", 0},
		{"join of a member that changes the filter", "join 1 filter=a; join 1 filter=a,b", "", 0},
		{"join of a member that removes the filter", "join 1 filter=a; join 1 filter=", "", 0},
		{"join of an unknown group", "join 9", "", group.NoSuchGroup},
		{"join of no group", "join 0", "", group.NoSuchGroup},
		{"a second group", "join 2; join 1", "+1", 0},

		{"leave", "join 1; join 2; leave 1", "-1", 0},
		// [GRP-6.2-1]
		{"leave by one who was never in", "leave 1", "", group.NotMember},
		{"leave repeated", "join 1; leave 1; leave 1", "", group.Unchanged},
		{"leave repeated after another change", "join 1; leave 1; join 2; leave 1", "", group.NotMember},
		{"leave of another group than the last", "join 1; leave 1; leave 2", "", group.NotMember},
		{"leave of the group that one has switched from", "join 1; switch 1 2; leave 1", "", group.NotMember},
		{"leave after one was removed", "join 1; force remove 1; leave 1", "", group.NotMember},
		{"leave after the leave was undone", "join 1; leave 1; join 1; leave 1", "-1", 0},

		{"switch", "join 1; switch 1 2", "-1 +2", 0},
		// [GRP-6.3-1]
		{"switch by one who is in neither", "switch 1 2", "", group.NotMember},
		{"switch repeated", "join 1; switch 1 2; switch 1 2", "", group.Unchanged},
		{"switch into a group one is in already", "join 1; join 2; switch 1 2", "-1", 0},
		{"switch from a group to itself", "join 1; switch 1 1", "", group.Unchanged},
		{"switch that changes the QoS alone", "join 2; switch 1 2 qos=0", "", 0},
		// [GRP-6.3-2]
		{"switch to an unknown group", "join 1; switch 1 9", "", group.NoSuchGroup},
		{"switch to no group", "join 1; switch 1 0", "", group.NoSuchGroup},

		{"move", "join 1; force move 1 2", "-1 +2", 0},
		{"move of one who is not there", "join 3; force move 1 2", "", group.NotMember},
		{"remove", "join 1; force remove 1", "-1", 0},
		{"remove of one who is not there", "join 1; force remove 2", "", group.NotMember},
		{"an operator's join of an unknown device", "force join 1", "+1", 0},

		// [GRP-7-2]
		{"$join repeated", "verb join 1; verb join 1", "", group.Unchanged},
		{"$switch repeated", "join 1; verb switch 1 2; verb switch 1 2", "", group.Unchanged},
		{"$switch repeated after a join elsewhere", "join 1; verb switch 1 2; join 3; verb switch 1 2", "", group.Unchanged},
		{"$switch of one who is in neither", "verb switch 1 2", "", group.NotMember},
		// [GRP-7-3]
		{"$join after a move", "join 1; force move 1 2; verb join 1", "", group.Unchanged},
		{"$switch to the group one was moved from", "join 3; verb switch 3 1; force move 1 2; verb switch 3 1", "", group.Unchanged},
		{"$join after two moves", "join 1; force move 1 2; force move 2 3; verb join 1", "", group.Unchanged},
		{"$join after a move there and back", "join 1; force move 1 2; force move 2 1; verb join 1", "", group.Unchanged},
		// [GRP-7-4]
		{"$join after a removal", "join 1; force remove 1; verb join 1", "", group.MembershipTerminated},
		{"$join a second time after a removal", "join 1; force remove 1; verb join 1; verb join 1", "", group.MembershipTerminated},
		{"$switch to the group one was removed from", "join 1; join 2; force remove 1; verb switch 2 1", "", group.MembershipTerminated},
		{"$join after a move and a removal", "join 1; force move 1 2; force remove 2; verb join 1", "", group.MembershipTerminated},
		{"$join after one has left where one was moved", "join 1; force move 1 2; leave 2; verb join 1", "", group.MembershipTerminated},
		{"$join of another group after a removal", "join 1; force remove 1; verb join 2", "+2", 0},
		{"join by PUBLISH after a removal", "join 1; force remove 1; join 1", "+1", 0},
		{"$join after such a join and a leave", "join 1; force remove 1; join 1; leave 1; verb join 1", "+1", 0},
		{"$join after a removal and UNSUBSCRIBE", "join 1; force remove 1; verb leave 1; verb join 1", "+1", 0},
		{"$join after a removal and an operator's join", "join 1; force remove 1; force join 1; verb join 1", "", group.Unchanged},
		{"$join after an operator's join and one's leave", "join 1; force remove 1; force join 1; leave 1; verb join 1", "+1", 0},
		{"switch by PUBLISH into the group one was moved from", "join 1; force move 1 2; switch 2 1", "-2 +1", 0},
		// [GRP-7-5]
		{"UNSUBSCRIBE", "verb join 1; verb leave 1", "-1", 0},
		{"UNSUBSCRIBE repeated", "verb join 1; verb leave 1; verb leave 1", "", group.Unchanged},
		{"UNSUBSCRIBE after a move", "join 1; force move 1 2; verb leave 1", "-2", 0},
		{"UNSUBSCRIBE after a move, repeated", "join 1; force move 1 2; verb leave 1; verb leave 1", "", group.Unchanged},
		{"UNSUBSCRIBE after a removal", "join 1; force remove 1; verb leave 1", "", group.Unchanged},
		{"UNSUBSCRIBE by one who was never in", "verb leave 1", "", group.NotMember},
		{"leave by PUBLISH after a move", "join 1; force move 1 2; leave 1", "", group.NotMember},

		// [GRP-5.5-4]
		{"the device's epoch", "join 1; join 2 epoch=101", "+2", 0},
		{"an older epoch", "join 1; join 2 epoch=100", "", group.StaleEpoch},
		{"a later epoch", "join 1; join 2 epoch=102", "", group.StaleEpoch},
		{"an older epoch, with the effect there", "join 1; join 1 epoch=100", "", group.StaleEpoch},
		{"no epoch yet", "join 1 epoch=0", "+1", 0},
		{"the store's rev as the epoch of a device without a record", "join 1 epoch=100", "", group.StaleEpoch},

		{"forget", "join 1; join 2; force forget", "-1 -2", 0},
		{"forget of an unknown device", "force forget", "", group.NoSuchDevice},
		{"an unknown operation", "dance 1", "", group.UnknownOp},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(group.Limits{})
			steps := strings.Split(tt.steps, "; ")
			for _, step := range steps[:len(steps)-1] {
				w.do(request(t, step))
			}
			r := request(t, steps[len(steps)-1])
			before, known := w.Device(pump)
			c, err := w.Decide(r, allow, noon)
			if code := codeOf(c, err); code != tt.code || effect(c) != tt.want {
				t.Fatalf("%v, %q, want %v, %q", code, effect(c), tt.code, tt.want)
			}
			if after, ok := w.Device(pump); ok != known || !same(after, before) {
				t.Errorf("the decision has changed the State: %+v", after)
			}
			if err != nil {
				return
			}
			if grown := c.Next.Epoch - c.Prev.Epoch; grown > 1 || (grown == 1) != (c.Code == 0) {
				t.Errorf("the epoch grows by %d with code %v", grown, c.Code)
			}
			if c.Code == group.OK && !c.Write {
				t.Error("a change that is not written")
			}
		})
	}
}

// same compares what is recorded of a device.
func same(a, b group.Device) bool {
	return a.Epoch == b.Epoch && a.Account == b.Account && a.Last == b.Last && slices.Equal(a.Ends, b.Ends) &&
		slices.EqualFunc(a.Groups, b.Groups, func(x, y group.Membership) bool {
			return x.Number == y.Number && x.Since == y.Since && x.QoS == y.QoS && x.Recv == y.Recv && slices.Equal(x.Filter, y.Filter)
		})
}

// What a verdict says and what a group's policy has become.
func TestDecideUnderAVerdict(t *testing.T) {
	tests := []struct {
		name    string
		verdict group.Verdict
		step    string
		code    group.Code
		guard   bool
	}{
		{"refused", group.Verdict{Code: group.BadSecret, PolicyRev: 1}, "join 2", group.BadSecret, false},
		{"refused, of a switch", group.Verdict{Code: group.NotAuthorized, PolicyRev: 1}, "switch 1 2", group.NotAuthorized, false},
		{"an older policy", group.Verdict{PolicyRev: 0}, "join 2", 0, true},
		{"a later policy", group.Verdict{PolicyRev: 2}, "switch 1 2", 0, true},
		{"an older policy of a group one is in", group.Verdict{PolicyRev: 0}, "join 1", group.Unchanged, false},
		{"a leave has no policy", group.Verdict{}, "leave 1", 0, false},
	}
	for _, tt := range tests {
		w := newWorld(group.Limits{})
		w.do(request(t, "join 1"))
		c, err := w.Decide(request(t, tt.step), tt.verdict, noon)
		if guard := errors.Is(err, group.ErrGuard); guard != tt.guard || !guard && codeOf(c, err) != tt.code {
			t.Errorf("%s: %v, %v, want %v", tt.name, c.Code, err, tt.code)
		}
		// [GRP-6.3-2]
		if d, _ := w.Device(pump); len(d.Groups) != 1 || d.Groups[0].Number != north {
			t.Errorf("%s: the device is in %v", tt.name, d.Groups)
		}
	}
}

// A grant is for one change, of one epoch, under one policy, for a time.
func TestRedeem(t *testing.T) {
	grant := func(op group.Op, from, to group.Number) *group.Grant {
		return &group.Grant{Op: op, From: from, To: to, Expires: noon.Add(time.Minute), Base: 101, PolicyRev: 1}
	}
	tests := []struct {
		name  string
		grant *group.Grant
		steps string // before the last one, which presents the grant
		age   time.Duration
		want  string
		code  group.Code
	}{
		{"switch", grant("switch", 1, 2), "join 1; switch 1 2", 0, "-1 +2", 0},
		{"leave", grant("leave", 1, 0), "join 1; leave 1", 0, "-1", 0},
		{"last instant", grant("join", 0, 2), "join 1; join 2", time.Minute - 1, "+2", 0},
		{"expired", grant("join", 0, 2), "join 1; join 2", time.Minute, "", group.GrantExpired},
		{"another op", grant("join", 0, 2), "join 1; switch 1 2", 0, "", group.GrantMismatch},
		{"another group", grant("join", 0, 2), "join 1; join 3", 0, "", group.GrantMismatch},
		{"another group to leave", grant("switch", 3, 2), "join 1; switch 1 2", 0, "", group.GrantMismatch},
		// [GRP-8-2]
		{"used", grant("join", 0, 2), "join 1; join 2; join 2", 0, "", group.GrantUsed},
		{"used and undone", grant("join", 0, 2), "join 1; join 2; leave 2; join 2", 0, "", group.GrantUsed},
		{"overtaken by another change", grant("join", 0, 2), "join 1; join 3; join 2", 0, "", group.GrantUsed},
		{"overtaken by an operator", grant("join", 0, 2), "join 1; force remove 1; join 2", 0, "", group.GrantUsed},
		{"a device without a record", grant("join", 0, 2), "join 2", 0, "", group.GrantUsed},
		// [GRP-7-2]
		{"$grant repeated", grant("join", 0, 2), "join 1; join 2; verb join 2", 0, "", group.Unchanged},
		{"$grant of a switch repeated", grant("switch", 1, 2), "join 1; switch 1 2; verb switch 1 2", 0, "", group.Unchanged},
		{"$grant of a leave repeated", grant("leave", 1, 0), "join 1; leave 1; verb leave 1", 0, "", group.Unchanged},
		{"$grant repeated when its time is over", grant("join", 0, 2), "join 1; join 2; verb join 2", time.Hour, "", group.Unchanged},
		{"$grant repeated after another change", grant("join", 0, 2), "join 1; join 2; join 3; verb join 2", 0, "", group.GrantUsed},
		{"$grant after the same change by an operator", grant("join", 0, 2), "join 1; force join 2; verb join 2", 0, "", group.GrantUsed},
	}
	for _, tt := range tests {
		w := newWorld(group.Limits{})
		steps := strings.Split(tt.steps, "; ")
		for _, step := range steps[:len(steps)-1] {
			w.do(request(t, step))
		}
		r := request(t, steps[len(steps)-1])
		r.Grant = tt.grant
		c, err := w.Decide(r, group.Verdict{Rule: "grant"}, noon.Add(tt.age))
		if code := codeOf(c, err); code != tt.code || effect(c) != tt.want {
			t.Errorf("%s: %v, %q, want %v, %q", tt.name, code, effect(c), tt.code, tt.want)
		}
	}
}

// A grant is void when the group's policy has changed since, or is deleted.
func TestRedeemUnderAnotherPolicy(t *testing.T) {
	for name, edit := range map[string]func(*group.Group){
		"policy":     func(g *group.Group) { g.Policy, g.PIN = group.PolicyPIN, "hash" },
		"visibility": func(g *group.Group) { g.Visible = group.VisibleMembers },
		"deletion":   func(g *group.Group) { g.Deleted = true },
	} {
		w := newWorld(group.Limits{})
		w.do(request(t, "join 1"))
		g, _ := w.Group(south)
		edit(&g)
		c, err := w.DecideGroup(group.OpUpdate, g, "root", noon)
		if err != nil {
			t.Fatal(err)
		}
		w.record(c)
		r := request(t, "join 2")
		r.Grant = &group.Grant{Op: "join", To: south, Expires: noon.Add(time.Minute), Base: 101, PolicyRev: 1}
		if c, err := w.Decide(r, group.Verdict{}, noon); codeOf(c, err) != group.GrantUsed {
			t.Errorf("%s: %v, want %v", name, codeOf(c, err), group.GrantUsed)
		}
	}
}

// A device that the server named has no record before its first change. The
// epoch with which that will begin moves with every commit of others, and must
// not make its grant a used one.
func TestGrantOfADeviceWithoutARecordSurvivesOthersChanges(t *testing.T) {
	w := newWorld(group.Limits{})
	for i := range 3 {
		w.do(group.Join(group.ClientID(fmt.Sprint("other-", i)), north))
	}
	r := request(t, "join 2")
	r.Grant = &group.Grant{Op: "join", To: south, Expires: noon.Add(time.Minute), PolicyRev: 1}
	if c, err := w.do(r); codeOf(c, err) != group.OK {
		t.Fatalf("the grant is answered %v", err)
	}
	if c, err := w.do(r); codeOf(c, err) != group.GrantUsed {
		t.Errorf("the used grant is answered %v", codeOf(c, err))
	}
}

// The record keeps the last MaxEnds forced ends.
func TestForcedEndsAreBounded(t *testing.T) {
	w := newWorld(group.Limits{})
	for n := group.Number(5); n < 5+group.MaxEnds+2; n++ {
		w.LoadGroup(group.Group{Number: n, ID: group.ID{15: byte(n)}, Name: fmt.Sprint("g", n), PolicyRev: 1}, 1)
		w.do(request(t, fmt.Sprint("join ", n)))
		w.do(request(t, fmt.Sprint("force remove ", n)))
	}
	d, _ := w.Device(pump)
	if len(d.Ends) != group.MaxEnds || d.Ends[0].From != 7 || d.Ends[group.MaxEnds-1].Epoch != d.Epoch {
		t.Errorf("the ends are %v", d.Ends)
	}
}

func TestBind(t *testing.T) {
	tests := []struct {
		name   string
		before group.Device // not recorded if it has no Client Identifier
		to     string
		code   group.Code
		want   string // the account afterwards
	}{
		{"a free identifier", group.Device{}, "ann", 0, "ann"},
		{"one's own", group.Device{ClientID: pump, Account: "ann"}, "ann", group.Unchanged, "ann"},
		{"one's own in another case", group.Device{ClientID: pump, Account: "ann"}, "Ann", group.Unchanged, "ann"},
		{"another's", group.Device{ClientID: pump, Account: "bob"}, "ann", group.NotAuthorized, "bob"},
		{"one that an operator has made known", group.Device{ClientID: pump, Groups: []group.Membership{{Number: north}}}, "ann", 0, "ann"},
		{"an anonymous one that holds nothing", group.Device{ClientID: pump, Account: "anonymous"}, "ann", 0, "ann"},
		{"an anonymous one in a group", group.Device{ClientID: pump, Account: "anonymous", Groups: []group.Membership{{Number: north}}}, "ann", group.NotAuthorized, "anonymous"},
		{"an anonymous one that was removed", group.Device{ClientID: pump, Account: "anonymous", Ends: []group.End{{From: north}}}, "ann", group.NotAuthorized, "anonymous"},
		{"a named one, by anonymous", group.Device{ClientID: pump, Account: "ann"}, "anonymous", group.NotAuthorized, "ann"},
	}
	for _, tt := range tests {
		w := newWorld(group.Limits{})
		if tt.before.ClientID != "" {
			tt.before.Epoch = 50
			w.LoadDevice(tt.before, 60)
		}
		c, err := w.do(group.Request{Op: group.OpBind, Client: pump, Account: tt.to, By: tt.to})
		d, _ := w.Device(pump)
		if codeOf(c, err) != tt.code || d.Account != tt.want {
			t.Errorf("%s: %v and %q, want %v and %q", tt.name, codeOf(c, err), d.Account, tt.code, tt.want)
		}
		if tt.before.ClientID != "" && d.Epoch != 50 {
			t.Errorf("%s: the epoch is %d", tt.name, d.Epoch)
		}
		if bound := w.Bound(tt.want); len(bound) != 1 {
			t.Errorf("%s: bound to %s are %v", tt.name, tt.want, bound)
		}
	}
}
