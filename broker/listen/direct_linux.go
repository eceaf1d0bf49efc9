//go:build linux

package listen

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Direct reports whether the connections of the Listener are bytes of MQTT from the
// first one on, over TCP, so that an event loop can read them: see
// [Listener.AcceptDirect].
func (l *Listener) Direct() bool {
	_, tcp := l.net.(*net.TCPListener)
	return tcp && l.cfg.TLS == nil && l.cfg.WebSocket == nil && len(l.cfg.Proxy) == 0
}

// AcceptDirect is [Listener.Accept] for a Listener that is Direct. The Conn never
// waits: Read returns [os.ErrDeadlineExceeded] where nothing has come. Its
// descriptor is for whoever polls it, who alone may call [Conn.Release].
func (l *Listener) AcceptDirect() (c *Conn, fd int, err error) {
	nc, err := l.take(l.acceptDirect)
	if err != nil {
		return nil, 0, err
	}
	return l.newConn(nc), nc.(*direct).fd, nil
}

func (l *Listener) acceptDirect() (net.Conn, error) {
	ln, err := l.acceptor()
	if err != nil {
		return nil, err
	}
	raw, err := ln.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var from unix.Sockaddr
	var acceptErr error
	err = raw.Read(func(ln uintptr) bool {
		for {
			fd, from, acceptErr = unix.Accept4(int(ln), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if !errors.Is(acceptErr, unix.EINTR) && !errors.Is(acceptErr, unix.ECONNABORTED) {
				return !errors.Is(acceptErr, unix.EAGAIN)
			}
		}
	})
	if err == nil {
		err = acceptErr
	}
	if err != nil {
		return nil, err
	}
	// As package net does it: no delay, and probes that find a peer that is gone.
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	return &direct{fd: fd, l: l, peer: tcpAddr(from)}, nil
}

// acceptor returns a descriptor of the listening socket that can be waited for: package
// net's own cannot.
func (l *Listener) acceptor() (*os.File, error) {
	l.acceptorMu.Lock()
	defer l.acceptorMu.Unlock()
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	if l.acceptorFile == nil {
		f, err := l.net.(*net.TCPListener).File()
		if err != nil {
			return nil, err
		}
		l.acceptorFile = f
	}
	return l.acceptorFile, nil
}

func tcpAddr(sa unix.Sockaddr) *net.TCPAddr {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: a.Addr[:], Port: a.Port}
	case *unix.SockaddrInet6:
		addr := &net.TCPAddr{IP: a.Addr[:], Port: a.Port}
		if a.ZoneId != 0 {
			if i, err := net.InterfaceByIndex(int(a.ZoneId)); err == nil {
				addr.Zone = i.Name
			}
		}
		return addr
	}
	return &net.TCPAddr{}
}

// direct is a TCP connection that nobody waits for. Its descriptor stays open until
// release, so that no other connection gets the number meanwhile.
type direct struct {
	fd   int
	l    *Listener
	peer *net.TCPAddr

	mu     sync.RWMutex // guards closed, and is held for reading while fd is used
	closed bool
}

// use runs f unless the descriptor is closed.
func (d *direct) use(f func() error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return net.ErrClosed
	}
	return f()
}

func (d *direct) Read(b []byte) (int, error) {
	for {
		n, err := syscall.Read(d.fd, b)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return 0, os.ErrDeadlineExceeded
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (d *direct) try(b []byte) (n int, err error) {
	for n < len(b) {
		m, err := syscall.Write(d.fd, b[n:])
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return n, nil
		case err != nil:
			return n, err
		default:
			n += m
		}
	}
	return n, nil
}

func (d *direct) wait() error { return errors.ErrUnsupported }

func (d *direct) Write(b []byte) (int, error) {
	n, err := d.try(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return n, err
}

// Close ends the connection both ways; the descriptor stays until release.
func (d *direct) Close() error {
	return d.use(func() error { return unix.Shutdown(d.fd, unix.SHUT_RDWR) })
}

func (d *direct) CloseWrite() error {
	return d.use(func() error { return unix.Shutdown(d.fd, unix.SHUT_WR) })
}

func (d *direct) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.closed = true
		unix.Close(d.fd)
	}
}

func (d *direct) LocalAddr() net.Addr              { return d.l.net.Addr() }
func (d *direct) RemoteAddr() net.Addr             { return d.peer }
func (d *direct) SetDeadline(time.Time) error      { return nil }
func (d *direct) SetReadDeadline(time.Time) error  { return nil }
func (d *direct) SetWriteDeadline(time.Time) error { return nil }

// Release closes the descriptor of a connection of AcceptDirect. Nothing may be read
// or written any more.
func (c *Conn) Release() {
	if d, ok := c.raw.(*direct); ok {
		d.release()
	}
}
