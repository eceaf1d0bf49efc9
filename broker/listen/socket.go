package listen

import (
	"errors"
	"net"
	"os"
	"time"
)

// A socket takes bytes for the peer.
type socket interface {
	// try hands over what is taken at once. n is less than len(b) with a nil error
	// if the peer is slow.
	try(b []byte) (n int, err error)
	// wait returns when the peer may take more, or the connection is closed.
	wait() error
}

// A slowSocket is for connections without a descriptor, and for systems without
// a better way: it waits for the peer, but for a slice of time only.
type slowSocket struct{ nc net.Conn }

const slice = 50 * time.Millisecond

func (s slowSocket) try(b []byte) (int, error) {
	if err := s.nc.SetWriteDeadline(time.Now().Add(slice)); err != nil {
		return 0, err
	}
	n, err := s.nc.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, err
}

func (s slowSocket) wait() error { return nil }
