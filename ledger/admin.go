package ledger

import (
	"time"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/internal/crash"
	"github.com/muster-mqtt/muster/store"
)

// An adminJob is an operator's request to create, update or delete a group, or
// to change an account.
type adminJob struct {
	l      *Ledger
	who    Asker
	r      control.Request
	now    time.Time
	reply  Reply
	lane   string
	answer control.Answer
	// after, if not nil, runs when the change is recorded and acted on; it
	// answers and leaves the lane in place of the job.
	after func()
}

// administer begins a request about a group.
func (l *Ledger) administer(who Asker, r control.Request, now time.Time, reply Reply) {
	j := &adminJob{l: l, who: who, r: r, now: now, reply: reply, lane: groupsLane}
	j.enter(j.group)
}

// enter runs f when the lane is free, unless the request is refused or a repeat.
func (j *adminJob) enter(f func()) {
	l := j.l
	if j.who.Role != group.RoleOperator {
		refuseAll([]control.Request{j.r}, group.NotAuthorized, j.reply)
		return
	}
	ok := l.enter(j.lane, maxWaitingOperator, func() {
		l.mu.Lock()
		a, again := l.repeated(&j.who, j.who.Client, &j.r, j.now)
		l.mu.Unlock()
		if again {
			j.finish(a)
			return
		}
		f()
	})
	if !ok {
		refuseAll([]control.Request{j.r}, l.full(), j.reply)
	}
}

func (j *adminJob) finish(a control.Answer) {
	j.reply.Answer([]control.Answer{a})
	if !a.Code.Success() {
		j.l.log.Info("refused", "op", string(j.r.Op), "by", j.who.Account, "addr", j.who.Addr, "reason", a.Code.Error())
	}
	j.l.leave(j.lane)
}

func (j *adminJob) refuse(code group.Code) { j.finish(refusal(j.r, code, "")) }

// group works out what the group's record is to be. A new PIN is hashed before
// anything is decided; that takes a while.
func (j *adminJob) group() {
	l, r := j.l, &j.r
	var next group.Group
	if r.Op == control.OpCreate {
		next = group.Group{ID: newGroupID(j.now), Name: r.Name, Policy: group.PolicyOpen, Visible: group.VisibleAll, PINInTopic: true}
		if r.Name == "" {
			j.refuse(group.BadRequest)
			return
		}
	} else {
		l.mu.Lock()
		g, _, code := l.resolve(&j.who, r.G, j.now)
		l.mu.Unlock()
		if r.G.IsZero() {
			code = group.BadRequest
		} else if code == group.OK && g.Deleted {
			code = group.GroupDeleted
		}
		if code != group.OK {
			j.refuse(code)
			return
		}
		next = *g
	}
	if r.Op == control.OpDelete {
		next.Deleted, next.PIN, next.Aliases = true, "", nil
		j.record(group.OpDelete, next)
		return
	}
	pin, ok := j.edit(&next)
	if !ok {
		j.refuse(group.BadRequest)
		return
	}
	if pin == "" {
		j.record(group.Op(r.Op), next)
		return
	}
	go func() {
		hash, err := l.authz.HashSecret(l.ctx, pin)
		if err != nil {
			l.log.Warn("a PIN was not hashed", "err", err)
			j.refuse(group.Unavailable)
			return
		}
		next.PIN = hash
		j.record(group.Op(r.Op), next)
	}()
}

