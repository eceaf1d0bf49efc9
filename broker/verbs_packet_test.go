package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
	"github.com/muster-mqtt/muster/store/storetest"
)

// The verbs of one packet: each on the result of the one before, one change, and
// a code for each at its place.
func TestVerbsOfOnePacket(t *testing.T) { // [GRP-7-6]
	tests := []struct {
		name    string
		filters []string
		codes   []byte
		groups  []group.Number
		changes group.Epoch // how many
	}{
		{"joins", []string{"$join/a", "$join/b", "$join/c"}, []byte{1, 1, 1}, []group.Number{1, 2, 3}, 1},
		{"a switch of what was just joined", []string{"$join/a", "$switch/a/b", "$switch/b/c"}, []byte{1, 1, 1}, []group.Number{3}, 1},
		{"in the other order", []string{"$switch/a/b", "$join/a"}, []byte{0x87, 1}, []group.Number{1}, 1},
		{"one is refused", []string{"$join/a", "$join/p", "$join/b"}, []byte{1, 0x87, 1}, []group.Number{1, 2}, 1},
		{"the last is refused", []string{"$join/a", "$join/nowhere"}, []byte{1, 0x87}, []group.Number{1}, 1},
		{"all are refused", []string{"$join/p", "$switch/a/b"}, []byte{0x87, 0x87}, nil, 0},
		{"the same twice", []string{"$join/a", "$join/1"}, []byte{1, 1}, []group.Number{1}, 1},
		{"out and in again", []string{"$join/a", "$switch/a/b", "$switch/b/a"}, []byte{1, 1, 1}, []group.Number{1}, 1},
		{"a switch from a group that only its member may know", []string{"$join/p/0815", "$switch/p/a"}, []byte{1, 1}, []group.Number{1}, 1},
		{"a member needs no PIN", []string{"$join/v/4711", "$join/v", "$join/p/0815", "$join/p"}, []byte{1, 1, 1, 1}, []group.Number{4, 5}, 1},
		{"no member any more", []string{"$join/v/4711", "$switch/v/a", "$join/v"}, []byte{1, 1, 0x87}, []group.Number{1}, 1},
		{"a malformed one among them", []string{"$join/a", "$join", "$join/b"}, []byte{1, 0x8F, 1}, []group.Number{1, 2}, 1},
	}
	for _, v := range bothVersions {
		t.Run(v.name, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator()
			verbGroups(op)
			for i, tt := range tests {
				c := s.dial(fmt.Sprintf("verb-%d", i), v.options...)
				side := s.dial(c.id+"~1", v.options...)
				side.subscribe("$G/me")
				before := side.notice().Epoch
				c.expectCodes(tt.name, c.subscribe(tt.filters...), tt.codes)
				epoch := expectIn(op, c.id, tt.groups...)
				if epoch != before+tt.changes {
					t.Errorf("%s: the epoch went from %d to %d", tt.name, before, epoch)
				}
				side.settled()
				if told := len(side.flushed()); told != int(tt.changes) {
					t.Errorf("%s: the side connection was told %d times", tt.name, told)
				}
			}
			c := s.dial("lamp", v.options...)
			c.must("join", "a")
			c.must("join", "b")
			before := expectIn(op, "lamp", 1, 2)
			un := c.unsubscribe("$join/a", "$join/c", "$join/b", "$grant/AAAA", "$join/a")
			if v.five {
				c.expectCodes("UNSUBSCRIBE", un.ReasonCodes, []byte{0, 0x11, 0, 0, 0x11})
			}
			if epoch := expectIn(op, "lamp"); epoch != before+1 {
				t.Errorf("UNSUBSCRIBE took the epoch from %d to %d", before, epoch)
			}
		})
	}
}

func TestMixedSubscribe(t *testing.T) { // [GRP-7-7]
	filters := []string{"x/y", "$join/a", "g/#", "$share/s/g/#", "$G/me", "$join/p", "g/3/all/#", "$switch/a/b", "$G/res/1", "$SYS/#", "g/2/all/#", "$join"}
	for _, v := range bothVersions {
		t.Run(v.name, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator()
			verbGroups(op)
			c := s.dial("lamp", v.options...)
			want := []byte{0x87, 1, 1, 0x9E, 0, 0x87, 0x87, 1, 0, 0x87, 0x87, 0x8F}
			c.expectCodes("a device", c.subscribe(filters...), want)
			expectIn(op, "lamp", 2)
			op.publish("g/2/all/muster/x", "1", 1)
			c.expectMessages("g/2/all/muster/x 1")

			o := attempt(t, "unix", s.socket, "chief", v.options...)
			o.expectCodes("an operator", o.subscribe("x/y", "$join/a", "g/3/#", "$join/99"), []byte{1, 1, 1, 0x87})
			op.publish("x/y", "2", 1)
			op.publish("g/3/all/muster/z", "3", 1)
			op.publish("g/1/all/muster/z", "4", 1)
			o.expectMessages("x/y 2", "g/3/all/muster/z 3", "g/1/all/muster/z 4")
			un := o.unsubscribe("x/y", "$join/a", "g/3/#", "x/y")
			if v.five {
				o.expectCodes("UNSUBSCRIBE", un.ReasonCodes, []byte{0, 0, 0, 0x11})
			}
			op.publish("x/y", "5", 1)
			op.publish("g/3/all/muster/z", "6", 1)
			op.publish("g/1/all/muster/z", "7", 1)
			o.expectMessages()
		})
	}
}

