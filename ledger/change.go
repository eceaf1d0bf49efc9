package ledger

import (
	"cmp"
	"errors"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/internal/crash"
	"github.com/muster-mqtt/muster/store"
)

// maxDecisions is how often a decision is made anew because the policy changed
// under it.
const maxDecisions = 8

// MaxRequests is how many requests, the verbs of one packet, are decided
// together.
const MaxRequests = 128

// A job is one call of Do that may change a device's record.
type job struct {
	l     *Ledger
	who   Asker
	rs    []control.Request
	now   time.Time
	reply Reply
	dev   group.ClientID
	// forced is true if the asker is not the device.
	forced bool
	// known is true if the device had a record when it asked.
	known bool
	// still, if not nil, is asked once more when the change is decided, with l.mu
	// held: is it still to be made?
	still   func() bool
	asks    []ask
	answers []control.Answer
	tries   int
}

// change begins a job for the device that the requests are about.
func (l *Ledger) change(who Asker, rs []control.Request, now time.Time, reply Reply) {
	j := &job{l: l, who: who, rs: rs, now: now, reply: reply, dev: who.Client}
	r := &rs[0]
	switch {
	case r.Op == control.OpMove || r.Op == control.OpRemove || r.Op == control.OpForget, r.Device != "" && r.Device != who.Client:
		if who.Role != group.RoleOperator {
			refuseAll(rs, group.NotAuthorized, reply)
			return
		}
		j.dev, j.forced = r.Device, true
	}
	switch {
	case len(rs) > MaxRequests:
		refuseAll(rs, group.TooLarge, reply)
		return
	case j.dev == "" || len(rs) > 1 && j.forced || r.Op != control.OpForget && !groupable(j.dev):
		refuseAll(rs, group.BadRequest, reply)
		return
	}
	enter, room := l.enter, MaxWaiting
	if j.forced {
		enter, room = l.enterAhead, maxWaitingOperator
	} else {
		l.mu.Lock()
		_, recorded := l.state.Device(j.dev)
		_, staged := l.state.Newest(j.dev)
		j.known = recorded || staged
		l.mu.Unlock()
	}
	if !enter(deviceLane(j.dev), room, j.start) {
		refuseAll(rs, l.full(), reply)
	}
}

// own reports whether the device is the asker's to act for: its record is the
// account's, and was not ended while the request waited. The caller holds l.mu.
func (j *job) own() bool {
	d, ok := j.l.state.Newest(j.dev)
	if !ok {
		return j.forced || !j.known
	}
	return j.forced || j.who.Role == group.RoleOperator || d.Account == "" || group.Fold(d.Account) == group.Fold(j.who.Account)
}

// groupable reports whether a device of that Client Identifier may be a member.
func groupable(c group.ClientID) bool {
	return control.CheckClientID(c) == nil && c != "muster"
}

// start runs when the device's requests before this one are answered.
func (j *job) start() {
	l := j.l
	if len(j.rs) == 1 {
		l.mu.Lock()
		a, ok := l.repeated(&j.who, j.dev, &j.rs[0], j.now)
		l.mu.Unlock()
		switch {
		case ok:
			j.finish([]control.Answer{a})
			return
		case j.rs[0].Op == control.OpMine:
			j.mine()
			return
		}
	}
	j.prepare()
}

// mine answers in its place in the order of changes: what it lists is what the
// device then receives.
func (j *job) mine() {
	l := j.l
	l.acting.Lock()
	l.mu.Lock()
	a := l.mine(j.dev, &j.rs[0])
	if !j.own() {
		a = refusal(j.rs[0], group.NotAuthorized, "")
	} else if _, ok := l.state.Device(j.dev); !ok && j.forced {
		a = refusal(j.rs[0], group.NoSuchDevice, "")
	} else if j.forced {
		a.Device = j.dev
	}
	l.mu.Unlock()
	j.reply.Answer([]control.Answer{a})
	l.acting.Unlock()
	l.leave(deviceLane(j.dev))
}

