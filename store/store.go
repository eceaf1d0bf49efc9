// Package store is the contract for what survives a restart.
//
// A [Store] keeps records by key and a journal of notes. One write replaces one
// record, if it is still the one the writer has seen, and appends one note: all
// of it or none. Writes are given a rev each, in one order. The contract is
// small enough to be kept by a replicated log as well as by one directory.
//
// The package also holds the keys and the encodings of the records of package
// group, so that every engine keeps the same bytes. What a store promises is
// proved by package storetest.
package store

import (
	"context"
	"errors"

	"github.com/muster-mqtt/muster/group"
)

// The errors of a Store. A write that was given one of them changed nothing,
// save for ErrReadOnly given for a write that was under way when a sync
// failed: whether that one survives is known at the next start.
var (
	ErrConflict = errors.New("the record has changed") // Expect is not the record's rev
	ErrReadOnly = errors.New("the store is read-only: a write to disk failed; restart the server")
	ErrClosed   = errors.New("the store is closed")
	ErrTooLarge = errors.New("the record is too large")
	ErrKey      = errors.New("no record can have this key") // empty, or a hint's
	ErrInUse    = errors.New("the data directory is in use by another server")
	ErrSchema   = errors.New("the data directory was written by a newer release")
)

// MaxRecord and MaxKey are the sizes in bytes of the largest value or note, and
// of the longest key, that a store accepts.
const (
	MaxRecord = 256 << 10
	MaxKey    = 32 << 10
)

// A Write replaces one record and appends one note, both or neither.
type Write struct {
	Key Key
	// Expect is the rev of the record to be replaced, or 0 if there must be
	// none.
	Expect group.Rev
	// Value is the new record; nil deletes the record.
	Value []byte
	// Note is appended to the journal under the write's rev; nil appends none.
	Note []byte
}

// Check returns [ErrKey] or [ErrTooLarge] if no store accepts w, else nil.
func (w *Write) Check() error {
	if w.Key == "" || w.Key.IsHint() {
		return ErrKey
	}
	if len(w.Key) > MaxKey || len(w.Value) > MaxRecord || len(w.Note) > MaxRecord {
		return ErrTooLarge
	}
	return nil
}

// CheckHint returns [ErrKey] or [ErrTooLarge] if no store keeps the hint, else
// nil.
func CheckHint(key Key, value []byte) error {
	if !key.IsHint() {
		return ErrKey
	}
	if len(key) > MaxKey || len(value) > MaxRecord {
		return ErrTooLarge
	}
	return nil
}

// A Store keeps records and a journal. Its methods may be called by several
// goroutines at once.
type Store interface {
	// Submit queues w and returns at once; it never calls done itself. The
	// store does not bound the queue: the caller bounds what it has under way.
	// Writes take effect in the order in which Submit was called, each with the
	// next rev. done is called once for each, one at a time and in that order,
	// after the write is on stable storage; it must not block, and may submit.
	// A write that is refused takes no rev and changes nothing; its done is
	// called in its place in the order. The error is [ErrConflict],
	// [ErrTooLarge], [ErrKey], [ErrReadOnly] or [ErrClosed]. The caller must
	// not alter w's bytes until done is called.
	Submit(w Write, done func(group.Rev, error))

	// Hint keeps value under key some time soon; nil forgets what is there. A
	// crash may lose it; the newest hint for a key wins. Hints take no rev, and
	// their keys are those with [HintPrefix]. Hint keeps no part of value. A
	// hint that [CheckHint] refuses, or that comes after the store became
	// read-only or was closed, is dropped.
	Hint(key Key, value []byte)

	// Scan calls f for each record and hint whose key has the prefix and is
	// not before from, in the order of keys, as of one moment. A hint's rev is
	// 0. It stops at the first error of f, or when ctx ends, and returns that
	// error. f must not keep the bytes, and must not close the store.
	//
	// What has been submitted and not yet answered may be seen or not. In a
	// store that is read-only that holds for the writes under way when the sync
	// failed.
	Scan(ctx context.Context, prefix, from Key, f func(Key, group.Rev, []byte) error) error

	// Journal calls f for each note with a rev of at least from and at most
	// that of Rev, in order. It stops as Scan does.
	Journal(ctx context.Context, from group.Rev, f func(group.Rev, []byte) error) error

	// Trim forgets the journal's notes with a rev before the given one. It
	// does not hold up writes. After an error some of them may be left.
	Trim(before group.Rev) error

	// Rev returns the rev of the newest write that is on stable storage, 0 if
	// there never was one. It is the same after a restart, also if the write
	// deleted its record.
	Rev() group.Rev

	// Close waits for what has been submitted, keeps the hints, then closes
	// the store. Later submits, scans and trims are given ErrClosed.
	Close() error
}
