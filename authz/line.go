package authz

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// A class says for what one waits: each has a line of its own and they take
// turns, so that strangers who try to log in hold up neither devices that are
// logged in nor operators.
type class int

const (
	forSetting class = iota // an operator sets a secret
	forJudging              // a device that is logged in gives a PIN
	forLogin                // anyone
	classes
)

// maxWaiting is how many wait in a line: with the default costs the last of
// them waits a few seconds.
const maxWaiting = 128

// errLine says that a line is as long as it may be.
var errLine = errors.New("too many wait for argon2id")

// A line bounds what is done at once.
type line struct {
	mu      sync.Mutex
	free    int
	waiting [classes][]chan struct{} // closed when it is one's turn
	turn    class                    // the line that went last
}

func newLine(runs int) *line { return &line{free: runs} }

// enter returns when it is the caller's turn; leave must follow. After an error,
// that of ctx or errLine, it must not.
func (l *line) enter(ctx context.Context, c class) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	if l.free > 0 {
		l.free--
		l.mu.Unlock()
		return nil
	}
	if len(l.waiting[c]) >= maxWaiting {
		l.mu.Unlock()
		return errLine
	}
	turn := make(chan struct{})
	l.waiting[c] = append(l.waiting[c], turn)
	l.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	i := slices.Index(l.waiting[c], turn)
	if i >= 0 {
		l.waiting[c] = slices.Delete(l.waiting[c], i, i+1)
	}
	l.mu.Unlock()
	if i < 0 {
		l.leave() // its turn came at the same moment
	}
	return ctx.Err()
}

// leave gives the turn to the next.
func (l *line) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range classes {
		l.turn = (l.turn + 1) % classes
		if w := l.waiting[l.turn]; len(w) > 0 {
			close(w[0])
			l.waiting[l.turn] = slices.Delete(w, 0, 1)
			return
		}
	}
	l.free++
}