// prepare resolves the references and gets the verdicts, which may take a
// while, before anything is decided.
func (j *job) prepare() {
	l := j.l
	j.asks = make([]ask, len(j.rs))
	wait := false
	l.mu.Lock()
	for i := range j.rs {
		a := j.ask(&j.rs[i])
		if a.judge {
			if v, ok := l.authz.Quick(a.authz); ok {
				a.verdict, a.judge = v, false
			}
		}
		wait = wait || a.judge
		j.asks[i] = a
	}
	l.mu.Unlock()
	if wait {
		go j.judge()
		return
	}
	j.decide()
}

// judge waits for the verdicts that take work. How many do is bounded by authz,
// which refuses what it has no room for.
func (j *job) judge() {
	for i := range j.asks {
		a := &j.asks[i]
		if !a.judge {
			continue
		}
		v, err := j.l.authz.Judge(j.l.ctx, a.authz)
		if err != nil {
			v = group.Verdict{Code: group.Unavailable}
			j.l.log.Warn("no verdict", "client", string(j.dev), "op", string(a.authz.Op), "err", err)
		}
		a.verdict = v
	}
	j.decide()
}

// decide makes one change of all requests, stages it and hands it to the store.
func (j *job) decide() {
	l := j.l
	l.mu.Lock()
	whole, err := j.whole()
	if err != nil || whole.Write || !j.granted() {
		j.submit(whole, err)
		return
	}
	l.mu.Unlock()
	// "It is so already" is said in its place in the order of changes, and must
	// be true there: a deletion may have come between.
	l.acting.Lock()
	l.mu.Lock()
	if whole, err = j.whole(); err == nil && !whole.Write {
		l.mu.Unlock()
		j.logRefused()
		j.reply.Answer(j.answers)
		l.acting.Unlock()
		l.leave(deviceLane(j.dev))
		return
	}
	l.acting.Unlock()
	j.submit(whole, err)
}

// granted reports whether an answer says what the device's groups are.
func (j *job) granted() bool {
	for i := range j.answers {
		if j.answers[i].Code.Success() && !j.asks[i].issue {
			return true
		}
	}
	return false
}

// whole decides the requests in order, each on the result of the one before,
// and stages the one change that they make if it is to be written. After an
// error, which is group.ErrGuard, nothing is staged. The caller holds l.mu.
func (j *job) whole() (group.Change, error) {
	l := j.l
	j.answers = make([]control.Answer, len(j.rs))
	var whole group.Change
	some := false
	for i := range j.asks {
		c, err := j.one(i)
		switch {
		case errors.Is(err, group.ErrGuard):
			if whole.Write {
				l.state.Drop(whole)
			}
			return group.Change{}, err
		case err != nil:
			j.answers[i] = j.refused(i, err)
			continue
		case j.asks[i].issue:
			j.answers[i] = j.issue(i)
			continue
		}
		j.answers[i] = j.accepted(i, &c)
		if some {
			c = whole.Then(c)
		}
		whole, some = c, true
		if whole.Write {
			l.state.Stage(whole)
		}
	}
	return whole, nil
}

// submit goes on from what was decided. It is called with l.mu held, and lets go
// of it.
func (j *job) submit(whole group.Change, err error) {
	l := j.l
	switch {
	case err != nil: // a policy has changed since the verdict: get another
		l.mu.Unlock()
		if j.tries++; j.tries >= maxDecisions {
			j.finishAll(group.Unavailable)
			return
		}
		j.prepare()
		return
	case !whole.Write:
		l.mu.Unlock()
		j.finish(j.answers)
		return
	case l.readOnly:
		l.state.Drop(whole)
		l.mu.Unlock()
		j.finishAll(group.Unavailable)
		return
	}
	w := store.Write{Key: store.DeviceKey(j.dev), Expect: whole.Expect, Note: j.note(&whole)}
	if !whole.Delete {
		w.Value = store.EncodeDevice(whole.Next)
	}
	crash.Point("change decided")
	l.store.Submit(w, func(rev group.Rev, err error) { j.recorded(whole, rev, err) })
	crash.Point("change submitted")
	l.mu.Unlock()
}

