package broker_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/group"
)

var grantText = base64.RawURLEncoding

// redeem returns the body of a request that presents a grant.
func redeem(grant []byte, more string) string {
	return fmt.Sprintf(`{"grant":%q%s}`, grantText.EncodeToString(grant), more)
}

// A testClock is one that a test moves; it starts at a whole second.
type testClock struct {
	start time.Time
	moved atomic.Int64
}

func newTestClock() *testClock { return &testClock{start: time.Now().Truncate(time.Second)} }

func (c *testClock) now() time.Time          { return c.start.Add(time.Duration(c.moved.Load())) }
func (c *testClock) advance(d time.Duration) { c.moved.Add(int64(d)) }

func TestGrantSize(t *testing.T) { // [GRP-8-1]
	a := authz.New(authz.Config{})
	a.SetKeys(authz.NewKeys(time.Now()))
	s := serve(t, nil)
	op := s.operator()
	verbGroups(op)
	c := s.dial("lamp")
	for _, o := range []struct {
		op       group.Op
		from, to group.Number
		body     string
	}{
		{group.OpJoin, 0, math.MaxUint32, `{"op":"join","g":"a","ttl":86400}`},
		{group.OpLeave, math.MaxUint32, 0, `{"op":"leave","g":"a","ttl":86400}`},
		{group.OpSwitch, math.MaxUint32, math.MaxUint32, `{"op":"switch","from":"a","to":"b","ttl":86400}`},
	} {
		if got := c.must("grant", o.body); len(got.Grant) == 0 || len(got.Grant) > 64 {
			t.Errorf("%s: a grant of %d bytes", o.op, len(got.Grant))
		}
		if o.op == group.OpJoin {
			c.must("join", "a")
		}
		largest := group.Grant{
			Holder: authz.HolderOf("ann", "lamp"), Op: o.op, From: o.from, To: o.to,
			Expires: time.Unix(math.MaxUint32, 0), Base: math.MaxUint32, PolicyRev: math.MaxUint32,
		}
		if b, err := a.Issue(largest); err != nil || len(b) > 64 {
			t.Errorf("%s: the largest grant has %d bytes, %v", o.op, len(b), err)
		}
	}
}

// Each op is redeemed once, as a request and as a verb, also after a restart.
func TestGrantRedeemed(t *testing.T) { // [GRP-8-2]
	tests := []struct {
		op, grant, more string
		groups          []group.Number
	}{
		{"join", `{"op":"join","g":"p","secret":"0815"}`, ``, []group.Number{1, 4}},
		{"join", `{"op":"join","to":"c"}`, `,"g":3`, []group.Number{1, 3}},
		{"leave", `{"op":"leave","g":"a"}`, ``, []group.Number{}},
		{"leave", `{"op":"leave","from":"a"}`, `,"g":"a"`, []group.Number{}},
		{"switch", `{"op":"switch","from":"a","to":"b"}`, ``, []group.Number{2}},
		{"switch", `{"op":"switch","to":"b"}`, `,"from":1,"to":"b"`, []group.Number{2}},
	}
	for _, verb := range []bool{false, true} {
		for _, restart := range []bool{false, true} {
			for _, tt := range tests {
				t.Run(fmt.Sprintf("%s%s verb %v restart %v", tt.op, tt.more, verb, restart), func(t *testing.T) {
					s := serve(t, nil)
					op := s.operator()
					verbGroups(op)
					c := s.dial("lamp")
					c.must("join", "a")
					before := expectIn(op, "lamp", 1)
					issued := c.must("grant", tt.grant)
					again := func() {
						if restart {
							s.restart()
							op, c = s.operator(), s.dial("lamp")
						}
					}
					again()
					if verb {
						c.expectCodes("the first time", c.subscribe("$grant/"+grantText.EncodeToString(issued.Grant)), []byte{1})
					} else {
						a := c.must(tt.op, redeem(issued.Grant, tt.more))
						if a.Why != "grant" || a.Epoch != before+1 {
							t.Errorf("answered %+v", a)
						}
					}
					if epoch := expectIn(op, "lamp", tt.groups...); epoch != before+1 {
						t.Fatalf("the epoch went from %d to %d", before, epoch)
					}
					again()
					c.refused(group.GrantUsed, tt.op, redeem(issued.Grant, tt.more))
					if epoch := expectIn(op, "lamp", tt.groups...); epoch != before+1 {
						t.Errorf("used a second time, it took the epoch to %d", epoch)
					}
				})
			}
		}
	}
}

