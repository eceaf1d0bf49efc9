package group

import (
	"errors"
	"slices"
	"time"
)

// ErrGuard says that the group's policy has changed since the verdict was
// made: get a new verdict and decide again.
var ErrGuard = errors.New("the group's policy has changed since the verdict")

// A Request is one wish, with its references resolved.
type Request struct {
	Op       Op
	Client   ClientID // the device that is to change
	Account  string   // to which the device is to belong, if it has no record
	From, To Number
	By       string // the account that asks
	// Forced is true if somebody other than the device asks.
	Forced bool
	// Verb is true if the device asks by SUBSCRIBE or UNSUBSCRIBE: stock clients
	// repeat these by themselves, so they never undo what others did.
	Verb bool
	// Expect, if not nil, is the epoch the asker believes the device to be at.
	Expect *Epoch
	// Grant, if not nil, stands in place of the verdict. Package authz has
	// checked that it is genuine, the holder's, and not expired.
	Grant *Grant
	// QoS, Filter and Recv of the membership; nil leaves them as they are, or
	// at 1, everything and true in a new one.
	QoS    *byte
	Filter []string
	Recv   *bool
	// Assigned is true if the server made the Client Identifier.
	Assigned bool
}

// Join returns the request of a device to be in group to.
func Join(c ClientID, to Number) Request { return Request{Op: OpJoin, Client: c, To: to} }

// Leave returns the request of a device to be out of group from.
func Leave(c ClientID, from Number) Request { return Request{Op: OpLeave, Client: c, From: from} }

// Switch returns the request of a device to be in group to in place of from.
func Switch(c ClientID, from, to Number) Request {
	return Request{Op: OpSwitch, Client: c, From: from, To: to}
}

// Decide returns the change that r makes at time now under verdict v. It changes
// nothing itself: stage the change, record it, then settle it.
//
// A switch is one change: no roster read between two changes shows the device
// in both groups or in neither. Deciding a request whose effect is already there
// gives a change without effect, so a device that missed the answer may repeat
// its request.
//
// The error is an [*Error] with the Code of v if v refuses, [GrantUsed] if the
// device's epoch has passed the grant's, [StaleEpoch] if it is not the
// request's, and so on (docs/protocol.md); or [ErrGuard]. After an error s is as
// it was.
func (s *State) Decide(r Request, v Verdict, now time.Time) (Change, error) {
	d := decision{s: s, r: r, v: v, now: now.UTC().Truncate(time.Second)}
	prev, rev, known := s.base(r.Client)
	if !known {
		prev = Device{ClientID: r.Client, Account: r.Account, Epoch: Epoch(s.rev), Assigned: r.Assigned}
	}
	d.prev, d.next, d.known = prev, prev, known
	d.next.Groups, d.next.Ends = slices.Clone(prev.Groups), slices.Clone(prev.Ends)
	d.c = Change{
		Op: r.Op, Client: r.Client, From: r.From, To: r.To, By: r.By, Rule: v.Rule, Forced: r.Forced, At: d.now,
		Expect: rev, Prev: prev,
	}
	if err := d.run(); err != nil {
		if errors.Is(err, ErrGuard) {
			return Change{}, err
		}
		n := r.To
		if n == 0 {
			n = r.From
		}
		code := Internal
		errors.As(err, &code)
		return Change{}, &Error{Op: r.Op, Client: r.Client, Group: n, Code: code}
	}
	d.c.Next = d.next
	return d.c, nil
}

// A decision is one call of Decide.
type decision struct {
	s          *State
	r          Request
	v          Verdict
	now        time.Time
	prev, next Device
	known      bool
	c          Change
}

func (d *decision) run() error {
	r := &d.r
	if r.Expect != nil && *r.Expect != d.epoch() {
		return StaleEpoch
	}
	if d.v.Code != OK {
		if d.astray() {
			return NotMember
		}
		return d.v.Code
	}
	if r.Grant != nil {
		if done, err := d.redeem(r.Grant); done || err != nil {
			return err
		}
	}
	switch r.Op {
	case OpBind:
		return d.bind()
	case OpForget:
		return d.forget()
	case OpJoin:
		return d.join()
	case OpLeave, OpRemove:
		return d.leave()
	case OpSwitch, OpMove:
		return d.change()
	}
	return UnknownOp
}

