package group

import (
	"maps"
	"slices"
	"time"
)

// Limits bound what a State accepts. A zero field means no bound.
type Limits struct {
	MembersPerGroup   int
	GroupsPerDevice   int
	DevicesPerAccount int // Client Identifiers bound to one account
	AnonymousDevices  int // the same for the account Anonymous
}

// The accounts that are not created: nobody can log in to them by password.
const (
	Anonymous = "anonymous" // devices on loopback that gave no user name
	Local     = "local"     // who speaks through the operator socket
)

// AliasLife is how long an old name leads to its group.
const AliasLife = 30 * 24 * time.Hour

// A State holds the groups, devices and accounts as they are recorded, and
// beside them what is staged: changes that are decided and not yet recorded.
// Decisions see both, so that two changes under way never break a bound
// together; what readers are shown is recorded.
type State struct {
	limits   Limits
	groups   map[Number]*groupEntry
	ids      map[ID]Number
	names    map[string]Number // folded names and aliases, staged ones too
	devices  map[ClientID]*deviceEntry
	recorded roster                   // the Client Identifiers of the recorded devices
	dirty    map[ClientID]struct{}    // devices whose record is to be tidied
	accounts map[string]*accountEntry // by folded name
	bound    map[string]map[ClientID]struct{}
	last     Number // the highest number given
	rev      Rev    // of the newest settled change
}

type groupEntry struct {
	rec     Group
	rev     Rev
	staged  *Group // nil if nothing is under way
	pending int    // members that are staged and not settled
	roster  roster
}

type deviceEntry struct {
	rec    Device
	rev    Rev // 0: not recorded yet
	staged *Device
	gone   bool // the staged change deletes the record
}

type accountEntry struct {
	rec    Account
	rev    Rev
	staged *Account
	gone   bool
}

// NewState returns a State without groups, devices or accounts.
func NewState(l Limits) *State {
	return &State{
		limits: l, groups: map[Number]*groupEntry{}, ids: map[ID]Number{}, names: map[string]Number{},
		devices: map[ClientID]*deviceEntry{}, accounts: map[string]*accountEntry{}, bound: map[string]map[ClientID]struct{}{},
		dirty: map[ClientID]struct{}{},
	}
}

// LoadGroup enters a recorded group, as read from the store at start.
func (s *State) LoadGroup(g Group, rev Rev) {
	s.groups[g.Number] = &groupEntry{rec: g, rev: rev}
	s.last = max(s.last, g.Number)
	s.ids[g.ID] = g.Number
	if !g.Deleted {
		s.index(g)
	}
}

// LoadAccount enters a recorded account.
func (s *State) LoadAccount(a Account, rev Rev) {
	s.accounts[Fold(a.Name)] = &accountEntry{rec: a, rev: rev}
}

// LoadDevice enters a recorded device. All groups must have been loaded before.
// Memberships of deleted groups and those that end with a Session are void:
// they are left out, and [State.Dirty] names the device.
func (s *State) LoadDevice(d Device, rev Rev) {
	e := &deviceEntry{rec: d, rev: rev}
	s.devices[d.ClientID] = e
	s.bind(d.Account, d.ClientID)
	s.recorded.add(d.ClientID)
	rec, void := s.effective(d, true)
	e.rec = rec
	if void || d.Assigned {
		s.dirty[d.ClientID] = struct{}{}
	}
	for _, m := range e.rec.Groups {
		s.groups[m.Number].roster.add(d.ClientID)
	}
}

// Loaded ends the loading; rev is that of the store.
func (s *State) Loaded(rev Rev) { s.rev = rev }

func (s *State) bind(account string, c ClientID) {
	k := Fold(account)
	if s.bound[k] == nil {
		s.bound[k] = map[ClientID]struct{}{}
	}
	s.bound[k][c] = struct{}{}
}

func (s *State) unbind(account string, c ClientID) {
	k := Fold(account)
	delete(s.bound[k], c)
	if len(s.bound[k]) == 0 {
		delete(s.bound, k)
	}
}

// newest returns the group as the next decision sees it: staged, else recorded.
func (s *State) newest(n Number) (*Group, bool) {
	e, ok := s.groups[n]
	switch {
	case !ok:
		return nil, false
	case e.staged != nil:
		return e.staged, true
	}
	return &e.rec, true
}

// effective returns d without memberships that are void: those of deleted
// groups and, after a restart, those that end with their Session. The epoch
// grows by one with each deleted group and by one for the Session, so that the
// device's epoch as read is the same before and after the record is tidied, and
// never passes the store's rev. It reports whether there were any.
func (s *State) effective(d Device, restarted bool) (Device, bool) {
	ended := func(m Membership) bool { return restarted && m.Exit == ExitSession }
	deleted := func(m Membership) bool {
		g, ok := s.newest(m.Number)
		return !ok || g.Deleted
	}
	if !slices.ContainsFunc(d.Groups, func(m Membership) bool { return ended(m) || deleted(m) }) {
		return d, false
	}
	kept := make([]Membership, 0, len(d.Groups))
	session := false
	for _, m := range d.Groups {
		switch {
		case deleted(m):
			d.Epoch++
		case ended(m):
			session = true
		default:
			kept = append(kept, m)
		}
	}
	if session {
		d.Epoch++
	}
	d.Groups = kept
	return d, true
}

