package broker

import (
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-mqtt/muster/broker/listen"
	"github.com/muster-mqtt/muster/broker/poll"
	"github.com/muster-mqtt/muster/broker/wire"
)

// A loop is one goroutine that reads and writes many connections of plain TCP. What
// a conn says of its own goroutine holds for its loop: nobody else reads it, writes it
// or moves its state, but for a worker while looped.busy is set.
//
// A turn of the loop takes what the kernel reports, then what others have posted, and
// then writes: first to those who wait for an answer, then to those for whom a message
// was queued, so that everything that one turn has queued for a connection is one
// write. No step of a turn lasts long: of each connection a bounded number of bytes is
// taken, and of those to be written to as many as fit a time.
type loop struct {
	s     *Server
	poll  *poll.Poller
	conns map[int]*conn // by descriptor
	in    []byte        // what is read; nothing of it is kept
	out   []byte        // what is written; nothing of it is kept
	now   time.Time     // of this turn
	more  []*conn       // have more than was their share; see turn
	wheel wheel
	// published counts the PUBLISH packets of this turn.
	published int
	// fanning has a large fan-out done by a worker; those who would publish to a
	// group wait for it, in their order.
	fanning  *conn
	fanWaits []*pause
	// behind says that a turn was too short to write all that was queued.
	behind atomic.Bool
	// pending says that something is queued to be written, held that connections of
	// this loop wait until nothing is, on any loop.
	pending, held atomic.Bool

	// mu guards what follows: what others leave for the loop.
	mu     sync.Mutex
	posted []*conn // to be looked at
	hasty  []*conn // to be written to, with something that is waited for
	queued []*conn // to be written to
	asleep bool
	ended  bool

	// What the loop has taken of these.
	post2, hasty2, queued2 []*conn
}

// A looped is what a connection is to its loop. But for the flags it is the loop's.
type looped struct {
	loop *loop
	fd   int
	part []byte // the beginning of a packet, or packets that wait
	rest []byte // was taken from the queue, and is to be written first
	// unread says that the kernel may have more than was taken; eof that it ends.
	unread, eof bool
	listed      bool // in loop.more
	busy        bool // a worker has it, until done
	again       bool // part is to be fed again: it was not for want of bytes
	yielded     bool // it was the turn that ended
	stalled     bool // the kernel takes nothing: rest waits
	halfClosed  bool
	gone        bool
	worked      *goodbye // what the worker has returned
	departed    bool     // the worker has taken the Session away
	tail        []byte   // what is to be said last
	linger      bool
	due         time.Time // when the peer must have been heard; zero: never
	timed       timed

	done                        atomic.Bool // the worker is
	isPosted, isHasty, isQueued atomic.Bool
}

const (
	// loopRead is how many bytes are read at once, and loopShare how many of one
	// connection in one turn.
	loopRead  = 64 << 10
	loopShare = 128 << 10
	// loopWrite is how long a loop writes before it reads again.
	loopWrite = 2 * time.Millisecond
	// loopPublish is how long into a turn a connection's next PUBLISH is taken.
	loopPublish = 4 * time.Millisecond
)

func newLoop(s *Server) (*loop, error) {
	p, err := poll.New()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	l := &loop{s: s, poll: p, conns: map[int]*conn{}, in: make([]byte, loopRead), out: make([]byte, 0, 2*chunk), now: now}
	l.wheel.start(now)
	return l, nil
}

// openLoops makes as many loops as asked for; 0: as there are processors.
func (s *Server) openLoops() error {
	n := s.cfg.Loops
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	if !poll.Supported {
		n = 0
	}
	for range max(n, 0) {
		l, err := newLoop(s)
		if err != nil {
			return err
		}
		s.loops = append(s.loops, l)
	}
	return nil
}

func (s *Server) closeLoops() {
	for _, l := range s.loops {
		l.poll.Close()
	}
}

// acceptLooped serves one listener with the loops, until it is closed.
func (s *Server) acceptLooped(ln *listen.Listener) {
	for i := 0; ; i++ {
		nc, fd, err := ln.AcceptDirect()
		if err != nil {
			return
		}
		c := &conn{s: s, net: nc, addr: nc.Peer, done: make(chan struct{})}
		c.looped = &looped{loop: s.loops[i%len(s.loops)], fd: fd, due: time.Now().Add(s.limits.ConnectTimeout)}
		if !s.enterConn(c, true) {
			nc.Close()
			nc.Release()
			continue
		}
		c.nudge()
	}
}

// post has the loop look at the connection soon.
func (l *loop) post(c *conn) {
	if c.looped.isPosted.CompareAndSwap(false, true) {
		l.leave(&l.posted, c, nil)
	}
}

