package fanout

import "sync/atomic"

// A Budget bounds the bytes that wait for all Members that share it. Each Member is
// charged in steps of 16 KiB, and the first is free: one for which little waits needs
// nothing of the Budget, so that those who do not read take nothing from it.
type Budget struct {
	most int64
	used atomic.Int64
}

// NewBudget returns a Budget of so many bytes; 0 or less: without a bound.
func NewBudget(bytes int) *Budget { return &Budget{most: int64(bytes)} }

// Used returns how many bytes are charged now.
func (b *Budget) Used() int64 { return b.used.Load() }

func (b *Budget) take(n int) bool {
	if used := b.used.Add(int64(n)); b.most > 0 && used > b.most {
		b.used.Add(int64(-n))
		return false
	}
	return true
}

// budgetStep is in bytes.
const budgetStep = 16 << 10

// due returns what is charged for so many bytes.
func due(bytes int) int { return max(bytes-1, 0) / budgetStep * budgetStep }

// charge reports whether so many bytes may wait for the Member. The caller holds
// m.mu.
func (m *Member) charge(bytes int) bool {
	b, want := m.limits.Budget, due(bytes)
	if b == nil || want <= m.charged {
		return true
	}
	if !b.take(want - m.charged) {
		return false
	}
	m.charged = want
	return true
}

// settle gives back what the Member is charged too much, but for one step, so that
// who is near a step does not pay at each message. The caller holds m.mu.
func (m *Member) settle() {
	if m.charged == 0 {
		return
	}
	if want := due(m.q.bytes + m.held.bytes + m.win.bytes); want == 0 || m.charged-want > budgetStep {
		m.limits.Budget.used.Add(int64(want - m.charged))
		m.charged = want
	}
}

// retire gives back all that the Member is charged, for good.
func (m *Member) retire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.limits.Budget != nil {
		m.limits.Budget.used.Add(int64(-m.charged))
		m.limits.Budget, m.charged = nil, 0
	}
}
