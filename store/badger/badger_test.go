package badger

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
	"github.com/muster-mqtt/muster/store/storetest"
)

func openT(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeT(t, s) })
	return s
}

func closeT(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// submit queues n new records with notes, and returns what wait waits for.
func submit(s *Store, first, n int) (results chan error) {
	results = make(chan error, n)
	for i := first; i < first+n; i++ {
		w := store.Write{Key: store.MetaKey(strconv.Itoa(i)), Value: []byte(strconv.Itoa(i)), Note: []byte("note")}
		s.Submit(w, func(_ group.Rev, err error) { results <- err })
	}
	return results
}

// wait returns the errors, each of which must be the wanted one.
func wait(t *testing.T, results chan error, want error) {
	t.Helper()
	for range cap(results) {
		if err := <-results; !errors.Is(err, want) {
			t.Fatalf("a write meets %v, want %v", err, want)
		}
	}
}

// count returns how many records and notes there are.
func count(t *testing.T, s *Store) (records, notes int) {
	t.Helper()
	err := s.Scan(t.Context(), "", "", func(store.Key, group.Rev, []byte) error { records++; return nil })
	if err != nil {
		t.Error(err)
	}
	err = s.Journal(t.Context(), 0, func(group.Rev, []byte) error { notes++; return nil })
	if err != nil {
		t.Error(err)
	}
	return records, notes
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T, dir string) store.Store {
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// What waits shares one sync.
func TestGroupCommit(t *testing.T) {
	s := openT(t, t.TempDir())
	begun, release := make(chan struct{}), make(chan struct{})
	commits := 0 // counted by the committer
	s.commit = func(txn *badger.Txn) error {
		if commits++; commits == 1 {
			close(begun)
			<-release
		}
		return txn.Commit()
	}
	first := submit(s, 0, 1)
	<-begun
	rest := submit(s, 1, 2*maxWrites)
	close(release)
	wait(t, first, nil)
	wait(t, rest, nil)
	if commits != 3 {
		t.Errorf("%d writes take %d transactions, want 3", 1+2*maxWrites, commits)
	}
}

// A write is answered while the next one is being synced, and not before its
// own sync.
func TestAnsweredAfterSync(t *testing.T) {
	s := openT(t, t.TempDir())
	begun, release := make(chan struct{}), make(chan struct{})
	s.commit = func(txn *badger.Txn) error {
		begun <- struct{}{}
		<-release
		return txn.Commit()
	}
	first := submit(s, 0, 1)
	<-begun
	second := submit(s, 1, 1)
	if len(first) != 0 || s.Rev() != 0 {
		t.Errorf("before the sync the write is answered: rev %d", s.Rev())
	}
	release <- struct{}{}
	<-begun
	wait(t, first, nil)
	if len(second) != 0 || s.Rev() != 1 {
		t.Errorf("before its sync the second write is answered: rev %d", s.Rev())
	}
	release <- struct{}{}
	wait(t, second, nil)
}

// After a sync that failed nothing is accepted until the store is opened again,
// and what was under way is there wholly or not at all.
func TestReadOnlyAfterFailure(t *testing.T) {
	broken := errors.New("input/output error")
	tests := []struct {
		name    string
		commit  func(*badger.Txn) error
		records int // after a restart
	}{
		{"nothing was written", func(*badger.Txn) error { return broken }, 5},
		{"it was written after all", func(txn *badger.Txn) error { return errors.Join(txn.Commit(), broken) }, 8},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			s := openT(t, dir)
			wait(t, submit(s, 0, 5), nil)

			begun, release := make(chan struct{}), make(chan struct{})
			s.commit = func(txn *badger.Txn) error {
				close(begun) // a second commit would panic
				<-release
				return test.commit(txn)
			}
			one := make(chan error, 3)
			s.mu.Lock() // so that the three are one transaction
			for i := 5; i < 8; i++ {
				w := store.Write{Key: store.MetaKey(strconv.Itoa(i)), Value: []byte("v"), Note: []byte("note")}
				s.queue = append(s.queue, job{write: w, done: func(_ group.Rev, err error) { one <- err }})
			}
			s.mu.Unlock()
			s.signal()
			<-begun
			more := submit(s, 8, 3)
			close(release)
			wait(t, one, store.ErrReadOnly)
			wait(t, more, broken)
			wait(t, submit(s, 20, 3), store.ErrReadOnly)
			if err := s.Trim(3); !errors.Is(err, store.ErrReadOnly) {
				t.Errorf("trim: %v", err)
			}
			s.Hint(store.HintKey("h"), []byte("v"))
			if _, notes := count(t, s); notes != 5 || s.Rev() != 5 {
				t.Errorf("read-only, the store is at rev %d with %d notes, want 5 and 5", s.Rev(), notes)
			}
			closeT(t, s)

			s = openT(t, dir)
			records, notes := count(t, s)
			if records != test.records || notes != test.records || s.Rev() != group.Rev(test.records) {
				t.Errorf("after a restart there are %d records and %d notes, and rev %d, want %d", records, notes, s.Rev(), test.records)
			}
			wait(t, submit(s, 8, 1), nil)
		})
	}
}

