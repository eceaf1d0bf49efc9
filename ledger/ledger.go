// Package ledger is the one way a request becomes a recorded change, wherever
// it came from: MQTT, the command line, later HTTP.
//
// [Ledger.Do] leads a request through the same steps each time: is it a repeat
// ([control.Request.ID]), may the asker (package authz), what would it change
// (package group), record it (package store), act on it (the [Actor]), answer.
// Requests for one device, one group or one account are taken one after the
// other; those for different ones share commits.
//
// What is decided is staged and handed to the store in one critical section, so
// the store's order is the order of decisions, and a decision made on what is
// staged holds when it is recorded. Changes are acted on in the order of their
// revs, one at a time: [Ledger.Ordered] runs a function between two of them.
//
// A caller must not hold a lock that its [Actor] or [Reply] takes.
package ledger

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

// An Asker is who makes a request.
type Asker struct {
	Client    group.ClientID // the device as which it asks; empty if it is none
	Account   string
	Role      group.Role
	Groups    []group.Number // what an observer may read; empty means all
	Anonymous bool
	Addr      string // network address without port, for limits and the log
	Assigned  bool   // the server made the Client Identifier of Client
	// AssignedDevice is true if the server made the Client Identifier of the
	// device that the request names.
	AssignedDevice bool
	// Verb is true if the request was made by SUBSCRIBE or UNSUBSCRIBE.
	Verb bool
}

// A Reply takes the answers to the requests of one call of [Ledger.Do], one
// for each, in order. It is called once, must not block, and must not call the
// Ledger.
type Reply interface {
	Answer(answers []control.Answer)
}

// ReplyFunc is a function as a Reply.
type ReplyFunc func(answers []control.Answer)

// Answer calls f.
func (f ReplyFunc) Answer(answers []control.Answer) { f(answers) }

// Applied is a change that has been recorded.
type Applied struct {
	Change group.Change
	Rev    group.Rev
	// Ended holds the devices whose membership ended with a deleted group, as
	// they are now.
	Ended   []group.Device
	Answers []control.Answer
	Reply   Reply // may be nil
}

// An Actor makes what devices receive equal to the record, and knows who is
// there. The broker is one.
type Actor interface {
	// Apply acts on one recorded change and sees to it that a.Reply, if not nil,
	// is given a.Answers once. It is called in the order of revs, by one goroutine
	// at a time, and must not block.
	Apply(a Applied)
	// Online reports whether the device has a connection.
	Online(c group.ClientID) bool
	// Present reports whether the device has a Session, if only a side
	// connection's, with or without a connection. It must not call the Ledger.
	Present(c group.ClientID) bool
}

// A Config says what a Ledger works with. Store, Authority, Actor and Logger
// must be set.
type Config struct {
	Store     store.Store
	Authority *authz.Authority
	Actor     Actor
	Logger    *slog.Logger
	Limits    group.Limits
	// ChangesPerMinute bounds the membership changes of one device; 0 is no
	// bound.
	ChangesPerMinute int
	// GrantTTL is the life of a grant whose asker named none; 0 means
	// authz.DefaultTTL.
	GrantTTL time.Duration
	// JournalKeep is how long notes are kept: at least 10 minutes; 0 means 24 h.
	JournalKeep time.Duration
	// Now reads the clock, for what is done without a request; nil means
	// time.Now.
	Now func() time.Time
}

// The bounds of what is under way.
const (
	// MaxWaiting is how many requests of one device wait behind the one that is
	// under way; one more is answered RateLimited.
	MaxWaiting = 16
	// MaxUnderWay bounds the requests of all that have not been answered.
	MaxUnderWay = 1 << 16
	// maxWaitingOperator is the same for the groups, and for an account.
	maxWaitingOperator = 1024
	// maxBinding is the same for those that connect with a Client Identifier while it
	// is recorded for the first of them: when it is, the others wait no longer.
	maxBinding = 256
)

// A Ledger turns requests into recorded changes. Its methods may be called by
// several goroutines at once.
type Ledger struct {
	cfg   Config
	log   *slog.Logger
	store store.Store
	authz *authz.Authority

	// acting serialises what is done in the order of revs. It is taken before
	// mu, never after.
	acting sync.Mutex

	// mu guards what follows. It is never held while something waits.
	mu       sync.Mutex
	state    *group.State
	lanes    map[string]*lane
	underWay int
	repeats  repeats
	rates    rates
	seen     map[group.ClientID]time.Time // when a device that holds nothing was last here
	readOnly bool
	closed   bool

	untidy chan struct{}   // there are records to tidy
	ctx    context.Context // ends with Close: nobody waits for authz any more
	cancel context.CancelFunc
	idle   *sync.Cond // on mu: underWay fell to 0
}

// Open reads the records and the journal of cfg.Store and returns a Ledger that
// goes on from there. The store stays the caller's to close, after the Ledger.
func Open(ctx context.Context, cfg Config) (*Ledger, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.GrantTTL == 0 {
		cfg.GrantTTL = authz.DefaultTTL
	}
	if cfg.JournalKeep == 0 {
		cfg.JournalKeep = 24 * time.Hour
	}
	cfg.JournalKeep = max(cfg.JournalKeep, RepeatLife)
	l := &Ledger{
		cfg: cfg, log: cfg.Logger, store: cfg.Store, authz: cfg.Authority,
		state: group.NewState(cfg.Limits), lanes: map[string]*lane{},
		repeats: newRepeats(), rates: newRates(cfg.ChangesPerMinute), seen: map[group.ClientID]time.Time{},
	}
	l.untidy = make(chan struct{}, 1)
	l.idle = sync.NewCond(&l.mu)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if err := l.load(ctx); err != nil {
		return nil, fmt.Errorf("read the records: %w", err)
	}
	return l, nil
}

// Close refuses new requests with Unavailable and returns when all that were
// begun are answered, or when ctx ends. The Ledger does not close the store.
func (l *Ledger) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		l.cancel()
		l.mu.Lock()
		l.idle.Broadcast()
		l.mu.Unlock()
	})
	defer stop()
	defer l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.underWay > 0 && ctx.Err() == nil {
		l.idle.Wait()
	}
	if l.underWay > 0 {
		return fmt.Errorf("%d requests were not answered: %w", l.underWay, ctx.Err())
	}
	return nil
}

// Ordered runs f between two recorded changes: everything that was recorded
// before has been acted on, and nothing is acted on meanwhile. f may read the
// Ledger, and must not block or call Do.
func (l *Ledger) Ordered(f func()) {
	l.acting.Lock()
	defer l.acting.Unlock()
	f()
}

// View runs f on the recorded state. f must not keep it, change it, or wait.
func (l *Ledger) View(f func(s *group.State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.state)
}

// Rev returns the rev of the newest change that readers are shown.
func (l *Ledger) Rev() group.Rev {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Rev()
}

// Device returns the record of a device, and whether there is one.
func (l *Ledger) Device(c group.ClientID) (group.Device, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Device(c)
}

// newGroupID returns a new ULID.
func newGroupID(now time.Time) group.ID {
	var entropy [10]byte
	rand.Read(entropy[:])
	return group.NewID(now, entropy)
}
