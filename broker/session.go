package broker

import (
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/topics"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/ledger"
)

// A session is what the Server keeps for a client between its connections
// (MQTT 5.0, 4.1). It ends for good: a client that returns later gets another
// one, with another key.
type session struct {
	s         *Server
	id        string         // Client Identifier
	device    group.ClientID // as which it asks and publishes
	side      bool           // <device>~<any>: not the device's own connection
	reserved  bool           // muster or muster~<any>: never a member
	assigned  bool           // the server made the Client Identifier
	groupable bool           // the Client Identifier may be in groups
	anonymous bool
	key       topics.Key
	member    *fanout.Member
	account   atomic.Pointer[group.Account]
	// rights are the account's to ordinary topics, made ready for this client. Both
	// change under mu.
	rights atomic.Pointer[authz.Topics]

	// back is what a Session that has ended leaves to others of its shared
	// subscriptions. It belongs to who has ended it.
	back []fanout.Reclaimed

	// online is true while the device's own connection is there. It changes
	// under the lock of events.
	online atomic.Bool
	// listening is true if the client is told of changes on me.
	listening atomic.Bool
	// dead is true if the Session was ended by somebody else: its connection
	// handles no further packet.
	dead atomic.Bool

	// The following belong to the slot.
	conn       *conn
	will       *will
	expiry     time.Duration // how long it outlives its connection
	timer      *time.Timer   // ends it; nil while it is connected
	willTimer  *time.Timer   // publishes its Will; nil if none is to come
	generation uint64        // counts connections: a timer of an older one does nothing
	lastEpoch  group.Epoch   // when the last connection ended
	epochKnown bool          // lastEpoch is known

	// mu guards what follows. It is held while a message of an ordinary topic
	// is decided on and queued, so that no message overtakes a SUBACK.
	mu      sync.Mutex
	subs    map[string]topics.Subscription // ordinary filters, as subscribed
	own     []fanout.Filter                // filters over g/
	inQoS2  map[uint16]bool                // QoS 2 received, without PUBREL: MQTT 5.0, 4.3.3
	refused map[refusal]*refusals
}

// A slot serialises what happens to one Client Identifier.
type slot struct {
	mu      sync.Mutex
	session atomic.Pointer[session] // changes under mu and the ledger's order
	refs    int                     // guarded by Server.mu
}

// acquire locks the slot of a Client Identifier.
func (s *Server) acquire(id string) *slot {
	s.mu.Lock()
	sl := s.slots[id]
	if sl == nil {
		sl = &slot{}
		s.slots[id] = sl
	}
	sl.refs++
	s.mu.Unlock()
	sl.mu.Lock()
	return sl
}

func (s *Server) release(id string, sl *slot) {
	sl.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.refs--
	if sl.refs == 0 && sl.session.Load() == nil {
		delete(s.slots, id)
	}
}

// main returns the Session of a device's own connection, or nil.
func (s *Server) main(c group.ClientID) *session {
	s.mu.RLock()
	sl := s.slots[string(c)]
	s.mu.RUnlock()
	if sl == nil {
		return nil
	}
	return sl.session.Load()
}

// byKey returns the Session with the key, or nil if it has ended.
func (s *Server) byKey(k topics.Key) *session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.keys[k]
}

// Online reports whether the device has a connection.
func (s *Server) Online(c group.ClientID) bool {
	sess := s.main(c)
	return sess != nil && sess.online.Load()
}

// Present reports whether the device has a Session, if only a side
// connection's.
func (s *Server) Present(c group.ClientID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sl := s.slots[string(c)]
	return sl != nil && sl.session.Load() != nil || len(s.sides[c]) > 0
}

// assigned reports whether the device is there under a Client Identifier that the
// server made.
func (s *Server) assigned(c group.ClientID) bool {
	sess := s.main(c)
	return sess != nil && sess.assigned
}

// newSession makes a Session for a client that has been let in.
func (s *Server) newSession(who *identity) *session {
	sess := &session{
		s: s, id: who.id, device: who.device, side: who.side, reserved: who.reserved, assigned: who.assigned,
		groupable: who.groupable, anonymous: who.anonymous, key: topics.Key(s.nextKey.Add(1)),
		subs: map[string]topics.Subscription{}, inQoS2: map[uint16]bool{},
	}
	acc := who.account
	sess.account.Store(&acc) // it has rights from when it is attached
	var observes func(group.Number) bool
	if acc.Role != group.RoleDevice {
		observes = sess.observes
	}
	sess.member = fanout.NewMember(who.device, fanout.Limits{
		Messages: s.limits.QueueMessages, Bytes: s.limits.QueueBytes, Window: s.limits.Inflight, Budget: s.budget, Engine: &s.engine,
	}, observes)
	return sess
}

