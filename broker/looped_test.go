package broker_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/broker/wire"
)

// Packets that come in pieces of every length, and many in one piece, are the same
// packets.
func TestPiecesOfPackets(t *testing.T) {
	s := serve(t, nil)
	stream := bareConnect("pieces")
	const pings = 40
	for range pings {
		stream = append(stream, 0xc0, 0)
	}
	for _, piece := range []int{1, 2, 3, 7, 1000} {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(patience))
		for rest := stream; len(rest) > 0; {
			n := min(piece, len(rest))
			nc.Write(rest[:n])
			rest = rest[n:]
		}
		want := 4 + 2*pings
		got := make([]byte, want)
		if _, err := io.ReadFull(nc, got); err != nil {
			t.Errorf("pieces of %d: %v", piece, err)
		}
		nc.Close()
	}
}

// A connection costs a loop nothing once it is gone, however it ended: thousands that
// are reset, dropped in the middle of a packet or closed leave no descriptor and no
// goroutine behind.
func TestConnectionsThatAreDropped(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.Connecting = -1 })
	s.dial("first").disconnect()
	before, goroutines := descriptors(t), runtime.NumGoroutine()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+w))}}
			for i := range 400 {
				nc, err := d.Dial("tcp", s.addr)
				if err != nil {
					t.Error(err)
					return
				}
				switch i % 5 {
				case 0:
					nc.(*net.TCPConn).SetLinger(0) // a reset
				case 1:
					nc.Write(bareConnect(fmt.Sprintf("dropped-%d", w))[:7])
				case 2:
					nc.Write(append(bareConnect(fmt.Sprintf("dropped-%d", w)), 0xc0, 0))
					nc.(*net.TCPConn).SetLinger(0)
				case 3:
					nc.Write(bareConnect(fmt.Sprintf("dropped-%d", w)))
					io.ReadFull(nc, make([]byte, 4))
				}
				nc.Close()
			}
		})
	}
	wg.Wait()
	for start := time.Now(); descriptors(t) > before+2 || runtime.NumGoroutine() > goroutines+4; runtime.Gosched() {
		if time.Since(start) > patience {
			t.Fatalf("%d descriptors and %d goroutines, before %d and %d", descriptors(t), runtime.NumGoroutine(), before, goroutines)
		}
	}
	s.dial("last").disconnect()
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc to count descriptors in: ", err)
	}
	return len(list)
}

// A client that takes a few bytes at a time gets all that was queued for it, in order,
// and the others of its loop do not wait for it.
func TestPeerThatReadsLittle(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Loops = min(c.Loops, 1) })
	op := s.operator()
	op.must("create", `{"name":"slow"}`)
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.(*net.TCPConn).SetReadBuffer(64 << 10)
	nc.SetDeadline(time.Now().Add(patience))
	nc.Write(bareConnect("slow"))
	nc.Write(wire.AppendPublish(nil, 4, "$G/join", []byte("slow"), nil))
	other := s.dial("other")
	other.must("join", `{"g":"slow"}`)
	const messages, size = 60, 60 << 10
	for i := range messages {
		payload := make([]byte, size)
		payload[0] = byte(i)
		if r := other.publish("g/all/x", string(payload), 1); r != 0 {
			t.Fatalf("message %d: 0x%02x", i, r)
		}
	}
	next := 0
	for next < messages {
		head := make([]byte, 5)
		if _, err := io.ReadFull(nc, head[:2]); err != nil {
			t.Fatalf("after %d messages: %v", next, err)
		}
		length, shift, at := 0, 0, 1
		for {
			length |= int(head[at]&0x7f) << shift
			if head[at] < 0x80 {
				break
			}
			shift += 7
			at++
			if _, err := io.ReadFull(nc, head[at:at+1]); err != nil {
				t.Fatal(err)
			}
		}
		body := make([]byte, length)
		for i := 0; i < length; i += 1000 {
			if _, err := io.ReadFull(nc, body[i:min(i+1000, length)]); err != nil {
				t.Fatal(err)
			}
		}
		if length < size {
			continue // CONNACK and the answer
		}
		if got := body[length-size]; got != byte(next) {
			t.Fatalf("message %d comes for message %d", got, next)
		}
		if head[0]&6 != 0 { // it has a Packet Identifier, behind the Topic Name
			at := 2 + int(body[0])<<8 + int(body[1])
			nc.Write([]byte{0x40, 2, body[at], body[at+1]})
		}
		next++
	}
}

// Where no descriptor is left the server waits, and takes connections again when some
// are.
func TestLoopsWithoutDescriptors(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Skip("no limit of descriptors to lower: ", err)
	}
	s := serve(t, nil)
	s.dial("before").disconnect()
	low := limit
	low.Cur = uint64(descriptors(t) + 20)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Skip("the limit of descriptors cannot be lowered: ", err)
	}
	restore := sync.OnceFunc(func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) })
	defer restore()
	var held []net.Conn
	for range 64 {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			break
		}
		held = append(held, nc)
	}
	if len(held) == 64 {
		t.Error("the limit of descriptors is not felt")
	}
	for _, nc := range held {
		nc.Close()
	}
	restore()
	s.dial("after").disconnect()
}

// A device that is known, and is let in without waiting for anything, is cut when its
// Keep Alive has passed and not when its CONNECT would have been due.
func TestKeepAliveOfADeviceThatReturns(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.ConnectTimeout = time.Hour })
	s.dial("known").disconnect()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	connect := bareConnect("known")
	connect[11] = 1 // second of Keep Alive
	nc.Write(connect)
	if got, err := io.ReadAll(nc); err != nil || len(got) != 4 {
		t.Errorf("read %x, %v; want a CONNACK and the end", got, err)
	}
}

// A publisher that floods is slowed, and costs the members who read none of its
// messages; and somebody else joins meanwhile.
func TestFloodIsSlowed(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Loops = 0 }) // goroutines do not slow it
	op := s.operator()
	op.must("create", `{"name":"flood"}`)
	const members, messages = 40, 20_000
	var wg sync.WaitGroup
	for i := range members {
		c := s.dial(fmt.Sprint("member-", i))
		c.must("join", `{"g":"flood","qos":0}`)
		nc, err := net.Dial("tcp", s.addr) // the same device, that only counts
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(3 * patience))
		nc.Write(bareConnect(fmt.Sprint("member-", i)))
		if _, err := io.ReadFull(nc, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		size := len(wire.AppendPublish(nil, 4, "g/1/all/flooder/x", []byte("0123456789"), nil))
		wg.Go(func() {
			if n, err := io.CopyN(io.Discard, nc, int64(size*messages)); err != nil {
				t.Errorf("member %d has %d of %d messages: %v", i, int(n)/size, messages, err)
			}
		})
	}
	flooder := s.dial("flooder")
	flooder.must("join", `{"g":"flood","recv":false}`)
	one := wire.AppendPublish(nil, 4, "g/all/x", []byte("0123456789"), nil)
	wg.Go(func() {
		burst := bytes.Repeat(one, 100)
		for range messages / 100 {
			flooder.raw(burst)
		}
	})
	joiner := s.dial("joiner")
	for range 20 {
		joiner.must("join", `{"g":"flood","recv":false}`)
		joiner.must("leave", `{"g":"flood"}`)
	}
	wg.Wait()
}
