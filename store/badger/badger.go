// Package badger keeps the records and the journal of one server in one
// directory, with Badger as its engine.
//
// A [Store] keeps what package store asks of it, and is proved by package
// storetest. One goroutine commits: it takes all writes that wait into one
// transaction and one sync, so that many writers pay for few syncs and one
// alone pays for one. Another calls what the writers have given to be called,
// while the next transaction is being synced.
//
// After a write or sync that failed the store is read-only until it is opened
// again: what the disk holds is not known before it is read anew.
package badger

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

// Options says how a store is opened. The zero value is usable.
type Options struct {
	// Logger receives what Badger has to say: what one should look into as
	// warnings, the rest at level debug. Nil means nowhere.
	Logger *slog.Logger
	// MinFree is how many bytes must be free on the directory's file system.
	// The default is 64 MiB, a negative value asks for none. When there are
	// fewer, the store does not open, and an open one becomes read-only:
	// Badger writes to files mapped in memory, where a full disk ends the
	// process.
	MinFree int64
}

const defaultMinFree = 64 << 20

// hintDelay is how long a hint may wait before it is written.
const hintDelay = time.Second

// A Store is a [store.Store] in one directory. It is made by [Open].
type Store struct {
	dir     string
	locked  *os.File // keeps other processes out until it is closed
	db      *badger.DB
	log     *slog.Logger
	minFree int64
	commit  func(*badger.Txn) error // replaced in tests

	rev     atomic.Uint64 // of the newest write that is synced
	trimmed atomic.Uint64 // the journal begins here
	sum     uint64        // of the revs of all records; the committer's own
	closing atomic.Bool   // set by Close, under mu

	trimming sync.Mutex     // held by the one Trim at work
	readers  sync.WaitGroup // scans and trims under way; added to under mu
	wake     chan struct{}  // tells the committer that there is work; holds one
	told     chan struct{}  // closed when the last write before Close is answered

	mu       sync.Mutex // guards what follows
	queue    []job
	hints    map[store.Key][]byte
	hintsDue bool        // the hints have waited long enough
	timer    *time.Timer // sets hintsDue; nil if no hint waits
	failed   error       // why the store is read-only, or nil
	late     []job       // submitted after Close, not yet refused
	refusing bool        // a goroutine refuses what is late

	closed    sync.Once
	closedErr error
}

// Open opens the store in dir, and makes the directory, for its owner alone, if
// there is none. It reads all of the data once, to see that none is damaged or
// missing, and drops the torn end that a crash leaves: writes that were never
// answered.
//
// The error names dir and says what is wrong. It is [store.ErrInUse] if another
// process has the directory, and [store.ErrSchema] if a newer release has
// written to it; then nothing in it is touched.
func Open(dir string, o Options) (*Store, error) {
	s, err := open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return s, nil
}

func open(dir string, o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MinFree == 0 {
		o.MinFree = defaultMinFree
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Store{
		dir: dir, log: o.Logger, minFree: o.MinFree, commit: (*badger.Txn).Commit,
		wake: make(chan struct{}, 1), told: make(chan struct{}), hints: map[store.Key][]byte{},
	}
	if err := s.checkFree(); err != nil {
		return nil, err
	}
	if _, err := readSchema(dir); err != nil {
		return nil, err
	}
	var err error
	if s.locked, err = lockDir(dir); err != nil {
		return nil, err
	}
	if err := s.openEngine(); err != nil {
		return nil, errors.Join(err, s.locked.Close())
	}
	answers := make(chan []answer, 4)
	go s.run(answers)
	go s.tell(answers)
	return s, nil
}

// openEngine opens the locked directory.
func (s *Store) openEngine() error {
	had, err := readSchema(s.dir)
	if err != nil {
		return err
	}
	if err := prepare(s.dir, had == 0); err != nil {
		return err
	}
	if had == 0 {
		if err := writeLine(s.dir, schemaFile, schemaFormat, schema); err != nil {
			return err
		}
	}
	db, err := badger.Open(engineOptions(s.dir, s.log))
	switch {
	case err != nil && strings.Contains(err.Error(), "Cannot acquire directory lock"):
		return store.ErrInUse // Badger does not wrap the error of the system call
	case err != nil:
		return err
	}
	s.db = db
	if err := s.load(); err != nil {
		return errors.Join(err, db.Close())
	}
	return nil
}

// engineOptions returns how Badger is used: all values stay in its tables. Its
// value log would hold those of over a megabyte, which there are none of, and
// it takes no notice of an error when it syncs that log; so there is never
// anything in it to clean.
func engineOptions(dir string, log *slog.Logger) badger.Options {
	o := badger.DefaultOptions(dir)
	o.Logger = logger{log}
	o.SyncWrites = true
	o.DetectConflicts = false // one goroutine writes
	o.NumVersionsToKeep = 1
	o.MetricsEnabled = false
	o.MemTableSize = 16 << 20
	o.NumMemtables = 3
	o.NumCompactors = 2
	o.ValueThreshold = 1 << 20
	o.ValueLogFileSize = 1 << 20
	o.Compression = options.None
	o.BlockCacheSize = 0 // tables are mapped, and neither packed nor encrypted
	return o
}

// load reads what the store knows of itself, and sees that no record is missing
// or of another time than the rest.
func (s *Store) load() error {
	err := s.db.View(func(txn *badger.Txn) error {
		at, err := readNumbers(txn, stateKey, 2)
		if err != nil {
			return err
		}
		begin, err := readNumbers(txn, trimKey, 1)
		if err != nil {
			return err
		}
		s.rev.Store(at[0])
		s.sum = at[1]
		s.trimmed.Store(begin[0])
		sum, err := sumRevs(txn)
		if err == nil && sum != s.sum {
			err = errors.New("some records are missing or older than the newest write")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("the data is damaged: %w", err)
	}
	return checkFloor(s.dir, s.Rev())
}

// Rev implements [store.Store].
func (s *Store) Rev() group.Rev { return group.Rev(s.rev.Load()) }

// Close implements [store.Store]. It ends the scans and trims that are under
// way with [store.ErrClosed]. A second call returns what the first did.
func (s *Store) Close() error {
	s.closed.Do(func() {
		s.mu.Lock()
		s.closing.Store(true)
		s.stopTimer()
		s.mu.Unlock()
		s.signal()
		<-s.told
		s.readers.Wait()
		err := s.db.Close()
		if err == nil {
			err = checkFloor(s.dir, s.Rev())
		}
		if err = errors.Join(err, s.locked.Close()); err != nil {
			s.closedErr = fmt.Errorf("close store %s: %w", s.dir, err)
		}
	})
	return s.closedErr
}

// enter begins a scan or trim, which ends with s.readers.Done. The error is
// [store.ErrClosed].
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return store.ErrClosed
	}
	s.readers.Add(1)
	return nil
}
