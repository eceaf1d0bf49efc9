package broker

import (
	"sync"
	"time"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// snapshotPart bounds a part of a snapshot in bytes.
const snapshotPart = 32 << 10

// events tells of changes of rosters on g/<n>/evt.
type events struct {
	s    *Server
	boot string

	// mu makes an event, its number and its place in every listener's queue one
	// step; a snapshot is another. It guards what follows, and changes of
	// session.online.
	mu    sync.Mutex
	rooms map[group.Number]*eventRoom
	// exact holds, for each listener, the groups it listens to by exactly their
	// filter.
	exact map[*session]map[group.Number]bool
	// wild holds the observers that listen by a filter that covers several groups,
	// and wildDevices others, who can only have the events of groups that let
	// their members: most do not, and so cost nothing.
	wild, wildDevices map[*session]struct{}
}

// An eventRoom is the events of one group.
type eventRoom struct {
	seq       uint64
	listeners map[*session]struct{} // by exactly its filter
}

func (e *events) init(s *Server, boot string) {
	e.s, e.boot = s, boot
	e.rooms, e.exact, e.wild = map[group.Number]*eventRoom{}, map[*session]map[group.Number]bool{}, map[*session]struct{}{}
	e.wildDevices = map[*session]struct{}{}
}

func (e *events) room(n group.Number) *eventRoom {
	r := e.rooms[n]
	if r == nil {
		r = &eventRoom{listeners: map[*session]struct{}{}}
		e.rooms[n] = r
	}
	return r
}

// may reports whether the client may receive the group's events.
func (e *events) may(sess *session, n group.Number) bool {
	info, ok := e.s.group(n)
	return ok && (sess.observes(n) || info.membersEvents && sess.member.In(n))
}

// tell numbers an event and queues it for everyone who listens and may. The
// caller holds e.mu.
func (e *events) tell(n group.Number, ev control.Event) { e.tellIf(n, ev, e.may) }

func (e *events) tellIf(n group.Number, ev control.Event, may func(*session, group.Number) bool) {
	r := e.room(n)
	devices := e.wildDevices
	if v, ok := e.s.groups.Load(n); !ok || !v.(*groupInfo).membersEvents {
		devices = nil
	}
	ev.Prev, ev.Boot = r.seq, e.boot
	r.seq++
	ev.Seq = r.seq
	if len(r.listeners) == 0 && len(e.wild) == 0 && len(devices) == 0 {
		return
	}
	payload := control.EncodeEvent(ev)
	topic := control.Topic{Number: n, Part: control.Evt}.String()
	give := func(sess *session) {
		if !may(sess, n) {
			return
		}
		sess.member.PushMade(byMembership(sess, n), func(sink fanout.Sink) []byte {
			if c, ok := sink.(*conn); ok && !c.mute {
				return c.fit(wire.AppendPublish(nil, c.version, topic, payload, nil))
			}
			return nil
		})
	}
	for sess := range r.listeners {
		give(sess)
	}
	for _, wild := range []map[*session]struct{}{e.wild, devices} {
		for sess := range wild {
			if _, both := r.listeners[sess]; !both && sess.wantsEvents(topic) {
				give(sess)
			}
		}
	}
}

// byMembership returns the group if the client has its events by a membership
// alone: they end with it, also where they wait.
func byMembership(sess *session, n group.Number) group.Number {
	if sess.observes(n) {
		return 0
	}
	return n
}

// changed tells of a device's change.
func (e *events) changed(c *group.Change, rev group.Rev, lost, gained []group.Number) {
	if len(lost) == 0 && len(gained) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	ev := control.Event{Rev: rev, Device: c.Client, User: c.Next.Account, By: c.By, At: c.At.Unix()}
	for _, n := range lost {
		ev.Kind, ev.State = lostKind(c), "out"
		e.tell(n, ev)
	}
	for _, n := range gained {
		ev.Kind, ev.State = "join", "member"
		if len(lost) > 0 {
			ev.Kind = "switch"
		}
		e.tell(n, ev)
		if e.s.Online(c.Client) {
			e.tell(n, control.Event{Kind: "online", Rev: rev, Device: c.Client, User: c.Next.Account, At: c.At.Unix()})
		}
	}
}

// lostKind names what ended a membership.
func lostKind(c *group.Change) string {
	switch c.Op {
	case group.OpSwitch, group.OpMove:
		return "switch"
	case group.OpRemove, group.OpForget:
		return "remove"
	}
	if c.Forced {
		return "remove"
	}
	return "leave"
}

// updated tells that a group's record has changed.
func (e *events) updated(n group.Number, c *group.Change, rev group.Rev) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tell(n, control.Event{Kind: "update", Rev: rev, By: c.By, At: c.At.Unix()})
}

