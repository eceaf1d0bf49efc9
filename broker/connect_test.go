package broker_test

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/group"
)

// A dialect is a version of MQTT, and what it says of a refusal.
type dialect struct {
	name string
	v5   bool
	with []option
}

var dialects = []dialect{{name: "3.1.1"}, {name: "5.0", v5: true, with: []option{v5}}}

// plus returns the options of a CONNECT in the dialect.
func (d dialect) plus(options ...option) []option {
	return append(append([]option(nil), d.with...), options...)
}

// code chooses between a Reason Code of 5.0 and a return code of 3.1.1.
func (d dialect) code(five, three byte) byte {
	if d.v5 {
		return five
	}
	return three
}

// inDialects runs f in each version of MQTT.
func inDialects(t *testing.T, f func(d dialect)) {
	t.Helper()
	for _, d := range dialects {
		t.Log("MQTT", d.name)
		f(d)
	}
}

// refusedConnect expects a CONNECT to be refused with the code, and the
// connection to be closed.
func refusedConnect(t *testing.T, c *client, code byte) {
	t.Helper()
	if c.connack.FixedHeader.Type != packets.Connack || c.connack.ReasonCode != code || c.connack.SessionPresent {
		t.Fatalf("%s: packet type %d, code 0x%02x, want CONNACK 0x%02x", c.id, c.connack.FixedHeader.Type, c.connack.ReasonCode, code)
	}
	if rest := c.ended(); len(rest) > 0 {
		t.Fatalf("%s: %d packets follow the refusal", c.id, len(rest))
	}
}

// refuse tries to connect, and expects to be refused.
func (s *testServer) refuse(code byte, id string, options ...option) {
	s.t.Helper()
	refusedConnect(s.t, attempt(s.t, "tcp", s.addr, id, options...), code)
}

// operatorAs connects through the operator socket under another identifier than
// operator does.
func (s *testServer) operatorAs(id string, options ...option) *client {
	s.t.Helper()
	return s.accepted(attempt(s.t, "unix", s.socket, id, options...))
}

// lose ends the connection as a lost network does, and returns when the server
// has done all that follows: its Will is published.
func (s *testServer) lose(c *client) {
	s.t.Helper()
	done := s.srv.ConnDone(c.nc.LocalAddr())
	c.nc.Close()
	select {
	case <-done:
	case <-time.After(patience):
		s.t.Fatalf("%s: the server has not noticed that it is gone", c.id)
	}
}

// watcher is an operator who receives what is published to any group.
func (s *testServer) watcher() *client {
	s.t.Helper()
	w := s.operatorAs("muster~watch")
	if codes := w.subscribe("g/+/all/#", "g/+/up/#"); codes[0] != 1 || codes[1] != 1 {
		s.t.Fatalf("SUBACK %v", codes)
	}
	return w
}

// addAccount makes an account with the password of all accounts in tests.
func addAccount(op *client, name, role string) option {
	op.t.Helper()
	op.must("account", jsonOf(map[string]any{"op": "add", "user": name, "role": role, "secret": password}))
	return login(name, password)
}

const password = "correct horse"

// A fakeAddr is a connection that comes from another address.
type fakeAddr struct {
	net.Conn
	remote net.Addr
}

func (c fakeAddr) RemoteAddr() net.Addr { return c.remote }

// [GRP-2.1-1] Without a User Name one is let in only where listener and peer are
// loopback.
func TestAnonymousOnlyOnLoopback(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "device")
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1883} }
	tests := []struct {
		name             string
		listener, remote net.Addr
		ok               bool
	}{
		{"both loopback", tcp("127.0.0.1"), tcp("127.0.0.1"), true},
		{"other loopback addresses", tcp("127.0.0.2"), tcp("127.255.0.3"), true},
		{"IPv6", tcp("::1"), tcp("::1"), true},
		{"listener on all addresses", tcp("0.0.0.0"), tcp("127.0.0.1"), false},
		{"listener on all of IPv6", tcp("::"), tcp("::1"), false},
		{"listener on a network", tcp("192.0.2.7"), tcp("127.0.0.1"), false},
		{"peer on a network", tcp("127.0.0.1"), tcp("192.0.2.7"), false},
		{"peer on IPv6", tcp("::1"), tcp("2001:db8::7"), false},
		{"peer on an IPv4 address written as IPv6", tcp("127.0.0.1"), tcp("::ffff:192.0.2.7"), false},
		{"both on a network", tcp("192.0.2.1"), tcp("192.0.2.7"), false},
		{"unix socket", &net.UnixAddr{Net: "unix", Name: "x"}, &net.UnixAddr{Net: "unix"}, false},
		{"unix listener, loopback peer", &net.UnixAddr{Net: "unix", Name: "x"}, tcp("127.0.0.1"), false},
	}
	over := func(listener, remote net.Addr, options ...option) *client {
		mine, theirs := net.Pipe()
		s.srv.ServeConn(fakeAddr{theirs, remote}, listener)
		return attemptOver(t, mine, "lamp-7", options...)
	}
	for _, tt := range tests {
		for _, d := range dialects {
			t.Run(tt.name+" "+d.name, func(t *testing.T) {
				want := byte(0)
				if !tt.ok {
					want = d.code(0x87, 5)
				}
				empty := func(pk *packets.Packet, _ *client) { pk.Connect.UsernameFlag = true }
				for _, options := range [][]option{nil, {empty}} {
					c := over(tt.listener, tt.remote, d.plus(options...)...)
					if got := c.connack.ReasonCode; got != want {
						t.Errorf("CONNACK 0x%02x, want 0x%02x", got, want)
					}
					c.nc.Close()
				}
			})
		}
	}
	// Who logs in is let in from everywhere.
	s.accepted(over(tcp("192.0.2.1"), tcp("192.0.2.7"), func(pk *packets.Packet, c *client) {
		ann(pk, c)
		pk.Connect.ClientIdentifier = "pump-1"
	}))
}