// write has the loop write to the connection: ahead of others if it is waited for.
func (l *loop) write(c *conn, hasty bool) {
	if hasty {
		if c.looped.isHasty.CompareAndSwap(false, true) {
			l.leave(&l.hasty, c, nil)
		}
	} else if c.looped.isQueued.CompareAndSwap(false, true) {
		l.leave(&l.queued, c, &l.pending)
	}
}

func (l *loop) leave(list *[]*conn, c *conn, flag *atomic.Bool) {
	l.mu.Lock()
	*list = append(*list, c)
	if flag != nil {
		flag.Store(true)
	}
	wake := l.asleep
	l.asleep = false
	l.mu.Unlock()
	if wake {
		l.poll.Wake()
	}
}

// stop has run return when all connections are gone.
func (l *loop) stop() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.poll.Wake()
}

// run is the life of the loop.
func (l *loop) run() {
	for {
		idle, ended := l.mayRest()
		if ended && idle {
			return
		}
		events, err := l.poll.Wait(idle, l.wheel.next())
		l.mu.Lock()
		l.asleep = false
		l.mu.Unlock()
		if err != nil {
			l.s.log.Error("the event loop cannot poll", "err", err)
			return
		}
		l.now, l.published = time.Now(), 0
		for i := range events {
			if c := l.conns[events[i].FD]; c != nil {
				l.event(c, &events[i])
			}
		}
		l.turn()
		if !idle {
			runtime.Gosched() // others may have work that this loop waits for
		}
	}
}

// mayRest reports whether nothing is left to do; then others wake the loop.
func (l *loop) mayRest() (idle, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held.Store(len(l.more) > 0)
	idle = (len(l.more) == 0 || l.s.pending()) && len(l.posted)+len(l.hasty)+len(l.queued)+len(l.hasty2)+len(l.queued2) == 0
	l.asleep = idle
	return idle, l.ended && len(l.conns) == 0
}

// turn does what is to be done apart from events.
func (l *loop) turn() {
	l.mu.Lock()
	l.post2, l.posted = l.posted, l.post2[:0]
	l.mu.Unlock()
	for _, c := range l.post2 {
		c.looped.isPosted.Store(false)
		l.attend(c)
	}
	clear(l.post2)
	// Who floods goes on when all is written: so much waits with the peer, in its own
	// socket, and not in the queues of those who would lose it.
	if len(l.more) > 0 && !l.s.pending() {
		more := l.more
		l.more = nil
		for _, c := range more {
			c.looped.listed = false
			l.advance(c)
		}
	}
	l.flush()
	l.wheel.turn(l.now, l.timeout)
}

// pending reports whether some loop has something to write.
func (s *Server) pending() bool {
	for _, l := range s.loops {
		if l.pending.Load() {
			return true
		}
	}
	return false
}

// late reports whether the next PUBLISH of a connection is to wait for another turn: the
// turn has lasted long, has filled the queues of its receivers by a quarter, or the one
// before it was too short.
func (l *loop) late() bool {
	l.published++
	return l.behind.Load() || l.published >= max(l.s.limits.QueueMessages/4, 1) || time.Since(l.now) > loopPublish
}

// caughtUp wakes the loops whose connections wait until all is written.
func (l *loop) caughtUp() {
	l.behind.Store(false)
	for _, other := range l.s.loops {
		if other == l || !other.held.Load() {
			continue
		}
		other.mu.Lock()
		wake := other.asleep
		other.asleep = false
		other.mu.Unlock()
		if wake {
			other.poll.Wake()
		}
	}
}

// attend looks at a connection that was posted.
func (l *loop) attend(c *conn) {
	x := c.looped
	if x.gone {
		return
	}
	if l.conns[x.fd] == nil { // a new one
		l.conns[x.fd] = c
		l.wheel.set(c, x.due)
		if err := l.poll.Add(x.fd); err != nil {
			c.ending.CompareAndSwap(nil, &goodbye{silent: true, abrupt: true, refused: "the server cannot poll it", err: err})
		}
	}
	l.advance(c)
}

// event takes what the kernel has reported.
func (l *loop) event(c *conn, ev *poll.Event) {
	x := c.looped
	x.eof = x.eof || ev.End
	if ev.Out && x.stalled {
		x.stalled = false
		l.flushOne(c)
	}
	if ev.In {
		x.unread = true
		l.advance(c)
	}
}

