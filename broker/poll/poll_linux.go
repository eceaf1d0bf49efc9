//go:build linux

package poll

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Supported is true where a Poller can be made.
const Supported = true

// batch is how many events are taken at once.
const batch = 256

// A Poller is one epoll instance.
type Poller struct {
	// file has the runtime wait for the instance itself, so that a loop that has
	// nothing to do is a parked goroutine and no blocked thread.
	file *os.File
	raw  syscall.RawConn
	fd   int
	wake int // an eventfd
	evs  [batch]unix.EpollEvent
	out  [batch]Event
	at   time.Time // the read deadline of file
}

// New makes a Poller.
func New() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(wake)})
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	p := &Poller{fd: fd, wake: wake}
	if err == nil {
		p.file = os.NewFile(uintptr(fd), "epoll")
		p.raw, err = p.file.SyscallConn()
	}
	if err != nil {
		unix.Close(fd)
		unix.Close(wake)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return p, nil
}

// Close releases the Poller. Nothing of it may be called any more, nor be under way.
func (p *Poller) Close() {
	p.file.Close()
	unix.Close(p.wake)
}

// Add reports the descriptor from now on, until it is closed.
func (p *Poller) Add(fd int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// Wake has Wait return.
func (p *Poller) Wake() {
	one := [8]byte{7: 1}
	unix.Write(p.wake, one[:]) // only a full counter refuses, and that wakes too
}

// Wait returns what has become ready; what it returned before is overwritten. It
// waits until there is something, until Wake, or until a time; the zero time is for
// ever. With block false it does not wait.
func (p *Poller) Wait(block bool, until time.Time) ([]Event, error) {
	n, err := 0, error(nil)
	poll := func() bool {
		for {
			n, err = unix.EpollWait(p.fd, p.evs[:], 0)
			if !errors.Is(err, unix.EINTR) {
				return n != 0 || err != nil
			}
		}
	}
	if !poll() && block {
		if !until.Equal(p.at) {
			p.at = until
			p.file.SetReadDeadline(until)
		}
		if e := p.raw.Read(func(uintptr) bool { return poll() }); e != nil && !errors.Is(e, os.ErrDeadlineExceeded) {
			return nil, e
		}
	}
	if err != nil {
		return nil, fmt.Errorf("epoll_wait: %w", err)
	}
	out := p.out[:0]
	for _, ev := range p.evs[:max(n, 0)] {
		if int(ev.Fd) == p.wake {
			var b [8]byte
			unix.Read(p.wake, b[:])
			continue
		}
		end := ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
		out = append(out, Event{
			FD: int(ev.Fd), In: end || ev.Events&unix.EPOLLIN != 0, Out: end || ev.Events&unix.EPOLLOUT != 0, End: end,
		})
	}
	return out, nil
}
