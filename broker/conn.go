package broker

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/muster-mqtt/muster/broker/listen"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/group"
)

// A state is where a connection is in its life; see the package comment.
type state uint8

const (
	stateNew state = iota
	stateAuth
	stateUp
	stateClosing
	stateGone
)

// A goodbye is why a connection ends.
type goodbye struct {
	reason wire.Reason
	text   string
	// refused is why the client is not let in, for the log; empty: it was, or the
	// log has it.
	refused string
	// normal is true if the client has said goodbye itself: no Will then.
	normal bool
	// silent is true if nothing is said any more.
	silent bool
	// abrupt is true if the client has not been heard: it is not waited for.
	abrupt bool
	// err is the detail for the log; may be nil.
	err error
}

// The goodbyes that need no detail.
var (
	goodbyeShutdown  = &goodbye{reason: wire.ServerShuttingDown}
	goodbyeTakenOver = &goodbye{reason: wire.SessionTakenOver}
	goodbyeOverflow  = &goodbye{reason: wire.QuotaExceeded, text: "the client does not take what it is sent"}
	goodbyeCut       = &goodbye{silent: true}
	goodbyeKeepAlive = &goodbye{reason: wire.KeepAliveTimeout}
	goodbyeRights    = &goodbye{reason: wire.NotAuthorized, text: "the account has changed"}
	goodbyeLost      = &goodbye{silent: true}
	goodbyeNormal    = &goodbye{silent: true, normal: true}
	goodbyeCrowded   = &goodbye{silent: true, abrupt: true, refused: "no CONNECT came, and its place was needed"}
	goodbyeSilent    = &goodbye{silent: true, abrupt: true, refused: "no CONNECT came within limits.connect_timeout"}
	goodbyeOther     = &goodbye{silent: true, abrupt: true, refused: noConnect}
	goodbyeUnheard   = &goodbye{silent: true, abrupt: true}
)

// noConnect is why a connection ends whose first bytes are no CONNECT.
const noConnect = "what has come is no CONNECT"

// A conn is one Network Connection. It is the fanout.Sink of its Session's
// Member.
type conn struct {
	s    *Server
	net  *listen.Conn
	addr string // the peer's address without port
	done chan struct{}

	// The following belong to the connection's goroutine.
	state     state
	version   byte // 0 before CONNECT
	keepAlive time.Duration
	session   *session
	client    *mqtt.Client // what hooks are shown
	maxPacket int          // the client's Maximum Packet Size; 0 is none
	problem   bool         // the client wants Reason Strings and User Properties
	mute      bool         // receives nothing of groups
	aliases   []string     // Topic Names by Topic Alias - 1; see topic
	fresh     bool         // bytes came, and no PUBLISH of them was taken yet
	// epochBefore is the device's epoch at the end of the Session's previous
	// connection, if it is known.
	epochBefore group.Epoch
	epochKnown  bool
	// claimedID and claimedUser are what the CONNECT says, for the log.
	claimedID, claimedUser string
	paused                 *pause  // what the next packet waits for; nil: nothing
	looped                 *looped // what it is to its event loop; nil: a goroutine reads it
	loginErr               error   // what the authentication hook found out
	loggedIn               group.Account
	refusal                []byte // the CONNACK of a CONNECT that is refused
	// lostBefore is how many messages the Session had lost when the connection
	// began.
	lostBefore uint64
	accepted   []byte // the CONNACK of one that is not

	// leftover is what was still to be said when the Session was taken over. It
	// belongs to the slot.
	leftover []byte

	ticket ticket        // of the admission
	bucket bucket        // of publishing
	paid   bool          // the next PUBLISH has waited for its turn
	halt   chan struct{} // closed by stop; nil if nothing waits for it, and on a loop

	wstate atomic.Int32 // see write.go
	ending atomic.Pointer[goodbye]

	// wmu makes writing a step that can be forbidden: it guards what follows,
	// and is held during a write that does not block.
	wmu      sync.Mutex
	aborted  bool   // nothing of the Member's may be written any more
	partial  bool   // the end of a packet is still to be written
	began    bool   // a byte was written
	tail     []byte // to be written last
	hasTail  bool
	inTail   bool          // the tail is being written
	finished chan struct{} // closed when the tail is written or cannot be; nil on a loop
	// isFinished is true when finished is closed.
	isFinished bool
}

