package broker_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A mirror is the roster that a listener makes of snapshot and events. It knows
// which members are connected.
type mirror struct {
	t       *testing.T
	name    string
	members map[group.ClientID]bool
	seq     uint64
	boot    string
	part    int // of the snapshot that has begun; 0: it is whole
	whole   bool
	kinds   map[string]int
}

// take takes over an event, which must fit behind those before it.
func (m *mirror) take(e *control.Event) {
	m.t.Helper()
	if m.kinds == nil {
		m.kinds = map[string]int{}
	}
	m.kinds[e.Kind]++
	if e.Kind == "snapshot" {
		m.snapshot(e)
		return
	}
	if !m.whole || e.Prev != m.seq || e.Seq != e.Prev+1 || e.Boot != m.boot {
		m.t.Fatalf("%s: %+v does not follow event %d of %s (whole: %v)", m.name, e, m.seq, m.boot, m.whole)
	}
	m.seq = e.Seq
	_, in := m.members[e.Device]
	ok := true
	switch {
	case e.Kind == "update" || e.Kind == "delete":
		ok = e.Device == "" && e.State == "" && e.Rev != 0
	case e.Kind == "online" || e.Kind == "offline":
		ok = in && e.State == ""
		m.members[e.Device] = e.Kind == "online"
	case e.State == "member":
		ok = !in && (e.Kind == "join" || e.Kind == "switch") && e.Rev != 0
		m.members[e.Device] = false
	default:
		ok = in && e.State == "out" && slices.Contains([]string{"leave", "switch", "remove"}, e.Kind) && e.Rev != 0
		delete(m.members, e.Device)
	}
	if !ok {
		m.t.Fatalf("%s: %+v does not fit %v", m.name, e, m.members)
	}
}

func (m *mirror) snapshot(e *control.Event) {
	m.t.Helper()
	if m.part == 0 {
		m.members, m.seq, m.boot = map[group.ClientID]bool{}, e.Seq, e.Boot
	}
	if m.part++; e.Part != m.part || e.Seq != m.seq || e.Boot == "" || e.Boot != m.boot {
		m.t.Fatalf("%s: part %d of snapshot %d, after part %d of %d", m.name, e.Part, e.Seq, m.part-1, m.seq)
	}
	for _, entry := range e.List {
		if _, twice := m.members[entry.Device]; twice || entry.Device == "" || entry.Online == nil || entry.Since == 0 {
			m.t.Fatalf("%s: entry %+v", m.name, entry)
		}
		m.members[entry.Device] = *entry.Online
	}
	if m.whole = e.Last; e.Last {
		m.part = 0
	}
}

// events returns those of the group that were queued for the client up to now,
// and their packets.
func (c *client) events(n group.Number) (events []control.Event, pks []packets.Packet) {
	c.t.Helper()
	c.settled()
	for _, pk := range c.flushed() {
		if pk.FixedHeader.Type != packets.Publish || pk.TopicName != fmt.Sprintf("g/%d/evt", n) {
			continue
		}
		e, err := control.DecodeEvent(pk.Payload)
		if err != nil || pk.FixedHeader.Qos != 0 || pk.FixedHeader.Retain {
			c.t.Fatalf("%s: event %q: %v", c.id, pk.Payload, err)
		}
		events, pks = append(events, e), append(pks, pk)
	}
	return events, pks
}

// kinds returns the kinds of the events that were queued, with their devices.
func (c *client) kinds(n group.Number) []string {
	c.t.Helper()
	events, _ := c.events(n)
	var all []string
	for _, e := range events {
		all = append(all, strings.TrimSpace(e.Kind+" "+string(e.Device)))
	}
	return all
}

func (c *client) expectKinds(what string, n group.Number, want ...string) {
	c.t.Helper()
	if got := c.kinds(n); !slices.Equal(got, want) {
		c.t.Fatalf("%s: %s: events %q, want %q", c.id, what, got, want)
	}
}

// rosterOf returns the roster as an operator reads it.
func rosterOf(op *client, n group.Number) map[group.ClientID]bool {
	op.t.Helper()
	all := map[group.ClientID]bool{}
	for next := ""; ; {
		a := op.must("members", jsonOf(map[string]any{"g": n, "limit": 1000, "next": next}))
		for _, e := range a.List {
			all[e.Device] = e.Online != nil && *e.Online
		}
		if next = a.Next; next == "" {
			return all
		}
	}
}

