package ledger

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// The sizes of pages.
const (
	defaultPage = 100
	maxPage     = 1000
)

func pageOf(r *control.Request) int {
	if r.Limit <= 0 {
		return defaultPage
	}
	return min(r.Limit, maxPage)
}

// read answers a request that changes nothing.
func (l *Ledger) read(who Asker, r control.Request, now time.Time, reply Reply) {
	l.mu.Lock()
	var a control.Answer
	switch {
	case r.Op == control.OpMembers:
		a = l.members(&who, &r, now)
	case r.Op == control.OpShow && r.Device != "":
		a = l.showDevice(&who, &r)
	case r.Op == control.OpShow:
		a = l.showGroup(&who, &r, now)
	case r.Kind == "device":
		a = l.listDevices(&who, &r)
	default:
		a = l.listGroups(&who, &r)
	}
	l.mu.Unlock()
	l.presence(a.List)
	if a.Op == control.OpShow && a.Device != "" {
		a.Kind = "offline"
		if l.cfg.Actor.Online(a.Device) {
			a.Kind = "online"
		}
	}
	reply.Answer([]control.Answer{a})
}

// presence fills in which of the listed devices are connected. No lock is held.
func (l *Ledger) presence(list []control.Entry) {
	for i := range list {
		if e := &list[i]; e.Device != "" {
			online := l.cfg.Actor.Online(e.Device)
			e.Online = &online
		}
	}
}

// mine answers what the device's own state is. The caller holds l.mu.
func (l *Ledger) mine(dev group.ClientID, r *control.Request) control.Answer {
	d, _ := l.state.Device(dev)
	return l.groupsPage(control.Answer{Op: r.Op, ID: r.ID, Epoch: d.Epoch}, &d, r)
}

// groupsPage adds a page of the device's groups to the answer. The caller holds
// l.mu.
func (l *Ledger) groupsPage(a control.Answer, d *group.Device, r *control.Request) control.Answer {
	after, err := strconv.ParseUint(cmp.Or(r.Next, "0"), 10, 32)
	if err != nil {
		return refusal(*r, group.BadRequest, "")
	}
	a.HasList = true
	a.List = slices.DeleteFunc(l.memberships(d), func(e control.Entry) bool { return uint64(e.N) <= after })
	if page := pageOf(r); len(a.List) > page {
		a.List = a.List[:page]
		a.Next = a.List[page-1].N.String()
	}
	return a
}

// memberships lists the device's groups. The caller holds l.mu.
func (l *Ledger) memberships(d *group.Device) []control.Entry {
	list := make([]control.Entry, 0, len(d.Groups))
	for _, m := range d.Groups {
		g, ok := l.state.Group(m.Number)
		if !ok {
			continue
		}
		e := control.Entry{
			N: m.Number, G: g.ID, Name: g.Name, State: "member", Role: "member", Since: m.Since, At: m.At.Unix(), Filter: m.Filter,
		}
		if !m.Recv {
			e.Recv = new(bool)
		}
		if m.QoS != 1 {
			qos := m.QoS
			e.QoS = &qos
		}
		list = append(list, e)
	}
	return list
}

// Memberships lists a device's groups as the control protocol shows them.
func (l *Ledger) Memberships(d *group.Device) []control.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.memberships(d)
}

func (l *Ledger) members(who *Asker, r *control.Request, now time.Time) control.Answer {
	g, visible, code := l.resolve(who, first(r.G, r.To), now)
	switch {
	case first(r.G, r.To).IsZero():
		return refusal(*r, group.BadRequest, "")
	case code != group.OK:
		return refusal(*r, code, "")
	case !visible:
		return refusal(*r, group.NotAuthorized, "")
	case g.Deleted:
		return refusal(*r, group.GroupDeleted, "")
	}
	if d, _ := l.state.Device(who.Client); !l.observes(who, g.Number) {
		if _, in := d.In(g.Number); !in {
			return refusal(*r, group.NotMember, "")
		}
	}
	a := control.Answer{Op: r.Op, ID: r.ID, N: g.Number, Name: g.Name, Rev: l.state.Rev(), HasList: true}
	page := pageOf(r)
	a.List = l.rosterPage(g.Number, group.ClientID(r.Next), page)
	if len(a.List) == page {
		last := a.List[page-1].Device
		if len(l.state.Members(g.Number, last, 1)) > 0 {
			a.Next = string(last)
		}
	}
	return a
}

// rosterPage lists members of the group after the given one. The caller holds
// l.mu.
func (l *Ledger) rosterPage(n group.Number, after group.ClientID, limit int) []control.Entry {
	ids := l.state.Members(n, after, limit)
	list := make([]control.Entry, 0, len(ids))
	for _, c := range ids {
		d, _ := l.state.Device(c)
		m, _ := d.In(n)
		list = append(list, control.Entry{Device: c, User: d.Account, Since: m.Since, At: m.At.Unix()})
	}
	return list
}

