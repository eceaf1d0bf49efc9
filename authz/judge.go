package authz

import (
	"context"
	"time"

	"github.com/muster-mqtt/muster/group"
)

// An Ask is the question whether a device may be in a group.
type Ask struct {
	Op        group.Op // join, switch or move; all are judged alike
	Client    group.ClientID
	Account   string
	Anonymous bool       // Account is that of clients without a user name
	Role      group.Role // of the account
	Addr      string     // the client's network address, with or without a port
	// To is the group, deleted or not; nil if there is nothing such.
	To     *group.Group
	Member bool // the device is in To
	// Visible is true if the asker may know of To.
	Visible bool
	Secret  string // the PIN; empty if none was given
	// Operator is true if an operator asks for a device. An operator who asks for
	// a device of his own is known by Role.
	Operator bool
}

// The rules that decide, as the audit and the key why name them.
const (
	ruleOperator = "operator"
	ruleMember   = "member"
	ruleOpen     = "open"
	rulePIN      = "pin"
	ruleDeleted  = "deleted"
	ruleUnknown  = "unknown" // nothing that the asker may know of
	ruleGuesses  = "guesses" // too many wrong PINs
)

// hidden reports whether the asker may know of nothing there.
func (q *Ask) hidden() bool { return q.To == nil || !q.Visible }

// secret returns the PIN that was given.
func (q *Ask) secret() []byte { return []byte(clip(q.Secret, maxPIN)) }

// verdict returns one about the group.
func (q *Ask) verdict(c group.Code, rule string) group.Verdict {
	v := group.Verdict{Code: c, Rule: rule}
	if q.To != nil {
		v.PolicyRev = q.To.PolicyRev
	}
	return v
}

// plain decides what does not depend on a secret.
func (q *Ask) plain() (v group.Verdict, ok bool) {
	operator := q.Operator || q.Role == group.RoleOperator
	switch g := q.To; {
	case g == nil && operator:
		return q.verdict(group.NoSuchGroup, ruleUnknown), true
	case operator && !g.Deleted:
		return q.verdict(group.OK, ruleOperator), true
	case g == nil:
		return v, false
	case g.Deleted:
		return q.verdict(group.GroupDeleted, ruleDeleted), operator || q.Visible
	case q.Member:
		return q.verdict(group.OK, ruleMember), true
	case !q.Visible:
		return v, false
	case g.Policy == group.PolicyOpen:
		return q.verdict(group.OK, ruleOpen), true
	case g.Policy == group.PolicyPIN && q.Secret == "":
		return q.verdict(group.BadSecret, rulePIN), true
	}
	return v, false
}

// refused is the verdict on a wrong PIN, and on all that is to look the same.
func (q *Ask) refused() group.Verdict {
	if q.hidden() {
		return q.verdict(group.NotAuthorized, ruleUnknown)
	}
	return q.verdict(group.BadSecret, rulePIN)
}

// limited is the verdict on one who has to wait.
func (q *Ask) limited(wait time.Duration) group.Verdict {
	v := q.verdict(group.RateLimited, ruleGuesses)
	v.Retry = int((wait + time.Second - 1) / time.Second)
	return v
}

// hash returns what the secret is compared with: the group's PIN, or what
// nothing matches.
func (a *Authority) hash(q *Ask) string {
	if q.To == nil || q.To.Deleted || q.To.Policy != group.PolicyPIN || q.Secret == "" {
		return a.dummy
	}
	return q.To.PIN
}

// Quick returns the verdict if no work is needed for it, and whether that is so;
// if not, call [Authority.Judge]. It never waits.
//
// The Code is OK if the device may be in the group; BadSecret for a wrong or
// missing PIN of a group that the asker may know of; GroupDeleted; NoSuchGroup,
// to operators; RateLimited, with Retry, after too many wrong PINs; and else
// NotAuthorized. PolicyRev is that of q.To, or 0.
func (a *Authority) Quick(q Ask) (group.Verdict, bool) {
	if v, ok := q.plain(); ok {
		return v, true
	}
	who := a.limits.guesser(&q)
	if a.known.has(a.hash(&q), q.secret()) {
		return a.settle(&q, &who, true), true
	}
	if wait := a.limits.wait(&who); wait > 0 {
		return q.limited(wait), true
	}
	return group.Verdict{}, false
}

// Judge returns the verdict, as [Authority.Quick] does. What Quick cannot decide
// costs one run of argon2id, whatever the verdict.
//
// The error is a [*group.Error] with Code Unavailable: ctx ended before the run began, or too many
// wait. It counts as no guess.
func (a *Authority) Judge(ctx context.Context, q Ask) (group.Verdict, error) {
	if v, ok := a.Quick(q); ok {
		return v, nil
	}
	hash, secret := a.hash(&q), q.secret()
	var v group.Verdict
	err := a.verify(ctx, forJudging, hash, secret, func(right bool) bool {
		who := a.limits.guesser(&q)
		v = a.settle(&q, &who, right)
		return v.Code == group.OK
	})
	if err != nil {
		return group.Verdict{}, &group.Error{Op: q.Op, Client: q.Client, Code: group.Unavailable, Err: err}
	}
	return v, nil
}

// settle counts what came of a guess, and says it.
func (a *Authority) settle(q *Ask, who *guesser, right bool) group.Verdict {
	if wait := a.limits.settle(who, right); wait > 0 {
		return q.limited(wait)
	}
	if right {
		return q.verdict(group.OK, rulePIN)
	}
	return q.refused()
}
