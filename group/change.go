package group

import (
	"slices"
	"time"
)

// A Change is what a request makes of the records: what [State.Decide]
// returns, what the store is given, and what the broker acts on. Each change
// replaces one record: that of a device, a group or an account.
type Change struct {
	Op       Op
	Client   ClientID // the device, if one is changed
	From, To Number   // as asked
	By       string   // the account that asked
	Rule     string   // the rule that allowed it
	Forced   bool     // made by somebody other than the device
	At       time.Time

	// Code is OK, or Unchanged if the wanted effect is there already.
	Code Code
	// Write is true if a record is to be written. A change may have no other
	// effect than to clear forced ends: then Code is Unchanged and Write true.
	Write bool
	// Delete is true if the record is to be deleted.
	Delete bool
	// Expect is the rev of the record to be replaced; 0 if there is none.
	Expect Rev

	// Prev and Next are the device's record before and after.
	Prev, Next Device
	// PrevGroup and NextGroup are the group's, if one is changed.
	PrevGroup, NextGroup *Group
	// PrevAccount and NextAccount are the account's, if one is changed.
	PrevAccount, NextAccount *Account
}

// Lost returns the groups in which the device was and no longer is.
func (c *Change) Lost() []Number { return minus(c.Prev.Groups, c.Next.Groups) }

// Gained returns the groups in which the device is and was not.
func (c *Change) Gained() []Number { return minus(c.Next.Groups, c.Prev.Groups) }

func minus(a, b []Membership) []Number {
	var out []Number
	for _, m := range a {
		if !slices.ContainsFunc(b, func(o Membership) bool { return o.Number == m.Number }) {
			out = append(out, m.Number)
		}
	}
	return out
}

// Where returns the group in which the asker's wish leaves the device: the
// group asked for, or the one to which somebody else has moved it since; 0 if
// it is in neither.
func (c *Change) Where() Number {
	if _, ok := c.Next.In(c.To); ok {
		return c.To
	}
	n, _ := c.Next.Follow(c.To)
	return n
}

// Then returns the one change that c followed by d makes. Both must be changes
// of the same device, and d must have been decided while c was staged. The
// epoch grows by one for both together.
func (c Change) Then(d Change) Change {
	both := d
	both.Prev, both.Expect = c.Prev, c.Expect
	both.Write = c.Write || d.Write
	both.Forced = c.Forced || d.Forced
	if !d.Write {
		both.Next, both.Op, both.From, both.To = c.Next, c.Op, c.From, c.To
	}
	if c.Next.Epoch > c.Prev.Epoch && d.Next.Epoch > d.Prev.Epoch {
		both.Next.Epoch = c.Next.Epoch
		if both.Next.Last.Epoch == d.Next.Epoch {
			both.Next.Last.Epoch = c.Next.Epoch
		}
	}
	if c.Code == OK {
		both.Code = OK
	}
	return both
}

// Follow returns where the device's forced ends lead from group n, if it is
// there now, and whether a forced end of n is recorded at all.
func (d *Device) Follow(n Number) (Number, bool) {
	ended := false
	for range MaxEnds {
		i := slices.IndexFunc(d.Ends, func(e End) bool { return e.From == n })
		if i < 0 {
			break
		}
		ended = true
		if n = d.Ends[i].To; n == 0 {
			return 0, true
		}
		if _, ok := d.In(n); ok {
			return n, true
		}
	}
	return 0, ended
}

// Stage takes the change into account for the decisions that follow, before it
// is recorded. It must be settled or dropped.
func (s *State) Stage(c Change) {
	switch {
	case c.NextGroup != nil:
		g := *c.NextGroup
		e, ok := s.groups[g.Number]
		if !ok {
			e = &groupEntry{rec: g}
			s.groups[g.Number] = e
			s.ids[g.ID] = g.Number
			s.last = max(s.last, g.Number)
		}
		e.staged = &g
		s.unindex(e.rec)
		if !g.Deleted {
			s.index(g)
		}
	case c.NextAccount != nil:
		a := *c.NextAccount
		e, ok := s.accounts[Fold(a.Name)]
		if !ok {
			e = &accountEntry{rec: a}
			s.accounts[Fold(a.Name)] = e
		}
		e.staged, e.gone = &a, c.Delete
	default:
		e, ok := s.devices[c.Client]
		if !ok {
			e = &deviceEntry{rec: c.Next}
			s.devices[c.Client] = e
		}
		s.bind(c.Next.Account, c.Client)
		s.restage(e, &c.Next, c.Delete)
	}
}