// The same at real listeners: a unix socket that is not the operator's, and a
// server that takes nobody without an account. [GRP-2.1-1]
func TestAnonymousElsewhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plain.sock")
	s := serve(t, func(c *broker.Config) { c.Listen = append(c.Listen, "unix:"+path) })
	closed := serve(t, func(c *broker.Config) { c.Anonymous = false })
	inDialects(t, func(d dialect) {
		refusedConnect(t, attempt(t, "unix", path, "lamp-7", d.with...), d.code(0x87, 5))
		refusedConnect(t, attempt(t, "unix", path, "muster", d.with...), d.code(0x87, 5))
		refusedConnect(t, attempt(t, "tcp", closed.addr, "lamp-7", d.with...), d.code(0x87, 5))
		s.dial("lamp-7", d.with...).disconnect()
	})
}

// A wrong password, an unknown user and the names that nobody can log in to are
// one refusal, and the Client Identifier stays free.
func TestLogin(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := addAccount(op, "ann", "device")
	tests := []struct{ name, user, secret string }{
		{"wrong password", "ann", "wrong password"},
		{"empty password", "ann", ""},
		{"the password and more", "ann", password + "x"},
		{"unknown user", "bob", password},
		{"anonymous", "anonymous", password},
		{"local", "local", password},
		{"muster", "muster", password},
		{"a name that is none", "ann/../local", password},
	}
	inDialects(t, func(d dialect) {
		for _, tt := range tests {
			s.refuse(d.code(0x86, 4), "lamp-7", d.plus(login(tt.user, tt.secret))...)
		}
		noPassword := func(pk *packets.Packet, _ *client) {
			pk.Connect.UsernameFlag, pk.Connect.Username = true, []byte("ann")
		}
		s.refuse(d.code(0x86, 4), "lamp-7", d.plus(noPassword)...)
		refusedConnect(t, attempt(t, "unix", s.socket, "muster~x", d.plus(login("bob", password))...), d.code(0x86, 4))
	})
	op.refused(group.NoSuchDevice, "show", `{"device":"lamp-7"}`)
	s.dial("lamp-7", ann)
	s.dial("lamp-8", login("ANN", password)) // account names have no case
	if a := op.must("show", `{"device":"lamp-8"}`); a.User != "ann" {
		t.Errorf("lamp-8 belongs to %q, want ann", a.User)
	}
}

// [GRP-2.4-1] A Will that is a request is refused, before anything else is done.
func TestWillMayBeNoRequest(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	inDialects(t, func(d dialect) {
		for _, topic := range []string{
			"$CONTROL/group/v1/join", "$CONTROL/group/v1/res/me", "$CONTROL/group/v1/me", "$CONTROL", "$CONTROL/other",
			"$G/join", "$G/res/1", "$G/me", "$G", "$join/lamps", "$join/lamps/4711", "$join", "$switch/1/2", "$grant/AAAA",
		} {
			for qos := range byte(3) {
				s.refuse(d.code(0x90, 5), "lamp-7", d.plus(withWill(topic, "lamps", qos))...)
			}
		}
		op.refused(group.NoSuchDevice, "show", `{"device":"lamp-7"}`)
		// What only looks alike is an ordinary topic, and judged when it is due.
		for i, topic := range []string{"$Gx/join", "$joined/lamps", "g/1/all/lamp-9/$join"} {
			c := s.dial("lamp-9", d.plus(withWill(topic, "x", 0))...)
			if i == 2 {
				c.disconnect()
			}
		}
	})
	if a := op.must("members", "lamps"); len(a.List) != 0 {
		t.Errorf("members %v, want none", a.List)
	}
}