// Roster lists all members of a group, as of one moment.
func (l *Ledger) Roster(n group.Number) []control.Entry {
	l.mu.Lock()
	list := l.rosterPage(n, "", l.state.Count(n))
	l.mu.Unlock()
	l.presence(list)
	return list
}

func (l *Ledger) showGroup(who *Asker, r *control.Request, now time.Time) control.Answer {
	if r.G.IsZero() {
		return refusal(*r, group.BadRequest, "")
	}
	g, visible, code := l.resolve(who, r.G, now)
	switch {
	case code != group.OK:
		return refusal(*r, code, "")
	case !visible:
		return refusal(*r, group.NotAuthorized, "")
	case g.Deleted:
		return refusal(*r, group.GroupDeleted, "")
	}
	a := control.Answer{Op: r.Op, ID: r.ID, N: g.Number, G: g.ID, Name: g.Name, HasList: true}
	a.List = []control.Entry{l.groupEntry(g, l.observes(who, g.Number))}
	return a
}

// groupEntry describes a group; the whole of it is for those who observe it.
func (l *Ledger) groupEntry(g *group.Group, whole bool) control.Entry {
	e := control.Entry{N: g.Number, G: g.ID, Name: g.Name, Policy: g.Policy.String(), Visible: g.Visible.String(), At: g.Created.Unix()}
	if !whole {
		return e
	}
	members := l.state.Count(g.Number)
	e.Members, e.MembersTo, e.MembersEvents = &members, &g.MembersTo, &g.MembersEvents
	if g.Policy == group.PolicyPIN {
		e.PINInTopic = &g.PINInTopic
	}
	for _, alias := range g.Aliases {
		e.Aliases = append(e.Aliases, alias.Name)
	}
	return e
}

func (l *Ledger) listGroups(who *Asker, r *control.Request) control.Answer {
	if who.Role == group.RoleDevice {
		return refusal(*r, group.NotAuthorized, "")
	}
	a := control.Answer{Op: r.Op, ID: r.ID, HasList: true, Rev: l.state.Rev()}
	after, err := strconv.ParseUint(cmp.Or(r.Next, "0"), 10, 32)
	if err != nil {
		return refusal(*r, group.BadRequest, "")
	}
	page := pageOf(r)
	for n := group.Number(after); ; {
		next := l.nextGroup(who, n)
		if next == nil {
			return a
		}
		n = next.Number
		if len(a.List) == page {
			a.Next = a.List[page-1].N.String()
			return a
		}
		a.List = append(a.List, l.groupEntry(next, true))
	}
}

// nextGroup returns the first group after n that is there and the asker observes,
// or nil. One who observes few does not walk all.
func (l *Ledger) nextGroup(who *Asker, n group.Number) *group.Group {
	if l.all(who) {
		if next := l.state.Groups(n, 1); len(next) > 0 {
			return &next[0]
		}
		return nil
	}
	var found *group.Group
	for _, o := range who.Groups {
		if o <= n || found != nil && o >= found.Number {
			continue
		}
		if g, ok := l.state.Group(o); ok && !g.Deleted {
			found = &g
		}
	}
	return found
}

func (l *Ledger) listDevices(who *Asker, r *control.Request) control.Answer {
	if who.Role != group.RoleOperator {
		return refusal(*r, group.NotAuthorized, "")
	}
	a := control.Answer{Op: r.Op, ID: r.ID, HasList: true, Rev: l.state.Rev()}
	page := pageOf(r)
	devices := l.state.Devices(group.ClientID(r.Next), page+1)
	for i, d := range devices {
		if i == page {
			a.Next = string(devices[i-1].ClientID)
			break
		}
		a.List = append(a.List, l.deviceEntry(&d))
	}
	return a
}

func (l *Ledger) deviceEntry(d *group.Device) control.Entry {
	e := control.Entry{Device: d.ClientID, User: d.Account, Epoch: d.Epoch}
	for _, m := range d.Groups {
		e.Groups = append(e.Groups, m.Number)
	}
	return e
}

func (l *Ledger) showDevice(who *Asker, r *control.Request) control.Answer {
	if who.Role != group.RoleOperator {
		return refusal(*r, group.NotAuthorized, "")
	}
	d, ok := l.state.Device(r.Device)
	if !ok {
		return refusal(*r, group.NoSuchDevice, "")
	}
	a := control.Answer{Op: r.Op, ID: r.ID, Device: d.ClientID, User: d.Account, Epoch: d.Epoch}
	return l.groupsPage(a, &d, r)
}
