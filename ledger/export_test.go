package ledger

import (
	"context"
	"sync"
)

// Keep does what Run does each minute.
func (l *Ledger) Keep(ctx context.Context) { l.keep(ctx) }

// Tidy does what Run does when a group was deleted.
func (l *Ledger) Tidy() { l.tidy() }

// Resume does what Run does first, and waits for it.
func (l *Ledger) Resume() {
	var wg sync.WaitGroup
	l.resume(&wg)
	wg.Wait()
}

// UnderWay returns how many requests are not answered, and how many lanes there
// are.
func (l *Ledger) UnderWay() (requests, lanes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.underWay, len(l.lanes)
}