// A listener is a client that listens to one group's events.
type listener struct {
	*client
	mirror mirror
	n      group.Number
}

func (l *listener) catchUp() {
	l.t.Helper()
	events, _ := l.events(l.n)
	for i := range events {
		l.mirror.take(&events[i])
	}
}

// A random series of changes, with listeners that begin in the middle, and begin
// again: what each has made of snapshot and events is the roster.
func TestRosterEventsFollow(t *testing.T) { // [GRP-11-1]
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator()
			for _, name := range []string{"a", "b", "c"} {
				op.must("create", `{"name":"`+name+`"}`)
			}
			r := rand.New(rand.NewPCG(seed, 11))
			var listeners []*listener
			listen := func(n group.Number) {
				l := &listener{client: s.operatorAs(fmt.Sprintf("muster~l%d", len(listeners))), n: n}
				l.mirror = mirror{t: t, name: l.id}
				listeners = append(listeners, l)
				l.subscribe(fmt.Sprintf("g/%d/evt", n))
			}
			conns := map[string]*client{}
			for step := range 300 {
				device := fmt.Sprintf("lamp-%d", r.IntN(6))
				from, to := r.IntN(3)+1, r.IntN(3)+1
				c := conns[device]
				switch what := r.IntN(14); {
				case what == 0:
					op.ask("join", fmt.Sprintf(`{"device":%q,"g":%d}`, device, to))
				case what == 1:
					op.ask("remove", fmt.Sprintf(`{"device":%q,"g":%d}`, device, from))
				case what == 2:
					op.ask("move", fmt.Sprintf("%s %d %d", device, from, to))
				case what <= 5:
					var options []option
					if r.IntN(2) == 0 {
						options = append(options, persistent)
					}
					conns[device] = s.dial(device, options...)
				case what == 6 && c != nil:
					s.cut(op, c)
					delete(conns, device)
				case what == 7 && c != nil:
					c.ask("switch", fmt.Sprintf("%d %d", from, to))
				case what == 8 && c != nil:
					c.subscribe(fmt.Sprintf("$join/%d", to), fmt.Sprintf("$switch/%d/%d", to, from))
				case what == 9 && c != nil:
					c.unsubscribe(fmt.Sprintf("$join/%d", from))
				case what == 10:
					op.must("update", fmt.Sprintf(`{"g":%d,"members_to":%v}`, to, step%2 == 0))
				case what == 11 && r.IntN(3) == 0:
					op.ask("forget", `{"device":"`+device+`"}`)
					if c != nil {
						c.ended()
						delete(conns, device)
					}
				case what == 12 && len(listeners) < 12:
					listen(group.Number(to))
				case what == 13 && len(listeners) > 0:
					l := listeners[r.IntN(len(listeners))]
					l.subscribe(fmt.Sprintf("g/%d/evt", l.n))
				}
			}
			for n := range 3 {
				listen(group.Number(n + 1))
			}
			for _, l := range listeners {
				l.catchUp()
				if want := rosterOf(op, l.n); !maps.Equal(l.mirror.members, want) {
					t.Errorf("seed %d: %s made %v of group %d, the roster is %v (%v)", seed, l.id, l.mirror.members, l.n, want, l.mirror.kinds)
				}
			}
		})
	}
}

