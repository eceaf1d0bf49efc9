package badger

import (
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/internal/crash"
	"github.com/muster-mqtt/muster/store"
)

// What one transaction takes at most. The last write may reach beyond maxBytes.
const (
	maxWrites = 1000
	maxBytes  = 1<<20 - 2*store.MaxRecord - store.MaxKey
)

// A job is a write, or a part of the journal to be forgotten, that waits to be
// committed.
type job struct {
	write store.Write
	trim  *trim // if not nil, there is no write
	done  func(group.Rev, error)
}

// A trim forgets notes; afterwards the journal begins with the rev before.
type trim struct {
	notes  [][]byte // their keys
	before group.Rev
}

// An answer is what a done is called with.
type answer struct {
	done func(group.Rev, error)
	rev  group.Rev
	err  error
}

// A batch is what becomes one transaction.
type batch struct {
	jobs   []job
	hints  map[store.Key][]byte
	failed error
}

// Submit implements [store.Store].
func (s *Store) Submit(w store.Write, done func(group.Rev, error)) {
	s.submit(job{write: w, done: done})
}

func (s *Store) submit(j job) {
	s.mu.Lock()
	if s.closing.Load() {
		s.late = append(s.late, j)
		if !s.refusing {
			s.refusing = true
			go s.refuse()
		}
		s.mu.Unlock()
		return
	}
	s.queue = append(s.queue, j)
	s.mu.Unlock()
	s.signal()
}

// Hint implements [store.Store]. A hint is written within about a second.
func (s *Store) Hint(key store.Key, value []byte) {
	if store.CheckHint(key, value) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() || s.failed != nil {
		return
	}
	if value != nil {
		value = append([]byte{}, value...)
	}
	s.hints[key] = value
	if s.timer == nil {
		s.timer = time.AfterFunc(hintDelay, s.writeHints)
	}
}

// writeHints has the hints written that wait.
func (s *Store) writeHints() {
	s.mu.Lock()
	s.hintsDue = true
	s.mu.Unlock()
	s.signal()
}

// stopTimer forgets when the hints are due. The caller holds s.mu.
func (s *Store) stopTimer() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.hintsDue = false
}

// signal wakes the committer.
func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run commits until the store is closed and nothing waits.
func (s *Store) run(answers chan<- []answer) {
	defer close(answers)
	for {
		b, more := s.take()
		switch {
		case len(b.jobs)+len(b.hints) > 0:
			if a := s.write(b); len(a) > 0 {
				answers <- a
			}
		case !more:
			return
		default:
			<-s.wake
		}
	}
}

// take returns what is to be committed next, which may be nothing, and whether
// more can come.
func (s *Store) take() (b batch, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	closing := s.closing.Load()
	n, size := 0, 0
	for n < len(s.queue) && n < maxWrites && size < maxBytes {
		w := &s.queue[n].write
		if t := s.queue[n].trim; t != nil {
			if n > 0 && n+len(t.notes) > maxWrites {
				break
			}
			size += len(t.notes) * 2 * revSize
		}
		size += len(w.Key) + len(w.Value) + len(w.Note)
		n++
	}
	b.jobs, s.queue = s.queue[:n:n], s.queue[n:]
	if len(s.queue) == 0 {
		s.queue = nil // so that the array of a long queue is not kept
	}
	if s.hintsDue || closing {
		b.hints = map[store.Key][]byte{}
		for k, v := range s.hints {
			if len(b.hints) >= maxWrites || size >= maxBytes {
				break
			}
			size += len(k) + len(v)
			b.hints[k] = v
			delete(s.hints, k)
		}
		if len(s.hints) == 0 {
			s.stopTimer()
		}
	}
	b.failed = s.failed
	return b, !closing
}

// write commits the batch, and returns what to tell, in order.
func (s *Store) write(b batch) []answer {
	answers := make([]answer, len(b.jobs))
	for i, j := range b.jobs {
		answers[i].done = j.done
	}
	err := b.failed
	if err == nil {
		if err = s.transact(b, answers); err == nil {
			return answers
		}
		err = s.fail(err)
	}
	for i := range answers {
		answers[i].rev, answers[i].err = 0, err
	}
	return answers
}

