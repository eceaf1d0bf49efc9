package fanout

import (
	"slices"
	"strings"
	"sync"

	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/group"
)

// A Sink writes what a Member has queued. Its methods must not block, and must
// not call the Member.
type Sink interface {
	// Wake says that there is something to take.
	Wake()
	// WakeLater says the same of messages, where nobody waits for an answer.
	WakeLater()
	// Overflow says that the peer cannot take what it must be given: the
	// connection is to be ended (MQTT 5.0: reason 0x97, Quota exceeded).
	Overflow()
	// Cut ends the connection at once, without another byte.
	Cut()
}

// Limits bound what waits for one Member. Zero fields mean the defaults.
type Limits struct {
	Messages int // waiting messages, 1,000
	Bytes    int // of waiting messages, 4 MiB; of unacknowledged ones four times as many
	Window   int // unacknowledged messages with QoS 1 or 2, 64
	// Budget bounds the bytes of all Members that share it; nil: nothing does.
	Budget *Budget
	// Engine is the one whose publications the Member is offered; nil: there is none,
	// or nobody leaves and joins while one is under way.
	Engine *Engine
}

func (l Limits) withDefaults() Limits {
	if l.Messages == 0 {
		l.Messages = 1000
	}
	if l.Bytes == 0 {
		l.Bytes = 4 << 20
	}
	if l.Window == 0 {
		l.Window = 64
	}
	return l
}

// A Membership is one group that a Member is in, as far as delivery goes.
type Membership struct {
	Number group.Number
	Since  group.Rev
	QoS    byte
	Recv   bool
	// Filters are full Topic Filters, "g/+/all/+/" and the membership's filter;
	// none means everything.
	Filters []string

	from uint64 // the last publication that had begun before the membership
}

// A Filter is a Topic Filter of one's own over groups, from a SUBSCRIBE.
type Filter struct {
	Filter  string
	QoS     byte
	SubID   uint32 // MQTT 5.0, 3.8.2.1.2; 0 is none
	NoLocal bool
}

// A Member is one Session's place in delivery. It outlives the connection: a
// Sink is attached while there is one.
type Member struct {
	// Client is the device: whose messages are its own.
	Client group.ClientID
	// watching is true if the Member is offered the messages of every group: it
	// may observe some without being in them.
	watching bool
	limits   Limits

	// mu guards all below. It makes deciding and enqueueing one step.
	mu       sync.Mutex
	sink     Sink // nil while there is no connection
	version  byte
	maxSize  int      // the client's Maximum Packet Size; 0 is none
	aliases  *aliases // of this connection; nil is none
	slots    int      // of the window on this connection
	in       []Membership
	joinIDs  map[group.Number]uint32 // Subscription Identifiers of $join filters
	epoch    group.Epoch
	own      []Filter
	observes func(group.Number) bool // nil: nothing
	mute     bool                    // receives nothing of groups on this connection

	q      queue   // to be written, in order
	held   queue   // QoS 1 and 2 without a slot yet
	win    window  // QoS 1 and 2 without an acknowledgement yet
	seq    uint64  // of the newest item in q
	taken  []item  // being written now
	flips  []*flip // third parties that wait for q to drain up to a point
	lost   uint64  // messages dropped since the Session began
	failed bool    // Overflow was called on this sink
	moving bool    // between two connections: see Move
	roster int     // bytes of q that are parts of a roster, which the limits do not count
	// charged is what the Budget has been charged for the Member.
	charged int
}

// NewMember returns a Member for one Session of a device. observes, if not nil,
// says which groups its filters cover besides those it is in; it is called with
// the Member locked, and must not block.
func NewMember(c group.ClientID, l Limits, observes func(group.Number) bool) *Member {
	return &Member{Client: c, limits: l.withDefaults(), observes: observes, watching: observes != nil}
}

// A Connection is what Attach needs to know of one.
type Connection struct {
	Sink    Sink
	Version byte // 4 or 5
	MaxSize int  // the client's Maximum Packet Size; 0 is none
	Window  int  // the client's Receive Maximum; 0 is 65,535
	Aliases int  // how many Topic Aliases the client is sent at most; 0 is none
	// Mute leaves out everything of groups but answers: what waited or was in
	// flight of them is given up and counted.
	Mute bool
	// First is what the client reads first: the CONNACK.
	First []byte
}

// Attach gives the Member a connection: it queues c.First, then what is in
// flight, again (MQTT 5.0, 4.4), and from then on what it is offered. In the
// same step its memberships become in.
func (m *Member) Attach(c Connection, in []Membership, epoch group.Epoch) {
	m.mu.Lock()
	m.sink, m.version, m.maxSize, m.mute, m.failed, m.moving, m.roster = c.Sink, c.Version, c.MaxSize, c.Mute, false, false, 0
	m.aliases = nil
	if c.Version >= 5 {
		m.aliases = newAliases(c.Aliases)
	}
	m.slots = m.limits.Window
	if c.Window > 0 {
		m.slots = min(m.slots, c.Window)
	}
	m.become(in, epoch)
	m.q.reset()
	m.taken = nil
	m.push(item{raw: c.First})
	m.rest()
	if m.mute {
		m.forgo()
	}
	m.advance()
	m.mu.Unlock()
	c.Sink.Wake()
}