// newConn makes a connection that a goroutine is to read: see conn.run.
func newConn(s *Server, nc *listen.Conn) *conn {
	c := &conn{s: s, net: nc, done: make(chan struct{}), finished: make(chan struct{}), addr: nc.Peer}
	if s.limits.PublishRate > 0 {
		c.halt = make(chan struct{})
	}
	return c
}

// stop asks the connection to end, for the first reason given.
func (c *conn) stop(g *goodbye) {
	if c.ending.CompareAndSwap(nil, g) {
		if c.halt != nil {
			close(c.halt)
		}
		c.nudge()
	}
}

// nudge has whoever reads the connection look at it.
func (c *conn) nudge() {
	if c.looped != nil {
		c.looped.loop.post(c)
		return
	}
	c.net.SetReadDeadline(past) // wakes the goroutine from its read
}

// expect says until when something must come of the client; zero: for ever.
func (c *conn) expect(deadline time.Time) {
	if c.looped != nil {
		c.looped.due = deadline // the loop takes it up when it has the connection back
		return
	}
	c.net.SetReadDeadline(deadline)
}

// past is a deadline that has gone by.
var past = time.Unix(1, 0)

// run is the life of the connection.
func (c *conn) run() {
	defer c.gone()
	defer func() {
		if r := recover(); r != nil {
			c.s.log.Error("a packet was not survived", "client", c.id(), "addr", c.addr, "panic", r)
			c.ending.CompareAndSwap(nil, &goodbye{reason: wire.UnspecifiedError})
			c.closing()
		}
	}()
	g := c.handshake(time.Now().Add(c.s.limits.ConnectTimeout))
	if g == nil {
		g = c.read()
	}
	c.ending.CompareAndSwap(nil, g)
	c.closing()
}

// handshake does what comes before MQTT. The deadline is for the CONNECT, too.
func (c *conn) handshake(deadline time.Time) *goodbye {
	c.net.SetReadDeadline(deadline)
	if g := c.ending.Load(); g != nil {
		return g // stop has come between
	}
	err := c.net.Handshake(deadline)
	c.addr = c.net.Peer
	g := c.ending.Load()
	switch {
	case err != nil && g != nil:
		return g
	case err == nil:
		if refused := c.s.admission.locate(c); refused != "" {
			return &goodbye{silent: true, abrupt: true, refused: refused}
		}
		return nil
	case errors.Is(err, io.EOF):
		c.s.log.Debug("no handshake", "listener", c.net.URL, "addr", c.addr, "err", err)
	default:
		c.s.log.Info("refused", "op", "handshake", "listener", c.net.URL, "addr", c.addr, "err", err)
	}
	return goodbyeLost
}

// read takes bytes and hands them to feed until the connection is to end.
func (c *conn) read() *goodbye {
	buf := make([]byte, 0, readBuffer)
	since := 0 // bytes since the deadline was set
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := c.net.Read(buf[len(buf):cap(buf)])
		whole := false
		if n > 0 {
			c.fresh = true
			had := len(buf) + n
			rest, g := c.feed(buf[:had])
			for g == nil && c.paused != nil {
				if g = c.goOn(); g == nil {
					rest, g = c.feed(rest)
				}
			}
			if g != nil {
				return g
			}
			whole = len(rest) < had
			buf = keepRest(buf, rest)
		}
		since += n
		if g := c.ending.Load(); g != nil {
			return g
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && c.state == stateUp:
			return goodbyeKeepAlive
		case errors.Is(err, os.ErrDeadlineExceeded):
			return goodbyeSilent
		case err != nil && c.state == stateNew:
			return goodbyeUnheard
		case err != nil:
			return goodbyeLost
		}
		// MQTT 5.0, 3.1.2.10: packets count. But in the middle of a large one a
		// client cannot send another, so that a part of it counts too.
		if c.state == stateUp && c.keepAlive > 0 && (whole || since >= readBuffer) {
			since = 0
			c.net.SetReadDeadline(time.Now().Add(c.keepAlive))
			if g := c.ending.Load(); g != nil {
				return g // stop has come between
			}
		}
	}
}

