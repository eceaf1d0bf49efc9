package group

import (
	"math"
	"time"
)

// index enters the group's names. An old name leads to the group that bore it
// last: two groups may keep the same one, of which one has lapsed.
func (s *State) index(g Group) {
	s.names[Fold(g.Name)] = g.Number
	for _, a := range g.Aliases {
		k := Fold(a.Name)
		if n, ok := s.names[k]; ok && n != g.Number && !a.Until.After(s.until(n, k)) {
			continue
		}
		s.names[k] = g.Number
	}
}

// forever is when a name that a group bears ceases to lead to it.
var forever = time.Unix(math.MaxInt32, 0).AddDate(1000, 0, 0)

// until returns when the folded name ceases to lead to the group.
func (s *State) until(n Number, folded string) time.Time {
	g, ok := s.newest(n)
	switch {
	case !ok || g.Deleted:
		return time.Time{}
	case Fold(g.Name) == folded:
		return forever
	}
	for _, a := range g.Aliases {
		if Fold(a.Name) == folded {
			return a.Until
		}
	}
	return time.Time{}
}

// unindex takes them out again, those that still lead to the group.
func (s *State) unindex(g Group) {
	drop := func(name string) {
		if s.names[Fold(name)] == g.Number {
			delete(s.names, Fold(name))
		}
	}
	drop(g.Name)
	for _, a := range g.Aliases {
		drop(a.Name)
	}
}

// Resolve returns the group at which a reference points. sees says whether the
// asker may know of a group; it matters where a user is in several. The error
// is NoSuchGroup or AmbiguousRef. A deleted group is found by number and ID, so
// that who may see it can be told so.
func (s *State) Resolve(r Ref, now time.Time, sees func(*Group) bool) (Number, error) {
	switch {
	case r.Number != 0:
		if _, ok := s.newest(r.Number); ok {
			return r.Number, nil
		}
	case !r.ID.IsZero():
		if n, ok := s.ids[r.ID]; ok {
			return n, nil
		}
	case r.Name != "":
		if n, ok := s.named(r.Name, now); ok {
			return n, nil
		}
	case r.User != "":
		return s.whereIs(r.User, sees)
	}
	return 0, NoSuchGroup
}

// named returns the group to which a name leads now.
func (s *State) named(name string, now time.Time) (Number, bool) {
	k := Fold(name)
	n, ok := s.names[k]
	if !ok {
		return 0, false
	}
	return n, now.Before(s.until(n, k))
}

// whereIs returns the one group in which a findable user's devices are.
func (s *State) whereIs(user string, sees func(*Group) bool) (Number, error) {
	a, ok := s.Account(user)
	if !ok || !a.Findable || a.Removed {
		return 0, NoSuchGroup
	}
	all := map[Number]bool{}
	var seen []Number
	for c := range s.bound[Fold(user)] {
		d, _ := s.Device(c)
		if Fold(d.Account) != Fold(user) {
			continue // another account is about to get it
		}
		for _, m := range d.Groups {
			if all[m.Number] {
				continue
			}
			all[m.Number] = true
			if g, ok := s.newest(m.Number); ok && sees(g) {
				seen = append(seen, m.Number)
			}
		}
	}
	switch {
	case len(all) == 1:
		for n := range all {
			return n, nil
		}
	case len(seen) == 1:
		return seen[0], nil
	case len(seen) > 1:
		return 0, AmbiguousRef
	}
	return 0, NoSuchGroup
}
