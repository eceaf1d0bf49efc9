package group

import (
	"math"
	"time"
)

// DecideGroup returns the change that makes next the group's record: a new
// group if its number is 0, which is then given. A new name leaves the old one
// as an alias. The error is an [*Error] with Code NameTaken, NoSuchGroup,
// GroupDeleted, or RateLimited beyond [MaxAliases].
func (s *State) DecideGroup(op Op, next Group, by string, now time.Time) (Change, error) {
	now = now.UTC().Truncate(time.Second)
	c := Change{Op: op, By: by, At: now, Write: true, Rule: "operator"}
	refuse := func(code Code) (Change, error) {
		return Change{}, &Error{Op: op, Group: next.Number, Code: code}
	}
	if next.Number == 0 {
		if s.last == math.MaxUint32 {
			return refuse(Unavailable)
		}
		next.Number, next.Created, next.PolicyRev = s.last+1, now, 1
		c.PrevGroup = &Group{}
	} else {
		prev, ok := s.newest(next.Number)
		switch {
		case !ok:
			return refuse(NoSuchGroup)
		case prev.Deleted:
			return refuse(GroupDeleted)
		}
		p := *prev
		c.PrevGroup, c.Expect = &p, s.groups[next.Number].rev
		next.ID, next.Created, next.PolicyRev = p.ID, p.Created, p.PolicyRev
		if next.Deleted || next.Policy != p.Policy || next.PIN != p.PIN || next.Visible != p.Visible {
			next.PolicyRev++ // who may join: an open group is for those who may see it
		}
		next.Aliases = nil
		if !next.Deleted {
			next.Aliases = aliases(p, next.Name, now)
		}
		if len(next.Aliases) > MaxAliases {
			return refuse(RateLimited)
		}
	}
	if n, ok := s.named(next.Name, now); ok && n != next.Number {
		return refuse(NameTaken)
	}
	c.To, c.NextGroup = next.Number, &next
	return c, nil
}

// aliases returns the old names that lead to the group once it has a new one.
func aliases(g Group, name string, now time.Time) []Alias {
	var out []Alias
	for _, a := range g.Aliases {
		if Fold(a.Name) != Fold(name) && now.Before(a.Until) {
			out = append(out, a)
		}
	}
	if Fold(g.Name) != Fold(name) {
		out = append(out, Alias{Name: g.Name, Until: now.Add(AliasLife)})
	}
	return out
}

// MaxAliases is how many old names may lead to one group at a time. One more
// rename is refused until the oldest no longer does.
const MaxAliases = 64

// DecideAccount returns the change that makes next the account's record, or
// deletes it. The error is an [*Error] with Code NameTaken if create is set and
// there is one, or NoSuchAccount if not.
func (s *State) DecideAccount(next Account, create, remove bool, by string, now time.Time) (Change, error) {
	now = now.UTC().Truncate(time.Second)
	e, ok := s.accounts[Fold(next.Name)]
	switch {
	case ok && create:
		return Change{}, &Error{Op: "account", Code: NameTaken}
	case !ok && !create:
		return Change{}, &Error{Op: "account", Code: NoSuchAccount}
	}
	c := Change{Op: "account", By: by, At: now, Write: true, Delete: remove, NextAccount: &next, Rule: "operator", PrevAccount: &Account{}}
	if create {
		next.Created = now
	} else {
		p := e.rec
		next.Name, next.Created = p.Name, p.Created
		c.PrevAccount, c.Expect = &p, e.rev
	}
	return c, nil
}