// readBuffer is the size of a buffer that has nothing large to hold.
const readBuffer = 1024

// keepRest moves the bytes that make no whole packet yet to the front of a
// buffer of a fitting size.
func keepRest(buf, rest []byte) []byte {
	if cap(buf) > 16*readBuffer && len(rest) < readBuffer {
		buf = make([]byte, 0, readBuffer)
	}
	return append(buf[:0], rest...)
}

// feed takes the packets that are whole in b, in order, up to one that pauses the
// connection, and returns the rest. It never waits, and is the only way in for
// bytes, whoever has read them.
func (c *conn) feed(b []byte) ([]byte, *goodbye) {
	for {
		limit := c.s.limits.PacketSize
		if c.state == stateNew {
			limit = min(limit, maxConnect)
		}
		n, err := wire.Frame(b, limit)
		if err == nil && len(b) > 0 && c.state == stateNew && wire.FrameType(b) != wire.CONNECT {
			return nil, goodbyeOther // MQTT 5.0, 3.1: the first packet must be a CONNECT
		}
		if err != nil {
			return nil, c.broken(err, b)
		}
		if n == 0 {
			return b, nil
		}
		frame := b[:n]
		if c.looped != nil {
			if c.paused = c.looped.loop.inLine(c, frame); c.paused != nil {
				return b, nil
			}
		}
		if c.paused = c.pace(frame); c.paused != nil {
			return b, nil
		}
		b = b[n:]
		if g := c.packet(frame); g != nil {
			return nil, g
		}
		if c.paused != nil {
			return b, nil // the packets behind it wait
		}
		if g := c.ending.Load(); g != nil {
			return nil, g
		}
		if c.looped != nil && wire.FrameType(frame) == wire.PUBLISH && c.looped.loop.late() {
			c.looped.yielded = true
			return b, nil
		}
	}
}

// A pause is what the next packet waits for. No handler of a packet waits itself:
// it says what for, and whoever reads the connection waits, or reads others
// meanwhile.
type pause struct {
	// work, if not nil, may take a while, as argon2id and the disk do: it is to be
	// done where it holds nobody up.
	work func() *goodbye
	// then, if not nil, is called when end was, or with halting set, when the
	// connection is to end before.
	then    func() *goodbye
	halting bool

	c    *conn
	over atomic.Bool
	done chan struct{} // closed by end; nil on a loop
}

// newPause returns a pause that lasts until end.
func (c *conn) newPause(then func() *goodbye) *pause {
	p := &pause{c: c, then: then}
	if c.looped == nil {
		p.done = make(chan struct{})
	}
	return p
}

// end ends the pause. Any goroutine may call it, once.
func (p *pause) end() {
	p.over.Store(true)
	if p.done != nil {
		close(p.done)
		return
	}
	p.c.nudge()
}

// goOn waits until the pause is over, on the goroutine of the connection. It returns
// a goodbye if the connection is to end.
func (c *conn) goOn() *goodbye {
	p := c.paused
	c.paused = nil
	if p.work != nil {
		if g := p.work(); g != nil {
			return g
		}
	}
	if p.then != nil {
		var halt chan struct{}
		if p.halting {
			halt = c.halt
		}
		select {
		case <-p.done:
		case <-halt:
		}
		if g := p.then(); g != nil {
			return g
		}
	}
	return c.ending.Load()
}