// observes reports whether the client may read the group without being in it.
func (sess *session) observes(n group.Number) bool {
	acc := sess.account.Load()
	return ledger.Observes(acc.Role, acc.Groups, n)
}

// isMember reports whether the Session is the one in which the device's
// memberships deliver.
func (sess *session) isMember() bool { return !sess.side && !sess.reserved }

// asker returns who makes a request through the Session.
func (sess *session) asker(c *conn, verb bool) ledger.Asker {
	acc := sess.account.Load()
	who := ledger.Asker{
		Client: sess.device, Account: acc.Name, Role: acc.Role, Groups: acc.Groups, Anonymous: sess.anonymous,
		Addr: c.addr, Assigned: sess.assigned || sess.side && sess.s.assigned(sess.device), Verb: verb,
	}
	if sess.reserved || !sess.groupable {
		who.Client = ""
	}
	return who
}

// memberships turns a device's record into what delivery needs.
func memberships(d *group.Device) []fanout.Membership {
	in := make([]fanout.Membership, len(d.Groups))
	for i, m := range d.Groups {
		in[i] = fanout.Membership{Number: m.Number, Since: m.Since, QoS: m.QoS, Recv: m.Recv}
		for _, f := range m.Filter {
			if f != "#" {
				in[i].Filters = append(in[i].Filters, "g/+/all/+/"+f)
				continue
			}
			in[i].Filters = nil
			break
		}
	}
	return in
}

func numbers(d *group.Device) []group.Number {
	out := make([]group.Number, len(d.Groups))
	for i, m := range d.Groups {
		out[i] = m.Number
	}
	return out
}

// enroll enters a new Session everywhere. It runs between two changes, with the
// slot locked.
func (s *Server) enroll(sl *slot, sess *session, d *group.Device) {
	s.engine.Watch(sess.member)
	if sess.isMember() {
		s.engine.Enter(sess.member, numbers(d)...)
	}
	s.mu.Lock()
	s.keys[sess.key] = sess
	s.sessions++
	s.countFor(sess, 1)
	if sess.side {
		if s.sides[sess.device] == nil {
			s.sides[sess.device] = map[*session]struct{}{}
		}
		s.sides[sess.device][sess] = struct{}{}
	}
	s.mu.Unlock()
	sl.session.Store(sess)
}

// end ends a Session that has no connection. The slot is locked. It returns the
// Will that was still to come (MQTT 5.0, 3.1.2.5).
func (s *Server) end(sl *slot, sess *session) *will {
	sess.stopTimers()
	sess.dead.Store(true)
	s.ledger.Ordered(func() {
		sl.session.Store(nil)
		s.engine.Remove(sess.member)
	})
	s.events.leave(sess)
	s.mu.Lock()
	delete(s.keys, sess.key)
	s.sessions--
	s.countFor(sess, -1)
	s.dropSide(sess)
	s.mu.Unlock()
	sess.mu.Lock()
	for f := range sess.subs {
		s.tree.Unsubscribe(sess.key, f)
	}
	clear(sess.subs)
	sess.mu.Unlock()
	sess.back = sess.member.Reclaim(func(string) bool { return true })
	w := sess.will
	sess.will = nil
	s.hooks.OnClientExpired(&mqtt.Client{ID: sess.id})
	return w
}

// counted returns the account that bounds are counted for, folded: empty for those
// who have none that is recorded.
func (sess *session) counted() string {
	account := group.Fold(sess.account.Load().Name)
	if sess.anonymous || account == group.Local {
		return ""
	}
	return account
}

// countFor counts the Session for its account, if that is recorded. The caller
// holds s.mu.
func (s *Server) countFor(sess *session, n int) {
	account := sess.counted()
	if account == "" {
		return
	}
	if s.perAccount[account] += n; s.perAccount[account] == 0 {
		delete(s.perAccount, account)
	}
}

// dropSide forgets a side connection. The caller holds s.mu.
func (s *Server) dropSide(sess *session) {
	if m := s.sides[sess.device]; m != nil {
		delete(m, sess)
		if len(m) == 0 {
			delete(s.sides, sess.device)
		}
	}
}

// ended does what follows the end of a Session, without any lock.
func (s *Server) ended(sess *session, w *will, now time.Time) {
	s.reassign(sess.back)
	if w != nil {
		s.fire(sess, w, now)
	}
	switch {
	case sess.assigned:
		s.ledger.Release(sess.device, now, func() {})
	case sess.isMember():
		s.ledger.Gone(sess.device, now)
	}
}

