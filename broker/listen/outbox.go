package listen

import (
	"errors"
	"net"
	"sync"
)

// An outbox is what TLS and WebSocket write to: it takes their bytes without
// waiting, and hands them to the kernel as far as that takes them.
type outbox struct {
	raw  net.Conn
	sock socket
	// direct has each write wait until the peer has taken it: during the
	// handshake, which one goroutine makes.
	direct bool

	mu   sync.Mutex
	buf  *[]byte // from pool; nil if nothing waits
	head int     // of buf: what is handed over
	err  error   // why nothing more is taken
}

// outboxMax is how many bytes may wait: one part and what WebSocket and TLS
// answer by themselves.
const outboxMax = 64 << 10

var (
	errOutboxFull = errors.New("the peer does not take the answers to its control frames")
	errOutboxCut  = errors.New("nothing more is written")
)

var outboxPool = sync.Pool{New: func() any {
	b := make([]byte, 0, 20<<10)
	return &b
}}

// Write takes the bytes, all of them or none.
func (o *outbox) Write(b []byte) (int, error) {
	if o.direct {
		return o.raw.Write(b)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil && o.waiting()+len(b) > outboxMax {
		o.err = errOutboxFull
	}
	if o.err != nil {
		return 0, o.err
	}
	if o.buf == nil {
		o.buf = outboxPool.Get().(*[]byte)
	}
	*o.buf = append(*o.buf, b...)
	return len(b), nil
}

// waiting returns how many bytes wait. The caller holds o.mu.
func (o *outbox) waiting() int {
	if o.buf == nil {
		return 0
	}
	return len(*o.buf) - o.head
}

// size returns how many bytes wait.
func (o *outbox) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting()
}

// flush hands over what the kernel takes, and reports whether nothing waits any
// more.
func (o *outbox) flush() (empty bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf == nil {
		return true, o.err
	}
	n, err := o.sock.try((*o.buf)[o.head:])
	o.head += n
	if err != nil {
		o.fail(err)
		return false, err
	}
	if o.waiting() > 0 {
		return false, nil
	}
	o.drop()
	return true, nil
}

// cut discards what waits, and takes nothing more: when it returns, no byte is
// handed over any more.
func (o *outbox) cut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail(errOutboxCut)
}

// fail ends the outbox. The caller holds o.mu.
func (o *outbox) fail(err error) {
	if o.err == nil {
		o.err = err
	}
	o.drop()
}

// drop lets go of the buffer. The caller holds o.mu.
func (o *outbox) drop() {
	if o.buf != nil && cap(*o.buf) <= outboxMax {
		*o.buf = (*o.buf)[:0]
		outboxPool.Put(o.buf)
	}
	o.buf, o.head = nil, 0
}