// A grant lives until exp, the last instant before included; a verb that repeats
// what it did is granted for ever.
func TestGrantExpires(t *testing.T) { // [GRP-8-2] [GRP-8-3]
	clock := newTestClock()
	s := serve(t, func(cfg *broker.Config) { cfg.SetClock(clock.now) })
	op := s.operator()
	verbGroups(op)
	c := s.dial("lamp")
	for _, tt := range []struct {
		ttl   string
		lives time.Duration
	}{{"", time.Minute}, {`,"ttl":1`, time.Second}, {`,"ttl":86400`, 24 * time.Hour}} {
		first, second := c.must("grant", `{"op":"join","g":"a"`+tt.ttl+`}`), c.must("grant", `{"op":"join","g":"b"`+tt.ttl+`}`)
		if exp := clock.now().Add(tt.lives).Unix(); first.Exp != exp {
			t.Errorf("exp is %d, want %d", first.Exp, exp)
		}
		clock.advance(tt.lives - 1)
		c.must("join", redeem(first.Grant, ""))
		c.must("leave", "a")
		third := c.must("grant", `{"op":"join","g":"c"`+tt.ttl+`}`)
		clock.advance(1)
		before := expectIn(op, "lamp")
		c.refused(group.GrantExpired, "join", redeem(second.Grant, ""))
		clock.advance(time.Duration(third.Exp)*time.Second - time.Duration(clock.now().UnixNano()))
		c.refused(group.GrantExpired, "join", redeem(third.Grant, ""))
		c.expectCodes("expired", c.subscribe("$grant/"+grantText.EncodeToString(third.Grant)), []byte{0x87})
		if epoch := expectIn(op, "lamp"); epoch != before {
			t.Errorf("expired grants took the epoch from %d to %d", before, epoch)
		}
	}
	// Within a second, a life of 1 s is not less than that.
	clock.advance(time.Second/2 - time.Duration(clock.now().Nanosecond()))
	short := c.must("grant", `{"op":"join","g":"b","ttl":1}`)
	clock.advance(time.Second - 1)
	c.must("join", redeem(short.Grant, ""))
	c.must("leave", "b")
	grant := "$grant/" + grantText.EncodeToString(c.must("grant", `{"op":"join","g":"a"}`).Grant)
	c.expectCodes("in time", c.subscribe(grant), []byte{1})
	clock.advance(time.Hour)
	c.expectCodes("repeated later", c.subscribe(grant), []byte{1})
	expectIn(op, "lamp", 1)
}

// No bit of a grant can be altered, nothing cut off and nothing added.
func TestGrantAltered(t *testing.T) { // [GRP-8-3]
	s := serve(t, nil)
	op := s.operator()
	verbGroups(op)
	c := s.dial("lamp")
	grant := c.must("grant", `{"op":"join","g":"p","secret":"0815"}`).Grant
	before := expectIn(op, "lamp")
	unknown := func(what string, b []byte) {
		t.Helper()
		if a := c.ask("join", redeem(b, "")); a.Code != group.GrantUnknown {
			t.Errorf("%s: answered %d %s", what, a.Code, a.Code)
		}
		if len(b) > 0 && len(b) <= 64 {
			c.expectCodes(what, c.subscribe("$grant/"+grantText.EncodeToString(b)), []byte{0x80})
		}
	}
	for i := range grant {
		for bit := range 8 {
			b := bytes.Clone(grant)
			b[i] ^= 1 << bit
			unknown(fmt.Sprintf("bit %d of byte %d", bit, i), b)
		}
		if i > 0 {
			unknown(fmt.Sprintf("cut after %d bytes", i), grant[:i])
			unknown(fmt.Sprintf("without its first %d bytes", i), grant[i:])
		}
	}
	unknown("a byte more", append(bytes.Clone(grant), 0))
	unknown("twice", slices.Concat(grant, grant)[:90])
	other := serve(t, nil)
	verbGroups(other.operator())
	unknown("another server's", other.dial("lamp").must("grant", `{"op":"join","g":"p","secret":"0815"}`).Grant)
	if epoch := expectIn(op, "lamp"); epoch != before {
		t.Errorf("altered grants took the epoch from %d to %d", before, epoch)
	}
	c.must("join", redeem(grant, ""))
	expectIn(op, "lamp", 4)
}

