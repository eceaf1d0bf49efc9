package ledger

import (
	"errors"
	"fmt"
	"time"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// An ask is one request of a job with its references resolved: what package
// group is to decide, and what package authz is to be asked before.
type ask struct {
	req     group.Request
	verdict group.Verdict
	// code is not OK if the request is refused as it stands.
	code  group.Code
	retry int // seconds, with a code that may be tried again
	// judge is true while the verdict is to be got with authz.
	judge bool
	authz authz.Ask
	// only is true if the group to leave is the device's only one.
	only bool
	// out, if not OK, is the answer in place of NotMember: the device is not in
	// the group to be left, since there is none of which it may know.
	out group.Code
	// issue is true if the request asks for a grant, valid for ttl.
	issue bool
	ttl   time.Duration
}

// ask resolves one request of the job. The caller holds l.mu.
func (j *job) ask(r *control.Request) ask {
	l := j.l
	a := ask{
		req: group.Request{
			Client: j.dev, Account: j.account(), By: j.who.Account, Forced: j.forced, Verb: j.who.Verb, Expect: r.Epoch,
			QoS: r.QoS, Filter: r.Filter, Recv: r.Recv, Assigned: j.who.Assigned && !j.forced || j.who.AssignedDevice && j.forced,
		},
		verdict: group.Verdict{Rule: "own"},
	}
	if j.forced {
		a.verdict.Rule = "operator"
	}
	if _, ok := l.state.Newest(j.dev); !ok && j.forced && r.Op != control.OpJoin {
		a.code = group.NoSuchDevice
		return a
	}
	if len(r.Grant) > 0 {
		j.redeem(r, &a)
		return a
	}
	op := r.Op
	if op == control.OpGrant {
		a.issue, op = true, control.Op(r.Sub)
		if op != control.OpJoin && op != control.OpLeave && op != control.OpSwitch {
			a.code = group.BadRequest
			return a
		}
		a.ttl = l.cfg.GrantTTL
		if r.TTL != 0 {
			a.ttl = time.Duration(r.TTL) * time.Second
		}
		if a.ttl < authz.MinTTL || a.ttl > authz.MaxTTL {
			a.code = group.BadRequest
			return a
		}
	}
	a.req.Op = group.Op(op)
	switch op {
	case control.OpJoin:
		j.enter(r, &a, first(r.G, r.To))
	case control.OpLeave, control.OpRemove:
		j.exit(&a, first(r.G, r.From))
		if a.req.From == 0 && a.code == group.OK {
			a.code = a.out
		}
	case control.OpSwitch:
		if r.From.IsZero() {
			a.only = true
		} else {
			j.exit(&a, r.From)
		}
		j.enter(r, &a, first(r.To, r.G))
	case control.OpMove:
		j.exit(&a, r.From)
		j.enter(r, &a, r.To)
	case control.OpForget:
	default:
		a.code = group.UnknownOp
	}
	return a
}

// first returns the first of the references that points at something.
func first(refs ...group.Ref) group.Ref {
	for _, r := range refs {
		if !r.IsZero() {
			return r
		}
	}
	return group.Ref{}
}

// account returns the account to which the device belongs, or is to belong.
func (j *job) account() string {
	if d, ok := j.l.state.Newest(j.dev); ok {
		return d.Account
	}
	if !j.forced {
		return j.who.Account
	}
	// An operator acts for a device that has never connected: it will belong to
	// the account of its name, or to whoever uses it first.
	if a, ok := j.l.state.Account(string(j.dev)); ok {
		return a.Name
	}
	return ""
}

// enter resolves the group to be joined, and says what authz is to be asked.
func (j *job) enter(r *control.Request, a *ask, ref group.Ref) {
	if a.code != group.OK {
		return
	}
	if ref.IsZero() {
		a.code = group.BadRequest
		return
	}
	l := j.l
	g, visible, code := l.resolve(&j.who, ref, j.now)
	if code != group.OK && l.all(&j.who) || code == group.AmbiguousRef {
		a.code = code
		return
	}
	d, _ := l.state.Newest(j.dev)
	member := false
	if g != nil {
		// Judged is the policy that is to be, so that the verdict is one for the
		// state on which is decided.
		if newest, ok := l.state.NewestGroup(g.Number); ok {
			g, visible = &newest, l.sees(&j.who, &newest)
		}
		a.req.To = g.Number
		_, member = d.In(g.Number)
		if _, ended := d.Follow(g.Number); ended && j.who.Verb && !j.forced && !member {
			// Somebody else ended this membership: the verb is not a wish to be
			// judged, package group says what became of it.
			a.verdict = group.Verdict{PolicyRev: g.PolicyRev, Rule: "ended"}
			return
		}
		visible = visible || l.tells(j.dev, g.Number)
	}
	secret := r.Secret
	if r.SecretInTopic && g != nil && !g.PINInTopic {
		secret = "" // the group does not want PINs where topics are logged
	}
	a.judge = true
	a.authz = authz.Ask{
		Op: a.req.Op, Client: j.dev, Account: j.who.Account, Anonymous: j.who.Anonymous, Role: j.who.Role, Addr: j.who.Addr,
		To: g, Member: member, Visible: visible, Secret: secret,
		Operator: j.who.Role == group.RoleOperator,
	}
}

// exit resolves the group to be left. Where there is none of which the device
// may know, it is not in it; whether that matters is decided later, since a
// repeated switch is granted all the same.
func (j *job) exit(a *ask, ref group.Ref) {
	if ref.IsZero() {
		a.code = group.BadRequest
		return
	}
	g, visible, code := j.l.resolve(&j.who, ref, j.now)
	switch {
	case code == group.AmbiguousRef:
		a.code = code
	case code != group.OK:
		a.out = code
	case !visible && !j.l.tells(j.dev, g.Number):
		// A verb before this one in the packet may join it.
		a.req.From, a.out = g.Number, group.NotAuthorized
	default:
		a.req.From = g.Number
		if g.Deleted && j.l.all(&j.who) {
			a.out = group.GroupDeleted
		}
	}
}

// redeem opens a grant: what it permits is what is decided.
func (j *job) redeem(r *control.Request, a *ask) {
	holder := authz.HolderOf(a.req.Account, j.dev)
	now := j.now
	if j.who.Verb {
		now = time.Time{} // its time may be over if its effect is there: package group sees to both
	}
	g, err := j.l.authz.Open(r.Grant, holder, now)
	if errors.Is(err, group.GrantMismatch) {
		// It may have been issued before the device belonged to anybody. Whose it
		// is since may use it; the epoch is checked all the same.
		g, err = j.l.authz.Open(r.Grant, authz.HolderOf("", j.dev), now)
	}
	if err != nil {
		a.code = group.Internal
		errors.As(err, &a.code)
		return
	}
	if r.Op != "" && r.Op != control.Op(g.Op) || !j.meant(r, g) {
		a.code = group.GrantMismatch
		return
	}
	a.req.Op, a.req.From, a.req.To, a.req.Grant = g.Op, g.From, g.To, &g
	a.verdict.Rule = "grant"
}

// meant reports whether the references that came with a grant, if any, point at
// what the grant is for.
func (j *job) meant(r *control.Request, g group.Grant) bool {
	is := func(ref group.Ref, n group.Number) bool {
		if ref.IsZero() {
			return true
		}
		found, err := j.l.state.Resolve(ref, j.now, func(*group.Group) bool { return true })
		return err == nil && found == n
	}
	target := g.To
	if g.Op == group.OpLeave {
		target = g.From
	}
	return is(r.G, target) && is(r.From, g.From) && is(r.To, g.To)
}

// issue makes the grant for a change that would be accepted now.
func (j *job) issue(i int) control.Answer {
	r, a := &j.rs[i], &j.asks[i]
	g := group.Grant{
		Holder: authz.HolderOf(a.req.Account, j.dev), Op: a.req.Op, From: a.req.From, To: a.req.To,
		Expires: j.now.Add(a.ttl + time.Second - 1).Truncate(time.Second), // no less than ttl
	}
	d, known := j.l.state.Newest(j.dev)
	if known {
		g.Base = uint32(d.Epoch)
	}
	if to, ok := j.l.state.NewestGroup(g.To); ok {
		g.PolicyRev = uint32(to.PolicyRev)
	}
	sealed, err := j.l.authz.Issue(g)
	if err != nil {
		return j.refused(i, fmt.Errorf("%w: %w", group.Internal, err))
	}
	answer := control.Answer{
		Op: r.Op, ID: r.ID, Grant: sealed, Exp: g.Expires.Unix(), From: g.From, To: g.To, N: g.To,
		Epoch: d.Epoch, Why: a.verdict.Rule,
	}
	if g.To == 0 {
		answer.N = g.From
	}
	if j.forced {
		answer.Device = j.dev
	}
	return answer
}
