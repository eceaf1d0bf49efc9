package broker_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/group"
)

// The changes of one device in a minute, made in each way.
func TestChangesOfOneDevice(t *testing.T) { // [GRP-12-1]
	for _, v := range bothVersions {
		t.Run(v.name, func(t *testing.T) {
			clock := newTestClock()
			s := serve(t, func(cfg *broker.Config) {
				cfg.Limits.ChangesPerMinute = 0 // the default
				cfg.SetClock(clock.now)
			})
			op := s.operator()
			verbGroups(op)
			c, side, other := s.dial("lamp", v.options...), s.dial("lamp~1", v.options...), s.dial("lamp-2", v.options...)
			for i := range 60 {
				switch {
				case i%2 == 1:
					c.must("leave", "a")
				case i%3 == 0:
					side.must("join", "a")
				case i%3 == 1:
					c.expectCodes("join", c.subscribe("$join/a"), []byte{1})
				default:
					c.must("join", redeem(c.must("grant", `{"op":"join","g":"a"}`).Grant, ""))
				}
				clock.advance(time.Second / 2)
			}
			before := expectIn(op, "lamp")
			for _, who := range []*client{c, side} {
				if a := who.refused(group.RateLimited, "join", "a"); a.Retry < 1 || a.Retry > 60 {
					t.Errorf("retry %d", a.Retry)
				}
				who.expectCodes("join", who.subscribe("$join/a"), []byte{0x97})
			}
			a := c.refused(group.RateLimited, "join", `{"g":"b","recv":false}`)
			if epoch := expectIn(op, "lamp"); epoch != before {
				t.Errorf("refused changes took the epoch from %d to %d", before, epoch)
			}
			// What changes nothing, and what others do, is not bounded by it.
			c.must("mine", "")
			c.must("grant", `{"op":"join","g":"b"}`)
			other.must("join", "a")
			op.must("join", `{"device":"lamp","g":"a"}`)
			c.refused(group.Unchanged, "join", "a")
			c.expectCodes("a repeat", c.subscribe("$join/a"), []byte{1})
			op.must("move", "lamp a b")
			op.must("remove", `{"device":"lamp","g":"b"}`)
			expectIn(op, "lamp")
			if v.five {
				ack := c.publishWith(nil, "$G/join", "c", 1)
				if got, _ := c.answer(); ack.ReasonCode != 0x97 || got.Code != group.RateLimited {
					t.Errorf("PUBACK 0x%02x, answered %s", ack.ReasonCode, got.Code)
				}
			}
			// It may go on when it was told to.
			clock.advance(time.Duration(a.Retry) * time.Second)
			c.must("join", "c")
			expectIn(op, "lamp", 3)
		})
	}
}

// A group that is full, and a device in as many groups as it may be in.
func TestMembersAndGroups(t *testing.T) { // [GRP-12-2]
	for _, v := range bothVersions {
		t.Run(v.name, func(t *testing.T) {
			s := serve(t, func(cfg *broker.Config) { cfg.Limits.MembersPerGroup, cfg.Limits.GroupsPerDevice = 2, 2 })
			op := s.operator()
			verbGroups(op)
			for _, device := range []string{"lamp-1", "lamp-2"} {
				op.must("join", fmt.Sprintf(`{"device":%q,"g":"a"}`, device))
			}
			c := s.dial("lamp", v.options...)
			c.must("join", "b")
			before := expectIn(op, "lamp", 2)
			unchanged := func(epoch group.Epoch, in ...group.Number) {
				t.Helper()
				if now := expectIn(op, "lamp", in...); now != epoch {
					t.Fatalf("the epoch went from %d to %d", epoch, now)
				}
			}
			c.refused(group.GroupFull, "join", "a")
			c.refused(group.GroupFull, "switch", "b a")
			c.refused(group.GroupFull, "grant", `{"op":"join","g":"a"}`)
			c.expectCodes("verbs", c.subscribe("$join/a", "$switch/b/a"), []byte{0x97, 0x97})
			op.refused(group.GroupFull, "join", `{"device":"lamp","g":"a"}`)
			op.refused(group.GroupFull, "move", "lamp b a")
			unchanged(before, 2)
			s.dial("lamp-1", v.options...).refused(group.Unchanged, "join", "a") // a member still is

			c.must("join", "c")
			before = expectIn(op, "lamp", 2, 3)
			c.refused(group.TooManyGroups, "join", `{"g":"v","secret":"4711"}`)
			c.expectCodes("a verb", c.subscribe("$join/v/4711"), []byte{0x97})
			op.refused(group.TooManyGroups, "join", `{"device":"lamp","g":"v"}`)
			c.refused(group.Unchanged, "join", "c")
			unchanged(before, 2, 3)
			c.must("switch", `{"from":"c","to":"v","secret":"4711"}`)

			// A place that is free is taken again; by one of a packet's verbs for one.
			op.must("remove", `{"device":"lamp-1","g":"a"}`)
			c.expectCodes("two places", c.subscribe("$join/a", "$switch/v/a", "$join/c"), []byte{0x97, 1, 0x97})
			expectIn(op, "lamp", 1, 2)
		})
	}
}

// Many who want the last place: as many come in as there is room for.
func TestLastPlace(t *testing.T) { // [GRP-12-2]
	s := serve(t, func(cfg *broker.Config) { cfg.Limits.MembersPerGroup = 3 })
	op := s.operator()
	op.must("create", `{"name":"a"}`)
	answers := make(chan group.Code)
	for i := range 12 {
		c := s.dial(fmt.Sprintf("lamp-%d", i))
		go func() { answers <- c.ask("join", "a").Code }()
	}
	count := map[group.Code]int{}
	for range 12 {
		count[<-answers]++
	}
	if count[group.OK] != 3 || count[group.GroupFull] != 9 || len(rosterOf(op, 1)) != 3 {
		t.Errorf("answered %v, the roster is %v", count, rosterOf(op, 1))
	}
}

