package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// settled returns when all changes that were answered are told to everyone who
// listens: a CONNECT is between two changes.
func (c *client) settled() {
	c.t.Helper()
	to := c.nc.RemoteAddr()
	attempt(c.t, to.Network(), to.String(), "").nc.Close()
}

// notices returns those that were queued for the client up to now. Messages stay
// to be looked at.
func (c *client) notices() []control.Notice {
	c.t.Helper()
	var out []control.Notice
	var rest []packets.Packet
	c.settled()
	for _, pk := range c.flushed() {
		if pk.FixedHeader.Type != packets.Publish || pk.TopicName != control.MeTopic {
			rest = append(rest, pk)
			continue
		}
		n, err := control.DecodeNotice(pk.Payload)
		if err != nil || pk.FixedHeader.Qos != 0 {
			c.t.Fatalf("%s: notice %q at QoS %d: %v", c.id, pk.Payload, pk.FixedHeader.Qos, err)
		}
		out = append(out, n)
	}
	c.putBack(rest)
	return out
}

// expectState compares the one notice that was queued: a state.
func (c *client) expectState(what string, epoch group.Epoch, want ...group.Number) {
	c.t.Helper()
	all := c.notices()
	if len(all) != 1 || all[0].Kind != "state" || all[0].Code != 0 || all[0].Epoch != epoch || !all[0].HasList {
		c.t.Fatalf("%s: %s: told %+v, want the state at epoch %d", c.id, what, all, epoch)
	}
	var got []group.Number
	for _, e := range all[0].List {
		if e.State != "member" || e.Name == "" {
			c.t.Errorf("%s: %s: entry %+v", c.id, what, e)
		}
		got = append(got, e.N)
	}
	if !slices.Equal(got, want) {
		c.t.Fatalf("%s: %s: told of %v, want %v", c.id, what, got, want)
	}
}

func TestOwnState(t *testing.T) { // [GRP-10-1]
	for _, v := range bothVersions {
		for _, id := range []string{"lamp", "lamp~1"} {
			for _, topic := range []string{"$G/me", "$CONTROL/group/v1/me"} {
				t.Run(v.name+" "+id+" "+topic, func(t *testing.T) {
					s := serve(t, nil)
					op := s.operator()
					verbGroups(op)
					op.must("join", `{"device":"lamp","g":"a"}`)
					options := append(v.options, persistent)
					c := s.dial(id, options...)
					if got := c.notices(); len(got) > 0 {
						t.Fatalf("told %+v without asking", got)
					}
					epoch := expectIn(op, "lamp", 1)
					for range 2 { // each SUBSCRIBE
						ack := c.subscribeWith(nil, topic)
						c.expectCodes("SUBACK", ack.ReasonCodes, []byte{0})
						c.expectState("SUBSCRIBE", epoch, 1)
					}
					// Resumed after it was cut, and after it was taken over.
					s.cut(op, c)
					op.must("join", `{"device":"lamp","g":"b"}`)
					c = s.dial(id, options...)
					c.expectState("resumed", epoch+1, 1, 2)
					old := c
					c = s.dial(id, options...)
					old.ended()
					c.expectState("taken over", epoch+1, 1, 2)
					// No Session, no listening.
					c.disconnect()
					c = s.dial(id, v.options...)
					if got := c.notices(); len(got) > 0 {
						t.Fatalf("told %+v in a new Session", got)
					}
					// UNSUBSCRIBE ends it.
					c.subscribe(topic)
					c.expectState("SUBSCRIBE", epoch+1, 1, 2)
					c.unsubscribe(topic)
					op.must("remove", `{"device":"lamp","g":"a"}`)
					if got := c.notices(); len(got) > 0 {
						t.Fatalf("told %+v after UNSUBSCRIBE", got)
					}
				})
			}
		}
	}
}

