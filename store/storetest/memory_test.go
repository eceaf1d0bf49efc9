package storetest

import (
	"errors"
	"testing"

	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

func TestMemory(t *testing.T) {
	kept := map[string]*Memory{}
	Run(t, func(_ *testing.T, dir string) store.Store {
		if m := kept[dir]; m != nil {
			m.Reopen()
			return m
		}
		kept[dir] = NewMemory()
		return kept[dir]
	})
}

// What is held back has no effect before it is released, and Close waits for it.
func TestMemoryHold(t *testing.T) {
	m := NewMemory()
	m.Hold()
	revs := make(chan group.Rev, 3)
	for range 3 {
		m.Submit(store.Write{Key: store.MetaKey("k"), Expect: group.Rev(m.Held()), Value: []byte("v")}, func(rev group.Rev, err error) {
			if err != nil {
				t.Errorf("rev %d: %v", rev, err)
			}
			revs <- rev
		})
	}
	if m.Held() != 3 || m.Rev() != 0 || len(revs) != 0 {
		t.Errorf("%d writes wait, the store is at rev %d, %d are answered", m.Held(), m.Rev(), len(revs))
	}
	closed := make(chan error)
	go func() { closed <- m.Close() }()
	m.Release()
	if err := <-closed; err != nil || len(revs) != 3 || m.Rev() != 3 {
		t.Errorf("close: %v, %d are answered, rev %d", err, len(revs), m.Rev())
	}
}

// A failed write changes nothing, and makes the store read-only until it is
// opened again.
func TestMemoryFail(t *testing.T) {
	s := &suite{T: t, Store: NewMemory()}
	m := s.Store.(*Memory)
	s.must(store.Write{Key: "ma", Value: []byte("v"), Note: []byte("n")})
	before := s.content()
	broken := errors.New("the disk is broken")
	m.Fail(broken)
	for range 2 {
		s.want("a write", store.Write{Key: "mb", Value: []byte("v")}, store.ErrReadOnly)
		s.want("a write's cause", store.Write{Key: "mb", Value: []byte("v")}, broken)
	}
	if err := m.Trim(2); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("trim: %v", err)
	}
	m.Hint(store.HintKey("h"), []byte("v"))
	s.compare("read-only", before)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m.Reopen()
	s.compare("after a restart", before)
	s.must(store.Write{Key: "mb", Value: []byte("v")})
}
