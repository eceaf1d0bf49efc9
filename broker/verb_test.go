package broker_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/group"
)

// bothVersions are those of MQTT, as options.
var bothVersions = []struct {
	name    string
	five    bool
	options []option
}{{"3.1.1", false, nil}, {"5.0", true, []option{v5}}}

// epoch returns the device's epoch and its groups, as an operator sees them.
func epochOf(op *client, device string) (group.Epoch, []group.Number) {
	op.t.Helper()
	a := op.must("show", jsonOf(map[string]any{"device": device}))
	groups := []group.Number{}
	for _, e := range a.List {
		groups = append(groups, e.N)
	}
	return a.Epoch, groups
}

// expectIn compares the device's groups, as an operator sees them.
func expectIn(op *client, device string, want ...group.Number) group.Epoch {
	op.t.Helper()
	epoch, got := epochOf(op, device)
	if !slices.Equal(got, append([]group.Number{}, want...)) {
		op.t.Fatalf("%s is in %v, want %v", device, got, want)
	}
	return epoch
}

// expectCodes compares the codes of a SUBACK or UNSUBACK; a 3.1.1 client reads
// 0x80 for every refusal.
func (c *client) expectCodes(what string, got, want []byte) {
	c.t.Helper()
	want = slices.Clone(want)
	for i := range want {
		if c.version < 5 && want[i] >= 0x80 {
			want[i] = 0x80
		}
	}
	if !bytes.Equal(got, want) {
		c.t.Fatalf("%s: %s: codes %#x, want %#x", c.id, what, got, want)
	}
}

// atQoS makes a SUBSCRIBE ask for a QoS with all its filters.
func atQoS(qos byte) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		for i := range pk.Filters {
			pk.Filters[i].Qos = qos
		}
	}
}

// userProperties returns those with the key, in order.
func userProperties(pk *packets.Packet, key string) []string {
	var all []string
	for _, p := range pk.Properties.User {
		if p.Key == key {
			all = append(all, p.Val)
		}
	}
	return all
}

// verbGroups makes the groups a 1, b 2, c 3, the PIN group p 4 (0815), which
// nobody sees, the PIN group v 5, which everybody sees, and d 6, deleted.
func verbGroups(op *client) {
	op.t.Helper()
	for _, body := range []string{
		`{"name":"a"}`, `{"name":"b"}`, `{"name":"c"}`, `{"name":"p","policy":"pin","pin":"0815"}`,
		`{"name":"v","policy":"pin","pin":"4711","visible":"all"}`, `{"name":"d"}`,
	} {
		op.must("create", body)
	}
	op.must("delete", "{\"g\":6}")
}