// detach takes a connection away from its Session, if it is still the Session's,
// and returns what is left to be said: packets that are no messages. The
// connection must have been aborted.
func (s *Server) detach(c *conn, g *goodbye) []byte {
	sess := c.session
	now := time.Now()
	sl := s.acquire(sess.id)
	if sess.conn != c {
		s.release(sess.id, sl)
		return c.leftover // taken over
	}
	var tail []byte
	if !g.silent {
		tail = sess.member.Leftover(c)
	}
	s.unlink(sess, c, g.normal)
	if n := sess.member.Lost() - c.lostBefore; n > 0 {
		s.log.Info("messages lost", "client", sess.id, "addr", c.addr, "messages", n)
	}
	var w *will
	over := sess.expiry == 0 || sess.dead.Load()
	switch {
	case over:
		w = s.end(sl, sess)
	default:
		w = s.rest(sess, now)
	}
	s.release(sess.id, sl)
	if over {
		s.ended(sess, w, now)
		return tail
	}
	s.handOver(sess)
	if w != nil {
		s.fire(sess, w, now)
	}
	return tail
}

// unlink separates a Session and its connection. The slot is locked.
func (s *Server) unlink(sess *session, c *conn, normal bool) {
	if normal {
		sess.will = nil // MQTT 5.0, 3.14.4
	}
	sess.conn = nil
	sess.lastEpoch, sess.epochKnown = sess.member.Epoch(), true
	s.events.offline(sess)
	sess.member.Detach(c)
	s.hooks.OnDisconnect(c.client, nil, sess.expiry == 0)
}

// rest lets a Session wait for its client. The slot is locked. It returns a
// Will that is due at once.
func (s *Server) rest(sess *session, now time.Time) *will {
	sess.generation++
	generation := sess.generation
	w := sess.will
	if w != nil && w.delay > 0 {
		if w.delay < sess.expiry {
			sess.willTimer = s.after(w.delay, func() { s.delayedWill(sess, generation) })
		}
		w = nil // else it comes with the end of the Session
	} else {
		sess.will = nil
	}
	sess.timer = s.after(sess.expiry, func() { s.expire(sess, generation) })
	return w
}

// expire ends a Session whose client has not returned.
func (s *Server) expire(sess *session, generation uint64) {
	sl := s.acquire(sess.id)
	if sess.conn != nil || sess.generation != generation || sl.session.Load() != sess {
		s.release(sess.id, sl)
		return
	}
	w := s.end(sl, sess)
	s.release(sess.id, sl)
	s.ended(sess, w, time.Now())
}

// stopTimers stops what waits for the client to return or not. The slot is locked.
func (sess *session) stopTimers() {
	for _, t := range []**time.Timer{&sess.timer, &sess.willTimer} {
		if *t != nil {
			(*t).Stop()
			*t = nil
		}
	}
}

// delayedWill publishes a Will whose delay has passed.
func (s *Server) delayedWill(sess *session, generation uint64) {
	sl := s.acquire(sess.id)
	var w *will
	if sess.conn == nil && sess.generation == generation && sl.session.Load() == sess {
		w, sess.will = sess.will, nil
	}
	s.release(sess.id, sl)
	if w != nil {
		s.fire(sess, w, time.Now())
	}
}

// after runs f later, unless the Server stops before.
func (s *Server) after(d time.Duration, f func()) *time.Timer {
	return s.cfg.afterFunc(d, func() {
		s.mu.RLock()
		stopping := s.stopping
		if !stopping {
			s.wg.Add(1)
		}
		s.mu.RUnlock()
		if !stopping {
			defer s.wg.Done()
			f()
		}
	})
}

// kill ends a Session and its connection from outside, for good.
func (s *Server) kill(sess *session, g *goodbye) {
	sess.dead.Store(true)
	s.wg.Go(func() {
		sl := s.acquire(sess.id)
		if sl.session.Load() != sess {
			s.release(sess.id, sl)
			return
		}
		if c := sess.conn; c != nil {
			s.release(sess.id, sl)
			c.stop(g) // it ends its Session as it goes
			return
		}
		w := s.end(sl, sess)
		s.release(sess.id, sl)
		s.ended(sess, w, time.Now())
	})
}

// will is a Will Message.
type will struct {
	from      string // the address of its client
	topic     string
	payload   []byte
	qos       byte
	retain    bool
	delay     time.Duration
	expiry    time.Duration
	hasExpiry bool
	props     []byte
}

func newWill(w *wire.Will, from string) *will {
	if w == nil {
		return nil
	}
	return &will{
		from: from, topic: w.Topic, payload: append([]byte(nil), w.Payload...), qos: w.QoS, retain: w.Retain,
		delay:  time.Duration(w.Delay) * time.Second,
		expiry: time.Duration(w.Expiry) * time.Second, hasExpiry: w.HasExpiry,
		props: append([]byte(nil), w.Props...),
	}
}
