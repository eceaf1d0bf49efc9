package badger

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/dgraph-io/badger/v4"

	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

// trimNotes is how many notes are forgotten at a time, beside the writes of the
// same transaction.
const trimNotes = 500

// Scan implements [store.Store].
func (s *Store) Scan(ctx context.Context, prefix, from store.Key, f func(store.Key, group.Rev, []byte) error) error {
	begin := recordKey(max(prefix, from))
	return s.walk(ctx, recordKey(prefix), begin, func(item *badger.Item) error {
		return item.Value(func(b []byte) error {
			rev, value, err := splitRecord(item.Key(), b)
			if err != nil {
				return err
			}
			return f(store.Key(item.Key()[1:]), rev, value)
		})
	})
}

// Journal implements [store.Store].
func (s *Store) Journal(ctx context.Context, from group.Rev, f func(group.Rev, []byte) error) error {
	last := s.Rev()
	return s.walkNotes(ctx, from, func(rev group.Rev, item *badger.Item) error {
		if rev > last {
			return errEnough
		}
		return item.Value(func(b []byte) error { return f(rev, b) })
	})
}

// Trim implements [store.Store]. What it has forgotten when an error stops it
// stays forgotten.
func (s *Store) Trim(before group.Rev) error {
	s.trimming.Lock()
	defer s.trimming.Unlock()
	before = min(before, s.Rev()+1)
	for group.Rev(s.trimmed.Load()) < before {
		t := &trim{before: before}
		err := s.walkNotes(context.Background(), 0, func(rev group.Rev, item *badger.Item) error {
			switch {
			case rev >= before:
				return errEnough
			case len(t.notes) == trimNotes:
				t.before = rev
				return errEnough
			}
			t.notes = append(t.notes, item.KeyCopy(nil))
			return nil
		})
		if err != nil {
			return err
		}
		done := make(chan error, 1)
		s.submit(job{trim: t, done: func(_ group.Rev, err error) { done <- err }})
		if err := <-done; err != nil {
			return err
		}
	}
	return nil
}

// errEnough ends a walk without an error.
var errEnough = errors.New("enough")

// walkNotes walks over the notes with a rev of at least from.
func (s *Store) walkNotes(ctx context.Context, from group.Rev, f func(group.Rev, *badger.Item) error) error {
	begin := noteKey(max(from, group.Rev(s.trimmed.Load())))
	return s.walk(ctx, begin[:1], begin, func(item *badger.Item) error {
		return f(group.Rev(binary.BigEndian.Uint64(item.Key()[1:])), item)
	})
}

// walk calls f for each item whose key has the prefix, from begin on, as of one
// moment.
func (s *Store) walk(ctx context.Context, prefix, begin []byte, f func(*badger.Item) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.readers.Done()
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Seek(begin); it.Valid(); it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.closing.Load() {
			return store.ErrClosed
		}
		switch err := f(it.Item()); err {
		case nil:
		case errEnough:
			return nil
		default:
			return err
		}
	}
	return nil
}
