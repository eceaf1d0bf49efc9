//go:build soak

package broker_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/store/storetest"
)

// A childServer is a Server in a process of its own, whose memory and time the
// system knows.
type childServer struct {
	t            *testing.T
	pid          int
	addr, socket string
}

// TestChildServer is that process; by itself it does nothing.
func TestChildServer(t *testing.T) {
	socket := os.Getenv("MUSTER_CHILD_SOCKET")
	if socket == "" {
		return
	}
	s, err := broker.Open(t.Context(), broker.Config{
		Store: storetest.NewMemory(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Listen: []string{"127.0.0.1:0"},
		Socket: socket, Anonymous: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		io.Copy(io.Discard, os.Stdin) // the test that asks for it ends
		cancel()
	}()
	fmt.Println("READY", strings.TrimPrefix(s.Addrs()[0], "mqtt://"))
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

func newChildServer(t *testing.T) *childServer {
	t.Helper()
	if _, err := os.Stat("/proc/self/statm"); err != nil {
		t.Skip("this system does not say how much memory a process has")
	}
	c := &childServer{t: t, socket: filepath.Join(t.TempDir(), "op.sock")}
	cmd := exec.Command(os.Args[0], "-test.run=^TestChildServer$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), "MUSTER_CHILD_SOCKET="+c.socket)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with: %v", err)
		}
	})
	r := bufio.NewReader(out)
	for c.addr == "" {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the server does not come up: %v", err)
		}
		if at, ok := strings.CutPrefix(line, "READY "); ok {
			c.addr = strings.TrimSpace(at)
		}
	}
	go io.Copy(io.Discard, r)
	c.pid = cmd.Process.Pid
	return c
}

// resident returns the bytes of memory that the process has.
func (c *childServer) resident() int {
	c.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.pid))
	if err != nil {
		c.t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		c.t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// used returns the time of the processor that the process has used.
func (c *childServer) used() time.Duration {
	c.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.pid))
	if err != nil {
		c.t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err1 != nil || err2 != nil {
		c.t.Fatal(err1, err2)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// files returns how many descriptors the process has open.
func (c *childServer) files() int {
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.pid))
	if err != nil {
		c.t.Fatal(err)
	}
	return len(all)
}

func (c *childServer) dial(id string) *soakClient {
	c.t.Helper()
	sc, err := soakDial("unix", c.socket, id, true)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { sc.nc.Close() })
	return sc
}

// probe measures what others wait until the function it returns is called, which
// returns the 99th percentile and the longest.
func (c *childServer) probe() func() (p99, longest time.Duration) {
	p := c.dial("muster~probe")
	stop, done := make(chan struct{}), make(chan []time.Duration)
	if err := p.subscribe("probe", 0); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		var all []time.Duration
		defer func() { done <- all }()
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			began := time.Now()
			p.send(0x30, soakText("probe")+"x")
			if err := p.until(func(_ byte, topic string, _ []byte) bool { return topic == "probe" }); err != nil {
				c.t.Errorf("probe: %v", err)
				return
			}
			all = append(all, time.Since(began))
		}
	}()
	return func() (p99, longest time.Duration) {
		close(stop)
		all := <-done
		p.nc.Close()
		if len(all) == 0 {
			return 0, 0
		}
		slices.Sort(all)
		return all[len(all)*99/100], all[len(all)-1]
	}
}

