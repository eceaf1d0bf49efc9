package authz

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/muster-mqtt/muster/group"
)

const (
	perAccount = 10      // times PINGuesses
	perGroup   = 1000    // wrong PINs in a window
	maxPassed  = 1 << 17 // accounts and groups, accounts and addresses
)

// A limiter counts wrong PINs and passwords.
type limiter struct {
	secret [32]byte
	window time.Duration
	now    func() time.Time
	began  time.Time

	// mu guards what follows.
	mu                              sync.Mutex
	device, account, address, group counters // wrong PINs
	login, loginAddress             counters // wrong passwords; login is of an account from an address
	passed                          *set     // an account into a group, or in from an address
}

func newLimiter(c Config) *limiter {
	l := &limiter{
		window: c.PINWindow, now: c.Now, began: c.Now(),
		device: newCounters(c.PINGuesses), account: newCounters(perAccount * c.PINGuesses),
		address: newCounters(c.PINGuessesAddress), group: newCounters(perGroup),
		login: newCounters(perAccount * c.PINGuesses), loginAddress: newCounters(c.PINGuessesAddress),
		passed: newSet(maxPassed),
	}
	rand.Read(l.secret[:])
	return l
}

func (l *limiter) moment() moment { return l.now().Sub(l.began) }

// key returns the key of what the texts name together.
func (l *limiter) key(kind byte, texts ...string) (k key) {
	var buf [256]byte
	b := append(buf[:0], l.secret[:]...)
	b = append(b, kind)
	for _, t := range texts {
		b = binary.AppendUvarint(b, uint64(len(t)))
		b = append(b, t...)
	}
	sum := sha256.Sum256(b)
	copy(k[:], sum[:])
	return k
}

// The kinds of keys.
const (
	keyDevice byte = iota
	keyAccount
	keyAddress
	keyGroup
	keyHidden
	keyPassed
	keyPassedAnonymous
	keyLogin
)

// place returns that of an address which counts: no port, and of IPv6 the /64
// that one subscriber has.
func place(addr string) string {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		ap, err := netip.ParseAddrPort(addr)
		if err != nil {
			return addr
		}
		ip = ap.Addr()
	}
	if ip = ip.Unmap().WithZone(""); ip.Is4() {
		return ip.String()
	}
	net, err := ip.Prefix(64)
	if err != nil {
		return addr
	}
	return net.String()
}

// A guesser is who gives a PIN for what, as the limiter knows them.
type guesser struct {
	device, account, address, group, passed key
	named                                   bool // the account counts
}

func (l *limiter) guesser(q *Ask) guesser {
	account := group.Fold(q.Account)
	g := guesser{
		device:  l.key(keyDevice, string(q.Client)),
		account: l.key(keyAccount, account),
		address: l.key(keyAddress, place(q.Addr)),
		group:   l.key(keyHidden),
		named:   !q.Anonymous,
	}
	n := ""
	if q.To != nil {
		n = q.To.Number.String()
	}
	if q.Visible && q.To != nil {
		g.group = l.key(keyGroup, n)
	}
	if g.named {
		g.passed = l.key(keyPassed, account, n)
	} else {
		g.passed = l.key(keyPassedAnonymous, string(q.Client), n)
	}
	return g
}

// wait returns how long the guesser has to wait; 0 if not at all.
func (l *limiter) wait(g *guesser) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waitNow(g, l.moment())
}

// waitNow is wait with l.mu held.
func (l *limiter) waitNow(g *guesser, now moment) time.Duration {
	until := max(l.device.until(g.device, now, l.window), l.address.until(g.address, now, l.window))
	if g.named {
		until = max(until, l.account.until(g.account, now, l.window))
	}
	if spent := l.group.until(g.group, now, l.window); spent > 0 && !l.passed.has(g.passed) {
		// Who has failed waits until that is forgotten, or the budget is not spent.
		failed := l.device.count(g.device, now, l.window).below(1, l.window)
		if g.named {
			failed = max(failed, l.account.count(g.account, now, l.window).below(1, l.window))
		}
		until = max(until, min(spent, failed))
	}
	return max(until-now, 0)
}

// settle counts what came of a guess, and returns how long the guesser has to
// wait. If that is not 0, the limit was reached while the guess was worked on:
// then the answer must not say whether it was right, and it is not counted.
func (l *limiter) settle(g *guesser, right bool) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.moment()
	if wait := l.waitNow(g, now); wait > 0 {
		return wait
	}
	if right {
		l.passed.add(g.passed)
		return 0
	}
	l.device.add(g.device, now, l.window)
	l.address.add(g.address, now, l.window)
	l.group.add(g.group, now, l.window)
	if g.named {
		l.account.add(g.account, now, l.window)
	}
	return 0
}