// unwritten counts a packet that was queued and is not written, if it is a
// message that nobody will send again: as one that a third party's change has
// discarded, or as lost. The caller holds m.mu.
func (m *Member) unwritten(it *item) {
	if it.frame == nil || it.dup {
		return
	}
	for _, f := range m.flips {
		if it.of(f.lost, f.seq) {
			f.dropped++
			return
		}
	}
	if i := m.win.find(it.id); it.qos == 0 || i < 0 || m.win.flights[i].void {
		m.lost++
	}
}

// rest leaves in the window what is to be sent on the next connection. The
// caller holds m.mu.
func (m *Member) rest() {
	m.win.keep(func(f *flight) bool { return !f.void })
	m.win.behind = len(m.win.flights) > 0
	for i := range m.win.flights {
		m.win.flights[i].queued, m.win.flights[i].sent = false, false
	}
}

// forgo gives up the messages of groups that wait for the client. The caller
// holds m.mu.
func (m *Member) forgo() {
	ofGroup := func(it *item) bool { return it.frame != nil && strings.HasPrefix(it.frame.Topic(), "g/") }
	before := m.held.len() + len(m.win.flights)
	m.held.cut(ofGroup)
	m.win.keep(func(f *flight) bool { return !ofGroup(&f.item) })
	m.lost += uint64(before - m.held.len() - len(m.win.flights))
}

// again queues a message in flight on this connection.
func (m *Member) again(f *flight) {
	f.queued = true
	if f.released {
		m.push(item{raw: wire.AppendAck(nil, m.version, wire.PUBREL, f.id, 0)})
		f.sent = true
		return
	}
	it := f.item
	it.dup = f.ever
	m.push(it)
	f.seq = m.seq
}

// Detach takes the connection away, if sink still is the Member's; the sink must
// not write any more of what it has taken. What was not written, and will not be
// sent on another connection, is lost and counted. It reports whether the sink was
// the Member's.
func (m *Member) Detach(sink Sink) bool { return m.detach(sink, false) }

// Move is [Member.Detach] for a Member that is given another connection at once:
// messages of groups with QoS 1 that come between the two are kept for it.
func (m *Member) Move(sink Sink) bool { return m.detach(sink, true) }

func (m *Member) detach(sink Sink, moving bool) bool {
	m.mu.Lock()
	if m.sink != sink {
		m.mu.Unlock()
		return false
	}
	m.sink, m.moving, m.roster = nil, moving, 0
	for i := range m.taken {
		if it := &m.taken[i]; it.frame != nil && it.qos == 0 {
			m.lost++ // it may have been written; nobody knows
		}
	}
	for m.q.len() > 0 {
		it := m.q.pop()
		m.unwritten(&it)
	}
	m.q.reset()
	m.taken = nil
	m.rest()
	m.settle()
	done := m.drained()
	m.mu.Unlock()
	finish(done)
	return true
}

// Attached reports whether the Member has a connection.
func (m *Member) Attached() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sink != nil
}

// Lost returns how many messages were dropped since the Session began: for
// overflow, or because the connection was lost.
func (m *Member) Lost() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost
}

// Epoch returns the epoch of the newest change that was set.
func (m *Member) Epoch() group.Epoch {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.epoch
}

// In reports whether the Member is in group n now.
func (m *Member) In(n group.Number) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index(n) >= 0
}

// Only returns the Member's group, if it is in exactly one, and in how many it
// is.
func (m *Member) Only() (group.Number, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.in) == 1 {
		return m.in[0].Number, 1
	}
	return 0, len(m.in)
}

// Groups returns the groups that the Member is in, ascending, and the epoch.
func (m *Member) Groups() ([]group.Number, group.Epoch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]group.Number, len(m.in))
	for i, g := range m.in {
		out[i] = g.Number
	}
	return out, m.epoch
}

func (m *Member) index(n group.Number) int {
	for i := range m.in {
		if m.in[i].Number == n {
			return i
		}
	}
	return -1
}

// SetOwn replaces the filters of one's own, and queues the packets in the same
// step, such as the SUBACK, ahead of all that the new filters bring.
func (m *Member) SetOwn(own []Filter, sink Sink, packets ...[]byte) {
	m.mu.Lock()
	m.own = slices.Clone(own)
	m.pushTo(sink, packets)
	m.unlockWake()
}

// SetJoinIDs keeps the Subscription Identifiers under which messages of groups are
// delivered from now on; 0 forgets one.
func (m *Member) SetJoinIDs(ids map[group.Number]uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setJoinIDs(ids)
}

func (m *Member) setJoinIDs(ids map[group.Number]uint32) {
	for n, id := range ids {
		switch {
		case id == 0:
			delete(m.joinIDs, n)
		case m.index(n) >= 0:
			if m.joinIDs == nil {
				m.joinIDs = map[group.Number]uint32{}
			}
			m.joinIDs[n] = id
		}
	}
}
