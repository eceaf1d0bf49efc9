package device

import (
	"bytes"
	"context"
	"net"
	"time"
)

// DialWaiting is Dial with waits of the caller's.
func DialWaiting(ctx context.Context, server string, o Options, wait func(context.Context, time.Duration) error) (*Device, error) {
	return dial(ctx, server, o, wait)
}

// BackOff is backOff.
var BackOff = backOff

// A fed is a connection on which the server sends the given bytes.
type fed struct {
	net.Conn
	*bytes.Reader
}

func (f fed) Read(p []byte) (int, error) { return f.Reader.Read(p) }
func (f fed) Close() error               { return nil }

// Guarded returns a connection on which a server sends b, as paho sees it.
func Guarded(b []byte, max int) net.Conn {
	return newGuard(fed{Reader: bytes.NewReader(b)}, max, time.Second, func() {})
}