// base returns the device as the next decision sees it, and whether there is
// one.
func (s *State) base(c ClientID) (Device, Rev, bool) {
	e, ok := s.devices[c]
	if !ok {
		return Device{}, 0, false
	}
	d := e.rec
	if e.staged != nil {
		d = *e.staged
	}
	if e.gone || e.staged == nil && e.rev == 0 {
		return Device{}, 0, false
	}
	d, _ = s.effective(d, false)
	return d, e.rev, true
}

// Newest returns the device as the next decision sees it: with what is staged.
func (s *State) Newest(c ClientID) (Device, bool) {
	d, _, ok := s.base(c)
	return d, ok
}

// Device returns the recorded device, and whether there is one.
func (s *State) Device(c ClientID) (Device, bool) {
	e, ok := s.devices[c]
	if !ok || e.rev == 0 {
		return Device{}, false
	}
	return e.rec, true
}

// Group returns the recorded group, deleted or not, and whether there is one.
func (s *State) Group(n Number) (Group, bool) {
	e, ok := s.groups[n]
	if !ok || e.rev == 0 {
		return Group{}, false
	}
	return e.rec, true
}

// NewestGroup returns the group as the next decision sees it: with what is
// staged. A group that is only being created is none.
func (s *State) NewestGroup(n Number) (Group, bool) {
	e, ok := s.groups[n]
	if !ok || e.rev == 0 {
		return Group{}, false
	}
	g, _ := s.newest(n)
	return *g, true
}

// taken returns how many members the group has or is about to have beside c.
func (s *State) taken(n Number, c ClientID) int {
	e := s.groups[n]
	taken := e.roster.n + e.pending
	if d, ok := s.devices[c]; ok && d.rev != 0 {
		if _, in := d.rec.In(n); in {
			taken-- // it leaves and returns in one change
		}
	}
	return taken
}

// Account returns the recorded account, and whether there is one.
func (s *State) Account(name string) (Account, bool) {
	e, ok := s.accounts[Fold(name)]
	if !ok || e.rev == 0 {
		return Account{}, false
	}
	return e.rec, true
}

// Rev returns the rev of the newest settled change.
func (s *State) Rev() Rev { return s.rev }

// Count returns how many members the group has.
func (s *State) Count(n Number) int {
	if e, ok := s.groups[n]; ok {
		return e.roster.n
	}
	return 0
}

// Members returns up to limit members of the group after the given one, in the
// order of Client Identifiers.
func (s *State) Members(n Number, after ClientID, limit int) []ClientID {
	if e, ok := s.groups[n]; ok {
		return e.roster.page(after, limit)
	}
	return nil
}

// Groups returns up to limit groups that are not deleted, after the given one,
// by number.
func (s *State) Groups(after Number, limit int) []Group {
	var out []Group
	for n := after + 1; n <= s.last && len(out) < limit && n != 0; n++ {
		if e, ok := s.groups[n]; ok && e.rev != 0 && !e.rec.Deleted {
			out = append(out, e.rec)
		}
	}
	return out
}

// Devices returns up to limit devices after the given one, by Client
// Identifier.
func (s *State) Devices(after ClientID, limit int) []Device {
	page := s.recorded.page(after, limit)
	out := make([]Device, len(page))
	for i, c := range page {
		out[i] = s.devices[c].rec
	}
	return out
}

// Accounts returns up to limit accounts after the given name, by folded name.
// It walks all accounts: it is for people.
func (s *State) Accounts(after string, limit int) []Account {
	after = Fold(after)
	var keys []string
	for k, e := range s.accounts {
		if k > after && e.rev != 0 && !e.rec.Removed {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	keys = keys[:min(len(keys), max(limit, 0))]
	out := make([]Account, len(keys))
	for i, k := range keys {
		out[i] = s.accounts[k].rec
	}
	return out
}

// RemovedAccounts returns the names of accounts whose devices are being
// forgotten, sorted.
func (s *State) RemovedAccounts() []string {
	var out []string
	for _, e := range s.accounts {
		if e.rev != 0 && e.rec.Removed {
			out = append(out, e.rec.Name)
		}
	}
	slices.Sort(out)
	return out
}

// Bound returns the Client Identifiers of the account's devices, sorted.
func (s *State) Bound(account string) []ClientID {
	return slices.Sorted(maps.Keys(s.bound[Fold(account)]))
}

// Dirty returns the devices whose record still holds memberships that are
// void, or that ends with its Session at a restart, sorted. Tidying changes
// nothing that anybody can see.
func (s *State) Dirty() []ClientID { return slices.Sorted(maps.Keys(s.dirty)) }