// advance does for a connection what can be done now.
func (l *loop) advance(c *conn) {
	defer func() {
		if r := recover(); r != nil {
			l.s.log.Error("a packet was not survived", "client", c.id(), "addr", c.addr, "panic", r)
			c.ending.CompareAndSwap(nil, &goodbye{reason: wire.UnspecifiedError})
			c.paused, c.looped.part, c.looped.again = nil, nil, false
			l.post(c)
		}
	}()
	x := c.looped
	for share := 0; !x.gone; {
		if x.listed && c.ending.Load() == nil {
			return // it has had its share
		}
		if x.busy {
			if !x.done.Load() {
				return
			}
			x.busy = false
			x.done.Store(false)
			l.fanned(c)
			l.wheel.set(c, x.due)
		}
		if x.departed {
			l.departed(c)
			return
		}
		g := x.worked
		x.worked = nil
		if g == nil {
			ready := true
			if g, ready = l.unpause(c); !ready {
				return
			}
			if g == nil && c.paused != nil {
				continue
			}
		}
		if g == nil {
			g = c.ending.Load()
		}
		switch {
		case g != nil:
		case x.again:
			g = l.feed(c, x.part)
		case !x.unread:
			return
		default:
			var n int
			n, g = l.read(c)
			share += n
		}
		if g == nil && (x.yielded || share >= loopShare) {
			x.yielded, x.listed = false, true
			l.more = append(l.more, c)
			return
		}
		if g != nil {
			c.ending.CompareAndSwap(nil, g)
			l.depart(c)
		}
	}
}

// unpause ends the connection's pause if it is over, or has its work done by a
// worker. ready is false while it lasts.
func (l *loop) unpause(c *conn) (g *goodbye, ready bool) {
	p := c.paused
	switch {
	case p == nil:
		return nil, true
	case p.work != nil:
		c.paused = nil
		l.work(c, func() { c.looped.worked = p.work() })
		return nil, false
	case !p.over.Load() && !(p.halting && c.ending.Load() != nil):
		return nil, false
	}
	c.paused = nil
	return p.then(), true
}

// work has f done by a worker; the connection is looked at when it is.
func (l *loop) work(c *conn, f func()) {
	c.looped.busy = true
	l.s.workers.do(func() {
		defer func() {
			if r := recover(); r != nil {
				l.s.log.Error("a packet was not survived", "addr", c.addr, "panic", r)
				c.looped.worked = &goodbye{reason: wire.UnspecifiedError}
				c.looped.departed = c.state == stateClosing
			}
			c.looped.done.Store(true)
			l.post(c)
		}()
		f()
	})
}

// largeFanout has the connection publish to a large group: by a worker, so that the
// loop goes on meanwhile.
func (l *loop) largeFanout(c *conn, f func()) {
	l.fanning = c
	c.paused = &pause{work: func() *goodbye {
		f()
		return nil
	}}
}

// fanned lets those go on who wait for a large fan-out.
func (l *loop) fanned(c *conn) {
	if l.fanning != c {
		return
	}
	l.fanning = nil
	waits := l.fanWaits
	l.fanWaits = nil
	for _, p := range waits {
		p.end()
	}
}

// inLine returns the pause that is due before the packet, if it is a PUBLISH and a
// large fan-out is under way: fan-outs of one loop are first in, first out. The packet
// is shown again when the pause is over.
func (l *loop) inLine(c *conn, frame []byte) *pause {
	if l.fanning == nil || wire.FrameType(frame) != wire.PUBLISH {
		return nil
	}
	p := c.newPause(func() *goodbye { return nil })
	p.halting = true
	l.fanWaits = append(l.fanWaits, p)
	return p
}

// read takes bytes of the kernel and hands them to feed.
func (l *loop) read(c *conn) (int, *goodbye) {
	x := c.looped
	n, err := c.net.Read(l.in)
	if n < len(l.in) && !x.eof {
		x.unread = false // what comes from here on is reported
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		x.unread = false
		return 0, nil
	case err != nil && c.state == stateNew:
		return 0, goodbyeUnheard
	case err != nil:
		return 0, goodbyeLost
	}
	b := l.in[:n]
	if len(x.part) > 0 {
		x.part = append(x.part, b...)
		b = x.part
	}
	return n, l.feed(c, b)
}

// feed hands bytes to the connection, and keeps what is left.
func (l *loop) feed(c *conn, b []byte) *goodbye {
	x := c.looped
	had, was := len(b), c.state
	rest, g := c.feed(b)
	if g != nil {
		x.part = nil
		return g
	}
	switch {
	case len(rest) == 0:
		x.part = nil
	case len(x.part) > 0 && cap(x.part) <= 4*len(rest)+readBuffer:
		x.part = append(x.part[:0], rest...)
	default:
		x.part = slices.Clone(rest)
	}
	x.again = (c.paused != nil || x.yielded) && len(rest) > 0
	// MQTT 5.0, 3.1.2.10: packets count. But in the middle of a large one a client
	// cannot send another, so that a part of it counts too.
	if c.state == stateUp && c.keepAlive > 0 && (len(rest) < had || had >= readBuffer) {
		x.due = l.now.Add(c.keepAlive)
	}
	if c.state != was {
		l.wheel.set(c, x.due) // it has been let in, and may be due sooner than its CONNECT was
	}
	return nil
}

