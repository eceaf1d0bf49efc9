package broker

import "sync"

// workersMax bounds how many do at once what may wait. Those who wait for argon2id
// are fewer: package authz bounds them.
const workersMax = 1024

// workers do what a loop must not wait for. Who has nothing to do ends.
type workers struct {
	wg *sync.WaitGroup

	mu      sync.Mutex // guards all below
	running int
	waiting []func() // first in, first out; at most one of each connection
	head    int
}

// do has f done soon.
func (w *workers) do(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running < workersMax {
		w.running++
		w.wg.Go(func() { w.run(f) })
		return
	}
	w.waiting = append(w.waiting, f)
}

func (w *workers) run(f func()) {
	for f != nil {
		f()
		f = w.next()
	}
}

func (w *workers) next() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.head == len(w.waiting) {
		w.waiting, w.head = nil, 0
		w.running--
		return nil
	}
	f := w.waiting[w.head]
	w.waiting[w.head] = nil
	w.head++
	return f
}