func TestMalformedVerbs(t *testing.T) { // [GRP-7-8]
	malformed := []string{
		"$join", "$join/", "$join//", "$join//4711", "$join/a/", "$join/a/4711/x", "$join/+", "$join/#", "$join/a/#", "$join/a/+",
		"$join/0", "$join/4294967296", "$join/@", "$join/a b", "$join/all",
		"$switch", "$switch/a", "$switch/a/", "$switch//b", "$switch/a/b/c", "$switch/+/b", "$switch/a/#",
		"$grant", "$grant/", "$grant/a/b", "$grant/+", "$grant/====", "$grant/" + strings.Repeat("A", 500),
		"$join/" + strings.Repeat("/", 20), "$join/a/" + strings.Repeat("x", 300),
	}
	for _, v := range bothVersions {
		t.Run(v.name, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator()
			verbGroups(op)
			c := s.dial("lamp", v.options...)
			before := expectIn(op, "lamp")
			for _, filter := range malformed {
				ack := c.subscribeWith(nil, filter)
				c.expectCodes(filter, ack.ReasonCodes, []byte{0x8F})
				if v.five && !strings.HasPrefix(filter, "$join///") && !strings.HasPrefix(ack.Properties.ReasonString, "bad_request: ") {
					t.Errorf("%s: Reason String %q", filter, ack.Properties.ReasonString)
				}
				c.unsubscribe(filter)
			}
			if after := expectIn(op, "lamp"); after != before {
				t.Errorf("malformed verbs took the epoch from %d to %d", before, after)
			}
			// Near a verb, and none.
			for _, filter := range []string{"$joins/a", "$JOIN/a", "$grants", "join/a"} {
				c.expectCodes(filter, c.subscribe(filter), []byte{0x87})
			}
		})
	}
}

// What a SUBACK tells a 5.0 client beside the codes, and to whom it does not.
func TestSubackTells(t *testing.T) { // [GRP-9-2]
	s := serve(t, nil)
	op := s.operator()
	verbGroups(op)
	c := s.dial("lamp", v5)
	ack := c.subscribeWith(nil, "$join/a")
	epoch := expectIn(op, "lamp", 1)
	if n, e := userProperties(&ack, "n"), userProperties(&ack, "epoch"); !slices.Equal(n, []string{"1"}) || !slices.Equal(e, []string{fmt.Sprint(epoch)}) {
		t.Errorf("the SUBACK says group %v, epoch %v", n, e)
	}
	for filter, want := range map[string]string{
		"$join/p": "not_authorized", "$join/v": "bad_secret", "$switch/b/c": "not_member", "$grant/AAAA": "grant_unknown", "$join": "bad_request",
	} {
		ack := c.subscribeWith(nil, filter)
		if text := ack.Properties.ReasonString; !strings.HasPrefix(text, want+": ") {
			t.Errorf("%s: Reason String %q, want %s", filter, text, want)
		}
	}
	quiet := s.dial("quiet", v5, func(pk *packets.Packet, _ *client) {
		pk.Properties.RequestProblemInfo, pk.Properties.RequestProblemInfoFlag = 0, true
	})
	for _, filter := range []string{"$join/a", "$join/p", "$join"} {
		if ack := quiet.subscribeWith(nil, filter); ack.Properties.ReasonString != "" || len(ack.Properties.User) > 0 {
			t.Errorf("%s: Request Problem Information is 0, and the SUBACK has %+v", filter, ack.Properties)
		}
	}
	small := s.dial("small", v5, maxPacket(80))
	op.must("join", `{"device":"small","g":"a"}`)
	op.must("remove", `{"device":"small","g":"a"}`)
	ack = small.subscribeWith(nil, "$join/a")
	if !bytes.Equal(ack.ReasonCodes, []byte{0x87}) || ack.FixedHeader.Remaining > 78 || ack.Properties.ReasonString != "" {
		t.Errorf("a SUBACK for a Maximum Packet Size of 80 has %#x, %q", ack.ReasonCodes, ack.Properties.ReasonString)
	}
}

// More verbs than a packet may hold are refused, and those before are done.
func TestTooManyVerbs(t *testing.T) { // [GRP-7-6]
	s := serve(t, nil)
	op := s.operator()
	verbGroups(op)
	c := s.dial("lamp")
	filters := slices.Repeat([]string{"$join/a"}, 70)
	want := append(bytes.Repeat([]byte{1}, 64), bytes.Repeat([]byte{0x80}, 6)...)
	c.expectCodes("70 verbs", c.subscribe(filters...), want)
	expectIn(op, "lamp", 1)
}

// A leave that cannot be recorded: 5.0 has a code for it, 3.1.1 has not.
func TestLeaveNotRecorded(t *testing.T) { // [GRP-7-1]
	for _, v := range bothVersions {
		t.Run(v.name, func(t *testing.T) {
			memory := storetest.NewMemory()
			s := serve(t, func(cfg *broker.Config) { cfg.Store = memory })
			op := s.operator()
			verbGroups(op)
			c := s.dial("lamp", v.options...)
			c.subscribe("$join/a")
			memory.Fail(errors.Join(store.ErrReadOnly, errors.New("no space left on device")))
			if v.five {
				c.expectCodes("UNSUBSCRIBE", c.unsubscribe("$join/a").ReasonCodes, []byte{0x83})
				c.expectCodes("a join", c.subscribe("$join/b"), []byte{0x97})
				c.expectCodes("a repeat", c.subscribe("$join/a"), []byte{1})
			} else {
				c.raw([]byte("\xA2\x0B\x00\x07\x00\x07$join/a"))
				for _, pk := range c.ended() {
					if pk.FixedHeader.Type == packets.Unsuback {
						t.Error("an UNSUBACK, and the device is still in the group")
					}
				}
			}
			expectIn(op, "lamp", 1)
		})
	}
}