// Each forced change is told at its place among the messages.
func TestForcedChangeIsTold(t *testing.T) { // [GRP-10-2]
	tests := []struct {
		op, body string
		code     group.Code
		kind     string
		from, to group.Number
		left     bool // group 1
	}{
		{"move", `{"device":"lamp","from":"a","to":"b"}`, group.MembershipTerminated, "move", 1, 2, true},
		{"switch", `{"device":"lamp","from":"a","to":"b"}`, group.MembershipTerminated, "switch", 1, 2, true},
		{"remove", `{"device":"lamp","g":"a"}`, group.MembershipTerminated, "remove", 1, 0, true},
		{"leave", `{"device":"lamp","g":"a"}`, group.MembershipTerminated, "leave", 1, 0, true},
		{"delete", `{"g":"a"}`, group.MembershipTerminated, "delete", 1, 0, true},
		{"join", `{"device":"lamp","g":"b"}`, group.OK, "join", 0, 2, false},
		{"join", `{"device":"lamp","g":"a","qos":0}`, group.OK, "join", 0, 1, false},
	}
	for _, v := range bothVersions {
		for _, tt := range tests {
			t.Run(v.name+" "+tt.op+" "+tt.body, func(t *testing.T) {
				s := serve(t, nil)
				op := s.operator()
				verbGroups(op)
				c, side, deaf := s.dial("lamp", v.options...), s.dial("lamp~1", v.options...), s.dial("lamp~2", v.options...)
				c.must("join", "a")
				c.subscribe("$G/me")
				side.subscribe("$G/me")
				c.notice()
				side.notice()
				epoch := expectIn(op, "lamp", 1)
				done := make(chan struct{})
				publisher := s.operatorAs("muster~2")
				go func() {
					defer close(done)
					for i := range 100 {
						publisher.publish("g/1/all/muster/x", fmt.Sprint(i), 1)
					}
				}()
				op.must(tt.op, tt.body)
				<-done
				after := false
				told := 0
				for _, pk := range c.flushed() {
					if pk.TopicName != control.MeTopic {
						if after && tt.left && strings.HasPrefix(pk.TopicName, "g/1/") {
							t.Fatalf("%s %s came behind the notice", pk.TopicName, pk.Payload)
						}
						continue
					}
					n, err := control.DecodeNotice(pk.Payload)
					if err != nil || n.Code != tt.code || n.Kind != tt.kind || n.From != tt.from || n.To != tt.to || n.By != "local" || n.Epoch != epoch+1 {
						t.Errorf("told %s, %v", pk.Payload, err)
					}
					after = true
					told++
				}
				if told != 1 {
					t.Errorf("told %d times", told)
				}
				if all := side.notices(); len(all) != 1 || all[0].Code != tt.code || all[0].Kind != tt.kind || all[0].Epoch != epoch+1 {
					t.Errorf("the side connection was told %+v", all)
				}
				if all := deaf.notices(); len(all) > 0 {
					t.Errorf("a connection that does not listen was told %+v", all)
				}
			})
		}
	}
}

