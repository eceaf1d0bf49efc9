package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// RepeatLife is how long the result of a request with an id is remembered.
const RepeatLife = 10 * time.Minute

// maxRepeats bounds how many results are remembered, the newest: 5,000 changes
// a second with ids, for ten minutes. Each takes about 100 bytes.
const maxRepeats = 3_000_000

// A repeatKey is a digest of account, device and id. Two devices may use the
// same id.
type repeatKey [16]byte

type repeat struct {
	body [16]byte
	at   int64 // seconds since 1970
	n    group.Number
	code group.Code
}

// repeats remembers what requests with an id have changed.
type repeats struct {
	known map[repeatKey]repeat
	order []repeatKey // oldest first
}

func newRepeats() repeats { return repeats{known: map[repeatKey]repeat{}} }

func keyOf(account string, device group.ClientID, id []byte) repeatKey {
	b := make([]byte, 0, 256)
	for _, part := range []string{group.Fold(account), string(device)} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	sum := sha256.Sum256(append(b, id...))
	return repeatKey(sum[:16])
}

func (r *repeat) over(now time.Time) bool {
	return now.Unix()-r.at >= int64(RepeatLife/time.Second)
}

func (p *repeats) add(k repeatKey, r repeat) {
	p.expire(time.Unix(r.at, 0))
	if _, ok := p.known[k]; !ok {
		p.order = append(p.order, k)
	}
	p.known[k] = r
}

// expire forgets what is no longer to be remembered.
func (p *repeats) expire(now time.Time) {
	for len(p.order) > 0 {
		r := p.known[p.order[0]]
		if len(p.order) <= maxRepeats && !r.over(now) {
			return
		}
		delete(p.known, p.order[0])
		p.order = p.order[1:]
	}
}

func (p *repeats) find(k repeatKey, now time.Time) (repeat, bool) {
	r, ok := p.known[k]
	return r, ok && !r.over(now)
}

// repeated returns the answer to a request that had its effect before: the
// stored code with the state of now. The caller holds l.mu.
func (l *Ledger) repeated(who *Asker, dev group.ClientID, r *control.Request, now time.Time) (control.Answer, bool) {
	if len(r.ID) == 0 {
		return control.Answer{}, false
	}
	was, ok := l.repeats.find(keyOf(who.Account, dev, r.ID), now)
	if !ok {
		return control.Answer{}, false
	}
	if was.body != r.Body {
		return refusal(*r, group.IDReused, ""), true
	}
	a := control.Answer{Op: r.Op, ID: r.ID, Code: was.code, Why: "repeat", N: was.n}
	switch r.Op {
	case control.OpCreate, control.OpUpdate, control.OpDelete:
		if g, ok := l.state.Group(was.n); ok {
			a.G, a.Name = g.ID, g.Name
		}
		return a, true
	case control.OpAccount:
		a.User = r.User
		return a, true
	}
	if dev != who.Client {
		a.Device = dev
	}
	d, known := l.state.Device(dev)
	if !known {
		return a, true
	}
	a.Epoch = d.Epoch
	if was.n == 0 {
		return a, true
	}
	a.State = "out"
	if _, in := d.In(was.n); in {
		a.State = "member"
	}
	return a, true
}

// remember keeps the result of a request with an id that made the change. The
// caller holds l.mu.
func (l *Ledger) remember(who *Asker, dev group.ClientID, r *control.Request, c *group.Change, now time.Time) {
	if len(r.ID) > 0 {
		l.repeats.add(keyOf(who.Account, dev, r.ID), repeat{body: r.Body, n: target(c.From, c.To), code: c.Code, at: now.Unix()})
	}
}

// target returns the group that a change is about.
func target(from, to group.Number) group.Number {
	if to != 0 {
		return to
	}
	return from
}

// rates knows the changes that each device has made within the last minute.
type rates struct {
	limit int                            // 0: no bound
	made  map[group.ClientID][]time.Time // oldest first, at most limit
}

func newRates(limit int) rates { return rates{limit: limit, made: map[group.ClientID][]time.Time{}} }

// over returns how many seconds the device has to wait before its next change;
// 0 if it may make one now.
func (r *rates) over(c group.ClientID, now time.Time) int {
	made := r.made[c]
	if r.limit <= 0 || len(made) < r.limit {
		return 0
	}
	wait := time.Minute - now.Sub(made[len(made)-r.limit])
	return int(min(max(0, wait+time.Second-1), time.Minute) / time.Second)
}

func (r *rates) count(c group.ClientID, now time.Time) {
	if r.limit <= 0 {
		return
	}
	made := append(r.made[c], now)
	for len(made) > r.limit || now.Sub(made[0]) >= time.Minute {
		made = made[1:]
	}
	r.made[c] = made
}

func (r *rates) expire(now time.Time) {
	for c, made := range r.made {
		if now.Sub(made[len(made)-1]) >= time.Minute {
			delete(r.made, c)
		}
	}
}
