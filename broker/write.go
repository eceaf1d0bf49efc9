package broker

import (
	"errors"
	"runtime"
	"slices"
	"sync"
)

// The states of writing: a connection is written by one goroutine at a time.
const (
	writeIdle  = iota
	writeBusy  // queued for, or in the hands of, a writer
	writeAgain // the same, and there is more since
)

// chunk is how many bytes are taken from a queue at once, and so about the most that
// is kept for a peer that has stopped to read, besides its queue.
const chunk = 16 << 10

// WakeLater has what is queued written soon, behind what somebody waits for.
func (c *conn) WakeLater() {
	if c.looped != nil {
		c.looped.loop.write(c, false)
		return
	}
	c.Wake()
}

// Wake has what is queued written soon.
func (c *conn) Wake() {
	if c.looped != nil {
		c.looped.loop.write(c, true)
		return
	}
	for {
		switch c.wstate.Load() {
		case writeIdle:
			if c.wstate.CompareAndSwap(writeIdle, writeBusy) {
				c.s.flusher.add(c)
				return
			}
		case writeBusy:
			if c.wstate.CompareAndSwap(writeBusy, writeAgain) {
				return
			}
		default:
			return
		}
	}
}

// A flusher writes what is queued for connections, with few goroutines: what
// several publishers queue for one connection meanwhile is one write.
type flusher struct {
	mu    sync.Mutex
	ready *sync.Cond
	conns []*conn // first in, first out
	head  int
	ended bool
	wg    sync.WaitGroup
}

func newFlusher() *flusher {
	f := &flusher{}
	f.ready = sync.NewCond(&f.mu)
	return f
}

func (f *flusher) start() {
	for range runtime.GOMAXPROCS(0) {
		f.wg.Go(f.run)
	}
}

// stop returns when all writers have ended.
func (f *flusher) stop() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.ready.Broadcast()
	f.wg.Wait()
}

func (f *flusher) add(c *conn) {
	f.mu.Lock()
	if f.head > 64 && f.head*2 > len(f.conns) { // it need not ever be empty
		n := copy(f.conns, f.conns[f.head:])
		clear(f.conns[n:])
		f.conns, f.head = f.conns[:n], 0
	}
	f.conns = append(f.conns, c)
	f.mu.Unlock()
	f.ready.Signal()
}

func (f *flusher) next() *conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.head == len(f.conns) {
		if f.ended {
			return nil
		}
		f.ready.Wait()
	}
	c := f.conns[f.head]
	f.conns[f.head] = nil
	f.head++
	if f.head == len(f.conns) {
		f.conns, f.head = f.conns[:0], 0
	}
	return c
}

func (f *flusher) run() {
	buf := make([]byte, 0, 2*chunk)
	for {
		c := f.next()
		if c == nil {
			return
		}
		if rest := c.flush(buf[:0], fairTurns); rest != nil {
			// The peer is slow: it gets a goroutine of its own, which ends when
			// all is written.
			rest = slices.Clone(rest)
			f.wg.Go(func() { c.drain(rest) })
		}
	}
}

// fairTurns is how often a writer takes from one connection's queue before it is
// the next connection's turn.
const fairTurns = 4

// flush writes what is queued. It returns bytes that the peer does not take now:
// they are to be written first. After some turns it puts the connection behind
// the others that wait; 0 is without end.
func (c *conn) flush(buf []byte, turns int) []byte {
	for i := 1; ; i++ {
		if turns > 0 && i > turns {
			c.s.flusher.add(c) // it stays busy
			return nil
		}
		b := c.take(buf)
		if len(b) == 0 {
			if c.wstate.CompareAndSwap(writeBusy, writeIdle) {
				return nil
			}
			c.wstate.Store(writeBusy)
			continue
		}
		rest, err := c.put(b)
		if err != nil {
			c.lost(err)
			continue
		}
		if len(rest) > 0 {
			return rest
		}
		c.wrote()
	}
}

// take returns bytes to be written: of the Member's queue, or the tail.
func (c *conn) take(buf []byte) []byte {
	c.wmu.Lock()
	if c.hasTail {
		defer c.wmu.Unlock()
		tail := c.tail
		c.tail, c.inTail = nil, true
		if len(tail) == 0 && !c.isFinished {
			c.isFinished = true
			if c.finished != nil {
				close(c.finished)
			}
		}
		return tail
	}
	aborted := c.aborted
	c.wmu.Unlock()
	if aborted || c.session == nil {
		return nil
	}
	return c.session.member.Take(c, buf, chunk, c.s.cfg.now())
}

// wrote tells the Member that what was taken is with the kernel.
func (c *conn) wrote() {
	if c.session != nil {
		c.session.member.Wrote(c)
	}
}

// put writes as much as the peer takes at once, unless writing was forbidden.
func (c *conn) put(b []byte) ([]byte, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.aborted && !c.inTail {
		return nil, errAborted
	}
	n, err := c.net.Try(b)
	c.partial, c.began = n < len(b), c.began || n > 0
	return b[n:], err
}

var errAborted = errors.New("the connection no longer writes")

// drain writes the bytes to a slow peer, and then what has been queued since.
func (c *conn) drain(rest []byte) {
	for rest != nil {
		for len(rest) > 0 {
			err := c.net.Wait()
			if err == nil {
				rest, err = c.put(rest)
			}
			if err != nil {
				c.lost(err)
				rest = nil
			} else if len(rest) == 0 {
				c.wrote()
			}
		}
		rest = c.flush(make([]byte, 0, chunk), 0)
	}
}

// lost is called when bytes were not written: because writing was forbidden, or
// because the peer cannot be written to. Then nothing is tried any more.
func (c *conn) lost(err error) {
	if errors.Is(err, errAborted) {
		return
	}
	c.wmu.Lock()
	c.aborted, c.tail = true, nil
	c.wmu.Unlock()
	c.stop(goodbyeLost)
}

// abort forbids to write what was taken from the Member: when it returns, no
// byte of it is handed to the kernel any more.
func (c *conn) abort() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.aborted = true
	if c.partial {
		c.net.Cut() // TLS and WebSocket have what the kernel has not
	}
}

// hasBegun reports whether a byte was written. After an abort that stays so.
func (c *conn) hasBegun() bool {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.began
}

// hasFinish reports whether finish was called, and tailWritten whether what it was
// given is with the kernel, or never will be.
func (c *conn) hasFinish() bool {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.hasTail
}

func (c *conn) tailWritten() bool {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.isFinished
}

// finish has the last bytes written after an abort, unless the client is in the
// middle of a packet that will never be whole.
func (c *conn) finish(tail []byte) {
	c.wmu.Lock()
	c.hasTail = true
	if !c.partial {
		c.tail = tail
	}
	c.wmu.Unlock()
	c.Wake()
}