// broken is the goodbye for bytes that are no packet.
func (c *conn) broken(err error, b []byte) *goodbye {
	if c.state == stateNew {
		if version, ok := wire.ConnectVersion(b); ok {
			c.version = version
			g := c.refuse(reasonOf(err), "")
			g.err = err
			return g
		}
		return &goodbye{silent: true, abrupt: true, refused: noConnect, err: err}
	}
	return &goodbye{reason: reasonOf(err), err: err}
}

func reasonOf(err error) wire.Reason {
	var we *wire.Error
	if errors.As(err, &we) {
		return we.Reason
	}
	return wire.MalformedPacket
}

// closing takes the Session away, says goodbye and waits for the peer's end.
func (c *conn) closing() {
	if c.state >= stateClosing {
		return
	}
	if tail, linger := c.depart(); linger {
		c.linger(tail)
	}
}

// depart takes the Session away, and returns what is to be said last. It is not to be
// waited for the peer's end if linger is false.
func (c *conn) depart() (tail []byte, linger bool) {
	c.state = stateClosing
	g := c.ending.Load()
	c.logEnd(g)
	if g.abrupt && c.session == nil {
		c.net.CloseWrite()
		return nil, false
	}
	c.abort()
	if c.session != nil {
		tail = c.s.detach(c, g)
		if !g.silent && !c.hasBegun() && !bytes.HasPrefix(tail, c.accepted) {
			tail = append(slices.Clip(c.accepted), tail...) // MQTT 5.0, 3.2.0: CONNACK comes first
		}
	} else {
		tail = c.refusal
	}
	if !g.silent && c.version == 5 && c.session != nil {
		text := g.text
		if !c.problem {
			text = ""
		}
		last := wire.AppendDisconnect(nil, c.version, g.reason, text)
		if c.fit(last) == nil { // MQTT 5.0, 3.14.2.2.3
			last = wire.AppendDisconnect(nil, c.version, g.reason, "")
		}
		tail = append(tail, last...)
	}
	return tail, true
}

// logEnd has one line for the end of the connection.
func (c *conn) logEnd(g *goodbye) {
	switch {
	case c.session == nil && g.refused != "":
		line := []any{"op", "connect", "client", c.claimedID, "by", c.claimedUser, "addr", c.addr, "reason", g.refused}
		if g.err != nil {
			line = append(line, "err", g.err)
		}
		c.s.log.Info("refused", line...)
	case g == goodbyeOverflow:
		c.s.log.Warn("connection ended", "client", c.id(), "addr", c.addr, "reason", g.reason.String(), "err", g.text)
	case g.err != nil:
		c.s.log.Info("connection ended", "client", c.id(), "addr", c.addr, "reason", g.reason.String(), "err", g.err)
	default:
		c.s.log.Debug("connection ended", "client", c.id(), "addr", c.addr, "reason", g.reason.String())
	}
}

// linger writes the last bytes and waits until the peer has closed its side.
func (c *conn) linger(tail []byte) {
	deadline := time.Now().Add(lingerTime)
	c.net.SetDeadline(deadline)
	c.finish(tail)
	timer := time.NewTimer(lingerTime)
	defer timer.Stop()
	select {
	case <-c.finished:
	case <-timer.C:
		return
	}
	if c.net.CloseWrite() == nil {
		c.net.Discard()
	}
}

// gone releases everything, once.
func (c *conn) gone() {
	c.state = stateGone
	c.net.Close()
	c.s.leaveConn(c)
	close(c.done)
}

// id returns the Client Identifier for the log.
func (c *conn) id() string {
	if c.session != nil {
		return c.session.id
	}
	return ""
}

// Overflow ends the connection: the peer does not take what it must be given.
func (c *conn) Overflow() { c.stop(goodbyeOverflow) }

// Cut ends the connection without another byte.
func (c *conn) Cut() {
	c.abort()
	c.stop(goodbyeCut)
	c.net.Close()
}

// send queues packets for the client: they are lost if the connection is no
// longer its Session's.
func (c *conn) send(packets ...[]byte) { c.session.member.PushTo(c, packets...) }