// edit writes the request's wishes into the record. It returns the PIN that is
// to be hashed, if there is a new one, and whether the wishes fit together.
func (j *adminJob) edit(g *group.Group) (pin string, ok bool) {
	r := &j.r
	if r.Name != "" {
		g.Name = r.Name
	}
	if r.Policy == "" && r.PIN != "" && r.Op == control.OpCreate {
		g.Policy = group.PolicyPIN
	}
	if r.Policy != "" {
		if g.Policy, ok = group.ParsePolicy(r.Policy); !ok {
			return "", false
		}
	}
	switch {
	case r.PIN != "" && (g.Policy != group.PolicyPIN || authz.CheckPIN(r.PIN) != nil):
		return "", false
	case r.PIN != "":
		pin = r.PIN
	case g.Policy == group.PolicyPIN && g.PIN == "":
		pin = authz.NewPIN()
		j.answer.PIN = pin
	case g.Policy != group.PolicyPIN:
		g.PIN = ""
	}
	if r.Op == control.OpCreate && g.Policy != group.PolicyOpen {
		g.Visible = group.VisibleMembers
	}
	if r.Visible != "" {
		if g.Visible, ok = group.ParseVisibility(r.Visible); !ok {
			return "", false
		}
	}
	set := func(to *bool, wish *bool) {
		if wish != nil {
			*to = *wish
		}
	}
	set(&g.PINInTopic, r.PINInTopic)
	set(&g.MembersTo, r.MembersTo)
	set(&g.MembersEvents, r.MembersEvents)
	return pin, true
}

// record decides, stages and submits the group's new record.
func (j *adminJob) record(op group.Op, next group.Group) {
	l := j.l
	l.mu.Lock()
	c, err := l.state.DecideGroup(op, next, j.who.Account, j.now)
	if err != nil {
		l.mu.Unlock()
		j.refuse(codeOf(err))
		return
	}
	j.answer.N, j.answer.G, j.answer.Name = c.NextGroup.Number, c.NextGroup.ID, c.NextGroup.Name
	j.submit(c, store.Write{Key: store.GroupKey(c.NextGroup.Number), Expect: c.Expect, Value: store.EncodeGroup(*c.NextGroup)})
}

// submit stages the change and hands it to the store. It is called with l.mu
// held, and lets go of it.
func (j *adminJob) submit(c group.Change, w store.Write) {
	l := j.l
	if l.readOnly {
		l.mu.Unlock()
		j.refuse(group.Unavailable)
		return
	}
	w.Note = store.EncodeNote(store.Note{
		At: j.now, Account: j.who.Account, Device: j.who.Client, ReqID: j.r.ID, Body: j.r.Body, Op: string(c.Op), To: c.To,
		By: c.By, Rule: c.Rule, Addr: j.who.Addr,
	})
	l.state.Stage(c)
	crash.Point("record decided")
	l.store.Submit(w, func(rev group.Rev, err error) { j.recorded(c, rev, err) })
	l.mu.Unlock()
}

func (j *adminJob) recorded(c group.Change, rev group.Rev, err error) {
	l := j.l
	if err != nil {
		l.mu.Lock()
		l.state.Drop(c)
		l.mu.Unlock()
		j.refuse(l.failed(err))
		return
	}
	crash.Point("record committed")
	l.acting.Lock()
	l.mu.Lock()
	c, ended := l.state.Settle(c, rev)
	a := j.answer
	a.Op, a.ID, a.Rev, a.Code = j.r.Op, j.r.ID, rev, group.OK
	if c.NextGroup != nil && !c.NextGroup.Deleted {
		a.List = []control.Entry{l.groupEntry(c.NextGroup, true)}
	}
	if j.after == nil {
		l.remember(&j.who, j.who.Client, &j.r, &c, j.now)
	}
	l.mu.Unlock()
	reply := j.reply
	if j.after != nil {
		reply = nil
		j.answer = a
	}
	crash.Point("record settled")
	l.cfg.Actor.Apply(Applied{Change: c, Rev: rev, Ended: ended, Answers: []control.Answer{a}, Reply: reply})
	l.acting.Unlock()
	crash.Point("record applied")
	l.log.Info("changed", append([]any{"op", string(c.Op)}, append(subject(&c), "by", c.By, "rev", uint64(rev))...)...)
	if len(ended) > 0 {
		l.wake()
	}
	if j.after != nil {
		j.after()
		return
	}
	l.leave(j.lane)
}

// subject says in the log what an operator has changed.
func subject(c *group.Change) []any {
	if a := c.NextAccount; a != nil {
		return []any{"account", a.Name, "role", a.Role.String(), "rules", len(a.Topics), "disabled", a.Disabled, "removed", a.Removed || c.Delete}
	}
	return []any{"group", uint32(c.To), "name", c.NextGroup.Name}
}
