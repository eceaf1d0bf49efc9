package ledger

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

// errStop ends a walk of the journal early.
var errStop = errors.New("enough")

// load reads groups, accounts and devices, in this order: a membership of a
// deleted group is void. Then what requests with an id have changed.
func (l *Ledger) load(ctx context.Context) error {
	s := l.cfg.Store
	err := s.Scan(ctx, store.GroupPrefix, "", func(k store.Key, rev group.Rev, v []byte) error {
		g, err := store.DecodeGroup(v)
		if err != nil {
			return fmt.Errorf("group record %q: %w", string(k), err)
		}
		l.state.LoadGroup(g, rev)
		return nil
	})
	if err != nil {
		return err
	}
	err = s.Scan(ctx, store.AccountPrefix, "", func(k store.Key, rev group.Rev, v []byte) error {
		a, err := store.DecodeAccount(v)
		if err != nil {
			return fmt.Errorf("account record %q: %w", string(k), err)
		}
		l.state.LoadAccount(a, rev)
		return nil
	})
	if err != nil {
		return err
	}
	now := l.cfg.Now()
	err = s.Scan(ctx, store.DevicePrefix, "", func(k store.Key, rev group.Rev, v []byte) error {
		d, err := store.DecodeDevice(rev, v)
		if err != nil {
			return fmt.Errorf("device record %q: %w", string(k), err)
		}
		l.state.LoadDevice(d, rev)
		if len(d.Groups) == 0 && len(d.Ends) == 0 {
			l.seen[d.ClientID] = now
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := l.loadRepeats(ctx, now); err != nil {
		return err
	}
	if err := l.loadKeys(ctx, now); err != nil {
		return err
	}
	l.state.Loaded(s.Rev())
	return nil
}

// loadRepeats reads the notes of the last ten minutes.
func (l *Ledger) loadRepeats(ctx context.Context, now time.Time) error {
	from, err := l.revAt(ctx, now.Add(-RepeatLife-disorder))
	if err != nil {
		return err
	}
	return l.store.Journal(ctx, from, func(_ group.Rev, b []byte) error {
		n, err := store.DecodeNote(b)
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		if len(n.ReqID) > 0 {
			l.repeats.add(keyOf(n.Account, n.Device, n.ReqID), repeat{body: n.Body, n: target(n.From, n.To), code: n.Code, at: n.At.Unix()})
		}
		return nil
	})
}

// disorder is by how much a note may be older than one before it: a request is
// dated when it comes, and may wait for a verdict before it is recorded.
const disorder = time.Minute

// revAt returns the rev of the first note that is not older than t, by halving:
// notes are in the order of time but for disorder.
func (l *Ledger) revAt(ctx context.Context, t time.Time) (group.Rev, error) {
	var failed error
	last := l.store.Rev()
	n := sort.Search(int(last), func(i int) bool {
		late := true // no note at or after this rev
		err := l.store.Journal(ctx, group.Rev(i)+1, func(_ group.Rev, b []byte) error {
			note, err := store.DecodeNote(b)
			if err != nil {
				return fmt.Errorf("journal: %w", err)
			}
			late = !note.At.Before(t)
			return errStop
		})
		if err != nil && !errors.Is(err, errStop) {
			failed = err
		}
		return late
	})
	return group.Rev(n) + 1, failed
}

// grantKeys is the record of the keys that sign grants.
var grantKeys = store.MetaKey("grant-keys")

// loadKeys reads the keys that sign grants, and makes new ones where needed.
func (l *Ledger) loadKeys(ctx context.Context, now time.Time) error {
	var keys authz.Keys
	var rev group.Rev
	found := false
	err := l.store.Scan(ctx, grantKeys, "", func(k store.Key, r group.Rev, v []byte) error {
		if k != grantKeys {
			return nil
		}
		var err error
		keys, err = authz.DecodeKeys(v)
		rev, found = r, true
		return err
	})
	if err != nil {
		return fmt.Errorf("grant keys: %w", err)
	}
	changed := !found
	if found {
		keys, changed = keys.Rotate(now)
	} else {
		keys = authz.NewKeys(now)
	}
	if changed {
		done := make(chan error, 1)
		l.store.Submit(store.Write{Key: grantKeys, Expect: rev, Value: keys.Encode()}, func(r group.Rev, err error) {
			rev = r
			done <- err
		})
		if err := <-done; err != nil {
			return fmt.Errorf("write grant keys: %w", err)
		}
	}
	l.authz.SetKeys(keys)
	return nil
}
