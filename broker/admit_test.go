package broker_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/broker/listen"
)

// comesFrom opens a connection that comes from the address. It is closed if the
// server does not let it in.
func (s *testServer) comesFrom(ip string) net.Conn {
	s.t.Helper()
	near, far := net.Pipe()
	s.t.Cleanup(func() { near.Close() })
	s.srv.ServeConn(fakeAddr{far, &net.TCPAddr{IP: net.ParseIP(ip), Port: 40000}}, &net.TCPAddr{IP: net.ParseIP("192.0.2.200"), Port: 1883})
	return near
}

// shut reports whether the server closes the connection without a word, else that
// it answers the bytes that are sent.
func shut(t *testing.T, nc net.Conn, send ...byte) bool {
	t.Helper()
	nc.SetDeadline(time.Now().Add(patience))
	nc.Write(send)
	var b [1]byte
	_, err := nc.Read(b[:])
	if errors.Is(err, net.ErrClosed) || err != nil && strings.Contains(err.Error(), "timeout") {
		t.Fatal(err)
	}
	return err != nil
}

// A connect is a CONNECT of MQTT 3.1.1 with nothing but an identifier.
func bareConnect(id string) []byte {
	return append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, byte(len(id))}, id...)
}

// As many connections of one address as limits.connections_per_address allows, and
// one more when one of them has gone. Others, and loopback, are not held up.
func TestConnectionsOfAddress(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.ConnectionsPerAddress = 3 })
	op := s.operator()
	ann := addAccount(op, "ann", "device")
	for _, ips := range [][4]string{
		{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"},
		{"2001:db8::1", "2001:db8::2", "2001:db8::1:2:3:4", "2001:db8:0:1::1"}, // one network is one address
		{"::ffff:192.0.2.9", "192.0.2.9", "::ffff:c000:209", "192.0.2.10"},
	} {
		var clients []*client
		for i, ip := range ips[:3] {
			clients = append(clients, s.accepted(attemptOver(t, s.comesFrom(ip), fmt.Sprintf("%s-%d", ip, i), ann)))
		}
		if !shut(t, s.comesFrom(ips[1])) {
			t.Errorf("%s: the fourth connection is let in", ips[1])
		}
		s.accepted(attemptOver(t, s.comesFrom(ips[3]), ips[3], ann))
		clients[0].disconnect()
		for start := time.Now(); ; {
			nc := s.comesFrom(ips[0])
			nc.SetDeadline(time.Now().Add(patience))
			if _, err := nc.Write(bareConnect("again")); err == nil {
				break // it is let in, to be refused without an account
			}
			if time.Since(start) > patience {
				t.Fatalf("%s: a place that is free is not given", ips[0])
			}
		}
	}
	s.logged("msg=refused op=accept listener=mqtt://192.0.2.200:1883 addr=192.0.2.1 reason=\"as many connections of the address")
	for i := range 6 {
		s.dial(fmt.Sprint("local-", i))
	}
}

// Of one address only so many may be there that have not logged in; those that have
// do not count.
func TestConnectingOfAddress(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.ConnectingPerAddress = 2 })
	op := s.operator()
	ann := addAccount(op, "ann", "device")
	for i := range 4 {
		s.accepted(attemptOver(t, s.comesFrom("192.0.2.1"), fmt.Sprint("lamp-", i), ann))
	}
	s.comesFrom("192.0.2.1")
	s.comesFrom("192.0.2.1")
	if !shut(t, s.comesFrom("192.0.2.1")) {
		t.Error("the third silent connection is let in")
	}
	s.accepted(attemptOver(t, s.comesFrom("192.0.2.2"), "lamp-5", ann))
	for range 10 {
		if shut(t, s.comesFrom("127.0.0.1"), bareConnect("local")...) {
			t.Fatal("loopback is bounded")
		}
	}
}