// What a side connection has asked for is told to all the device's connections
// that listen but itself.
func TestOwnChangeIsTold(t *testing.T) { // [GRP-10-3]
	for _, v := range bothVersions {
		t.Run(v.name, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator()
			verbGroups(op)
			c, side, third, other := s.dial("lamp", v.options...), s.dial("lamp~1", v.options...), s.dial("lamp~2", v.options...), s.dial("lamp-2", v.options...)
			for _, l := range []*client{c, side, third, other} {
				l.subscribe("$G/me")
				l.notice()
			}
			epoch := expectIn(op, "lamp")
			for _, step := range []struct {
				by       *client
				do       func(*client)
				kind     string // empty: nothing is told
				from, to group.Number
			}{
				{side, func(c *client) { c.must("join", "a") }, "join", 0, 1},
				{side, func(c *client) { c.refused(group.Unchanged, "join", "a") }, "", 0, 0},
				{side, func(c *client) { c.refused(group.NotAuthorized, "join", "p") }, "", 0, 0},
				{side, func(c *client) { c.must("join", `{"g":"a","recv":false}`) }, "join", 0, 1},
				{side, func(c *client) { c.must("switch", "b") }, "switch", 1, 2},
				{side, func(c *client) { c.subscribe("$switch/b/a") }, "switch", 2, 1},
				{side, func(c *client) { c.unsubscribe("$join/a") }, "leave", 1, 0},
				{c, func(c *client) { c.must("join", "c") }, "join", 0, 3},
				{third, func(c *client) { c.must("leave", "c") }, "leave", 3, 0},
				{op, func(c *client) { c.must("update", `{"g":"a","name":"aa"}`) }, "", 0, 0},
			} {
				step.do(step.by)
				if step.kind != "" {
					epoch++
				}
				for _, l := range []*client{c, side, third, other} {
					all := l.notices()
					if step.kind == "" || l == step.by || l == other {
						if len(all) > 0 {
							t.Errorf("%s was told %+v of what %s did", l.id, all, step.by.id)
						}
						continue
					}
					if len(all) != 1 || all[0].Code != 0 || all[0].Kind != step.kind || all[0].From != step.from || all[0].To != step.to || all[0].Epoch != epoch {
						t.Errorf("%s was told %+v, want %s at epoch %d", l.id, all, step.kind, epoch)
					}
				}
			}
			// A forced end that is forgotten is no change of groups.
			op.must("join", `{"device":"lamp","g":"b"}`)
			op.must("remove", `{"device":"lamp","g":"b"}`)
			for _, l := range []*client{c, third} {
				l.notices()
			}
			side.unsubscribe("$join/b")
			for _, l := range []*client{c, third} {
				if all := l.notices(); len(all) > 0 {
					t.Errorf("%s was told %+v", l.id, all)
				}
			}
		})
	}
}

func TestConnackTells(t *testing.T) { // [GRP-10-4]
	s := serve(t, nil)
	op := s.operator(v5)
	for i := range 20 {
		op.must("create", fmt.Sprintf(`{"name":"group-%d"}`, i+1))
		op.must("join", fmt.Sprintf(`{"device":"lamp","g":"group-%d"}`, i+1))
	}
	op.must("leave", `{"device":"lamp","g":7}`)
	epoch, in := epochOf(op, "lamp")
	var numbers []string
	for _, n := range in {
		numbers = append(numbers, n.String())
	}
	check := func(c *client, epoch, groups []string) {
		t.Helper()
		if e, g := userProperties(&c.connack, "epoch"), userProperties(&c.connack, "grp"); !slices.Equal(e, epoch) || !slices.Equal(g, groups) {
			t.Errorf("%s: CONNACK has epoch %v, groups %v; want %v, %v", c.id, e, g, epoch, groups)
		}
	}
	all := []string{fmt.Sprint(epoch)}
	c := s.dial("lamp", v5, persistent)
	check(c, all, numbers)
	check(s.dial("lamp~1", v5), all, numbers)
	s.cut(op, c)
	check(s.dial("lamp", v5, persistent), all, numbers)
	fresh, _ := epochOf(op, s.dial("lamp-2").id)
	check(s.dial("lamp-2", v5), []string{fmt.Sprint(fresh)}, nil)
	check(op, nil, nil)
	size := c.connack.FixedHeader.Remaining + 3 // two bytes of length
	for _, tt := range []struct {
		max  int
		fits bool
	}{{size, true}, {size - 1, false}, {100, false}} {
		c := s.dial("lamp", v5, maxPacket(uint32(tt.max)))
		if tt.fits {
			check(c, all, numbers)
		} else {
			check(c, nil, nil)
		}
		if got := c.connack.FixedHeader.Remaining + 2; got > tt.max {
			t.Errorf("CONNACK has %d bytes for a Maximum Packet Size of %d", got, tt.max)
		}
	}
	if c := s.dial("lamp"); c.connack.FixedHeader.Remaining != 2 {
		t.Errorf("CONNACK of 3.1.1 has %d bytes", c.connack.FixedHeader.Remaining)
	}
}

