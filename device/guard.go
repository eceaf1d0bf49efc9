package device

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// A guard is a Network Connection that lets through only what a server may send
// in MQTT 3.1.1, in frames of bounded size: paho takes a frame of any size, and
// some that are malformed end the process. It also knows at once when the
// connection is lost.
type guard struct {
	net.Conn
	in      *bufio.Reader
	max     int           // bytes of a frame
	silence time.Duration // a write that takes longer ends the connection
	once    sync.Once
	dead    chan struct{} // closed when the connection is lost or closed
	lost    func()        // called once, before dead is closed

	frame []byte // of the goroutine that reads: what is left of the checked frame
	buf   []byte
	first bool // nothing was read yet

	mu      sync.Mutex // guards the fields below
	code    byte       // of CONNACK
	err     error      // why the connection was lost
	resumed bool       // Session Present
}

func newGuard(c net.Conn, max int, silence time.Duration, lost func()) *guard {
	return &guard{Conn: c, in: bufio.NewReader(c), max: max, silence: silence, dead: make(chan struct{}), lost: lost, first: true}
}

// fail closes the connection; the first cause is kept.
func (g *guard) fail(err error) {
	g.once.Do(func() {
		g.mu.Lock()
		g.err = err
		g.mu.Unlock()
		_ = g.Conn.Close()
		g.lost()
		close(g.dead)
	})
}

// Close closes the connection.
func (g *guard) Close() error {
	g.fail(net.ErrClosed)
	return nil
}

// cause returns why the connection was lost.
func (g *guard) cause() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// connack returns CONNACK's return code and Session Present.
func (g *guard) connack() (code byte, resumed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.code, g.resumed
}

// Write writes p whole, or ends the connection.
func (g *guard) Write(p []byte) (int, error) {
	if len(p) > g.max+5 {
		return 0, fmt.Errorf("a packet of %d bytes is larger than Options.PacketSize", len(p))
	}
	if err := g.Conn.SetWriteDeadline(time.Now().Add(g.silence)); err != nil {
		g.fail(err)
		return 0, err
	}
	n, err := g.Conn.Write(p)
	if err != nil {
		g.fail(err)
	}
	return n, err
}

// SetWriteDeadline does nothing: each Write has a deadline of its own.
func (g *guard) SetWriteDeadline(time.Time) error { return nil }

// Read reads from frames that were checked whole.
func (g *guard) Read(p []byte) (int, error) {
	if len(g.frame) == 0 {
		if err := g.next(); err != nil {
			g.fail(err)
			return 0, err
		}
	}
	n := copy(p, g.frame)
	g.frame = g.frame[n:]
	return n, nil
}

// next reads the next frame and checks it.
func (g *guard) next() error {
	head, err := g.in.ReadByte()
	if err != nil {
		return err
	}
	g.buf = append(g.buf[:0], head)
	size := 0
	for shift := 0; ; shift += 7 {
		b, err := g.in.ReadByte()
		if err != nil {
			return err
		}
		if g.buf = append(g.buf, b); shift > 21 {
			return errors.New("the server sent a malformed Remaining Length")
		}
		size |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
	}
	if size > g.max {
		return fmt.Errorf("the server sent a packet of %d bytes: Options.PacketSize is %d", size, g.max)
	}
	at := len(g.buf)
	g.buf = append(g.buf, make([]byte, size)...)
	if _, err := io.ReadFull(g.in, g.buf[at:]); err != nil {
		return err
	}
	if err := g.check(head>>4, head&0x0f, g.buf[at:]); err != nil {
		return err
	}
	g.frame = g.buf
	if cap(g.buf) > 64<<10 {
		g.buf = nil // a large frame was rare: its memory is not kept
	}
	return nil
}

var errMalformed = errors.New("the server sent a malformed packet")

// check says whether a server may send the packet now, and remembers CONNACK.
func (g *guard) check(kind, flags byte, body []byte) error {
	if first := g.first; first || kind == packets.Connack {
		g.first = false
		if !first || kind != packets.Connack {
			return errors.New("the server does not begin with CONNACK, or sends it again")
		}
		if len(body) != 2 || flags != 0 || body[0] > 1 || body[1] > packets.ErrRefusedNotAuthorised {
			return errMalformed // MQTT 3.1.1, 3.2.2
		}
		g.mu.Lock()
		g.resumed, g.code = body[0] == 1, body[1]
		g.mu.Unlock()
		return nil
	}
	ok := false
	switch kind {
	case packets.Publish:
		ok = validPublish(flags, body)
	case packets.Puback, packets.Pubrec, packets.Pubcomp, packets.Unsuback:
		ok = flags == 0 && len(body) == 2
	case packets.Pubrel:
		ok = flags == 2 && len(body) == 2
	case packets.Suback:
		ok = flags == 0 && len(body) == 3 // one filter a SUBSCRIBE
	case packets.Pingresp:
		ok = flags == 0 && len(body) == 0
	}
	if !ok {
		return errMalformed
	}
	return nil
}

// validPublish checks a PUBLISH as MQTT 3.1.1, 3.3 has it. QoS 2 is not asked
// for by this package, so it is not accepted.
func validPublish(flags byte, body []byte) bool {
	qos := flags >> 1 & 3
	if qos > 1 || qos == 0 && flags&8 != 0 || len(body) < 2 {
		return false
	}
	n := int(binary.BigEndian.Uint16(body))
	rest := len(body) - 2 - n
	if n == 0 || rest < 0 {
		return false
	}
	topic := body[2 : 2+n]
	if !utf8.Valid(topic) || bytes.ContainsAny(topic, "+#\x00") {
		return false
	}
	return qos == 0 || rest >= 2 && binary.BigEndian.Uint16(body[2+n:]) != 0
}
