package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/internal/crash"
	"github.com/muster-mqtt/muster/store"
)

// codeOf returns the result code within an error.
func codeOf(err error) group.Code {
	code := group.Internal
	errors.As(err, &code)
	return code
}

// Login checks a user name and password, and returns the account. The error is
// an error with Code NotAuthorized, RateLimited or Unavailable; an unknown user,
// a wrong password and an account that is disabled are one answer at one cost. It
// may take a while.
func (l *Ledger) Login(ctx context.Context, user string, password []byte, addr string) (group.Account, error) {
	l.mu.Lock()
	acc, ok := l.state.Account(user)
	l.mu.Unlock()
	known := &acc
	if !ok || acc.Removed {
		known = &group.Account{Name: user} // failures count by name, whether anybody has it or not
	}
	if err := l.authz.Login(ctx, known, password, addr); err != nil {
		return group.Account{}, err
	}
	if acc.Disabled { // its right password counts as no failure of the address
		return group.Account{}, fmt.Errorf("login: %w: the account is disabled", group.NotAuthorized)
	}
	return acc, nil
}

// Bind records that the Client Identifier belongs to the account, if it is free,
// and calls done when that is on stable storage; if it is so already, at once.
// The error has Code NotAuthorized if it belongs to another or the account has
// been removed or disabled, Unavailable if the account has as many as it may or nothing can
// be recorded now.
func (l *Ledger) Bind(account string, c group.ClientID, now time.Time, done func(error)) {
	decide := func() (group.Change, error) {
		if l.barred(account) {
			return group.Change{}, group.NotAuthorized
		}
		if d, ok := l.state.Newest(c); ok && d.Account != "" && group.Fold(d.Account) != group.Fold(account) && l.cfg.Actor.Present(c) {
			return group.Change{}, group.NotAuthorized // it is in use, if only by a Session
		}
		r := group.Request{Op: group.OpBind, Client: c, Account: account, By: account}
		return l.state.Decide(r, group.Verdict{Rule: "first"}, now)
	}
	// Who has no right to the Client Identifier must not wait in its device's
	// lane, where there is room for few; who has it recorded need not.
	l.mu.Lock()
	change, err := decide()
	d, recorded := l.state.Device(c) // which may be another's still, while this account's is being recorded
	recorded = recorded && group.Fold(d.Account) == group.Fold(account)
	at := err != nil || !change.Write && recorded
	if err == nil && at {
		if _, idle := l.seen[c]; idle {
			l.seen[c] = now
		}
	}
	l.mu.Unlock()
	if at {
		done(err)
		return
	}
	lane := deviceLane(c)
	finish := func(err error) {
		done(err)
		l.leave(lane)
	}
	ok := l.enter(lane, maxBinding, func() {
		l.mu.Lock()
		change, err := decide()
		if err == nil && change.Write && l.readOnly {
			err = group.Unavailable
		}
		if err != nil || !change.Write {
			l.mu.Unlock()
			finish(err)
			return
		}
		l.state.Stage(change)
		w := store.Write{
			Key: store.DeviceKey(c), Expect: change.Expect, Value: store.EncodeDevice(change.Next),
			Note: store.EncodeNote(store.Note{At: now, Account: account, Device: c, Op: string(change.Op), Epoch: change.Next.Epoch, By: account, Rule: change.Rule}),
		}
		crash.Point("bind decided")
		l.store.Submit(w, func(rev group.Rev, err error) {
			if err != nil {
				l.mu.Lock()
				l.state.Drop(change)
				l.mu.Unlock()
				finish(l.failed(err))
				return
			}
			crash.Point("bind committed")
			l.acting.Lock()
			l.mu.Lock()
			l.state.Settle(change, rev)
			l.touch(c, now)
			l.mu.Unlock()
			l.acting.Unlock()
			finish(nil)
		})
		l.mu.Unlock()
	})
	if !ok {
		done(group.Unavailable)
	}
}

// account begins a request about an account.
func (l *Ledger) account(who Asker, r control.Request, now time.Time, reply Reply) {
	j := &adminJob{l: l, who: who, r: r, now: now, reply: reply, lane: accountLane(group.Fold(r.User))}
	switch r.Sub {
	case "list":
		l.listAccounts(who, r, reply)
		return
	case "show":
		l.showAccount(who, r, reply)
		return
	}
	j.enter(j.account)
}

func (l *Ledger) listAccounts(who Asker, r control.Request, reply Reply) {
	if who.Role != group.RoleOperator {
		refuseAll([]control.Request{r}, group.NotAuthorized, reply)
		return
	}
	a := control.Answer{Op: r.Op, ID: r.ID, HasList: true}
	page := pageOf(&r)
	l.mu.Lock()
	accounts := l.state.Accounts(r.Next, page+1)
	l.mu.Unlock()
	rules := 0
	for i, acc := range accounts {
		if i == page || rules > maxPageRules {
			a.Next = accounts[i-1].Name
			break
		}
		a.List = append(a.List, accountEntry(&acc))
		for _, r := range acc.Topics {
			rules += len(r.Filter)
		}
	}
	reply.Answer([]control.Answer{a})
}

