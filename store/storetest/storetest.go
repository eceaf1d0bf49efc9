// Package storetest proves that a store keeps its promises: each implementation
// of [store.Store] runs the one suite, [Run], in its tests. The package also
// holds [Memory], a store for the tests of other packages, which passes the
// suite too.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

// Run tests the store that open opens. It calls open with a directory that is
// empty, and later with the same one again to see what outlives Close. Where
// open cannot open it ends the test. Run closes what it has opened.
func Run(t *testing.T, open func(t *testing.T, dir string) store.Store) {
	tests := []struct {
		name string
		f    func(*suite)
	}{
		{"writes take effect in the order of Submit", (*suite).order},
		{"a write replaces what its writer has seen", (*suite).expect},
		{"writes of one key that wait together", (*suite).chain},
		{"record and note, both or neither", (*suite).both},
		{"nil deletes, empty does not", (*suite).nothing},
		{"a done may submit", (*suite).submitInDone},
		{"sizes and keys", (*suite).sizes},
		{"more than one transaction holds", (*suite).many},
		{"several writers", (*suite).writers},
		{"scan", (*suite).scan},
		{"a scan is of one moment", (*suite).moment},
		{"a scan ends early", (*suite).scanEnds},
		{"journal", (*suite).journal},
		{"trim", (*suite).trim},
		{"trim beside writes", (*suite).trimBeside},
		{"hints", (*suite).hints},
		{"close", (*suite).close},
		{"reopen", (*suite).reopen},
		{"any writes, against a model", (*suite).model},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{T: t, dir: t.TempDir(), open: open}
			s.Store = open(t, s.dir)
			test.f(s)
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// A suite is a test and the store that it looks at.
type suite struct {
	*testing.T
	store.Store
	dir  string
	open func(*testing.T, string) store.Store
}

// again closes the store and opens it anew.
func (s *suite) again() {
	s.Helper()
	if err := s.Close(); err != nil {
		s.Fatalf("close: %v", err)
	}
	s.Store = s.open(s.T, s.dir)
}

// A result is what a done was called with.
type result struct {
	rev group.Rev
	err error
}

// write submits w and waits for its done.
func (s *suite) write(w store.Write) (group.Rev, error) {
	done := make(chan result, 1)
	s.Submit(w, func(rev group.Rev, err error) { done <- result{rev, err} })
	r := <-done
	return r.rev, r.err
}

// must writes w, which has to be accepted.
func (s *suite) must(w store.Write) group.Rev {
	s.Helper()
	rev, err := s.write(w)
	if err != nil {
		s.Fatalf("write %q: %v", w.Key, err)
	}
	return rev
}

// want writes w, which has to meet the given error.
func (s *suite) want(what string, w store.Write, want error) {
	s.Helper()
	before := s.Rev()
	rev, err := s.write(w)
	if !errors.Is(err, want) || rev != 0 {
		s.Errorf("%s: rev %d, error %v, want 0 and %v", what, rev, err, want)
	}
	if s.Rev() != before {
		s.Errorf("%s: the store is at rev %d, and was at %d", what, s.Rev(), before)
	}
}

// all submits the writes together, waits, and returns the results in the order
// in which they came. A done that is called twice, or beside another one, is an
// error of the test, under the race detector at the latest.
func (s *suite) all(writes []store.Write) []result {
	s.Helper()
	var results []result // written by the dones, one at a time
	done := make(chan struct{}, len(writes))
	for i, w := range writes {
		called := false
		s.Submit(w, func(rev group.Rev, err error) {
			if called {
				s.Errorf("the done of write %d is called twice", i)
			}
			called = true
			if len(results) != i {
				s.Errorf("the done of write %d is called as number %d", i, len(results))
			}
			if err == nil && s.Rev() < rev {
				s.Errorf("write %d has rev %d, and the store is at %d", i, rev, s.Rev())
			}
			results = append(results, result{rev, err})
			done <- struct{}{}
		})
	}
	for range writes {
		<-done
	}
	return results
}

// A content is all that a store holds, as text, to be compared.
type content struct {
	records map[store.Key]string // rev and value
	notes   map[group.Rev]string
	rev     group.Rev
}

func (s *suite) content() content {
	s.Helper()
	c := content{map[store.Key]string{}, map[group.Rev]string{}, s.Rev()}
	before := store.Key("")
	err := s.Scan(context.Background(), "", "", func(k store.Key, rev group.Rev, v []byte) error {
		if k <= before {
			s.Errorf("scan: key %q comes after %q", k, before)
		}
		before = k
		c.records[k] = fmt.Sprintf("%d %q", rev, v)
		return nil
	})
	if err != nil {
		s.Fatalf("scan: %v", err)
	}
	last := group.Rev(0)
	err = s.Journal(context.Background(), 0, func(rev group.Rev, note []byte) error {
		if rev <= last || rev > s.Rev() {
			s.Errorf("journal: rev %d comes after %d, and the store is at %d", rev, last, s.Rev())
		}
		last = rev
		c.notes[rev] = string(note)
		return nil
	})
	if err != nil {
		s.Fatalf("journal: %v", err)
	}
	return c
}

// compare reports where the store's content is not the wanted one.
func (s *suite) compare(what string, want content) {
	s.Helper()
	got := s.content()
	if got.rev != want.rev {
		s.Errorf("%s: the store is at rev %d, want %d", what, got.rev, want.rev)
	}
	if !maps.Equal(got.records, want.records) {
		s.Errorf("%s: the records are %s\nwant %s", what, show(got.records), show(want.records))
	}
	if !maps.Equal(got.notes, want.notes) {
		s.Errorf("%s: the notes are %s\nwant %s", what, show(got.notes), show(want.notes))
	}
}

// show prints a map in order, cut where it gets long.
func show[K ~string | ~uint64](m map[K]string) string {
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if b.Len() > 2000 {
			return b.String() + " ..."
		}
		fmt.Fprintf(&b, " %q=%.40s", fmt.Sprint(k), m[k])
	}
	return b.String()
}