func TestVerbs(t *testing.T) { // [GRP-7-1] [GRP-9-2]
	tests := []struct {
		name   string
		in     string // bare words of the joins before, the PIN last
		filter string
		qos    byte
		code   byte // of 5.0
		groups []group.Number
	}{
		{"join at QoS 1", "", "$join/a", 1, 1, []group.Number{1}},
		{"join at QoS 0", "", "$join/a", 0, 0, []group.Number{1}},
		{"join at QoS 2 is granted 1", "", "$join/1", 2, 1, []group.Number{1}},
		{"join with PIN", "", "$join/p/0815", 1, 1, []group.Number{4}},
		{"join without its PIN, unseen", "", "$join/p", 1, 0x87, nil},
		{"join with a wrong PIN, seen", "", "$join/v/4712", 1, 0x87, nil},
		{"join of an unknown group", "", "$join/nowhere", 1, 0x87, nil},
		{"join of a number never given", "", "$join/99", 1, 0x87, nil},
		{"join of a deleted group", "", "$join/6", 1, 0x87, nil},
		{"join of an unknown user's group", "", "$join/@nobody", 1, 0x87, nil},
		{"switch", "a", "$switch/a/b", 1, 1, []group.Number{2}},
		{"switch at QoS 0", "a", "$switch/1/2", 0, 0, []group.Number{2}},
		{"switch without being in from", "c", "$switch/a/b", 1, 0x87, []group.Number{3}},
		{"switch whose join is refused", "a", "$switch/a/p", 1, 0x87, []group.Number{1}},
		{"switch to itself", "a", "$switch/a/a", 1, 1, []group.Number{1}},
		{"switch where it is in both", "a,b", "$switch/a/b", 1, 1, []group.Number{2}},
		{"a grant that is none", "a", "$grant/AAAA", 1, 0x87, []group.Number{1}},
	}
	for _, v := range bothVersions {
		t.Run(v.name, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator()
			verbGroups(op)
			for i, tt := range tests {
				c := s.dial(fmt.Sprintf("verb-%d", i), v.options...)
				for _, word := range strings.FieldsFunc(tt.in, func(r rune) bool { return r == ',' }) {
					c.must("join", word)
				}
				c.expectCodes(tt.name, c.subscribeWith(atQoS(tt.qos), tt.filter).ReasonCodes, []byte{tt.code})
				expectIn(op, c.id, tt.groups...)
				if tt.code <= 1 {
					n := tt.groups[0]
					op.publish(fmt.Sprintf("g/%d/all/muster/x", n), tt.name, 1)
					got := c.flushed()
					k := slices.IndexFunc(got, func(pk packets.Packet) bool { return string(pk.Payload) == tt.name })
					if k < 0 || got[k].FixedHeader.Qos != tt.code {
						t.Errorf("%s: granted QoS %d, delivered %v", tt.name, tt.code, got)
					}
				}
			}
		})
	}
}

// A grant by verb, and what UNSUBSCRIBE of each verb does.
func TestVerbsEnd(t *testing.T) { // [GRP-7-1] [GRP-7-5]
	tests := []struct {
		name   string
		filter string // unsubscribed by a device that is in a and b
		code   byte   // of 5.0
		groups []group.Number
	}{
		{"join", "$join/a", 0, []group.Number{2}},
		{"join by number", "$join/2", 0, []group.Number{1}},
		{"join with a further level", "$join/a/4711", 0, []group.Number{2}},
		{"switch leaves to", "$switch/x/b", 0, []group.Number{1}},
		{"grant does nothing", "$grant/AAAA", 0, []group.Number{1, 2}},
		{"a group it is not in", "$join/c", 0x11, []group.Number{1, 2}},
		{"a group it may not know of", "$join/p", 0x11, []group.Number{1, 2}},
		{"a group that never was", "$join/nowhere", 0x11, []group.Number{1, 2}},
		{"a wildcard", "$join/+", 0x8F, []group.Number{1, 2}},
		{"no reference", "$join", 0x8F, []group.Number{1, 2}},
	}
	for _, v := range bothVersions {
		t.Run(v.name, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator()
			verbGroups(op)
			for i, tt := range tests {
				c := s.dial(fmt.Sprintf("verb-%d", i), v.options...)
				c.must("join", "a")
				c.must("join", "b")
				un := c.unsubscribe(tt.filter)
				if v.five {
					c.expectCodes(tt.name, un.ReasonCodes, []byte{tt.code})
				}
				expectIn(op, c.id, tt.groups...)
			}
			c := s.dial("holder", v.options...)
			grant := base64.RawURLEncoding.EncodeToString(c.must("grant", `{"op":"join","g":1}`).Grant)
			c.expectCodes("grant", c.subscribe("$grant/"+grant), []byte{1})
			expectIn(op, c.id, 1)
		})
	}
}

