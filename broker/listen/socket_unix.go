//go:build unix

package listen

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// newSocket returns a socket for the connection that does not wait where it has
// a descriptor.
func newSocket(nc net.Conn) socket {
	if s, ok := nc.(socket); ok {
		return s
	}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return rawSocket{raw}
		}
	}
	return slowSocket{nc}
}

// A rawSocket writes to a descriptor that does not block.
type rawSocket struct{ raw syscall.RawConn }

func (s rawSocket) try(b []byte) (n int, err error) {
	var writeErr error
	err = s.raw.Write(func(fd uintptr) bool {
		for n < len(b) {
			m, e := syscall.Write(int(fd), b[n:])
			switch {
			case errors.Is(e, syscall.EINTR):
			case errors.Is(e, syscall.EAGAIN):
				return true
			case e != nil:
				writeErr = e
				return true
			case m == 0:
				writeErr = io.ErrShortWrite
				return true
			default:
				n += m
			}
		}
		return true
	})
	if err == nil {
		err = writeErr
	}
	return n, err
}

// wait asks the kernel before it waits: the runtime forgets that a descriptor has
// become writable since the last try when it is asked to wait for that anew.
func (s rawSocket) wait() error {
	return s.raw.Write(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(p, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}