// What overtakes a grant: any change of the device, and of the group's policy;
// and what does not.
func TestGrantOvertaken(t *testing.T) { // [GRP-8-2] [GRP-8-3]
	tests := []struct {
		name string
		do   func(op, c *client)
		code group.Code
	}{
		{"nothing", func(_, _ *client) {}, group.OK},
		{"a join", func(_, c *client) { c.must("join", "b") }, group.GrantUsed},
		{"another grant", func(_, c *client) { c.must("grant", `{"op":"join","g":"b"}`) }, group.OK},
		{"a change of an option", func(_, c *client) { c.must("join", `{"g":"c","recv":false}`) }, group.GrantUsed},
		{"a join without effect", func(_, c *client) { c.refused(group.Unchanged, "join", "c") }, group.OK},
		{"a refused join", func(_, c *client) { c.refused(group.NotAuthorized, "join", "p") }, group.OK},
		{"a join and a leave", func(_, c *client) { c.must("join", "b"); c.must("leave", "b") }, group.GrantUsed},
		{"an operator's removal", func(op, _ *client) { op.must("remove", `{"device":"lamp","g":"c"}`) }, group.GrantUsed},
		{"a new PIN", func(op, _ *client) { op.must("update", `{"g":"v","pin":"9999"}`) }, group.GrantUsed},
		{"another policy", func(op, _ *client) { op.must("update", `{"g":"v","policy":"open"}`) }, group.GrantUsed},
		{"the group's deletion", func(op, _ *client) { op.must("delete", `{"g":"v"}`) }, group.GrantUsed},
		{"a rename", func(op, _ *client) { op.must("update", `{"g":"v","name":"w"}`) }, group.OK},
		{"a change of another group", func(op, _ *client) { op.must("update", `{"g":"p","pin":"9999"}`) }, group.OK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator()
			verbGroups(op)
			c := s.dial("lamp")
			c.must("join", "c")
			grant := c.must("grant", `{"op":"join","g":"v","secret":"4711"}`).Grant
			tt.do(op, c)
			before, in := epochOf(op, "lamp")
			c.refused(tt.code, "join", redeem(grant, ""))
			if tt.code == group.OK {
				in, before = append(in, 5), before+1
			}
			if epoch := expectIn(op, "lamp", in...); epoch != before {
				t.Errorf("the epoch is %d, want %d", epoch, before)
			}
		})
	}
}

func TestGrantMismatch(t *testing.T) { // [GRP-8-3]
	s := serve(t, nil)
	op := s.operator()
	verbGroups(op)
	for _, user := range []string{"ann", "bob"} {
		op.must("account", fmt.Sprintf(`{"op":"add","user":%q,"secret":"password-of-%s"}`, user, user))
	}
	c := s.dial("lamp", login("ann", "password-of-ann"))
	c.must("join", "a")
	others := map[string]*client{
		"another device of the account": s.dial("lamp-2", login("ann", "password-of-ann")),
		"a device of another account":   s.dial("lamp-3", login("bob", "password-of-bob")),
		"an anonymous device":           s.dial("lamp-4"),
	}
	grant := c.must("grant", `{"op":"switch","from":"a","to":"b"}`).Grant
	before := expectIn(op, "lamp", 1)
	for who, o := range others {
		o.must("join", "a")
		epoch := expectIn(op, o.id, 1)
		if a := o.ask("switch", redeem(grant, "")); a.Code != group.GrantMismatch {
			t.Errorf("%s: answered %s", who, a.Code)
		}
		o.expectCodes(who, o.subscribe("$grant/"+grantText.EncodeToString(grant)), []byte{0x80})
		if after := expectIn(op, o.id, 1); after != epoch {
			t.Errorf("%s: the epoch went from %d to %d", who, epoch, after)
		}
	}
	for _, tt := range []struct{ op, more string }{
		{"join", ""}, {"leave", ""}, {"switch", `,"from":"b"`}, {"switch", `,"to":"a"`}, {"switch", `,"to":"nowhere"`},
		{"switch", `,"from":99`}, {"switch", `,"from":"a","to":"c"`}, {"switch", `,"g":"a"`}, {"switch", `,"to":"@ann"`},
	} {
		if a := c.ask(tt.op, redeem(grant, tt.more)); a.Code != group.GrantMismatch {
			t.Errorf("%s%s: answered %s", tt.op, tt.more, a.Code)
		}
	}
	if epoch := expectIn(op, "lamp", 1); epoch != before {
		t.Errorf("the epoch went from %d to %d", before, epoch)
	}
	s.dial("lamp~1", login("ann", "password-of-ann")).must("switch", redeem(grant, `,"from":"a","to":2`))
	expectIn(op, "lamp", 2)
}