// one decides one request. The caller holds l.mu.
func (j *job) one(i int) (group.Change, error) {
	l, a := j.l, &j.asks[i]
	switch {
	case j.still != nil && !j.still():
		return group.Change{Op: a.req.Op, Code: group.Unchanged}, nil
	case l.barred(j.who.Account):
		return group.Change{}, group.NotAuthorized
	case a.code != group.BadRequest && a.code != group.NoSuchDevice && j.stale(a):
		return group.Change{}, group.StaleEpoch
	case a.code != group.OK:
		return group.Change{}, a.code
	case !j.own():
		return group.Change{}, group.NotAuthorized
	}
	if a.only {
		d, _ := l.state.Newest(j.dev)
		switch len(d.Groups) {
		case 0:
			return group.Change{}, group.NotMember
		case 1:
			a.req.From = d.Groups[0].Number
		default:
			return group.Change{}, group.AmbiguousRef
		}
	}
	if i > 0 && a.verdict.Code != group.OK {
		// A verb before this one in the packet may have made it a member.
		d, _ := l.state.Newest(j.dev)
		if _, in := d.In(a.req.To); in {
			a.verdict = group.Verdict{PolicyRev: a.verdict.PolicyRev, Rule: "member"}
		}
	}
	c, err := l.state.Decide(a.req, a.verdict, j.now)
	switch {
	case a.out != group.OK && errors.Is(err, group.NotMember):
		return group.Change{}, a.out
	case err == nil && c.Write && !j.forced && !a.issue:
		if a.retry = l.rates.over(j.dev, j.now); a.retry > 0 {
			return group.Change{}, group.RateLimited
		}
	}
	return c, err
}

// stale reports whether the device is not at the epoch that the request names.
// The caller holds l.mu.
func (j *job) stale(a *ask) bool {
	d, _ := j.l.state.Newest(j.dev) // of no record the epoch is 0
	return a.req.Expect != nil && *a.req.Expect != d.Epoch
}

// barred reports whether there is no such account any more, or nobody may act for
// it now. The caller holds l.mu.
func (l *Ledger) barred(account string) bool {
	if a, ok := l.state.Account(account); ok {
		return a.Removed || a.Disabled
	}
	return !control.ReservedAccount(account)
}

// accepted returns the answer to a request that was decided. The epoch of a
// change that is still to be recorded is the one it will have.
func (j *job) accepted(i int, c *group.Change) control.Answer {
	r := &j.rs[i]
	a := control.Answer{Op: control.Op(c.Op), ID: r.ID, Code: c.Code, Epoch: c.Next.Epoch, Why: c.Rule}
	if j.forced {
		a.Device = j.dev
	}
	switch c.Op {
	case group.OpLeave, group.OpRemove:
		a.N, a.From, a.State = c.From, c.From, "out"
	case group.OpJoin:
		a.N, a.To, a.State = c.Where(), c.To, "member"
	case group.OpSwitch, group.OpMove:
		a.N, a.From, a.To, a.State = c.Where(), c.From, c.To, "member"
	}
	if m, in := c.Next.In(a.N); in {
		a.QoS = m.QoS
	}
	return a
}

// refused returns the answer to a request that was not accepted. The caller
// holds l.mu.
func (j *job) refused(i int, err error) control.Answer {
	r, a := &j.rs[i], &j.asks[i]
	answer := refusal(*r, codeOf(err), "")
	if answer.Code == a.verdict.Code {
		answer.Why = a.verdict.Rule // else it was allowed, and something else forbids it
	}
	if answer.Code.Retryable() {
		answer.Retry = max(answer.Retry, a.verdict.Retry, a.retry)
	}
	if d, ok := j.l.state.Newest(j.dev); ok {
		answer.Epoch = d.Epoch
	}
	if j.forced {
		answer.Device = j.dev
	}
	return answer
}

