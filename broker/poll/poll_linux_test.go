//go:build linux

package poll_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-mqtt/muster/broker/poll"
)

func newPoller(t *testing.T) *poll.Poller {
	t.Helper()
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// pair returns the two ends of a stream; the first does not block.
func pair(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fds[0], true)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return fds[0], fds[1]
}

func wait(t *testing.T, p *poll.Poller, until time.Time) []poll.Event {
	t.Helper()
	events, err := p.Wait(true, until)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// A change is told once; what is left to read is not told of again until more comes.
func TestChangesAreToldOnce(t *testing.T) {
	p := newPoller(t)
	a, b := pair(t)
	if err := p.Add(a); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, p, time.Time{}); len(got) != 1 || got[0].FD != a || !got[0].Out || got[0].In {
		t.Fatalf("a new descriptor: %+v", got)
	}
	for range 2 {
		unix.Write(b, []byte("x"))
		if got := wait(t, p, time.Time{}); len(got) != 1 || !got[0].In || got[0].End {
			t.Fatalf("a byte has come: %+v", got)
		}
		if got, err := p.Wait(false, time.Time{}); err != nil || len(got) != 0 {
			t.Fatalf("nothing has come since: %+v, %v", got, err)
		}
	}
	unix.Shutdown(b, unix.SHUT_WR)
	if got := wait(t, p, time.Time{}); len(got) != 1 || !got[0].In || !got[0].End {
		t.Fatalf("the peer has ended: %+v", got)
	}
}

// A descriptor to which no more could be written is told of when that is over.
func TestRoomIsToldOf(t *testing.T) {
	p := newPoller(t)
	a, b := pair(t)
	p.Add(a)
	wait(t, p, time.Time{})
	chunk, filled := make([]byte, 4096), 0
	for {
		n, err := unix.Write(a, chunk)
		if err != nil {
			break
		}
		filled += n
	}
	for got := 0; got < filled; {
		n, err := unix.Read(b, chunk)
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	if got := wait(t, p, time.Time{}); len(got) != 1 || !got[0].Out {
		t.Fatalf("there is room again: %+v", got)
	}
}

// Wake ends a wait, and one that came before; so does the time.
func TestWakeAndTime(t *testing.T) {
	p := newPoller(t)
	p.Wake()
	if got := wait(t, p, time.Time{}); len(got) != 0 {
		t.Fatalf("a wake is no event: %+v", got)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Wait(true, time.Time{})
	}()
	p.Wake()
	<-done
	if got := wait(t, p, time.Now().Add(time.Millisecond)); len(got) != 0 {
		t.Fatalf("time has passed: %+v", got)
	}
	if got := wait(t, p, time.Now().Add(-time.Second)); len(got) != 0 {
		t.Fatalf("time had passed: %+v", got)
	}
}
