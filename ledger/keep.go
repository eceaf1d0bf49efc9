package ledger

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/internal/crash"
	"github.com/muster-mqtt/muster/store"
)

// Lapse is how long a Client Identifier without membership and Session stays
// bound to its account.
const Lapse = 24 * time.Hour

// Run keeps house until ctx ends: it tidies records, lets unused Client
// Identifiers lapse, trims the journal and rotates the keys of grants. When it
// returns, all that it started has ended.
func (l *Ledger) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	l.resume(&wg)
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		l.tidy()
		select {
		case <-ctx.Done():
			return
		case <-l.untidy:
		case <-tick.C:
			l.keep(ctx)
			l.resume(&wg)
		}
	}
}

// wake tells Run that there are records to tidy.
func (l *Ledger) wake() {
	select {
	case l.untidy <- struct{}{}:
	default:
	}
}

// keep does what is due by the clock.
func (l *Ledger) keep(ctx context.Context) {
	now := l.cfg.Now()
	l.lapse(now)
	l.mu.Lock()
	l.repeats.expire(now)
	l.rates.expire(now)
	l.mu.Unlock()
	before, err := l.revAt(ctx, now.Add(-l.cfg.JournalKeep-disorder))
	if err == nil {
		err = l.store.Trim(before)
	}
	if err == nil {
		err = l.loadKeys(ctx, now)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrReadOnly) {
		l.log.Error("housekeeping", "err", err)
	}
}

// each calls f for each of the devices, a batch at a time, and returns when all
// have called done.
func each(devices []group.ClientID, f func(c group.ClientID, done func())) {
	for batch := range slices.Chunk(devices, 512) {
		var wg sync.WaitGroup
		wg.Add(len(batch))
		for _, c := range batch {
			f(c, wg.Done)
		}
		wg.Wait()
	}
}

// tidy writes the records anew that still hold void memberships.
func (l *Ledger) tidy() {
	l.mu.Lock()
	dirty := l.state.Dirty()
	l.mu.Unlock()
	each(dirty, func(c group.ClientID, done func()) {
		if !l.enterAhead(deviceLane(c), unbounded, func() { l.tidyOne(c, done) }) {
			done()
		}
	})
}

func (l *Ledger) tidyOne(c group.ClientID, done func()) {
	finish := func() {
		l.leave(deviceLane(c))
		done()
	}
	l.mu.Lock()
	change := l.state.Tidy(c)
	if !change.Write || l.readOnly || change.Delete && l.cfg.Actor.Present(c) {
		l.mu.Unlock()
		finish()
		return
	}
	w := store.Write{Key: store.DeviceKey(c), Expect: change.Expect}
	if !change.Delete {
		w.Value = store.EncodeDevice(change.Next)
	}
	l.state.Stage(change)
	crash.Point("tidy decided")
	l.store.Submit(w, func(rev group.Rev, err error) {
		if err != nil {
			l.mu.Lock()
			l.state.Drop(change)
			l.mu.Unlock()
			l.failed(err)
			finish()
			return
		}
		crash.Point("tidy committed")
		l.acting.Lock()
		l.mu.Lock()
		l.state.Settle(change, rev)
		l.touch(c, l.cfg.Now())
		l.mu.Unlock()
		l.acting.Unlock()
		finish()
	})
	l.mu.Unlock()
}

// touch notes that the device was here. The caller holds l.mu.
func (l *Ledger) touch(c group.ClientID, now time.Time) {
	d, ok := l.state.Device(c)
	if !ok || len(d.Groups) > 0 || len(d.Ends) > 0 {
		delete(l.seen, c)
		return
	}
	l.seen[c] = now
}

// Gone tells the Ledger that a device's Session has ended. What lasts only as
// long as a Session is then ended too, after what the device has asked for
// before. Gone does not wait.
func (l *Ledger) Gone(c group.ClientID, now time.Time) {
	l.mu.Lock()
	d, ok := l.state.Newest(c)
	if ok {
		l.touch(c, now)
	}
	_, busy := l.lanes[deviceLane(c)]
	l.mu.Unlock()
	if ok && d.Assigned || !ok && busy {
		assigned := func() bool {
			d, ok := l.state.Newest(c)
			return ok && d.Assigned
		}
		l.forget(&server, c, now, assigned, func(bool) {})
	}
}

// Release is [Ledger.Gone] for a Client Identifier that the server assigned: the
// device is forgotten, whoever made it a member. It calls done when that has been
// acted on, or cannot be recorded.
func (l *Ledger) Release(c group.ClientID, now time.Time, done func()) {
	known := func() bool {
		_, ok := l.state.Newest(c)
		return ok
	}
	l.mu.Lock()
	_, busy := l.lanes[deviceLane(c)]
	nothing := !known() && !busy
	l.mu.Unlock()
	if nothing {
		done()
		return
	}
	l.forget(&server, c, now, known, func(bool) { done() })
}

// server is the asker of what nobody has asked for.
var server = Asker{Account: "server", Role: group.RoleOperator}

// forget forgets the device when its turn comes, however many wait before, if
// still says so then, and calls done with whether it is gone.
func (l *Ledger) forget(who *Asker, c group.ClientID, now time.Time, still func() bool, done func(gone bool)) {
	reply := func(answers []control.Answer) {
		done(answers[0].Code.Success() || answers[0].Code == group.NoSuchDevice)
	}
	j := &job{
		l: l, who: *who, rs: []control.Request{{Op: control.OpForget, Device: c}}, now: now, reply: ReplyFunc(reply),
		dev: c, forced: true, still: still,
	}
	if !l.enterAhead(deviceLane(c), unbounded, j.start) {
		done(false)
	}
}

// lapse forgets the devices that hold nothing and were not here for a day.
func (l *Ledger) lapse(now time.Time) {
	unused := func(c group.ClientID) bool {
		at, ok := l.seen[c]
		switch {
		case !ok || now.Sub(at) < Lapse:
			return false
		case l.cfg.Actor.Present(c):
			l.touch(c, now)
			return false
		}
		return true
	}
	var due []group.ClientID
	l.mu.Lock()
	for c, at := range l.seen {
		if now.Sub(at) >= Lapse {
			due = append(due, c)
		}
	}
	l.mu.Unlock()
	each(due, func(c group.ClientID, done func()) {
		l.forget(&server, c, now, func() bool { return unused(c) }, func(bool) { done() })
	})
}

// resume ends the removal of accounts that was begun and not ended, by the last
// run of the server or by this one.
func (l *Ledger) resume(wg *sync.WaitGroup) {
	l.mu.Lock()
	removed := l.state.RemovedAccounts()
	l.mu.Unlock()
	for _, a := range removed {
		lane := accountLane(group.Fold(a))
		j := &adminJob{
			l: l, who: server, r: control.Request{Op: control.OpAccount, Sub: "remove", User: a}, now: l.cfg.Now(),
			reply: ReplyFunc(func([]control.Answer) { wg.Done() }), lane: lane,
		}
		wg.Add(1)
		if !l.enter(lane, unbounded, j.purge) {
			wg.Done()
		}
	}
}