func (l *Ledger) showAccount(who Asker, r control.Request, reply Reply) {
	l.mu.Lock()
	acc, ok := l.state.Account(r.User)
	l.mu.Unlock()
	a := control.Answer{Op: r.Op, ID: r.ID, HasList: true}
	switch {
	case who.Role != group.RoleOperator:
		a = refusal(r, group.NotAuthorized, "")
	case r.User == "":
		a = refusal(r, group.BadRequest, "")
	case !ok || acc.Removed:
		a = refusal(r, group.NoSuchAccount, "")
	default:
		a.User, a.List = acc.Name, []control.Entry{accountEntry(&acc)}
	}
	reply.Answer([]control.Answer{a})
}

func accountEntry(a *group.Account) control.Entry {
	e := control.Entry{User: a.Name, Role: a.Role.String(), Findable: &a.Findable, Groups: a.Groups, At: a.Created.Unix()}
	for _, r := range a.Topics {
		e.Topics = append(e.Topics, r.String())
	}
	if a.Disabled {
		e.Disabled = &a.Disabled
	}
	return e
}

// maxPageRules bounds the bytes of rules in one page of accounts, but for the
// last account's.
const maxPageRules = 64 << 10

func (j *adminJob) account() {
	l, r := j.l, &j.r
	l.mu.Lock()
	acc, ok := l.state.Account(r.User)
	l.mu.Unlock()
	switch create := r.Sub == "add"; {
	case r.User == "" || r.Sub == "" || create && control.ReservedAccount(r.User):
		j.refuse(group.BadRequest)
		return
	case create && ok:
		j.refuse(group.NameTaken)
		return
	case !create && (!ok || acc.Removed):
		j.refuse(group.NoSuchAccount)
		return
	case create:
		acc = group.Account{Name: r.User}
	}
	if code := j.editAccount(&acc); code != group.OK {
		j.refuse(code)
		return
	}
	switch {
	case r.Sub == "remove":
		acc.Removed, acc.Secret = true, ""
		j.after = j.purge
	case r.Sub == "update":
	case r.Sub != "add" && r.Sub != "passwd":
		j.refuse(group.BadRequest)
		return
	case r.Secret == "":
		j.answer.Secret, acc.Secret = authz.NewPassword()
	case authz.CheckPassword(r.Secret) != nil:
		j.refuse(group.BadRequest)
		return
	default:
		go func() {
			hash, err := l.authz.HashSecret(l.ctx, r.Secret)
			if err != nil {
				l.log.Warn("a password was not hashed", "err", err)
				j.refuse(group.Unavailable)
				return
			}
			acc.Secret = hash
			j.recordAccount(acc, false)
		}()
		return
	}
	j.recordAccount(acc, false)
}

// editAccount writes the request's wishes into the record.
func (j *adminJob) editAccount(acc *group.Account) group.Code {
	r := &j.r
	if r.Role != "" {
		role, ok := group.ParseRole(r.Role)
		if !ok {
			return group.BadRequest
		}
		acc.Role = role
	}
	if r.Findable != nil {
		acc.Findable = *r.Findable
	}
	if r.Disabled != nil {
		acc.Disabled = *r.Disabled
	}
	if r.SetTopics {
		acc.Topics = r.Topics
	}
	if !r.SetGroups {
		return group.OK
	}
	acc.Groups = nil
	j.l.mu.Lock()
	defer j.l.mu.Unlock()
	for _, ref := range r.Groups {
		g, _, code := j.l.resolve(&j.who, ref, j.now)
		if code == group.OK && g.Deleted {
			code = group.GroupDeleted
		}
		if code != group.OK {
			return code
		}
		acc.Groups = append(acc.Groups, g.Number)
	}
	return group.OK
}

func (j *adminJob) recordAccount(acc group.Account, remove bool) {
	l := j.l
	l.mu.Lock()
	c, err := l.state.DecideAccount(acc, j.r.Sub == "add", remove, j.who.Account, j.now)
	if err != nil {
		l.mu.Unlock()
		j.refuse(codeOf(err))
		return
	}
	j.answer.User, j.answer.Role = c.NextAccount.Name, c.NextAccount.Role.String()
	w := store.Write{Key: store.AccountKey(group.Fold(acc.Name)), Expect: c.Expect}
	if !remove {
		w.Value = store.EncodeAccount(*c.NextAccount)
	}
	j.submit(c, w)
}

// purge ends what a removed account's devices hold, and then the account. A
// server that stops before the end goes on at its next start.
func (j *adminJob) purge() {
	j.after = nil
	j.l.mu.Lock()
	acc, ok := j.l.state.Account(j.r.User)
	j.l.mu.Unlock()
	if !ok || !acc.Removed { // done already
		j.finish(control.Answer{Op: j.r.Op, ID: j.r.ID, Code: group.Unchanged})
		return
	}
	go func() {
		crash.Point("purge begun")
		if !j.l.forgetAll(j.r.User, &j.who, j.now) {
			j.refuse(group.Unavailable)
			return
		}
		crash.Point("purge ending")
		j.recordAccount(acc, true)
	}()
}

// forgetAll forgets the devices of an account, and returns when that is done. It
// reports whether the account has none any more.
func (l *Ledger) forgetAll(account string, who *Asker, now time.Time) bool {
	for {
		l.mu.Lock()
		devices := l.state.Bound(account)
		l.mu.Unlock()
		if len(devices) == 0 {
			return true
		}
		var left atomic.Bool
		each(devices, func(c group.ClientID, done func()) {
			l.forget(who, c, now, nil, func(gone bool) {
				if !gone {
					left.Store(true)
				}
				done()
			})
		})
		if left.Load() {
			return false
		}
	}
}