// The same while the changes go on: a snapshot is of one moment between two
// events.
func TestRosterEventsMeanwhile(t *testing.T) { // [GRP-11-1]
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"a"}`)
	op.must("create", `{"name":"b"}`)
	var devices []*client
	for i := range 4 {
		devices = append(devices, s.dial(fmt.Sprintf("lamp-%d", i)))
	}
	l := &listener{client: s.operatorAs("muster~l"), n: 1, mirror: mirror{t: t, name: "l"}}
	done := make(chan struct{})
	for _, c := range devices {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 40 {
				c.ask("join", "a")
				c.ask("switch", "a b")
				c.subscribe("$switch/b/a")
				c.unsubscribe("$join/a")
			}
		}()
	}
	for range 40 {
		l.subscribe("g/1/evt")
		l.catchUp()
	}
	for range devices {
		<-done
	}
	l.catchUp()
	if want := rosterOf(op, 1); !maps.Equal(l.mirror.members, want) || l.mirror.kinds["snapshot"] != 40 {
		t.Errorf("made %v, the roster is %v (%v)", l.mirror.members, want, l.mirror.kinds)
	}
}

// The parts of a snapshot are bounded, also with names that JSON makes long, and
// fit what the client takes.
func TestSnapshotParts(t *testing.T) { // [GRP-11-1]
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"a"}`)
	want := map[group.ClientID]bool{}
	for i := range 1000 {
		id := fmt.Sprintf("%04d", i)
		if i < 900 {
			id += strings.Repeat(`"`, 60)
		} else {
			id += strings.Repeat("é<", 20)
		}
		op.must("join", jsonOf(map[string]any{"g": 1, "device": id}))
		want[group.ClientID(id)] = false
	}
	tests := []struct {
		options []option
		size    int // of a packet
		parts   int // at least
	}{{nil, 32<<10 + 16, 2}, {[]option{v5}, 32<<10 + 16, 2}, {[]option{v5, maxPacket(4096)}, 4096, 30}, {[]option{v5, maxPacket(900)}, 900, 200}}
	for i, tt := range tests {
		l := &listener{client: s.operatorAs(fmt.Sprintf("muster~%d", i), tt.options...), n: 1, mirror: mirror{t: t, name: fmt.Sprint("listener ", i)}}
		l.subscribe("g/1/evt")
		events, pks := l.events(1)
		for k := range events {
			l.mirror.take(&events[k])
			if size := pks[k].FixedHeader.Remaining + 4; len(pks[k].Payload) > 32<<10 || size > tt.size+2 {
				t.Errorf("%s: part %d has %d bytes", l.mirror.name, events[k].Part, size)
			}
			if events[k].Last != (k == len(events)-1) {
				t.Errorf("%s: part %d of %d: last is %v", l.mirror.name, events[k].Part, len(events), events[k].Last)
			}
		}
		if len(events) < tt.parts || !maps.Equal(l.mirror.members, want) {
			t.Errorf("%s: %d parts, %d members", l.mirror.name, len(events), len(l.mirror.members))
		}
	}
	// What cannot be made to fit is not sent: the connection lives.
	small := s.operatorAs("muster~small", v5, maxPacket(100))
	small.subscribe("g/1/evt")
	for _, pk := range small.flushed() {
		if size := pk.FixedHeader.Remaining + 2; size > 100 {
			t.Fatalf("a packet of %d bytes for a Maximum Packet Size of 100", size)
		}
	}
}

