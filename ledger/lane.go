package ledger

import (
	"math"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A lane is the waiting line of one device, group or account: its requests are
// taken one after the other, each on what the one before has made.
type lane struct {
	waiting []func()
	// ahead is what others have to do to the device: it comes before what the
	// device itself asks for, so that a busy device does not keep them waiting.
	ahead []func()
}

// unbounded is the room in a lane for what the server itself has to do.
const unbounded = math.MaxInt

// enter runs f when its turn in the lane comes: at once if the lane is empty.
// It reports whether there was room. f must see to it that leave is called.
func (l *Ledger) enter(key string, max int, f func()) bool {
	return l.line(key, max, f, func(ln *lane) *[]func() { return &ln.waiting })
}

// enterAhead is enter for what goes before the device's own requests.
func (l *Ledger) enterAhead(key string, max int, f func()) bool {
	return l.line(key, max, f, func(ln *lane) *[]func() { return &ln.ahead })
}

func (l *Ledger) line(key string, max int, f func(), of func(*lane) *[]func()) bool {
	l.mu.Lock()
	if l.closed || l.underWay >= MaxUnderWay && max != unbounded {
		l.mu.Unlock()
		return false
	}
	ln, busy := l.lanes[key]
	if busy {
		in := of(ln)
		if len(*in) >= max {
			l.mu.Unlock()
			return false
		}
		*in = append(*in, f)
		l.underWay++
		l.mu.Unlock()
		return true
	}
	l.lanes[key] = &lane{}
	l.underWay++
	l.mu.Unlock()
	f()
	return true
}

// leave gives the lane to the next in line, on a goroutine of its own: leave is
// called on the store's, which one busy lane must not keep to itself.
func (l *Ledger) leave(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.underWay--
	if l.underWay == 0 {
		l.idle.Broadcast()
	}
	ln := l.lanes[key]
	from := &ln.ahead
	if len(*from) == 0 {
		from = &ln.waiting
	}
	if len(*from) == 0 {
		delete(l.lanes, key)
		return
	}
	next := (*from)[0]
	*from = (*from)[1:]
	go next()
}

// full is the code for one who found no room: the server is ending, or the
// asker has too much under way.
func (l *Ledger) full() group.Code {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return group.Unavailable
	}
	return group.RateLimited
}

// refuseAll answers each request with the same code.
func refuseAll(rs []control.Request, code group.Code, reply Reply) {
	answers := make([]control.Answer, len(rs))
	for i, r := range rs {
		answers[i] = refusal(r, code, "")
	}
	reply.Answer(answers)
}

func refusal(r control.Request, code group.Code, rule string) control.Answer {
	a := control.Answer{Op: r.Op, ID: r.ID, Code: code, Why: rule}
	if code.Retryable() {
		a.Retry = 1
	}
	return a
}