// The default of groups for one device is 64.
func TestDefaultOfGroups(t *testing.T) { // [GRP-12-2]
	s := serve(t, nil)
	op := s.operator()
	for i := range 65 {
		op.must("create", fmt.Sprintf(`{"name":"group-%d"}`, i+1))
	}
	c := s.dial("lamp")
	for i := range 64 {
		c.must("join", fmt.Sprint(i+1))
	}
	c.refused(group.TooManyGroups, "join", "65")
	if _, in := epochOf(op, "lamp"); len(in) != 64 {
		t.Errorf("in %d groups", len(in))
	}
}

func TestTopicLevels(t *testing.T) { // [GRP-12-3]
	levels := func(first string, n int) string {
		return first + strings.Repeat("/x", n-1-strings.Count(first, "/"))
	}
	for _, v := range bothVersions {
		t.Run(v.name, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator(v.options...)
			op.must("create", `{"name":"a"}`)
			watcher := s.operatorAs("muster~w", v.options...)
			watcher.expectCodes("16 levels", watcher.subscribe(levels("plain", 16), "#", "g/+/all/#"), []byte{1, 1, 1})
			c := s.dial("lamp", v.options...)
			c.must("join", "a")
			refusal := byte(0x90)
			if !v.five {
				refusal = 0
			}
			for _, qos := range []byte{0, 1, 2} {
				want := refusal
				if qos == 0 {
					want = 0
				}
				for _, topic := range []string{levels("plain", 17), levels("g/1/all/muster", 17), levels("$G/join", 17), strings.Repeat("/", 16), strings.Repeat("x/", 30000)} {
					if got := op.publish(topic, "deep", qos); got != want {
						t.Errorf("QoS %d, %d levels: 0x%02x", qos, strings.Count(topic, "/")+1, got)
					}
				}
				for _, topic := range []string{levels("plain", 16), levels("g/1/all/muster", 16)} {
					if got := op.publish(topic, "fits", qos); got != 0 {
						t.Errorf("QoS %d, 16 levels: 0x%02x", qos, got)
					}
				}
			}
			if got := watcher.messages(); len(got) != 6 || slices.ContainsFunc(got, func(m string) bool { return strings.HasSuffix(m, "deep") }) {
				t.Errorf("received %d messages: %.100q", len(got), got)
			}
			deep := []string{levels("plain", 17), levels("g/#", 2), levels("g/1", 17), levels("$G/res", 17), levels("$join/a", 17), strings.Repeat("/", 16), "$share/s/" + levels("plain", 17)}
			op.expectCodes("17 levels", op.subscribe(deep...), []byte{0x8F, 1, 0x8F, 0x8F, 0x8F, 0x8F, 0x8F})
			op.flushed()
			if got := c.messages(); len(got) != 3 {
				t.Errorf("a member received %d messages", len(got))
			}
		})
	}
}

// Filters of one's own: 64 in a Session, those that it has do not count twice.
func TestFiltersOfOnesOwn(t *testing.T) { // [GRP-12-3]
	for _, v := range bothVersions {
		t.Run(v.name, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator(v.options...)
			op.must("create", `{"name":"a"}`)
			c := s.dial("lamp", v.options...)
			c.must("join", "a")
			var filters []string
			for i := range 63 {
				filters = append(filters, fmt.Sprintf("g/+/all/+/%d", i))
			}
			c.expectCodes("63 filters", c.subscribe(filters...), bytes.Repeat([]byte{1}, 63))
			c.expectCodes("again", c.subscribe(filters...), bytes.Repeat([]byte{1}, 63))
			c.expectCodes("the 64th, twice", c.subscribe("g/+/all/+/x", "g/+/all/+/x", "g/+/all/+/y"), []byte{1, 1, 0x97})
			// Verbs and control topics are no filters that count, and neither is what
			// was refused.
			c.expectCodes("others", c.subscribe("$join/a", "$G/me", "$G/res/1", "g/+/all/+/y", "g/+/all/+/3"), []byte{1, 0, 0, 0x97, 1})
			c.unsubscribe("g/+/all/+/0")
			c.expectCodes("one less", c.subscribe("g/+/all/+/y", "g/+/all/+/z"), []byte{1, 0x97})

			// Ordinary filters and those over g/ count together.
			o := s.operatorAs("muster~o", v.options...)
			filters = filters[:0]
			for i := range 70 {
				filters = append(filters, fmt.Sprintf([]string{"plain/%d", "g/1/all/+/%d"}[i%2], i))
			}
			want := append(bytes.Repeat([]byte{1}, 64), bytes.Repeat([]byte{0x97}, 6)...)
			o.expectCodes("70 filters", o.subscribe(filters...), want)
			for _, topic := range []string{"plain/62", "g/1/all/muster/63", "plain/64", "g/1/all/muster/65"} {
				op.publish(topic, "", 1)
			}
			o.expectMessages("plain/62 ", "g/1/all/muster/63 ")
		})
	}
}

// What is larger than the server takes ends the connection, and says so to 5.0.
func TestPacketSize(t *testing.T) {
	for _, v := range bothVersions {
		s := serve(t, nil)
		op := s.operator()
		c := s.dial("lamp", v.options...)
		c.raw([]byte{0x30, 0x81, 0x80, 0x10}) // 256 KiB and a byte remain
		got := c.ended()
		if v.five && (len(got) != 1 || got[0].FixedHeader.Type != packets.Disconnect || got[0].ReasonCode != 0x95) || !v.five && len(got) > 0 {
			t.Errorf("%s: %+v", v.name, got)
		}
		op.must("list", "{}")
	}
}