// [GRP-2.4-2] A Will on a group topic is judged by the rights of the moment at
// which it is published.
func TestWillIsJudgedWhenPublished(t *testing.T) {
	tests := []struct {
		name   string
		joined bool   // before the connection is lost
		topic  string // of the Will
		before func(op *client)
		want   []string // what the watcher receives
	}{
		{"member", true, "g/1/all/lamp-7/gone", nil, []string{"g/1/all/lamp-7/gone bye"}},
		{"up", true, "g/1/up/lamp-7/gone", nil, []string{"g/1/up/lamp-7/gone bye"}},
		{"short form", true, "g/all/gone", nil, []string{"g/1/all/lamp-7/gone bye"}},
		{"by name", true, "g/lamps/up/gone", nil, []string{"g/1/up/lamp-7/gone bye"}},
		{"never a member", false, "g/1/all/lamp-7/gone", nil, nil},
		{"short form of no member", false, "g/all/gone", nil, nil},
		{"another sender", true, "g/1/all/lamp-8/gone", nil, nil},
		{"no sender", true, "g/1/all", nil, nil},
		{"events", true, "g/1/evt", nil, nil},
		{"to a member, not allowed", true, "g/1/to/lamp-8/lamp-7/gone", nil, nil},
		{"unknown group", true, "g/99/all/lamp-7/gone", nil, nil},
		{"removed meanwhile", true, "g/1/all/lamp-7/gone", func(op *client) { op.must("remove", `{"device":"lamp-7","g":1}`) }, nil},
		{"moved meanwhile", true, "g/1/all/lamp-7/gone", func(op *client) { op.must("move", "lamp-7 lamps pumps") }, nil},
		{"moved into it", false, "g/1/all/lamp-7/gone", func(op *client) { op.must("join", `{"device":"lamp-7","g":1}`) },
			[]string{"g/1/all/lamp-7/gone bye"}},
		{"short form follows a move", true, "g/all/gone", func(op *client) { op.must("move", "lamp-7 lamps pumps") },
			[]string{"g/2/all/lamp-7/gone bye"}},
		{"group deleted", true, "g/1/all/lamp-7/gone", func(op *client) { op.must("delete", `{"g":1}`) }, nil},
		{"ordinary topic", true, "status/lamp-7", nil, nil},
	}
	for _, tt := range tests {
		for _, d := range dialects {
			t.Run(tt.name+" "+d.name, func(t *testing.T) {
				s := serve(t, nil)
				op := s.operator()
				op.must("create", `{"name":"lamps"}`)
				op.must("create", `{"name":"pumps"}`)
				w := s.watcher()
				w.subscribe("status/#")
				other := s.dial("lamp-8")
				other.subscribe("$join/lamps")
				c := s.dial("lamp-7", d.plus(withWill(tt.topic, "bye", 1))...)
				if tt.joined {
					c.must("join", "lamps")
				}
				w.expectMessages()
				if tt.before != nil {
					tt.before(op)
				}
				s.lose(c)
				w.expectMessages(tt.want...)
				var inGroup []string
				for _, m := range tt.want {
					if len(m) > 7 && m[:7] == "g/1/all" {
						inGroup = append(inGroup, m)
					}
				}
				if tt.name != "group deleted" {
					other.expectMessages(inGroup...)
				}
			})
		}
	}
}

// A Will is not published after a goodbye, and is after one that asks for it.
func TestWillAndGoodbye(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	w := s.watcher()
	inDialects(t, func(d dialect) {
		c := s.dial("lamp-7", d.plus(withWill("g/1/all/lamp-7/gone", "bye", 1))...)
		c.subscribe("$join/lamps")
		c.disconnect()
		w.expectMessages()
	})
	c := s.dial("lamp-7", v5, withWill("g/1/all/lamp-7/gone", "bye", 1))
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: 4}
	c.write(&pk, (*packets.Packet).DisconnectEncode)
	c.ended()
	w.expectMessages("g/1/all/lamp-7/gone bye")
}

// What CONNACK tells: the answer topic to those who ask for it, Session Present,
// and the identifier that the server made.
func TestConnack(t *testing.T) {
	s := serve(t, nil)
	ask := func(pk *packets.Packet, _ *client) {
		pk.Properties.RequestResponseInfo = 1
	}
	if got := s.dial("lamp-7", v5, ask).connack.Properties.ResponseInfo; got != "$CONTROL/group/v1/res/me" {
		t.Errorf("Response Information %q", got)
	}
	if got := s.dial("lamp-7", v5).connack.Properties.ResponseInfo; got != "" {
		t.Errorf("Response Information %q without having asked", got)
	}
	if got := s.dial("", v5).connack.Properties.AssignedClientID; got == "" {
		t.Error("no Assigned Client Identifier")
	}
	noClean := func(pk *packets.Packet, _ *client) { pk.Connect.Clean = false }
	refusedConnect(t, attempt(t, "tcp", s.addr, "", noClean), 2) // MQTT 3.1.1, 3.1.3.1
}