// A full disk makes the store read-only before Badger meets it.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir, Options{MinFree: 1 << 60}); err == nil || !strings.Contains(err.Error(), "MiB of disk are free") {
		t.Fatalf("open: %v", err)
	}
	s := openT(t, dir)
	wait(t, submit(s, 0, 1), nil)
	s.minFree = 1 << 60
	wait(t, submit(s, 1, 1), store.ErrReadOnly)
	s.minFree = -1
	wait(t, submit(s, 2, 1), store.ErrReadOnly)
}

func TestInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "open")
	s := openT(t, dir)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, error %v", info.Mode(), err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("open a second time: %v", err)
	}
	wait(t, submit(s, 0, 1), nil)
	closeT(t, s)
	openT(t, dir)
}

// Hints are written though nothing else is.
func TestHintsAreWritten(t *testing.T) {
	s := openT(t, t.TempDir())
	synced := make(chan struct{}, 1)
	s.commit = func(txn *badger.Txn) error {
		defer func() { synced <- struct{}{} }()
		return txn.Commit()
	}
	s.Hint(store.HintKey("cursor"), []byte("7"))
	s.writeHints() // as the timer does
	<-synced
	if records, _ := count(t, s); records != 1 || s.Rev() != 0 {
		t.Errorf("%d hints, rev %d", records, s.Rev())
	}
}

// Close ends a scan rather than wait for it.
func TestCloseEndsScan(t *testing.T) {
	s := openT(t, t.TempDir())
	wait(t, submit(s, 0, 2), nil)
	closed := make(chan error, 1)
	err := s.Scan(context.Background(), "", "", func(store.Key, group.Rev, []byte) error {
		go func() { closed <- s.Close() }()
		<-s.told
		return nil
	})
	if !errors.Is(err, store.ErrClosed) {
		t.Errorf("scan: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// A long journal is trimmed in steps, each of which leaves a journal without
// gaps.
func TestTrimInSteps(t *testing.T) {
	s := openT(t, t.TempDir())
	wait(t, submit(s, 0, 3*trimNotes), nil)
	var left []int
	s.commit = func(txn *badger.Txn) error {
		err := txn.Commit()
		n := 0
		last := group.Rev(0)
		err = errors.Join(err, s.Journal(context.Background(), 0, func(rev group.Rev, _ []byte) error {
			if n++; last != 0 && rev != last+1 {
				t.Errorf("note %d follows %d", rev, last)
			}
			last = rev
			return nil
		}))
		left = append(left, n)
		return err
	}
	if err := s.Trim(2*trimNotes + 2); err != nil {
		t.Fatal(err)
	}
	if want := []int{2 * trimNotes, trimNotes, trimNotes - 1}; !slices.Equal(left, want) {
		t.Errorf("the steps leave %d notes, want %d", left, want)
	}
}
