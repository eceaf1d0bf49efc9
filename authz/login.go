package authz

import (
	"context"
	"errors"

	"github.com/muster-mqtt/muster/group"
)

// opLogin is what errors of Login say was tried.
const opLogin group.Op = "login"

// Why a login was refused, for the operator's log.
var (
	errNoPassword    = errors.New("no password was given")
	errNoAccount     = errors.New("there is no such account")
	errWrongPassword = errors.New("wrong password")
	errFailedOften   = errors.New("too many wrong passwords")
)

// Login returns nil if the password is the account's. An account that is not
// there is nil or, so that failures are counted by its name as well, one with a
// Name and no Secret; a password that was not given is nil. addr is the client's
// network address, with or without a port.
//
// The error is a [*group.Error] with Code NotAuthorized for a wrong password and
// an unknown account alike, after one run of argon2id; RateLimited after too many
// of these; Unavailable if ctx ends before the run or too many wait. A password
// that was right before, and a generated one, costs no argon2id.
func (a *Authority) Login(ctx context.Context, acc *group.Account, password []byte, addr string) error {
	name, hash := "", ""
	if acc != nil {
		name = acc.Name
		if !acc.Removed {
			hash = acc.Secret
		}
	}
	refuse := func(c group.Code, why error) error { return &group.Error{Op: opLogin, Code: c, Err: why} }
	password, given := clip(password, maxPassword), password != nil
	if given && generated(hash, password) {
		return nil
	}
	why := errWrongPassword
	switch {
	case hash == "":
		hash, why = a.dummy, errNoAccount
	case !given:
		hash, why = a.dummy, errNoPassword
	}
	who := a.limits.visitor(name, addr)
	known := a.known.has(hash, password)
	if a.limits.admit(&who, known) {
		return refuse(group.RateLimited, errFailedOften)
	}
	var refused error
	settle := func(right bool) (remember bool) {
		switch limited := a.limits.settleLogin(&who, right); {
		case limited:
			refused = refuse(group.RateLimited, errFailedOften)
		case !right:
			refused = refuse(group.NotAuthorized, why)
		}
		return refused == nil
	}
	if known {
		settle(true)
	} else if err := a.verify(ctx, forLogin, hash, password, settle); err != nil {
		return refuse(group.Unavailable, err)
	}
	return refused
}

// A visitor is who tries to log in, as the limiter knows them.
type visitor struct {
	account, address key // account is that from this address
	named            bool
}

func (l *limiter) visitor(name, addr string) visitor {
	addr = place(addr)
	return visitor{
		account: l.key(keyLogin, group.Fold(name), addr),
		address: l.key(keyAddress, addr),
		named:   name != "",
	}
}

// over reports whether the visitor's failures have reached a limit: those of
// the account from this address, or all from it. The caller holds l.mu.
func (l *limiter) over(v *visitor, now moment) (account, address bool) {
	account = v.named && l.login.until(v.account, now, l.window) > 0
	return account, l.loginAddress.until(v.address, now, l.window) > 0
}

// admit reports whether the visitor has to wait. Of those behind an address
// whose limit is reached, accounts that have logged in from it before are let in
// with a password that is known to be right; trying that is a guess and counts.
func (l *limiter) admit(v *visitor, known bool) (limited bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.moment()
	account, address := l.over(v, now)
	if !address || account {
		return account
	}
	if !l.passed.has(v.account) {
		return true
	}
	if !known {
		l.login.add(v.account, now, l.window)
	}
	return !known
}

// settleLogin counts what came of a try and reports whether a limit was reached
// while it was worked on: then the answer must not say whether it was right.
func (l *limiter) settleLogin(v *visitor, right bool) (limited bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.moment()
	account, address := l.over(v, now)
	if account || address && !(right && l.passed.has(v.account)) {
		return true
	}
	if right {
		l.passed.add(v.account)
		return false
	}
	if v.named {
		l.login.add(v.account, now, l.window)
	}
	l.loginAddress.add(v.address, now, l.window)
	return false
}