// Behind a proxy that names its peers these are counted, and not the proxy.
func TestConnectionsBehindAProxy(t *testing.T) {
	s := serve(t, func(c *broker.Config) {
		c.Limits.ConnectionsPerAddress = 2
		c.Listeners = []listen.Config{{Address: "127.0.0.1:0", Proxy: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
	})
	op := s.operator()
	ann := addAccount(op, "ann", "device")
	from := func(ip string) net.Conn {
		nc := s.open(1, nil)
		t.Cleanup(func() { nc.Close() })
		fmt.Fprintf(nc, "PROXY TCP4 %s 192.0.2.200 40000 1883\r\n", ip)
		return nc
	}
	for i := range 2 {
		s.accepted(attemptOver(t, from("192.0.2.1"), fmt.Sprint("one-", i), ann))
		s.accepted(attemptOver(t, from("192.0.2.2"), fmt.Sprint("two-", i), ann))
	}
	if !shut(t, from("192.0.2.1")) {
		t.Error("the third connection is let in")
	}
	s.logged(`op=connect client="" by="" addr=192.0.2.1 reason="as many connections of the address`)
}

// When no more connections may wait for their login, or be there at all, the oldest
// that has sent nothing makes room; those that have logged in stay.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	for name, limits := range map[string]broker.Limits{
		"connecting": {Connecting: 3}, "connections": {Connections: 5},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(c *broker.Config) { c.Limits = limits })
			op, lamp := s.operator(), s.dial("lamp")
			var silent []net.Conn
			for range 3 {
				nc := s.open(0, nil)
				defer nc.Close()
				nc.Write([]byte{0x10}) // it has begun, and is not whole
				silent = append(silent, nc)
			}
			for range 5 {
				c := s.dial("other")
				if !shut(t, silent[0]) {
					t.Fatal("the oldest silent connection is there, and there is room")
				}
				c.disconnect()
				nc := s.open(0, nil)
				defer nc.Close()
				silent = append(silent[1:], nc)
			}
			s.logged("no CONNECT came, and its place was needed")
			lamp.flushed()
			op.must("list", "")
		})
	}
}

// When all connections are logged in, no other is let in, until one goes.
func TestConnectionsInAll(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.Connections = 3 })
	op := s.operator()
	one, two := s.dial("one"), s.dial("two")
	if nc := s.open(0, nil); !shut(t, nc) {
		t.Error("the fourth connection is let in")
	}
	s.logged(`op=accept listener=mqtt://` + s.addr + ` addr=127.0.0.1 reason="as many connections as limits.connections allows"`)
	s.lose(one)
	s.dial("three")
	two.flushed()
	op.must("list", "")
}

// What does not begin with a CONNECT is closed at its first byte, and what never
// sends a whole one when its time is over, however slowly it sends.
func TestBeforeLogin(t *testing.T) {
	for _, way := range ways {
		s := serveOver(t, way, func(c *broker.Config) { c.Limits.ConnectTimeout = 150 * time.Millisecond })
		open := s.over
		if open == nil {
			open = func() net.Conn { return s.open(0, nil) }
		}
		for first := range 256 {
			if byte(first) == 0x10 {
				continue
			}
			nc := open()
			if !shut(t, nc, byte(first)) {
				t.Errorf("%s: a first byte of 0x%02x is answered", way, first)
			}
			nc.Close()
		}
		for name, sent := range map[string][]byte{
			"nothing": nil, "half a CONNECT": bareConnect("lamp")[:10], "a length without its end": {0x10, 0xff, 0xff},
		} {
			nc := open()
			if !shut(t, nc, sent...) {
				t.Errorf("%s: %s is answered", way, name)
			}
			nc.Close()
		}
		nc := open()
		nc.SetDeadline(time.Now().Add(patience))
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			io.Copy(io.Discard, nc)
		}()
		tick := time.NewTicker(5 * time.Millisecond)
		slow := append([]byte{0x10, 0xf0, 0x3f}, make([]byte, 8<<10)...)
		func() {
			for _, b := range slow {
				select {
				case <-closed:
					return
				case <-tick.C:
					nc.Write([]byte{b})
				}
			}
			t.Errorf("%s: a CONNECT takes as long as its sender likes", way)
		}()
		tick.Stop()
		nc.Close()
		s.logged("no CONNECT came within limits.connect_timeout")
	}
}

// A CONNECT has 8 KiB, and one that says that it is larger is not waited for.
func TestConnectSize(t *testing.T) {
	s := serve(t, nil)
	for name, head := range map[string][]byte{
		"8 KiB and a byte": {0x10, 0xfe, 0x3f}, "the largest there is": {0x10, 0xff, 0xff, 0xff, 0x7f}, "five bytes of length": {0x10, 0x80, 0x80, 0x80, 0x80},
	} {
		nc := s.open(0, nil)
		if !shut(t, nc, head...) {
			t.Errorf("%s: it is answered", name)
		}
		nc.Close()
	}
}
