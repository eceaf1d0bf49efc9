package fanout_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/group"
)

// A model is what a test knows of a Member while it makes a random series of
// steps with it.
type model struct {
	*device
	rng     *rand.Rand
	in      map[group.Number]group.Rev // with the rev of the join
	rev     group.Rev
	window  int
	on      bool            // there is a connection
	sent    map[uint16]bool // identifiers in flight on this connection
	waits   map[uint16]bool // those for which PUBREC was sent, until PUBREL has come
	halved  map[uint16]bool // those for which PUBREC was sent
	offered int             // messages that the Member was to have
	got     map[string]int  // messages that were written, and how often
	over    map[string]bool // memberships whose end has been written, "1@7"
	ends    map[string]string
	dropped int // of the changes
}

// Whatever happens to a Member: nothing of a membership follows the answer to its
// end, the window and the identifiers are kept to, and each message is written,
// discarded or lost, and counted.
func TestMemberModel(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { runModel(t, seed) })
	}
}

func runModel(t *testing.T, seed uint64) {
	m := &model{
		device: newDevice(t, fanout.Limits{Messages: 1 << 20, Bytes: 1 << 30, Window: 8}), rng: rand.New(rand.NewPCG(seed, 1)),
		in: map[group.Number]group.Rev{}, got: map[string]int{}, over: map[string]bool{}, ends: map[string]string{},
	}
	m.connect()
	for range 400 {
		m.step()
	}
	if m.on {
		m.lose()
	}
	m.window = 100
	m.connect()
	for range 3000 {
		m.write(1 << 20)
		if len(m.sent) == 0 {
			break
		}
		m.ack()
	}
	if distinct, lost := len(m.got), int(m.Lost()); distinct+m.dropped+lost != m.offered {
		t.Errorf("%d messages were to be had: %d written, %d discarded, %d lost", m.offered, distinct, m.dropped, lost)
	}
}

func (m *model) memberships() (in []fanout.Membership) {
	for n := range group.Number(4) {
		if rev := m.in[n]; rev != 0 {
			in = append(in, fanout.Membership{Number: n, Since: rev, QoS: 1, Recv: true})
		}
	}
	return in
}

func (m *model) connect() {
	m.sink, m.on = &sink{}, true
	m.sent, m.waits, m.halved = map[uint16]bool{}, map[uint16]bool{}, map[uint16]bool{}
	m.Attach(fanout.Connection{Sink: m.sink, Version: 4, Window: m.window, First: []byte{0x20, 2, 0, 0}}, m.memberships(), group.Epoch(m.rev))
}

func (m *model) lose() {
	m.Detach(m.sink)
	m.on = false
	for _, of := range m.ends { // whether its answer was read or not
		m.over[of] = true
	}
}

func (m *model) step() {
	n := group.Number(1 + m.rng.IntN(3))
	switch m.rng.IntN(12) {
	case 0, 1, 2, 3:
		rev := m.in[n]
		if rev != 0 {
			m.offered++
		}
		m.Offer(post(n, fmt.Sprintf("%d-%d@%d", m.offered, n, rev), byte(m.rng.IntN(2))))
	case 4:
		qos := byte(m.rng.IntN(3))
		m.offered++
		m.ordinary(fmt.Sprintf("o/%d", m.offered), qos)
	case 5, 6, 7:
		if m.on {
			m.write(1 + m.rng.IntN(200))
		}
	case 8, 9:
		m.ack()
	case 10:
		m.change(n)
	case 11:
		if m.on {
			m.lose()
			return
		}
		m.window = 1 + m.rng.IntN(10)
		m.connect()
	}
}

// change joins the group or leaves it, as the device does or as others do.
func (m *model) change(n group.Number) {
	m.rev++
	end := ""
	if rev := m.in[n]; rev != 0 {
		delete(m.in, n)
		end = fmt.Sprintf("%d@%d", n, rev)
	} else {
		m.in[n] = m.rev
	}
	mark := fmt.Sprint("answer/", m.rev)
	c := fanout.Change{In: m.memberships(), Epoch: group.Epoch(m.rev)}
	forced := m.rng.IntN(2) == 0
	c.Packets = func(_ fanout.Sink, dropped int) [][]byte {
		if !forced {
			m.dropped += dropped
		}
		return [][]byte{wire.AppendPublish(nil, 4, mark, nil, nil)}
	}
	if end != "" {
		m.ends[mark] = end
		if !m.on {
			m.over[end] = true
		}
	}
	if !forced {
		m.Set(c)
		return
	}
	m.Force(c, m.rng.IntN(2) == 0, long, func(dropped int) {
		m.dropped += dropped
		if end != "" {
			m.over[end] = true // the operator is told: nothing may come any more
		}
	})
}

// write takes and writes up to so many bytes, and looks at them.
func (m *model) write(max int) {
	for _, s := range m.take(max) {
		m.seen(s)
	}
	m.Wrote(m.sink)
}

func (m *model) seen(s string) {
	if end, ok := m.ends[s]; ok {
		m.over[end] = true
	}
	if s == "CONNACK" || strings.HasPrefix(s, "answer/") {
		return
	}
	name, number, _ := strings.Cut(s, " #")
	number, dup := strings.CutSuffix(number, " dup")
	if rel, ok := strings.CutPrefix(s, "PUBREL #"); ok {
		name, number = "", rel
	}
	if number != "" {
		id, _ := strconv.ParseUint(number, 10, 16)
		if name != "" && m.sent[uint16(id)] {
			m.t.Errorf("%q while identifier %d is in flight", s, id)
		}
		m.sent[uint16(id)] = true
		delete(m.waits, uint16(id))
		if window := min(m.window, 8); window > 0 && len(m.sent) > window {
			m.t.Errorf("%d in flight with a window of %d", len(m.sent), window)
		}
	}
	if name == "" {
		return
	}
	if _, of, ok := strings.Cut(name, "-"); ok && m.over[of] {
		m.t.Errorf("%q follows the end of its membership", s)
	}
	if m.got[name]++; dup != (m.got[name] > 1) {
		m.t.Errorf("%q has come %d times", s, m.got[name])
	}
}

// ack acknowledges one message, with its whole handshake or half of it.
func (m *model) ack() {
	if !m.on || len(m.sent) == 0 {
		return
	}
	ids := make([]uint16, 0, len(m.sent))
	for id := range m.sent {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	id := ids[m.rng.IntN(len(ids))]
	switch {
	case m.waits[id]:
	case !m.halved[id] && m.rng.IntN(4) == 0:
		m.waits[id], m.halved[id] = true, true
		m.Received(id)
	default:
		delete(m.sent, id)
		delete(m.halved, id)
		m.Ack(id)
	}
}