// astray reports whether the device switches from a group that it is not in, to
// one that it is not in either: then it does not matter whether it may join.
func (d *decision) astray() bool {
	_, inFrom := d.prev.In(d.r.From)
	_, inTo := d.prev.In(d.r.To)
	return (d.r.Op == OpSwitch || d.r.Op == OpMove) && !inFrom && !inTo
}

// epoch returns the device's epoch as it was told: 0 as long as there is no
// record, since the epoch with which a new one begins moves with the store.
func (d *decision) epoch() Epoch {
	if !d.known {
		return 0
	}
	return d.prev.Epoch
}

// redeem checks the grant against the request and the device's record. It
// reports whether the grant's effect is the device's last change, so that a
// repeated $grant verb is granted, also when the grant's time is over.
func (d *decision) redeem(g *Grant) (done bool, err error) {
	if g.Op != d.r.Op || g.From != d.r.From || g.To != d.r.To {
		return false, GrantMismatch
	}
	last := d.prev.Last
	if d.r.Verb && last.Own && last.Op == g.Op && last.From == g.From && last.To == g.To &&
		last.Epoch == d.prev.Epoch && uint32(last.Epoch-1) == g.Base {
		d.c.Code = Unchanged
		return true, nil
	}
	if !d.now.Before(g.Expires) {
		return false, GrantExpired
	}
	if uint32(d.epoch()) != g.Base {
		return false, GrantUsed
	}
	if to, ok := d.s.newest(g.To); g.To != 0 && (!ok || to.Deleted || uint32(to.PolicyRev) != g.PolicyRev) {
		return false, GrantUsed
	}
	return false, nil
}

// enter returns the group to be joined, if the verdict still holds for it.
func (d *decision) enter(n Number) (*Group, error) {
	g, ok := d.s.newest(n)
	switch {
	case !ok:
		return nil, NoSuchGroup
	case d.r.Grant == nil && g.PolicyRev != d.v.PolicyRev:
		return nil, ErrGuard
	case g.Deleted:
		return nil, GroupDeleted
	}
	return g, nil
}

// bind records that the Client Identifier belongs to the account.
func (d *decision) bind() error {
	if d.known && Fold(d.prev.Account) == Fold(d.r.Account) {
		d.c.Code = Unchanged
		return nil
	}
	if d.known && d.prev.Account != "" &&
		(Fold(d.prev.Account) != Anonymous || d.holds()) {
		return NotAuthorized
	}
	bound := len(d.s.bound[Fold(d.r.Account)])
	limit := d.s.limits.DevicesPerAccount
	if Fold(d.r.Account) == Anonymous {
		limit = d.s.limits.AnonymousDevices
	}
	if limit > 0 && bound >= limit {
		return Unavailable
	}
	d.next.Account = d.r.Account
	d.c.Write = true
	return nil
}

// holds reports whether the record holds anything that another account must not
// get.
func (d *decision) holds() bool { return len(d.prev.Groups) > 0 || len(d.prev.Ends) > 0 }

func (d *decision) forget() error {
	if !d.known {
		return NoSuchDevice
	}
	d.next.Groups, d.next.Ends = nil, nil
	d.next.Epoch++
	d.c.Write, d.c.Delete = true, true
	return nil
}

func (d *decision) join() error {
	to := d.r.To
	if _, in := d.prev.In(to); in {
		d.clear(to)
		return d.adjust(to)
	}
	if d.r.Verb && !d.r.Forced {
		if where, ended := d.prev.Follow(to); where != 0 {
			d.c.Code = Unchanged
			return nil
		} else if ended {
			return MembershipTerminated
		}
	}
	if err := d.add(to); err != nil {
		return err
	}
	d.clear(to)
	d.changed()
	return nil
}

func (d *decision) leave() error {
	from := d.r.From
	if d.r.Verb && !d.r.Forced {
		// UNSUBSCRIBE $join/A after a move from A to B leaves B.
		if where, ended := d.prev.Follow(from); ended {
			d.clear(from)
			if where != 0 {
				from = where
			}
		}
	}
	if _, in := d.prev.In(from); !in {
		last := d.prev.Last
		if last.Own && last.Op == OpLeave && last.From == from && last.Epoch == d.prev.Epoch || d.c.Write {
			d.c.Code = Unchanged
			return nil
		}
		return NotMember
	}
	d.drop(from, 0)
	d.changed()
	return nil
}