// 10,000 silent sockets cost less than 128 MiB, and are gone after 10 seconds.
func TestCostOfSilentSockets(t *testing.T) {
	c := newChildServer(t)
	const sockets = 10_000
	before, files := c.resident(), c.files()
	began := time.Now()
	var conns []net.Conn
	for range sockets {
		nc, err := net.Dial("tcp", c.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		conns = append(conns, nc)
	}
	open := c.files() - files
	grown := c.resident() - before
	t.Logf("%d sockets, opened in %v: %d MiB, %d bytes each", open, time.Since(began), grown>>20, grown/sockets)
	if grown > 128<<20 || open < sockets*9/10 {
		t.Errorf("%d silent sockets cost %d MiB", open, grown>>20)
	}
	var b [1]byte
	for _, nc := range conns {
		nc.SetReadDeadline(time.Now().Add(patience))
		if _, err := nc.Read(b[:]); err == nil || os.IsTimeout(err) {
			t.Fatalf("a silent socket was told something, or lives: %v", err)
		}
	}
	took := time.Since(began)
	for c.files() > files {
		if time.Since(began) > time.Minute {
			t.Fatalf("%d descriptors are left", c.files()-files)
		}
	}
	t.Logf("all gone %v after the first was opened", took)
}

// 256 MiB of QoS 0 to one reader that has stopped: less than 64 MiB, and the others
// wait no longer.
func TestCostOfStalledReader(t *testing.T) {
	c := newChildServer(t)
	payload := strings.Repeat("x", 64<<10)
	pub := c.dial("muster~pub")
	flow := func() (p99, longest time.Duration) {
		end := c.probe()
		for range 4096 {
			pub.send(0x30, soakText("flow")+payload)
		}
		if err := pub.flush(); err != nil {
			t.Fatal(err)
		}
		return end()
	}
	flow()
	quiet, longestQuiet := flow()
	stalled := c.dial("muster~stalled")
	if err := stalled.subscribe("flow", 0); err != nil {
		t.Fatal(err)
	}
	before := c.resident()
	p99, longest := flow()
	grown := c.resident() - before
	t.Logf("grown by %d MiB; others: p99 %v, longest %v; without the reader %v, %v", grown>>20, p99, longest, quiet, longestQuiet)
	if grown > 64<<20 {
		t.Errorf("one stalled reader costs %d MiB", grown>>20)
	}
}

// What costs much elsewhere is refused by a bound, or cheap; others wait less than
// 50 ms.
func TestCostOfHostile(t *testing.T) {
	tests := []struct {
		name string
		do   func(c *childServer)
	}{
		{"4 connections with 65,535 Topic Aliases", func(c *childServer) {
			for i := range 4 {
				for alias := 1; alias < 65536; {
					x := c.dial5(fmt.Sprint("muster~alias-", i))
					for n := 0; n < 4096 && alias < 65536; n++ {
						x.send(0x30, soakText(strings.Repeat("a", 200))+"\x03\x23"+string(binary.BigEndian.AppendUint16(nil, uint16(alias))))
						alias++
					}
					x.flush() // it is disconnected by the first beyond the maximum
					x.nc.Close()
				}
			}
		}},
		{"100,000 filters", func(c *childServer) {
			for i := range 10 {
				x := c.dial(fmt.Sprint("muster~filters-", i))
				for j := range 100 {
					b := "\x00\x01"
					for k := range 100 {
						b += soakText(fmt.Sprintf("f/%d/%d/%d/+/#", i, j, k)) + "\x00"
					}
					x.send(0x82, b)
				}
				x.flush()
			}
		}},
		{"filters and topics of 30,000 levels", func(c *childServer) {
			x := c.dial("muster~deep")
			for range 100 {
				x.send(0x82, "\x00\x01"+soakText(strings.Repeat("+/", 30_000)+"#")+"\x00")
				x.send(0x82, "\x00\x01"+soakText(strings.Repeat("/", 60_000))+"\x00")
				x.send(0x30, soakText(strings.Repeat("a/", 30_000))+"x")
			}
			x.flush()
		}},
		{"50,000 retained messages", func(c *childServer) {
			x := c.dial("muster~retain")
			for i := range 50_000 {
				x.send(0x31, soakText(fmt.Sprintf("kept/%d/%d", i%100, i))+"kept")
			}
			x.flush()
		}},
		{"SUBSCRIBE to all of them, 128 times in a packet", func(c *childServer) {
			x := c.dial("muster~all")
			x.send(0x82, "\x00\x01"+strings.Repeat(soakText("kept/#")+"\x00", 128))
			x.flush()
		}},
		{"10,000 Sessions at rest", func(c *childServer) {
			for i := range 10_000 {
				x, err := soakDial("unix", c.socket, fmt.Sprint("muster~rest-", i), false)
				if err != nil {
					c.t.Fatal(err)
				}
				x.subscribe(fmt.Sprint("rest/", i), 1)
				x.nc.Close()
			}
		}},
	}
	c := newChildServer(t)
	warm := c.probe()
	c.dial("muster~warm").flush()
	warm()
	for _, tt := range tests {
		before := c.resident()
		end := c.probe()
		began := time.Now()
		tt.do(c)
		p99, longest := end()
		grown := c.resident() - before
		t.Logf("%s: %d MiB, %v; others: p99 %v, longest %v", tt.name, grown>>20, time.Since(began).Round(time.Millisecond), p99, longest)
		if grown > 100<<20 {
			t.Errorf("%s: %d MiB", tt.name, grown>>20)
		}
	}
}

// dial5 connects with MQTT 5.0.
func (c *childServer) dial5(id string) *soakClient {
	c.t.Helper()
	nc, err := net.Dial("unix", c.socket)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { nc.Close() })
	x := &soakClient{nc: nc, r: bufio.NewReader(nc)}
	x.send(0x10, "\x00\x04MQTT\x05\x02\x00\x3c\x00"+soakText(id))
	if err := x.until(func(first byte, _ string, _ []byte) bool { return first == 0x20 }); err != nil {
		c.t.Fatal(err)
	}
	return x
}

// The cost of a CONNECT and a SUBSCRIBE, in time of the server's processor.
func TestCostOfConnect(t *testing.T) {
	c := newChildServer(t)
	const n = 20_000
	connect := func() {
		for i := range n {
			x, err := soakDial("tcp", c.addr, fmt.Sprint("lamp-", i%100), true)
			if err != nil {
				t.Fatal(err)
			}
			if err := x.subscribe("$CONTROL/group/v1/me", 0); err != nil {
				t.Fatal(err)
			}
			x.send(0xE0, "")
			x.nc.(*net.TCPConn).SetLinger(0)
			x.nc.Close()
		}
	}
	connect()
	before := c.used()
	connect()
	t.Logf("%v of the processor for a CONNECT, a SUBSCRIBE and a DISCONNECT", (c.used()-before)/n)
}