func TestVerbRepeated(t *testing.T) { // [GRP-7-2]
	for _, v := range bothVersions {
		t.Run(v.name, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator()
			verbGroups(op)
			c := s.dial("lamp", append(v.options, persistent)...)
			grant := base64.RawURLEncoding.EncodeToString(c.must("grant", `{"op":"join","g":"p","secret":"0815"}`).Grant)
			for _, filter := range []string{"$grant/" + grant, "$join/a", "$switch/a/b", "$join/v/4711", "$join/c"} {
				c.expectCodes(filter, c.subscribe(filter), []byte{1})
				epoch, in := epochOf(op, "lamp")
				for range 2 {
					s.cut(op, c)
					c = s.dial("lamp", append(v.options, persistent)...)
					c.expectCodes(filter+" again", c.subscribe(filter), []byte{1})
				}
				s.restart()
				op = s.operator()
				c = s.dial("lamp", append(v.options, persistent)...)
				c.expectCodes(filter+" after a restart", c.subscribe(filter), []byte{1})
				if again := expectIn(op, "lamp", in...); again != epoch {
					t.Fatalf("%s: the epoch went from %d to %d", filter, epoch, again)
				}
			}
			// What is not as it stood: a switch after the device has left, a grant that
			// is not its last change, a member's PIN that is wrong by now.
			c.must("leave", "b")
			c.expectCodes("switch", c.subscribe("$switch/a/b"), []byte{0x87})
			c.expectCodes("grant", c.subscribe("$grant/"+grant), []byte{0x87})
			op.must("update", `{"g":"v","pin":"9999"}`)
			c.expectCodes("member", c.subscribe("$join/v/4711"), []byte{1})
			expectIn(op, "lamp", 3, 4, 5)
		})
	}
}

// The QoS that is granted is that of the membership, also where the verb has
// changed nothing.
func TestVerbGrantsTheMembershipsQoS(t *testing.T) { // [GRP-7-1] [GRP-7-3]
	s := serve(t, nil)
	op := s.operator()
	verbGroups(op)
	c := s.dial("lamp")
	c.expectCodes("join", c.subscribeWith(atQoS(0), "$join/a").ReasonCodes, []byte{0})
	op.must("move", "lamp a b")
	for _, filter := range []string{"$join/a", "$switch/c/a"} {
		c.expectCodes(filter, c.subscribeWith(atQoS(0), filter).ReasonCodes, []byte{1})
		op.publish("g/2/all/muster/x", filter, 1)
		for _, pk := range c.flushed() {
			if pk.FixedHeader.Type == packets.Publish && pk.FixedHeader.Qos != 1 {
				t.Errorf("%s was granted QoS 1 and delivers QoS %d", filter, pk.FixedHeader.Qos)
			}
		}
	}
	epoch := expectIn(op, "lamp", 2)
	c.expectCodes("another QoS", c.subscribeWith(atQoS(0), "$join/b").ReasonCodes, []byte{0})
	if next := expectIn(op, "lamp", 2); next != epoch+1 {
		t.Errorf("another QoS took the epoch from %d to %d", epoch, next)
	}
}

func TestVerbAfterMove(t *testing.T) { // [GRP-7-3]
	for _, v := range bothVersions {
		t.Run(v.name, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator()
			verbGroups(op)
			c := s.dial("lamp", v.options...)
			c.subscribe("$join/a")
			op.must("move", "lamp a b")
			for _, filter := range []string{"$join/a", "$switch/c/a", "$join/1", "$join/a/4711", "$switch/b/a"} {
				c.expectCodes(filter, c.subscribe(filter), []byte{1})
				expectIn(op, "lamp", 2)
			}
			// Moved on, also while it is away, also to where it has no PIN for.
			s.cut(op, c)
			op.must("move", "lamp b p")
			s.restart()
			op = s.operator()
			c = s.dial("lamp", v.options...)
			c.expectCodes("join", c.subscribe("$join/a", "$switch/c/a", "$join/b"), []byte{1, 1, 1})
			epoch := expectIn(op, "lamp", 4)
			if v.five {
				ack := c.subscribeWith(nil, "$join/a")
				if n, e := userProperties(&ack, "n"), userProperties(&ack, "epoch"); !slices.Equal(n, []string{"4"}) || !slices.Equal(e, []string{fmt.Sprint(epoch)}) {
					t.Errorf("the SUBACK says group %v, epoch %v; it is in 4 at %d", n, e, epoch)
				}
			}
			// Moved back, it is where it was.
			op.must("move", "lamp p a")
			c.expectCodes("join", c.subscribe("$join/a"), []byte{1})
			expectIn(op, "lamp", 1)
		})
	}
}