// handTimers keeps the timers of one duration, for the test to let pass.
type handTimers struct {
	of  time.Duration
	mu  sync.Mutex
	due []func()
}

func (h *handTimers) make(d time.Duration, f func()) *time.Timer {
	if d != h.of {
		return time.AfterFunc(d, f)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.due = append(h.due, f)
	return time.NewTimer(time.Hour)
}

// pass lets the duration pass.
func (h *handTimers) pass() {
	h.mu.Lock()
	due := h.due
	h.due = nil
	h.mu.Unlock()
	for _, f := range due {
		f()
	}
}

func TestRefusedPublishesAreTold(t *testing.T) { // [GRP-10-5]
	timers := &handTimers{of: 10 * time.Second}
	s := serve(t, func(cfg *broker.Config) { cfg.SetTimers(timers.make) })
	op := s.operator()
	verbGroups(op)
	c, side, five, deaf := s.dial("lamp", persistent), s.dial("lamp~1"), s.dial("five", v5), s.dial("deaf")
	for _, l := range []*client{c, side, five} {
		l.subscribe("$G/me")
		l.notice()
	}
	told := func(l *client, want ...string) {
		t.Helper()
		got := []string{}
		for _, n := range l.notices() {
			got = append(got, fmt.Sprintf("%s %d %s %d", n.Kind, n.Code, n.Topic, n.Count))
		}
		if !slices.Equal(got, append([]string{}, want...)) {
			t.Fatalf("%s was told %q, want %q", l.id, got, want)
		}
	}
	for _, l := range []*client{five, deaf, side} {
		for _, qos := range []byte{0, 1, 2} {
			l.publish("g/1/all/"+strings.TrimSuffix(l.id, "~1")+"/x", "", qos)
		}
	}
	told(five)
	told(deaf)
	told(c)
	told(side, "refused 30 g/1/all/lamp/x 1")

	deep := strings.Repeat("x/", 16) + "x"
	c.publish("g/1/all/lamp/x", "", 1)
	c.publish("g/1/all/lamp/x", "", 0)
	c.publish("g/1/all/lamp/x", "", 2)
	c.publish("g/all/x", "", 1)
	c.publish("plain", "", 1)
	c.publish("$SYS/x", "", 1)
	c.publish("$CONTROL/x", "", 1)
	c.publish(deep, "", 1)
	told(c, "refused 30 g/1/all/lamp/x 1", "refused 36 g/all/x 1", "refused 30 plain 1", "refused 30 $SYS/x 1", "refused 30 $CONTROL/x 1", "refused 10 "+deep+" 1")
	c.publish("plain", "", 0)
	told(c)
	timers.pass()
	told(c, "refused 30 g/1/all/lamp/x 2", "refused 30 plain 1")
	timers.pass()
	told(c)
	c.publish("plain", "", 1)
	told(c, "refused 30 plain 1")

	// Another code of the same topic is told apart; what was refused before the
	// connection was lost is told to the next.
	c.must("join", "a")
	c.must("join", "b")
	c.publish("g/all/x", "", 1)
	c.publish("plain", "", 1)
	told(c, "refused 21 g/all/x 1")
	s.cut(op, c)
	c = s.dial("lamp", persistent)
	c.notice()
	timers.pass()
	told(c, "refused 30 plain 1")

	// A request that is refused has an answer, and no notice.
	c.refused(group.NotAuthorized, "join", "p")
	told(c)

	// Many kinds are bounded, and the connection lives.
	for i := range 100 {
		c.publish(fmt.Sprintf("many/%d", i), "", 1)
	}
	if n := len(c.notices()); n == 0 || n > 16 {
		t.Errorf("told of %d kinds", n)
	}
}