// transact makes one transaction of the batch, and writes into the answers what
// became of each job. After an error none of them is known to be recorded.
func (s *Store) transact(b batch, answers []answer) error {
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	rev, sum, trimmed, dirty := s.rev.Load(), s.sum, s.trimmed.Load(), len(b.hints) > 0
	for i, j := range b.jobs {
		if j.trim != nil {
			if err := s.putTrim(txn, j.trim); err != nil {
				return err
			}
			trimmed, dirty = uint64(j.trim.before), true
			continue
		}
		refused, err := s.put(txn, &j.write, group.Rev(rev)+1)
		if err != nil {
			return err
		}
		if refused != nil {
			answers[i].err = refused
			continue
		}
		rev++
		answers[i].rev = group.Rev(rev)
		sum -= uint64(j.write.Expect)
		if j.write.Value != nil {
			sum += rev
		}
	}
	for k, v := range b.hints {
		if err := putRecord(txn, recordKey(k), 0, v); err != nil {
			return err
		}
	}
	if rev != s.rev.Load() {
		dirty = true
		if err := putNumbers(txn, stateKey, rev, sum); err != nil {
			return err
		}
	}
	if !dirty {
		return nil
	}
	if err := s.checkFree(); err != nil {
		return err
	}
	crash.Point("batch made")
	if err := s.commit(txn); err != nil {
		return err
	}
	crash.Point("batch synced")
	s.rev.Store(rev)
	s.sum = sum
	s.trimmed.Store(trimmed)
	return nil
}

// put adds the write to the transaction, which shows what the ones before it
// have written. It returns why the write is refused, or an error of the engine.
func (s *Store) put(txn *badger.Txn, w *store.Write, rev group.Rev) (refused, err error) {
	if err := w.Check(); err != nil {
		return err, nil
	}
	key := recordKey(w.Key)
	was, err := readRev(txn, key)
	if err != nil {
		return nil, err
	}
	if was != w.Expect {
		return store.ErrConflict, nil
	}
	if w.Note != nil {
		if err := txn.Set(noteKey(rev), w.Note); err != nil {
			return nil, err
		}
	}
	return nil, putRecord(txn, key, rev, w.Value)
}

func putRecord(txn *badger.Txn, key []byte, rev group.Rev, value []byte) error {
	if value == nil {
		return txn.Delete(key)
	}
	return txn.Set(key, recordValue(rev, value))
}

func (s *Store) putTrim(txn *badger.Txn, t *trim) error {
	for _, key := range t.notes {
		if err := txn.Delete(key); err != nil {
			return err
		}
	}
	return putNumbers(txn, trimKey, uint64(t.before))
}

// checkFree returns an error if the disk is nearly full.
func (s *Store) checkFree() error {
	if s.minFree < 0 {
		return nil
	}
	n, err := free(s.dir)
	if err == nil && n < s.minFree {
		err = fmt.Errorf("%d MiB of disk are free, and %d MiB are needed", n>>20, s.minFree>>20)
	}
	return err
}

// fail makes the store read-only, and returns the error for all writes from now
// on.
func (s *Store) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = fmt.Errorf("%w: %w", store.ErrReadOnly, err)
	clear(s.hints)
	s.stopTimer()
	s.log.Error("the store is read-only until the server is restarted", "err", err)
	return s.failed
}

// tell calls what the writers have given to be called, in order.
func (s *Store) tell(answers <-chan []answer) {
	defer close(s.told)
	for batch := range answers {
		for _, a := range batch {
			a.done(a.rev, a.err)
		}
	}
}

// refuse answers what was submitted after Close, once the writes before it are
// answered, and ends when there is no more.
func (s *Store) refuse() {
	<-s.told
	for {
		s.mu.Lock()
		late := s.late
		s.late = nil
		if len(late) == 0 {
			s.refusing = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		for _, j := range late {
			j.done(0, store.ErrClosed)
		}
	}
}
