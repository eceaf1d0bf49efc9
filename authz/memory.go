package authz

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
)

// A key stands for something that is remembered or counted: a digest under a
// key of this process.
type key [16]byte

// A set holds at most max keys. When there is no room any of them goes.
type set struct {
	max int
	m   map[key]struct{}
}

func newSet(max int) *set { return &set{max: max, m: map[key]struct{}{}} }

func (s *set) has(k key) bool {
	_, ok := s.m[k]
	return ok
}

func (s *set) add(k key) {
	if !s.has(k) && len(s.m) >= s.max {
		for old := range s.m {
			delete(s.m, old)
			break
		}
	}
	s.m[k] = struct{}{}
}

// maxKnown is how many right secrets are remembered.
const maxKnown = 1 << 17

// A memory knows which secrets were right, without holding any: a fleet that
// comes back costs no argon2id.
type memory struct {
	secret [32]byte

	mu    sync.Mutex // guards right
	right *set
}

func newMemory() *memory {
	m := &memory{right: newSet(maxKnown)}
	rand.Read(m.secret[:])
	return m
}

// digest stands for the hash and the secret together, so a new hash makes what
// was known of the old one void.
func (m *memory) digest(hash string, secret []byte) (k key) {
	mac := hmac.New(sha256.New, m.secret[:])
	mac.Write([]byte(hash))
	mac.Write([]byte{0}) // no hash holds one
	mac.Write(secret)
	var sum [sha256.Size]byte
	copy(k[:], mac.Sum(sum[:0]))
	return k
}

func (m *memory) has(hash string, secret []byte) bool {
	k := m.digest(hash, secret)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.right.has(k)
}

func (m *memory) add(hash string, secret []byte) {
	k := m.digest(hash, secret)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.right.add(k)
}