// deleted tells that a group is no more, and forgets it. Ended are those who
// were its members.
func (e *events) deleted(n group.Number, c *group.Change, rev group.Rev, ended []group.Device) {
	members := map[group.ClientID]bool{}
	if c.PrevGroup.MembersEvents {
		for i := range ended {
			members[ended[i].ClientID] = true
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	ev := control.Event{Kind: "delete", Rev: rev, By: c.By, At: c.At.Unix()}
	e.tellIf(n, ev, func(sess *session, n group.Number) bool { return sess.observes(n) || members[sess.device] })
	for sess := range e.rooms[n].listeners {
		e.unfollow(sess, n)
	}
	delete(e.rooms, n)
}

// unfollow ends that the client listens to one group's events. The caller holds
// e.mu.
func (e *events) unfollow(sess *session, n group.Number) {
	if r := e.rooms[n]; r != nil {
		delete(r.listeners, sess)
	}
	delete(e.exact[sess], n)
	if len(e.exact[sess]) == 0 {
		delete(e.exact, sess)
	}
}

// online marks the device's own connection as there, tells of it, and runs f in
// the same step.
func (e *events) online(sess *session, in []fanout.Membership, f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := sess.online.Load()
	if sess.isMember() {
		sess.online.Store(true)
	}
	f()
	if was || !sess.isMember() {
		return
	}
	for _, m := range in {
		e.tell(m.Number, e.presence(sess, "online"))
	}
}

// offline marks it as gone.
func (e *events) offline(sess *session) {
	if !sess.isMember() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	sess.online.Store(false)
	groups, _ := sess.member.Groups()
	for _, n := range groups {
		e.tell(n, e.presence(sess, "offline"))
	}
}

func (e *events) presence(sess *session, kind string) control.Event {
	return control.Event{Kind: kind, Device: sess.device, User: sess.account.Load().Name, At: time.Now().Unix()}
}

// follow gives the client a snapshot of the roster, and each event from then on.
func (e *events) follow(c *conn, n group.Number) {
	e.s.ledger.Ordered(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if c.ending.Load() != nil || c.session.dead.Load() || !e.may(c.session, n) {
			return // that has changed since the SUBACK
		}
		list := e.s.ledger.Roster(n)
		r := e.room(n)
		r.listeners[c.session] = struct{}{}
		if e.exact[c.session] == nil {
			e.exact[c.session] = map[group.Number]bool{}
		}
		e.exact[c.session][n] = true
		if c.mute {
			return
		}
		topic := control.Topic{Number: n, Part: control.Evt}.String()
		var rev group.Rev
		e.s.ledger.View(func(st *group.State) { rev = st.Rev() })
		var parts [][]byte
		for part := 1; part == 1 || len(list) > 0; part++ {
			k := partOf(list, c.partRoom())
			ev := control.Event{
				Kind: "snapshot", Seq: r.seq, Boot: e.boot, Rev: rev, Part: part, Last: k == len(list), List: list[:k],
			}
			parts = append(parts, c.fit(wire.AppendPublish(nil, c.version, topic, control.EncodeEvent(ev), nil)))
			list = list[k:]
		}
		c.session.member.PushRoster(c, byMembership(c.session, n), parts...)
	})
}

// partRoom is how many bytes of entries a part of a snapshot may hold.
func (c *conn) partRoom() int {
	room := snapshotPart
	if c.maxPacket > 0 {
		room = min(room, c.maxPacket-64)
	}
	return room - 256
}

// partOf returns how many entries fit a part, one at least.
func partOf(list []control.Entry, room int) int {
	for i := range list {
		room -= 112 + escaped(string(list[i].Device)) + escaped(list[i].User)
		if room < 0 && i > 0 {
			return i
		}
	}
	return len(list)
}

// escaped bounds the length of a string in JSON.
func escaped(s string) int {
	n := len(s)
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c >= 0x7f {
			n += 5
		}
	}
	return n
}

// watch notes that a filter of the client's covers the events of several groups.
func (e *events) watch(sess *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case sess.dead.Load():
	case sess.account.Load().Role == group.RoleDevice:
		e.wildDevices[sess] = struct{}{}
	default:
		e.wild[sess] = struct{}{}
	}
}

// refresh makes the listeners agree with the filters that the client has now.
func (e *events) refresh(sess *session, exact map[group.Number]bool, wild bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for n := range e.exact[sess] {
		if !exact[n] {
			e.unfollow(sess, n)
		}
	}
	if !wild {
		delete(e.wild, sess)
		delete(e.wildDevices, sess)
	}
}

// leave forgets a Session that has ended.
func (e *events) leave(sess *session) { e.refresh(sess, nil, false) }