func TestVerbAfterRemoval(t *testing.T) { // [GRP-7-4]
	ways := []struct {
		name  string
		again func(op, c *client)
	}{
		{"a join by PUBLISH", func(_, c *client) { c.must("join", "a") }},
		{"an UNSUBSCRIBE", func(_, c *client) { c.unsubscribe("$join/a") }},
		{"an operator's join", func(op, _ *client) { op.must("join", `{"g":"a","device":"lamp"}`) }},
	}
	removals := []string{`remove {"device":"lamp","g":"a"}`, `leave {"device":"lamp","g":"a"}`}
	for _, v := range bothVersions {
		for _, removal := range removals {
			for _, way := range ways {
				t.Run(v.name+" "+removal[:6]+" "+way.name, func(t *testing.T) {
					s := serve(t, nil)
					op := s.operator()
					verbGroups(op)
					c := s.dial("lamp", v.options...)
					c.subscribe("$join/a")
					name, body, _ := strings.Cut(removal, " ")
					op.must(name, body)
					epoch := expectIn(op, "lamp")
					for _, filter := range []string{"$join/a", "$join/1", "$switch/b/a"} {
						ack := c.subscribeWith(nil, filter)
						c.expectCodes(filter, ack.ReasonCodes, []byte{0x87})
						if v.five && !strings.HasPrefix(ack.Properties.ReasonString, "membership_terminated: ") {
							t.Errorf("%s: Reason String %q", filter, ack.Properties.ReasonString)
						}
					}
					if now := expectIn(op, "lamp"); now != epoch {
						t.Fatalf("refused verbs took the epoch from %d to %d", epoch, now)
					}
					c.expectCodes("another group", c.subscribe("$join/b"), []byte{1})
					s.restart()
					op = s.operator()
					c = s.dial("lamp", v.options...)
					c.expectCodes("after a restart", c.subscribe("$join/a"), []byte{0x87})
					way.again(op, c)
					c.expectCodes("then", c.subscribe("$join/a"), []byte{1})
					expectIn(op, "lamp", 1, 2)
				})
			}
		}
	}
}

func TestUnsubscribeAfterMove(t *testing.T) { // [GRP-7-5]
	for _, filter := range []string{"$join/a", "$join/a/4711", "$switch/c/a", "$join/b"} {
		t.Run(filter, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator()
			verbGroups(op)
			c, side := s.dial("lamp"), s.dial("lamp~1")
			side.subscribe("$G/me")
			side.notice()
			c.subscribe("$join/a")
			op.must("move", "lamp a b")
			c.unsubscribe(filter)
			expectIn(op, "lamp")
			for _, kind := range []string{"join", "move", "leave"} {
				if n := side.notice(); n.Kind != kind || kind == "leave" && n.From != 2 {
					t.Errorf("told %+v, want a %s", n, kind)
				}
			}
			op.publish("g/2/all/muster/x", "after", 1)
			c.expectMessages()
			if filter != "$join/b" {
				c.expectCodes("join anew", c.subscribe("$join/a"), []byte{1})
			}
		})
	}
}

// The wire says what a join costs a device of few bytes.
func TestVerbBytes(t *testing.T) { // [GRP-7-9]
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	send := func(b []byte, answer int) []byte {
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, answer)
		if _, err := io.ReadFull(nc, got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	send([]byte("\x10\x12\x00\x04MQTT\x04\x02\x00\x3c\x00\x06lamp-7"), 4)
	subscribe := append([]byte{0x82, 16, 0, 1, 0, 11}, "$join/lamps\x01"...)
	if len(subscribe) != 18 {
		t.Fatalf("the SUBSCRIBE has %d bytes", len(subscribe))
	}
	if got := send(subscribe, 5); !bytes.Equal(got, []byte{0x90, 3, 0, 1, 1}) {
		t.Errorf("answered % x", got)
	}
	if got := send([]byte{0xC0, 0}, 2); binary.BigEndian.Uint16(got) != 0xD000 {
		t.Errorf("after the SUBACK came % x", got)
	}
	expectIn(op, "lamp-7", 1)
}