// Who is connected: a take-over is no absence, and the end of a Session, a
// forgotten device and a deleted group are told as what they are.
func TestPresenceEvents(t *testing.T) { // [GRP-11-1]
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"a"}`)
	op.must("create", `{"name":"b"}`)
	l := s.operatorAs("muster~l")
	l.subscribe("g/1/evt")
	l.expectKinds("an empty group", 1, "snapshot")
	c := s.dial("lamp", persistent)
	c.must("join", "b")
	l.expectKinds("in another group", 1)
	c.must("switch", "a")
	l.expectKinds("a switch of a connected device", 1, "switch lamp", "online lamp")
	c.must("join", `{"g":"a","qos":0}`)
	l.expectKinds("an option", 1)
	s.dial("lamp~1").must("join", "b")
	l.expectKinds("a side connection", 1)

	old := c
	c = s.dial("lamp", persistent)
	old.ended()
	l.expectKinds("a take-over that resumes", 1)
	old = c
	c = s.dial("lamp")
	old.ended()
	if kinds := l.kinds(1); slices.Contains(kinds, "offline lamp") {
		t.Errorf("a take-over that starts anew: events %q", kinds)
	}
	s.cut(op, c)
	l.expectKinds("a lost network", 1, "offline lamp")
	c = s.dial("lamp", persistent)
	l.expectKinds("it is back", 1, "online lamp")
	s.cut(op, c)
	c = s.dial("lamp", persistent)
	l.expectKinds("resumed", 1, "offline lamp", "online lamp")
	op.must("remove", `{"device":"lamp","g":"a"}`)
	l.expectKinds("removed", 1, "remove lamp")
	s.cut(op, c)
	l.expectKinds("no member", 1)
	op.must("join", `{"device":"lamp","g":"a"}`)
	l.expectKinds("joined while away", 1, "join lamp")

	c = s.dial("lamp")
	l.expectKinds("it is back", 1, "online lamp")
	op.must("forget", `{"device":"lamp"}`)
	c.ended()
	l.expectKinds("forgotten", 1, "remove lamp")

	// A Client Identifier that the server made is a member as long as its Session.
	a := s.dial("", v5)
	id := a.connack.Properties.AssignedClientID
	a.must("join", "a")
	l.expectKinds("an assigned Client Identifier", 1, "join "+id, "online "+id)
	a.disconnect()
	l.awaitKinds(1, "offline "+id, "remove "+id) // by the server

	c = s.dial("lamp")
	c.must("join", "a")
	op.must("update", `{"g":"a","name":"aa"}`)
	l.expectKinds("a join and a rename", 1, "join lamp", "online lamp", "update")
	op.must("delete", `{"g":"aa"}`)
	l.expectKinds("deleted", 1, "delete")
	c.disconnect()
	l.expectKinds("no more", 1)
}

// awaitKinds waits for events that the server causes in its own time.
func (c *client) awaitKinds(n group.Number, want ...string) {
	c.t.Helper()
	for len(want) > 0 {
		pk, _ := c.await(func(pk *packets.Packet) bool { return pk.TopicName == fmt.Sprintf("g/%d/evt", n) })
		e, err := control.DecodeEvent(pk.Payload)
		if err != nil || e.Kind+" "+string(e.Device) != want[0] {
			c.t.Fatalf("event %s, want %q", pk.Payload, want[0])
		}
		want = want[1:]
	}
}

// Numbers start anew with each start of the server, under another boot.
func TestEventsAfterRestart(t *testing.T) { // [GRP-11-1]
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"a"}`)
	boots := map[string]bool{}
	for i := range 3 {
		op.must("join", fmt.Sprintf(`{"device":"lamp-%d","g":"a"}`, i))
		l := &listener{client: s.operatorAs("muster~l"), n: 1, mirror: mirror{t: t, name: "l"}}
		l.subscribe("g/1/evt")
		op.must("join", fmt.Sprintf(`{"device":"lamp-%d","g":"a"}`, i+10))
		l.catchUp()
		if boots[l.mirror.boot] || len(l.mirror.members) != 2*(i+1) || l.mirror.seq != 2 {
			t.Errorf("start %d: boot %s of %v, event %d, %v", i, l.mirror.boot, boots, l.mirror.seq, l.mirror.members)
		}
		boots[l.mirror.boot] = true
		s.restart()
		op = s.operator()
	}
}

// An event names its own group alone, whatever the change was.
func TestEventNamesNoOtherGroup(t *testing.T) { // [GRP-11-3]
	s := serve(t, func(cfg *broker.Config) { cfg.Listen = []string{"127.0.0.1:0"} })
	op := s.operator()
	for i := range 9 {
		op.must("create", fmt.Sprintf(`{"name":"group-%d"}`, i+1))
	}
	l := s.operatorAs("muster~l")
	for i := range 9 {
		l.subscribe(fmt.Sprintf("g/%d/evt", i+1))
	}
	c := s.dial("lamp")
	c.must("join", "group-7")
	c.must("switch", "group-7 group-8")
	c.subscribe("$switch/8/9", "$join/7", "$join/6")
	op.must("move", "lamp group-9 group-5")
	op.must("remove", `{"device":"lamp","g":"group-5"}`)
	op.must("update", `{"g":"group-6","name":"six"}`)
	op.must("delete", `{"g":"six"}`)
	c.disconnect()
	op.must("forget", `{"device":"lamp"}`)
	allowed := []string{"kind", "seq", "prev", "boot", "rev", "device", "state", "user", "by", "at", "part", "last", "list"}
	count := 0
	l.settled()
	for _, pk := range l.flushed() {
		var m map[string]any
		if err := json.Unmarshal(pk.Payload, &m); err != nil {
			t.Fatalf("%s %s: %v", pk.TopicName, pk.Payload, err)
		}
		count++
		for key := range m {
			if !slices.Contains(allowed, key) {
				t.Errorf("%s: %s has the key %s", pk.TopicName, pk.Payload, key)
			}
		}
		if strings.Contains(string(pk.Payload), "group-") || strings.Contains(string(pk.Payload), "six") {
			t.Errorf("%s: %s names a group", pk.TopicName, pk.Payload)
		}
	}
	if count < 9+12 {
		t.Errorf("%d events", count)
	}
}