// Asking is judged as the change would be, and changes nothing.
func TestGrantAsked(t *testing.T) { // [GRP-8-4]
	s := serve(t, nil)
	op := s.operator()
	verbGroups(op)
	c := s.dial("lamp")
	c.must("join", "a")
	before := expectIn(op, "lamp", 1)
	for _, tt := range []struct {
		body string
		code group.Code
	}{
		{`{"op":"join","g":"b"}`, group.OK},
		{`{"op":"join","g":"a"}`, group.OK},
		{`{"op":"join","g":"p"}`, group.NotAuthorized},
		{`{"op":"join","g":"p","secret":"1"}`, group.NotAuthorized},
		{`{"op":"join","g":"p","secret":"0815"}`, group.OK},
		{`{"op":"join","g":"v"}`, group.BadSecret},
		{`{"op":"join","g":"nowhere"}`, group.NotAuthorized},
		{`{"op":"join","g":6}`, group.NotAuthorized},
		{`{"op":"leave","g":"a"}`, group.OK},
		{`{"op":"leave","g":"b"}`, group.NotMember},
		{`{"op":"leave","g":"p"}`, group.NotAuthorized},
		{`{"op":"switch","from":"a","to":"b"}`, group.OK},
		{`{"op":"switch","to":"b"}`, group.OK},
		{`{"op":"switch","from":"b","to":"c"}`, group.NotMember},
		{`{"op":"switch","from":"a","to":"v"}`, group.BadSecret},
		{fmt.Sprintf(`{"op":"join","g":"b","epoch":%d}`, before), group.OK},
		{fmt.Sprintf(`{"op":"join","g":"b","epoch":%d}`, before+1), group.StaleEpoch},
		{`{"op":"join","g":"b","ttl":1}`, group.OK},
		{`{"op":"join","g":"b","ttl":86400}`, group.OK},
		{`{"op":"join","g":"b","ttl":0}`, group.BadRequest},
		{`{"op":"join","g":"b","ttl":-1}`, group.BadRequest},
		{`{"op":"join","g":"b","ttl":86401}`, group.BadRequest},
		{`{"op":"join","g":"b","ttl":4294967297}`, group.BadRequest},
		{`{"op":"join","g":"b","ttl":18446744073709551615}`, group.BadRequest},
		{`{"op":"join","g":"b","ttl":"60"}`, group.BadRequest},
		{`{"op":"move","from":"a","to":"b"}`, group.BadRequest},
		{`{"op":"delete","g":"a"}`, group.BadRequest},
		{`{"g":"b"}`, group.BadRequest},
		{`{"op":"join"}`, group.BadRequest},
		{`{"op":"join","g":"b","device":"lamp-2"}`, group.NotAuthorized},
	} {
		a := c.ask("grant", tt.body)
		if a.Code != tt.code || (len(a.Grant) > 0) != a.Code.Success() {
			t.Errorf("%s: answered %s with a grant of %d bytes, want %s", tt.body, a.Code, len(a.Grant), tt.code)
		}
	}
	if epoch := expectIn(op, "lamp", 1); epoch != before {
		t.Errorf("asking took the epoch from %d to %d", before, epoch)
	}
	// An operator's grant for a device stands in place of the PIN.
	a := op.must("grant", `{"op":"join","g":"p","device":"lamp"}`)
	c.must("join", redeem(a.Grant, ""))
	expectIn(op, "lamp", 1, 4)
}