// logRefused tells the operator what was refused. No lock is held: a log may be
// slow.
func (j *job) logRefused() {
	for i := range j.answers {
		if code := j.answers[i].Code; !code.Success() && i < len(j.asks) {
			a := &j.asks[i]
			j.l.log.Info("refused", "op", cmp.Or(string(j.rs[i].Op), "grant"), "client", string(j.dev), "by", j.who.Account, "addr", j.who.Addr,
				"group", uint32(max(a.req.To, a.req.From)), "reason", code.Error())
		}
	}
}

// recorded runs when the store has the change, or has refused it.
func (j *job) recorded(c group.Change, rev group.Rev, err error) {
	l := j.l
	if err != nil {
		l.mu.Lock()
		l.state.Drop(c)
		l.mu.Unlock()
		j.finishAll(l.failed(err))
		return
	}
	crash.Point("change committed")
	l.acting.Lock()
	l.mu.Lock()
	c, _ = l.state.Settle(c, rev)
	if !j.forced {
		l.rates.count(j.dev, j.now)
	}
	for i := range j.answers {
		if a := &j.answers[i]; a.Code.Success() {
			a.Rev, a.Epoch = rev, c.Next.Epoch
		}
	}
	if len(j.rs) == 1 {
		l.remember(&j.who, j.dev, &j.rs[0], &c, j.now)
	}
	l.touch(j.dev, j.now)
	l.mu.Unlock()
	crash.Point("change settled")
	l.cfg.Actor.Apply(Applied{Change: c, Rev: rev, Answers: j.answers, Reply: j.reply})
	l.acting.Unlock()
	crash.Point("change applied")
	l.log.Info("changed", "op", string(c.Op), "client", string(j.dev), "from", uint32(c.From), "group", uint32(c.To),
		"by", c.By, "rule", c.Rule, "epoch", uint64(c.Next.Epoch), "rev", uint64(rev))
	j.logRefused()
	l.leave(deviceLane(j.dev))
}

// failed returns the code for a write that the store has refused.
func (l *Ledger) failed(err error) group.Code {
	switch {
	case errors.Is(err, store.ErrReadOnly):
		l.mu.Lock()
		first := !l.readOnly
		l.readOnly = true
		l.mu.Unlock()
		if first {
			l.log.Error("changes are refused until the server is restarted", "err", err)
		}
		return group.Unavailable
	case errors.Is(err, store.ErrClosed):
		return group.Unavailable
	case errors.Is(err, store.ErrTooLarge):
		return group.TooLarge
	}
	l.log.Error("a change could not be recorded", "err", err)
	return group.Internal
}

// note returns the journal's note of the change.
func (j *job) note(c *group.Change) []byte {
	r := &j.rs[0]
	n := store.Note{
		At: j.now, Account: j.who.Account, Device: j.dev, Op: string(c.Op), From: c.From, To: c.To, Code: c.Code,
		Epoch: c.Next.Epoch, By: c.By, Rule: c.Rule, Addr: j.who.Addr,
	}
	if len(j.rs) == 1 {
		n.ReqID, n.Body = r.ID, r.Body
	}
	return store.EncodeNote(n)
}

// finish answers and gives the lane to the next.
func (j *job) finish(answers []control.Answer) {
	j.answers = answers
	j.reply.Answer(answers)
	j.logRefused()
	j.l.leave(deviceLane(j.dev))
}

func (j *job) finishAll(code group.Code) {
	refuseAll(j.rs, code, j.reply)
	j.l.leave(deviceLane(j.dev))
}
