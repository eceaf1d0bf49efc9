// Package listen lets clients in: over TCP and unix sockets, with TLS, through
// WebSocket and from behind proxies, in whatever combination.
//
// A [Listener] hands out a [Conn] for each connection that comes in. The caller
// sets its deadlines and calls [Conn.Handshake] on the goroutine that is to read
// it; from then on the Conn is a stream of MQTT bytes, whatever carries it, with
// what is known of the peer: its address, behind a proxy too, and the account
// that its certificate names.
//
// Writing never waits: [Conn.Try] hands to the kernel what it takes at once, for
// TLS and WebSocket as well, so that a peer that does not read holds up nobody.
//
// A bad certificate, header or request ends the one connection that it came by.
// No error of accept ends a Listener, nor does it spin on one.
package listen

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Config says where and how to listen.
type Config struct {
	// Address is HOST:PORT or unix:PATH. Port 0 takes a free one.
	Address string
	// Operator lets in only the server's own user and root, through a unix
	// socket that nobody else may open.
	Operator bool
	// TLS is nil for connections that are not encrypted.
	TLS *TLS
	// WebSocket is nil for MQTT as it is.
	WebSocket *WebSocket
	// Proxy holds the addresses of proxies. With any, each connection must come
	// from one of them and begin with a PROXY protocol header, of version 1 or 2.
	Proxy []netip.Prefix
	// Logger takes what no caller is told; nil: nobody.
	Logger *slog.Logger
}

// A Listener accepts connections on one address.
type Listener struct {
	cfg      Config
	net      net.Listener
	url      string
	loopback bool
	log      *slog.Logger
	origins  []string // allowed, in lower case
	secure   atomic.Pointer[material]
	closed   chan struct{}
	close    func() error
	loading  sync.Mutex // one Reload at a time

	acceptorMu   sync.Mutex
	acceptorFile *os.File // for AcceptDirect; nil until then

	// Of the goroutine that accepts.
	warned time.Time // when an error was last logged
	errors int       // those that were not logged since
}

// Open listens. The error says in the system's own words why the address cannot
// be had, or names the part of the Config that is wrong.
func Open(cfg Config) (*Listener, error) {
	path, unix := strings.CutPrefix(cfg.Address, "unix:")
	switch {
	case cfg.Operator && (!unix || cfg.TLS != nil || cfg.WebSocket != nil):
		return nil, errors.New("the operator socket is a plain unix socket")
	case unix && len(cfg.Proxy) > 0:
		return nil, errors.New("proxy: a unix socket has no proxies before it")
	}
	var secure *material
	if cfg.TLS != nil {
		t := *cfg.TLS // the caller may change its own
		cfg.TLS = &t
		var err error
		if secure, err = load(cfg.TLS, cfg.WebSocket != nil); err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
	}
	var ln net.Listener
	var err error
	if unix {
		ln, err = listenUnix(path, cfg.Operator)
	} else {
		ln, err = net.Listen(network(cfg.Address), cfg.Address)
	}
	if err != nil {
		return nil, plain(err)
	}
	l, err := newListener(ln, cfg, secure)
	if err != nil {
		ln.Close()
		return nil, err
	}
	return l, nil
}

// network returns the network of an address: for a literal one that of its kind
// alone, so that 0.0.0.0 is not IPv6 too.
func network(address string) string {
	host, _, _ := net.SplitHostPort(address)
	switch ip, err := netip.ParseAddr(host); {
	case err != nil:
		return "tcp"
	case ip.Is4():
		return "tcp4"
	}
	return "tcp6"
}

// newListener makes a Listener of one of package net's.
func newListener(ln net.Listener, cfg Config, secure *material) (*Listener, error) {
	l := &Listener{
		cfg: cfg, net: ln, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		loopback: isLoopback(ln.Addr()), closed: make(chan struct{}),
	}
	l.close = sync.OnceValue(func() error {
		close(l.closed)
		l.acceptorMu.Lock()
		defer l.acceptorMu.Unlock()
		if l.acceptorFile != nil {
			l.acceptorFile.Close()
		}
		return ln.Close()
	})
	if w := cfg.WebSocket; w != nil {
		if err := w.Check(); err != nil {
			return nil, fmt.Errorf("websocket: %w", err)
		}
		for _, o := range w.Origins {
			l.origins = append(l.origins, strings.ToLower(o))
		}
	}
	l.url = l.makeURL(ln.Addr())
	if secure != nil {
		l.secure.Store(secure)
		secure.warn(l.log, l.url)
	}
	return l, nil
}

func (l *Listener) makeURL(at net.Addr) string {
	if _, unix := at.(*net.UnixAddr); unix {
		return l.cfg.Address
	}
	switch {
	case l.cfg.WebSocket != nil && l.cfg.TLS != nil:
		return "wss://" + at.String() + l.cfg.WebSocket.path()
	case l.cfg.WebSocket != nil:
		return "ws://" + at.String() + l.cfg.WebSocket.path()
	case l.cfg.TLS != nil:
		return "mqtts://" + at.String()
	}
	return "mqtt://" + at.String()
}

// URL returns where clients find the Listener: mqtt://, mqtts://, ws:// or wss://
// with the address that is listened on, or unix:PATH.
func (l *Listener) URL() string { return l.url }

// Close stops listening: Accept returns. Connections that were accepted stay.
func (l *Listener) Close() error { return l.close() }

// The shortest and the longest that Accept waits after an error.
const (
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// Exposed reports whether the listener can be reached over a network, and takes
// connections without TLS.
func (l *Listener) Exposed() bool {
	_, tcp := l.net.Addr().(*net.TCPAddr)
	return tcp && !l.loopback && l.cfg.TLS == nil
}

// Accept waits for the next connection. Nothing of it has been read: see
// [Conn.Handshake]. The only error is [net.ErrClosed], after Close; any other
// one, such as a full table of descriptors, is logged and waited out. One
// goroutine at a time may call it.
func (l *Listener) Accept() (*Conn, error) {
	nc, err := l.take(l.net.Accept)
	if err != nil {
		return nil, err
	}
	return l.newConn(nc), nil
}

// take waits for accept to return a connection, or for Close.
func (l *Listener) take(accept func() (net.Conn, error)) (net.Conn, error) {
	pause := acceptPause
	for {
		nc, err := accept()
		if err == nil {
			return nc, nil
		}
		select {
		case <-l.closed:
			return nil, net.ErrClosed
		default:
		}
		l.errors++
		if now := time.Now(); now.Sub(l.warned) >= time.Second {
			l.log.Warn("accept", "listener", l.url, "err", plain(err), "times", l.errors)
			l.warned, l.errors = now, 0
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-l.closed:
			timer.Stop()
			return nil, net.ErrClosed
		}
		pause = min(2*pause, acceptPauseMax)
	}
}

func isLoopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// Proxied reports whether each connection comes by a proxy, so that the peer's
// address is known only after [Conn.Handshake].
func (l *Listener) Proxied() bool { return len(l.cfg.Proxy) > 0 }
