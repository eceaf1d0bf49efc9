package listen

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// A Conn is one connection: a stream of MQTT bytes, and what is known of the
// peer. The fields hold for good once [Conn.Handshake] has returned nil; until
// then they are those of whoever has connected, be it a proxy.
//
// Read may be called by one goroutine at a time; Try, Wait and Write by another
// one; the deadlines, Cut and Close by any.
type Conn struct {
	// URL is that of the Listener.
	URL string
	// Peer is the peer's address without its port; "unix" on a unix socket.
	Peer string
	// Loopback is true if listener and peer are both loopback, with no proxy
	// between them.
	Loopback bool
	// Operator is true on the operator socket.
	Operator bool
	// Account is the name in the peer's certificate, if the Listener is to take
	// it for that of an account; it need not exist.
	Account string

	l    *Listener // nil if the connection came in some other way
	raw  net.Conn
	sock socket
	peer net.Addr
	in   io.Reader // what is read: the socket, or the layer over it
	tls  *tls.Conn
	ws   *websocket.Conn
	out  *outbox // nil if bytes go out as they are
	rest []byte  // was read with the proxy's header, and is to be read first

	message io.Reader // the WebSocket message that is being read
	sealed  int       // bytes of the part that waits in out, as the caller knows them
	chain   atomic.Pointer[[]*x509.Certificate]
}

// New returns a Conn for a connection that came in some other way than by a
// Listener, at the address at. It needs no Handshake.
func New(nc net.Conn, at net.Addr) *Conn {
	c := &Conn{URL: "mqtt://" + at.String(), raw: nc, sock: newSocket(nc)}
	c.in = layer{c}
	c.from(nc.RemoteAddr())
	c.Loopback = isLoopback(at) && isLoopback(c.peer)
	return c
}

func (l *Listener) newConn(nc net.Conn) *Conn {
	c := &Conn{l: l, URL: l.url, raw: nc, sock: newSocket(nc)}
	c.in = layer{c}
	c.from(nc.RemoteAddr())
	c.Loopback = l.loopback && isLoopback(c.peer) && len(l.cfg.Proxy) == 0
	if l.cfg.TLS != nil || l.cfg.WebSocket != nil {
		c.out = &outbox{raw: nc, sock: c.sock, direct: true}
	}
	return c
}

// from sets the peer's address.
func (c *Conn) from(a net.Addr) {
	c.peer, c.Peer = a, "unix"
	if t, ok := a.(*net.TCPAddr); ok {
		c.Peer = t.IP.String()
	}
}

// A layer is the connection as TLS and WebSocket see it. Deadlines are the
// Conn's alone to set.
type layer struct{ c *Conn }

func (y layer) Read(b []byte) (int, error) {
	c := y.c
	if len(c.rest) > 0 {
		n := copy(b, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	if c.out != nil {
		c.out.flush() // answers of TLS and WebSocket; an error shows when writing
	}
	return c.raw.Read(b)
}

func (y layer) Write(b []byte) (int, error)        { return y.c.out.Write(b) }
func (y layer) Close() error                       { return y.c.raw.Close() }
func (y layer) LocalAddr() net.Addr                { return y.c.raw.LocalAddr() }
func (y layer) RemoteAddr() net.Addr               { return y.c.peer }
func (y layer) SetDeadline(time.Time) error        { return nil }
func (y layer) SetReadDeadline(time.Time) error    { return nil }
func (y layer) SetWriteDeadline(t time.Time) error { return nil }

// Read reads MQTT bytes. After a deadline has passed the error is
// [os.ErrDeadlineExceeded], and a WebSocket is at its end.
func (c *Conn) Read(b []byte) (n int, err error) {
	if c.ws != nil {
		n, err = c.readMessage(b)
	} else {
		n, err = c.in.Read(b)
	}
	if err != nil {
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			err = os.ErrDeadlineExceeded
		}
	}
	return n, err
}

// part is how many bytes are sealed for TLS or framed for WebSocket at once.
const part = 16 << 10

// Try hands bytes to the kernel, as many as it takes at once. n counts those of
// which it has everything; if that is not all, what is given next must begin with
// the rest, and as long as it is not given nothing of the rest need reach the
// peer. An error ends writing.
func (c *Conn) Try(b []byte) (n int, err error) {
	if c.out == nil {
		return c.sock.try(b)
	}
	for {
		empty, err := c.out.flush()
		if err != nil || !empty {
			return n, err
		}
		n += c.sealed
		c.sealed = 0
		if n == len(b) {
			return n, nil
		}
		p := b[n:min(n+part, len(b))]
		if err := c.seal(p); err != nil {
			return n, err
		}
		c.sealed = len(p)
	}
}

// seal puts the bytes into the outbox.
func (c *Conn) seal(p []byte) error {
	switch {
	case c.ws != nil:
		return c.ws.WriteMessage(websocket.BinaryMessage, p)
	case c.tls != nil:
		_, err := c.tls.Write(p)
		return err
	}
	_, err := c.out.Write(p)
	return err
}

// Wait returns when the peer may take more, or the connection is closed, or its
// write deadline has passed.
func (c *Conn) Wait() error { return c.sock.wait() }

// Write writes all bytes and waits for the peer to take them.
func (c *Conn) Write(b []byte) (n int, err error) {
	for {
		m, err := c.Try(b[n:])
		n += m
		if err != nil || n == len(b) {
			return n, err
		}
		if err := c.sock.wait(); err != nil {
			return n, err
		}
	}
}

// Cut discards what Try has taken and not counted: when it returns, no byte of it
// is handed to the kernel any more, and nothing else is written.
func (c *Conn) Cut() {
	if c.out != nil {
		c.out.cut()
	}
}

// CloseWrite says that nothing follows, in each layer as its protocol has it. It
// does not wait.
func (c *Conn) CloseWrite() error {
	if c.ws != nil {
		c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(controlWait))
	}
	if c.tls != nil {
		c.tls.CloseWrite()
	}
	if c.out != nil {
		c.out.flush()
	}
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Discard takes what the peer still sends until it closes its side or the read
// deadline passes: closing with unread input would reset the connection, and lose
// what was written last. It is for after the last Read.
func (c *Conn) Discard() { io.Copy(io.Discard, c.raw) }

// Close closes the connection at once.
func (c *Conn) Close() error { return c.raw.Close() }

// LocalAddr returns the address at which the connection came in.
func (c *Conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr returns the peer's address: from behind a proxy, the one it named.
func (c *Conn) RemoteAddr() net.Addr { return c.peer }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error { return c.raw.SetDeadline(t) }

// SetReadDeadline sets when Read and Handshake give up.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// SetWriteDeadline sets when Write and Wait give up.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.raw.SetWriteDeadline(t) }