// flush writes to those who are to be written to.
func (l *loop) flush() {
	began := time.Time{}
	for i := 0; ; i++ {
		c := l.nextHasty()
		if c == nil && i%16 == 15 {
			now := time.Now()
			if began.IsZero() {
				began = now
			} else if now.Sub(began) > loopWrite {
				l.behind.Store(true)
				return
			}
		}
		if c == nil {
			if c = l.nextQueued(); c == nil {
				l.caughtUp()
				return
			}
		}
		l.flushOne(c)
	}
}

// nextHasty returns a connection that is waited for.
func (l *loop) nextHasty() *conn {
	if len(l.hasty2) == 0 {
		l.mu.Lock()
		l.hasty2, l.hasty = l.hasty, nil
		l.mu.Unlock()
		if len(l.hasty2) == 0 {
			return nil
		}
	}
	c := l.hasty2[0]
	l.hasty2 = l.hasty2[1:]
	c.looped.isHasty.Store(false)
	return c
}

// nextQueued returns a connection for which messages were queued.
func (l *loop) nextQueued() *conn {
	if len(l.queued2) == 0 {
		l.mu.Lock()
		l.queued2, l.queued = l.queued, nil
		l.pending.Store(len(l.queued2) > 0)
		l.mu.Unlock()
		if len(l.queued2) == 0 {
			return nil
		}
	}
	c := l.queued2[0]
	l.queued2 = l.queued2[1:]
	c.looped.isQueued.Store(false)
	return c
}

// flushOne writes what is queued for one connection, and puts it behind the others
// if that is much.
func (l *loop) flushOne(c *conn) {
	x := c.looped
	if x.gone || x.stalled {
		return
	}
	for i := 0; ; i++ {
		b := x.rest
		if len(b) == 0 {
			if i > fairTurns {
				l.write(c, false)
				return
			}
			if b = c.take(l.out[:0]); len(b) == 0 {
				break
			}
		}
		rest, err := c.put(b)
		if err != nil {
			x.rest = nil
			c.lost(err)
			continue
		}
		if len(rest) > 0 {
			x.rest, x.stalled = slices.Clone(rest), true
			return
		}
		x.rest = nil
		c.wrote()
	}
	if c.tailWritten() {
		l.halfClose(c)
	}
}

// depart has a worker take the Session away.
func (l *loop) depart(c *conn) {
	x := c.looped
	x.part, x.again, c.paused = nil, false, nil
	l.work(c, func() {
		x.tail, x.linger = c.depart()
		x.departed = true
	})
}

// departed goes on when the Session is away: the last bytes are written, and the peer
// has some time to end.
func (l *loop) departed(c *conn) {
	x := c.looped
	switch {
	case !x.linger:
		l.gone(c)
		return
	case !c.hasFinish():
		x.due = l.now.Add(lingerTime)
		l.wheel.set(c, x.due)
		c.finish(x.tail)
		x.tail = nil
		return
	}
	for x.unread {
		_, err := c.net.Read(l.in) // see listen.Conn.Discard
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			x.unread = false
		case errors.Is(err, io.EOF) && !x.halfClosed:
			return // its last bytes are still to be written
		case err != nil:
			l.gone(c)
			return
		}
	}
}

// halfClose says that nothing follows.
func (l *loop) halfClose(c *conn) {
	x := c.looped
	if x.halfClosed {
		return
	}
	x.halfClosed = true
	if c.net.CloseWrite() != nil {
		l.gone(c)
		return
	}
	x.unread = true // the peer may have ended already
	l.post(c)
}

// gone releases everything, once.
func (l *loop) gone(c *conn) {
	x := c.looped
	if x.gone {
		return
	}
	x.gone = true
	c.state = stateGone
	l.wheel.remove(c)
	delete(l.conns, x.fd)
	x.part, x.rest = nil, nil
	c.net.Close()
	c.net.Release()
	l.s.leaveConn(c)
	close(c.done)
}

// timeout is called when a connection's time may have come.
func (l *loop) timeout(c *conn) {
	x := c.looped
	switch {
	case x.departed:
		l.gone(c)
	case c.state == stateUp:
		c.stop(goodbyeKeepAlive)
	default:
		c.stop(goodbyeSilent)
	}
}
