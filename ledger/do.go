package ledger

import (
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// Do leads the requests through to their answers, which reply is given once,
// on whichever goroutine has them. Do itself does not wait.
//
// Several requests, the verbs of one packet, must be changes of the asker's own
// device: they are decided in order, each on the result of the one before, and
// are recorded and acted on as one change. One that is refused leaves the
// others their effect. More than [MaxRequests] are refused together.
func (l *Ledger) Do(who Asker, rs []control.Request, now time.Time, reply Reply) {
	if len(rs) == 0 {
		reply.Answer(nil)
		return
	}
	if len(rs) > 1 {
		l.change(who, rs, now, reply)
		return
	}
	r := rs[0]
	switch r.Op {
	case control.OpMembers, control.OpList, control.OpShow:
		l.read(who, r, now, reply)
	case control.OpCreate, control.OpUpdate, control.OpDelete:
		l.administer(who, r, now, reply)
	case control.OpAccount:
		l.account(who, r, now, reply)
	default:
		l.change(who, rs, now, reply)
	}
}

// deviceLane, groupLane and accountLane name the waiting lines.
func deviceLane(c group.ClientID) string { return "d" + string(c) }
func accountLane(folded string) string   { return "a" + folded }

// groupsLane is one line for all groups: names are unique among them.
const groupsLane = "g"

// sees reports whether the asker may know of the group: it is no secret, the
// asker observes it, or its own record tells it.
func (l *Ledger) sees(who *Asker, g *group.Group) bool {
	return g.Visible == group.VisibleAll && !g.Deleted || l.observes(who, g.Number) || l.tells(who.Client, g.Number)
}

// tells reports whether the device's record names the group: one it is in, of
// its last change, or of a forced end.
func (l *Ledger) tells(c group.ClientID, n group.Number) bool {
	d, ok := l.state.Newest(c)
	if !ok {
		return false
	}
	if _, in := d.In(n); in || d.Last.From == n || d.Last.To == n {
		return true
	}
	for _, e := range d.Ends {
		if e.From == n || e.To == n {
			return true
		}
	}
	return false
}

// observes reports whether the asker may read the group without being in it.
func (l *Ledger) observes(who *Asker, n group.Number) bool {
	return Observes(who.Role, who.Groups, n)
}

// Observes reports whether an account of the given role, limited to the given
// groups if there are any, may read group n without being in it.
func Observes(role group.Role, groups []group.Number, n group.Number) bool {
	switch role {
	case group.RoleOperator:
		return true
	case group.RoleObserver:
		if len(groups) == 0 {
			return true
		}
		for _, g := range groups {
			if g == n {
				return true
			}
		}
	}
	return false
}

// resolve returns the group at which a reference points, and whether the asker
// may know of it. The caller holds l.mu. For one who may not, the group is
// returned all the same: a PIN can open it.
func (l *Ledger) resolve(who *Asker, ref group.Ref, now time.Time) (*group.Group, bool, group.Code) {
	n, err := l.state.Resolve(ref, now, func(g *group.Group) bool { return l.sees(who, g) })
	if err != nil {
		code := codeOf(err)
		if code == group.NoSuchGroup && !l.all(who) {
			code = group.NotAuthorized
		}
		return nil, false, code
	}
	g, ok := l.state.Group(n)
	if !ok {
		// It is being created: nobody has been told of it yet.
		if l.all(who) {
			return nil, false, group.NoSuchGroup
		}
		return nil, false, group.NotAuthorized
	}
	return &g, l.sees(who, &g), group.OK
}

// all reports whether the asker may know of every group.
func (l *Ledger) all(who *Asker) bool {
	return who.Role == group.RoleOperator || who.Role == group.RoleObserver && len(who.Groups) == 0
}
