package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

// A Memory is a [store.Store] in memory, for the tests of other packages. What
// it holds outlives Close: [Memory.Reopen] makes it usable again. It is made by
// [NewMemory].
type Memory struct {
	mu       sync.Mutex // guards what follows
	change   *sync.Cond // of what follows
	records  map[store.Key]record
	notes    map[group.Rev][]byte
	rev      group.Rev
	queue    []waiting
	working  bool  // a goroutine answers what is queued
	held     bool  // nothing is answered
	failWith error // what the next write meets, or nil
	failed   error // why the store is read-only, or nil
	closed   bool
}

type record struct {
	rev   group.Rev
	value []byte
}

type waiting struct {
	write store.Write
	done  func(group.Rev, error)
	late  bool // submitted after Close
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	m := &Memory{records: map[store.Key]record{}, notes: map[group.Rev][]byte{}}
	m.change = sync.NewCond(&m.mu)
	return m
}

// Hold holds back every write from now on, as a slow disk would: nothing takes
// effect and no done is called before [Memory.Release]. A write that is being
// answered is ended first, so Hold may not be called from a done.
func (m *Memory) Hold() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = true
	for m.working {
		m.change.Wait()
	}
}

// Release ends what [Memory.Hold] began.
func (m *Memory) Release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = false
	m.work()
}

// Held returns how many writes wait.
func (m *Memory) Held() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.queue)
}

// Fail makes the next write fail, as if the disk did: that write and all later
// ones are given [store.ErrReadOnly], with err as its cause, until
// [Memory.Reopen].
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failWith = err
}

// Reopen makes the store usable again after Close, with what it holds, as a
// restart does.
func (m *Memory) Reopen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.working {
		m.change.Wait()
	}
	m.closed, m.failWith, m.failed = false, nil, nil
}

// Submit implements [store.Store].
func (m *Memory) Submit(w store.Write, done func(group.Rev, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue = append(m.queue, waiting{w, done, m.closed})
	m.work()
}

// work starts a goroutine that answers what is queued, unless there is one. It
// ends when nothing is left to do. The caller holds m.mu.
func (m *Memory) work() {
	if m.working || m.held || len(m.queue) == 0 {
		return
	}
	m.working = true
	go func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for len(m.queue) > 0 && !m.held {
			w := m.queue[0]
			m.queue = m.queue[1:]
			rev, err := m.apply(w)
			m.mu.Unlock()
			w.done(rev, err)
			m.mu.Lock()
		}
		m.working = false
		m.change.Broadcast()
	}()
}

// apply makes the write. The caller holds m.mu.
func (m *Memory) apply(j waiting) (group.Rev, error) {
	w := j.write
	if j.late {
		return 0, store.ErrClosed
	}
	if m.failWith != nil && m.failed == nil {
		m.failed = fmt.Errorf("%w: %w", store.ErrReadOnly, m.failWith)
	}
	if m.failed != nil {
		return 0, m.failed
	}
	if err := w.Check(); err != nil {
		return 0, err
	}
	if m.records[w.Key].rev != w.Expect {
		return 0, store.ErrConflict
	}
	m.rev++
	if w.Value == nil {
		delete(m.records, w.Key)
	} else {
		m.records[w.Key] = record{m.rev, slices.Clone(w.Value)}
	}
	if w.Note != nil {
		m.notes[m.rev] = slices.Clone(w.Note)
	}
	return m.rev, nil
}

// Hint implements [store.Store].
func (m *Memory) Hint(key store.Key, value []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case store.CheckHint(key, value) != nil || m.closed || m.failed != nil:
	case value == nil:
		delete(m.records, key)
	default:
		m.records[key] = record{0, slices.Clone(value)}
	}
}

// Scan implements [store.Store].
func (m *Memory) Scan(ctx context.Context, prefix, from store.Key, f func(store.Key, group.Rev, []byte) error) error {
	m.mu.Lock()
	closed, records := m.closed, maps.Clone(m.records)
	m.mu.Unlock()
	if closed {
		return store.ErrClosed
	}
	for _, k := range slices.Sorted(maps.Keys(records)) {
		if k < from || !strings.HasPrefix(string(k), string(prefix)) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f(k, records[k].rev, slices.Clone(records[k].value)); err != nil {
			return err
		}
	}
	return nil
}

// Journal implements [store.Store].
func (m *Memory) Journal(ctx context.Context, from group.Rev, f func(group.Rev, []byte) error) error {
	m.mu.Lock()
	closed, notes := m.closed, maps.Clone(m.notes)
	m.mu.Unlock()
	if closed {
		return store.ErrClosed
	}
	for _, rev := range slices.Sorted(maps.Keys(notes)) {
		if rev < from {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f(rev, slices.Clone(notes[rev])); err != nil {
			return err
		}
	}
	return nil
}

// Trim implements [store.Store].
func (m *Memory) Trim(before group.Rev) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return store.ErrClosed
	case m.failed != nil:
		return m.failed
	}
	maps.DeleteFunc(m.notes, func(rev group.Rev, _ []byte) bool { return rev < before })
	return nil
}

// Rev implements [store.Store].
func (m *Memory) Rev() group.Rev {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rev
}

// Close implements [store.Store]. It waits for a [Memory.Release] of what is
// held.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for m.working || len(m.queue) > 0 {
		m.change.Wait()
	}
	return nil
}