// restage makes next the device's staged record and keeps count of the members
// to come. A staged record may be replaced, by the next verb of one packet.
func (s *State) restage(e *deviceEntry, next *Device, gone bool) {
	count := func(d *Device, by int) {
		if d == nil {
			return
		}
		for _, m := range d.Groups {
			if _, in := e.rec.In(m.Number); in && e.rev != 0 {
				continue
			}
			if g, ok := s.groups[m.Number]; ok {
				g.pending += by
			}
		}
	}
	count(e.staged, -1)
	count(next, +1)
	e.staged, e.gone = next, gone
}

// Drop forgets a staged change that was not recorded.
func (s *State) Drop(c Change) {
	switch {
	case c.NextGroup != nil:
		e := s.groups[c.NextGroup.Number]
		s.unindex(*c.NextGroup)
		e.staged = nil
		if e.rev == 0 {
			delete(s.groups, c.NextGroup.Number)
			delete(s.ids, c.NextGroup.ID)
		} else if !e.rec.Deleted {
			s.index(e.rec)
		}
	case c.NextAccount != nil:
		k := Fold(c.NextAccount.Name)
		e := s.accounts[k]
		e.staged, e.gone = nil, false
		if e.rev == 0 {
			delete(s.accounts, k)
		}
	default:
		e, ok := s.devices[c.Client]
		if !ok {
			return
		}
		s.restage(e, nil, false)
		if e.rev == 0 {
			delete(s.devices, c.Client)
		}
		if e.rev == 0 || Fold(e.rec.Account) != Fold(c.Next.Account) {
			s.unbind(c.Next.Account, c.Client)
		}
	}
}

// Settle makes the staged change the recorded state: it was written with the
// given rev. Changes are settled in the order of their revs. It returns the
// change as it was recorded and, for a group that was deleted, the devices
// whose membership that ended, as they are now.
func (s *State) Settle(c Change, rev Rev) (Change, []Device) {
	s.rev = max(s.rev, rev)
	switch {
	case c.NextGroup != nil:
		return c, s.settleGroup(c, rev)
	case c.NextAccount != nil:
		k := Fold(c.NextAccount.Name)
		e, ok := s.accounts[k]
		if !ok {
			e = &accountEntry{}
			s.accounts[k] = e
		}
		e.rec, e.rev, e.staged, e.gone = *c.NextAccount, rev, nil, false
		if c.Delete {
			delete(s.accounts, k)
		}
	default:
		s.settleDevice(&c, rev)
	}
	return c, nil
}

func (s *State) settleGroup(c Change, rev Rev) []Device {
	g := *c.NextGroup
	e, ok := s.groups[g.Number]
	if !ok {
		s.Stage(c)
		e = s.groups[g.Number]
	}
	e.rec, e.rev, e.staged = g, rev, nil
	if !g.Deleted {
		return nil
	}
	ended := make([]Device, 0, e.roster.n)
	e.roster.all(func(client ClientID) {
		d := s.devices[client]
		d.rec, _ = s.effective(d.rec, false)
		s.dirty[client] = struct{}{}
		ended = append(ended, d.rec)
	})
	e.roster = roster{}
	return ended
}

func (s *State) settleDevice(c *Change, rev Rev) {
	e, ok := s.devices[c.Client]
	if !ok {
		s.Stage(*c)
		e = s.devices[c.Client]
	}
	s.restage(e, nil, false)
	if len(c.Next.Groups) > 0 {
		c.Next.Groups = slices.Clone(c.Next.Groups)
	}
	for i := range c.Next.Groups {
		if c.Next.Groups[i].Since == 0 {
			c.Next.Groups[i].Since = rev
		}
	}
	if e.rev != 0 {
		for _, m := range e.rec.Groups {
			if _, in := c.Next.In(m.Number); !in || c.Delete {
				s.groups[m.Number].roster.remove(c.Client)
			}
		}
	}
	if Fold(e.rec.Account) != Fold(c.Next.Account) {
		s.unbind(e.rec.Account, c.Client)
		s.bind(c.Next.Account, c.Client)
	}
	delete(s.dirty, c.Client)
	if c.Delete {
		s.unbind(c.Next.Account, c.Client)
		s.recorded.remove(c.Client)
		delete(s.devices, c.Client)
		return
	}
	e.rec, e.rev = c.Next, rev
	s.recorded.add(c.Client)
	for _, m := range c.Next.Groups {
		s.groups[m.Number].roster.add(c.Client)
	}
}
