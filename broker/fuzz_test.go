package broker_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/group"
)

// A fuzzed is a script of what hostile connections send: after each byte 0 and
// options a new connection begins with a CONNECT; a byte 1 and a length have bytes
// sent as they are; any other byte begins a packet whose length follows, and which
// is whole.
type fuzzed struct {
	s     *testServer
	pairs net.Listener // makes the connections
	conns []net.Conn
	done  []<-chan struct{}
}

// FuzzConnection lets hostile connections send anything to a real Server, as an
// operator too. It must live, say nothing that is no MQTT, and be as it was when they
// have gone; another client receives what it is to receive, and nothing else.
func FuzzConnection(f *testing.F) {
	for _, seed := range fuzzSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 4<<10 {
			return
		}
		before := runtime.NumGoroutine()
		s := serve(t, func(c *broker.Config) {
			c.Listen = nil // there are not ports enough for each run
			c.Limits.QueueMessages, c.Limits.ConnectTimeout = 100, 500*time.Millisecond
			for _, rule := range []string{"allow both a/#", "deny publish a/b"} {
				c.AnonymousTopics = append(c.AnonymousTopics, topicRule(t, rule))
			}
		})
		z := &fuzzed{s: s}
		var err error
		if z.pairs, err = net.Listen("unix", s.socket+".pairs"); err != nil {
			t.Fatal(err)
		}
		defer z.pairs.Close()
		s.over = z.loopback
		op := s.operatorAs("muster~other")
		op.must("create", `{"name":"home"}`)
		other := s.dial("other", v5)
		other.must("join", "1")
		other.subscribe("mine/#")
		z.run(script)
		op.put("g/1/to/other/muster/x", "to other", 1)
		other.flushed()
		z.end()
		op = s.operatorAs("muster~other") // it may have been taken over
		if d := op.ask("show", `{"device":"other"}`); d.Code == group.OK && d.Kind == "online" {
			op.put("g/1/to/other/muster/x", "last", 1)
			if got := other.messages(); len(got) == 0 && len(d.List) > 0 {
				t.Error("the other client is deaf")
			}
		}
		op.nc.Close()
		other.nc.Close()
		s.stop()
		if log := s.log.String(); strings.Contains(log, "not survived") {
			t.Error("a packet was not survived")
		}
		for start := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Since(start) > patience {
				buf := make([]byte, 64<<10)
				t.Fatalf("%d goroutines, were %d\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
			}
		}
	})
}

// next takes n bytes of the script, or what there is.
func next(script *[]byte, n int) []byte {
	n = min(n, len(*script))
	b := (*script)[:n]
	*script = (*script)[n:]
	return b
}

func nextByte(script *[]byte) byte {
	if b := next(script, 1); len(b) == 1 {
		return b[0]
	}
	return 0
}

// run plays the script.
func (z *fuzzed) run(script []byte) {
	for len(script) > 0 {
		switch first := nextByte(&script); {
		case first == 0:
			if len(z.conns) == 8 {
				return
			}
			z.connect(nextByte(&script))
		case len(z.conns) == 0:
			z.connect(first)
		case first == 1:
			z.send(next(&script, int(nextByte(&script))))
		default:
			body := next(&script, int(nextByte(&script)))
			z.send(append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...))
		}
	}
}

// A viaLoopback is a connection that seems to come from this machine.
type viaLoopback struct{ *net.UnixConn }

func (viaLoopback) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}
}

// loopback opens a connection as if it came in at a port of 127.0.0.1.
func (z *fuzzed) loopback() net.Conn {
	z.s.t.Helper()
	near, err := net.Dial("unix", z.pairs.Addr().String())
	if err != nil {
		z.s.t.Fatal(err)
	}
	far, err := z.pairs.Accept()
	if err != nil {
		z.s.t.Fatal(err)
	}
	z.s.srv.ServeConn(viaLoopback{far.(*net.UnixConn)}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1883})
	return near
}

// connect begins a connection, and sends what the options say.
func (z *fuzzed) connect(options byte) {
	z.s.t.Helper()
	operator := options&1 != 0
	var nc net.Conn
	if operator {
		var err error
		if nc, err = net.Dial("unix", z.s.socket); err != nil {
			z.s.t.Fatal(err)
		}
	} else {
		nc = z.loopback()
	}
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4 + options>>1&1,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "x", Clean: options&4 == 0},
	}
	if operator {
		pk.Connect.ClientIdentifier = "muster~x"
	}
	if options&8 != 0 {
		withWill("a/will", "will", options>>4&1)(&pk, nil)
	}
	if options&32 != 0 {
		pk.Connect.ClientIdentifier = ""
		pk.Connect.Clean = true
	}
	if options&64 != 0 && pk.ProtocolVersion == 5 {
		pk.Properties.ReceiveMaximum, pk.Properties.TopicAliasMaximum = 2, 3
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 100, true
	}
	z.conns = append(z.conns, nc)
	done := make(chan struct{})
	z.done = append(z.done, done)
	if options&128 == 0 { // else it sends no CONNECT of itself
		var b bytes.Buffer
		if err := pk.ConnectEncode(&b); err != nil {
			z.s.t.Fatal(err)
		}
		z.send(b.Bytes())
	}
	go func() {
		defer close(done)
		c := &client{t: z.s.t, nc: nc, id: "fuzzed", version: pk.ProtocolVersion}
		for {
			_, _, err := c.readPacket()
			var ne net.Error
			switch {
			case err == nil:
			case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.As(err, &ne), strings.Contains(err.Error(), "reset"):
				nc.Close()
				return
			case options&128 != 0 || errors.Is(err, io.ErrUnexpectedEOF):
				// The version that was spoken is not known here, or the connection was lost.
				io.Copy(io.Discard, nc)
				nc.Close()
				return
			default:
				z.s.t.Errorf("the server has sent what is no MQTT: %v", err)
				nc.Close()
				return
			}
		}
	}()
}