// change is switch and move: out of From and into To in one.
func (d *decision) change() error {
	from, to := d.r.From, d.r.To
	_, inFrom := d.prev.In(from)
	_, inTo := d.prev.In(to)
	if d.r.Verb && !d.r.Forced && !inTo {
		if where, ended := d.prev.Follow(to); where != 0 {
			d.c.Code = Unchanged
			return nil
		} else if ended {
			return MembershipTerminated
		}
	}
	switch {
	case inTo && (!inFrom || from == to):
		if !inFrom {
			// Neither answer nor record names a group that it may not know of.
			d.r.From, d.c.From = 0, 0
		}
		d.clear(to)
		return d.adjust(to)
	case !inFrom:
		return NotMember
	}
	if !inTo {
		d.drop(from, to)
		if err := d.add(to); err != nil {
			return err
		}
	} else {
		d.drop(from, to)
	}
	d.clear(to)
	d.changed()
	return nil
}

// add makes the device a member of n.
func (d *decision) add(n Number) error {
	if _, err := d.enter(n); err != nil {
		return err
	}
	l := d.s.limits
	if l.GroupsPerDevice > 0 && len(d.next.Groups) >= l.GroupsPerDevice {
		return TooManyGroups
	}
	if l.MembersPerGroup > 0 && d.s.taken(n, d.r.Client) >= l.MembersPerGroup {
		return GroupFull
	}
	m := Membership{Number: n, At: d.now, QoS: 1, Recv: true, By: d.r.By}
	d.next.Assigned = d.next.Assigned || d.r.Assigned // a side connection may have made the record
	if d.next.Assigned {
		m.Exit = ExitSession
	}
	d.options(&m)
	i, _ := d.next.index(n)
	d.next.Groups = slices.Insert(d.next.Groups, i, m)
	return nil
}

// adjust changes the options of a membership that is there.
func (d *decision) adjust(n Number) error {
	i, _ := d.next.index(n)
	m := d.next.Groups[i]
	d.options(&m)
	if m.QoS == d.next.Groups[i].QoS && m.Recv == d.next.Groups[i].Recv && slices.Equal(m.Filter, d.next.Groups[i].Filter) {
		d.c.Code = Unchanged
		return nil
	}
	d.next.Groups[i] = m
	d.changed()
	return nil
}

func (d *decision) options(m *Membership) {
	if d.r.QoS != nil {
		m.QoS = min(*d.r.QoS, 1)
	}
	if d.r.Recv != nil {
		m.Recv = *d.r.Recv
	}
	if d.r.Filter != nil {
		m.Filter = slices.Clone(d.r.Filter)
	}
}

// drop ends the membership of n, and keeps a forced end.
func (d *decision) drop(n, to Number) {
	i, _ := d.next.index(n)
	d.next.Groups = slices.Delete(d.next.Groups, i, i+1)
	if !d.r.Forced {
		return
	}
	d.clear(n)
	d.next.Ends = append(d.next.Ends, End{From: n, To: to, Epoch: d.prev.Epoch + 1})
	if over := len(d.next.Ends) - MaxEnds; over > 0 {
		d.next.Ends = slices.Delete(d.next.Ends, 0, over)
	}
}

// clear forgets the forced ends of n.
func (d *decision) clear(n Number) {
	before := len(d.next.Ends)
	d.next.Ends = slices.DeleteFunc(d.next.Ends, func(e End) bool { return e.From == n })
	if len(d.next.Ends) != before {
		d.c.Write = true
	}
}

// changed counts the change into the epoch.
func (d *decision) changed() {
	d.next.Epoch++
	d.next.Last = Last{Op: d.r.Op, From: d.r.From, To: d.r.To, Epoch: d.next.Epoch, Own: !d.r.Forced}
	d.c.Write = true
}

// Tidy returns the change that writes a device's record anew without its void
// memberships, or deletes that of a Client Identifier that the server assigned
// and that is in no group: its Session must be gone. Nobody can see a
// difference.
func (s *State) Tidy(c ClientID) Change {
	d, rev, ok := s.base(c)
	if _, dirty := s.dirty[c]; !ok || !dirty {
		return Change{Code: Unchanged}
	}
	return Change{
		Op: "tidy", Client: c, Prev: d, Next: d, Expect: rev, Write: true, Delete: d.Assigned && len(d.Groups) == 0,
	}
}