func (z *fuzzed) send(b []byte) {
	nc := z.conns[len(z.conns)-1]
	nc.SetWriteDeadline(time.Now().Add(patience))
	nc.Write(b)
}

// end has the connections end, one as clients do that have no more to say, the next
// as those that are lost.
func (z *fuzzed) end() {
	for i, nc := range z.conns {
		if half, ok := nc.(interface{ CloseWrite() error }); ok && i%2 == 0 {
			half.CloseWrite()
		} else {
			nc.Close()
		}
	}
	for _, done := range z.done {
		select {
		case <-done:
		case <-time.After(patience):
			z.s.t.Fatal("a connection that the client has ended is not closed")
		}
	}
}

// fuzzSeeds are scripts of packets of each type, in both versions and dialects.
func fuzzSeeds() [][]byte {
	str := func(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + s }
	packet := func(first byte, body string) string { return string([]byte{first, byte(len(body))}) + body }
	var seeds [][]byte
	for _, v5 := range []bool{false, true} {
		none, version := "", byte(0)
		if v5 {
			none, version = "\x00", 2
		}
		all := []string{
			packet(0x30, str("a/x")+none+"payload"), packet(0x33, str("a/x")+"\x00\x01"+none+"kept"), packet(0x34, str("a/x")+"\x00\x02"+none+"twice"),
			packet(0x62, "\x00\x02"), packet(0x40, "\x00\x01"), packet(0x50, "\x00\x01"), packet(0x70, "\x00\x01"),
			packet(0x82, "\x00\x03"+none+str("a/#")+"\x02"+str("$share/s/a/+")+"\x01"+str("$join/home")+"\x01"+str("g/1/all/#")+"\x01"+str("$CONTROL/group/v1/me")+"\x00"),
			packet(0xa2, "\x00\x04"+none+str("a/#")+str("$join/home")),
			packet(0x32, str("$G/join")+"\x00\x05"+none+"home"), packet(0x32, str("g/1/all/x/t")+"\x00\x06"+none+"hello"), packet(0x32, str("g/up/t")+"\x00\x07"+none+"up"),
			packet(0x30, str("$G/mine")+none), packet(0x30, str("$G/list")+none+`{"limit":1}`), packet(0x30, str("$G/grant")+none+`{"op":"join","g":"home"}`),
			packet(0x30, str("$G/create")+none+`{"name":"new","pin":"4711"}`), packet(0x30, str("$G/join")+none+"\xa1\x01\x64home"),
			packet(0xc0, ""), packet(0xe0, ""), packet(0x10, "again"), packet(0xf0, "\x18\x00"),
		}
		if v5 {
			all = append(all,
				packet(0x32, str("a/al")+"\x00\x08\x03\x23\x00\x01alias"), packet(0x32, str("")+"\x00\x09\x03\x23\x00\x01by alias"),
				packet(0x30, str("a/e")+"\x05\x02\x00\x00\x00\x01expires"), packet(0x82, "\x00\x0a\x02\x0b\x07"+str("a/id")+"\x1d"),
				packet(0x30, str("$G/mine")+"\x0c\x08"+str("a/res")+"\x09\x00\x01c"), packet(0xe0, "\x04\x05\x11\x00\x00\x00\x05"),
			)
		}
		for options := range 8 {
			head := string([]byte{0, byte(options)<<2 | version | byte(options&1)})
			seeds = append(seeds, []byte(head+strings.Join(all, "")))
			// Taken over in the middle, with what was in flight.
			seeds = append(seeds, []byte(head+strings.Join(all[:8], "")+head+strings.Join(all[4:12], "")))
		}
		for i, p := range all {
			whole := fmt.Sprintf("\x00%c%s", 64|version, p)
			seeds = append(seeds, []byte(whole))
			if i%3 == 0 {
				seeds = append(seeds, []byte("\x00\x80\x01"+string([]byte{byte(len(p))})+p), []byte(whole[:len(whole)-2]))
			}
		}
	}
	return append(seeds, []byte("\x00\x80\x01\x07\x10\xff\xff\xff\x7f\x00\x04"), []byte("\x00\x02\x82\x05\x00\x01\x00\x00\x00"), []byte("\x00\x02\x01\x05\x30\xff\xff\xff\xff"))
}
