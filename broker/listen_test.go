package broker_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/broker/listen"
	"github.com/muster-mqtt/muster/broker/listen/listentest"
)

// ways are the ways in for which a test can be run.
var ways = []string{"tcp", "tls", "ws", "wss", "unix"}

// serveOver is serve, with clients that come in by the given way.
func serveOver(t *testing.T, way string, change func(*broker.Config)) *testServer {
	t.Helper()
	if way == "tcp" || way == "goroutines" || way == "large" {
		return serve(t, change)
	}
	dir := t.TempDir()
	ca := listentest.NewCA(t, "authority")
	l := listen.Config{Address: "127.0.0.1:0"}
	if way == "tls" || way == "wss" {
		l.TLS = &listen.TLS{}
		l.TLS.Cert, l.TLS.Key = listentest.WriteCertificate(t, dir, "server", ca.Server(nil))
	}
	if way == "ws" || way == "wss" {
		l.WebSocket = &listen.WebSocket{}
	}
	if way == "unix" {
		l.Address = "unix:" + filepath.Join(dir, "mqtt.sock")
	}
	s := serve(t, func(c *broker.Config) {
		c.Listeners = []listen.Config{l}
		if change != nil {
			change(c)
		}
	})
	s.over = func() net.Conn { return s.open(1, &tls.Config{RootCAs: ca.Pool()}) }
	return s
}

// open opens a connection at the n-th address of the Server, as its URL says.
func (s *testServer) open(n int, conf *tls.Config) net.Conn {
	s.t.Helper()
	at := s.srv.Addrs()[n]
	scheme, rest, _ := strings.Cut(at, ":")
	addr, _, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "/")
	var nc net.Conn
	var err error
	switch scheme {
	case "mqtt":
		nc, err = net.Dial("tcp", addr)
	case "mqtts":
		nc, err = tls.Dial("tcp", addr, conf)
	case "unix":
		nc, err = net.Dial("unix", rest)
	default:
		var ws *websocket.Conn
		d := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: conf}
		if ws, _, err = d.Dial(at, nil); err == nil {
			nc = &webSocket{Conn: ws}
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return nc
}

// A webSocket is a WebSocket as a stream of bytes; each Write is as many messages
// as it is cut into.
type webSocket struct {
	*websocket.Conn
	r   io.Reader
	cut int // bytes of a message; 0: all
}

func (w *webSocket) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := len(rest)
		if w.cut > 0 {
			n = min(n, w.cut)
		}
		if err := w.WriteMessage(websocket.BinaryMessage, rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(b), nil
}

func (w *webSocket) SetDeadline(at time.Time) error {
	return errors.Join(w.SetReadDeadline(at), w.SetWriteDeadline(at))
}

func (w *webSocket) Read(b []byte) (int, error) {
	for {
		if w.r == nil {
			_, r, err := w.NextReader()
			if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				return 0, io.EOF
			}
			if err != nil {
				return 0, err
			}
			w.r = r
		}
		n, err := w.r.Read(b)
		if errors.Is(err, io.EOF) {
			w.r, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// A client joins, receives, is taken over and told so, and stays away, whichever
// way it comes in. Only those with TCP are loopback.
func TestWaysIn(t *testing.T) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			s := serveOver(t, way, nil)
			op := s.operator()
			op.must("create", `{"name":"lamps"}`)
			options := []option{v5}
			if way == "unix" {
				options = append(options, addAccount(op, "ann", "device"))
			}
			c := s.dial("lamp-7", options...)
			if codes := c.subscribe("$join/lamps"); !bytes.Equal(codes, []byte{1}) {
				t.Fatalf("SUBACK % x", codes)
			}
			payload := strings.Repeat("0123456789", 20_000) // more than one part of what is sealed
			op.publish("g/1/all/muster/hello", payload, 1)
			c.expectMessages("g/1/all/muster/hello " + payload)
			if r := c.publish("g/1/up/lamp-7/x", payload, 1); r != 0 {
				t.Errorf("PUBACK 0x%02x", r)
			}
			next := s.dial("lamp-7", options...)
			rest := c.ended()
			if len(rest) != 1 || rest[0].FixedHeader.Type != packets.Disconnect || rest[0].ReasonCode != 0x8E {
				t.Errorf("taken over, it receives %d packets: %v", len(rest), rest)
			}
			next.disconnect()
		})
	}
}

// A packet may come in any number of WebSocket messages, and several in one.
func TestWebSocketMessagesAreNoPackets(t *testing.T) {
	s := serveOver(t, "ws", nil)
	for _, cut := range []int{1, 2, 3, 7} {
		over := s.open(1, nil).(*webSocket)
		over.cut = cut
		c := s.accepted(attemptOver(t, over, "lamp-7"))
		c.raw([]byte{0xC0, 0, 0xC0, 0, 0xC0})
		c.raw([]byte{0})
		for range 3 {
			c.reply(packets.Pingresp)
		}
		over.cut = 0
		c.raw([]byte{0xC0, 0, 0xC0, 0, 0xC0, 0})
		for range 3 {
			c.reply(packets.Pingresp)
		}
		c.disconnect()
	}
}

// Keep Alive holds over WebSocket and TLS as it does elsewhere: MQTT 5.0,
// 3.1.2.10.
func TestKeepAliveOverTLS(t *testing.T) {
	for _, way := range ways[1:4] {
		s := serveOver(t, way, nil)
		c := s.dial("lamp-7", v5, func(pk *packets.Packet, _ *client) { pk.Connect.Keepalive = 1 })
		rest := c.ended()
		if len(rest) != 1 || rest[0].ReasonCode != 0x8D {
			t.Errorf("%s: silent, it receives %v", way, rest)
		}
	}
}

// Nobody behind a proxy is anonymous, even if the proxy is on this machine and
// says that the peer is too. Who logs in is let in, and is known by its own
// address. [GRP-2.1-1]
func TestAnonymousBehindProxy(t *testing.T) {
	s := serve(t, func(c *broker.Config) {
		c.Listeners = []listen.Config{{Address: "127.0.0.1:0", Proxy: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}}
	})
	ann := addAccount(s.operator(), "ann", "device")
	behind := func(header string) net.Conn {
		nc := s.open(1, nil)
		io.WriteString(nc, header)
		return nc
	}
	inDialects(t, func(d dialect) {
		for _, header := range []string{
			"PROXY TCP4 127.0.0.1 127.0.0.1 49152 1883\r\n", "PROXY TCP4 192.0.2.7 127.0.0.1 49152 1883\r\n", "PROXY UNKNOWN\r\n",
			"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00",
		} {
			refusedConnect(t, attemptOver(t, behind(header), "lamp-7", d.with...), d.code(0x87, 5))
		}
		s.accepted(attemptOver(t, behind("PROXY TCP4 192.0.2.7 127.0.0.1 49152 1883\r\n"), "lamp-7", d.plus(ann)...))
		wrong := login("ann", "not it")
		refusedConnect(t, attemptOver(t, behind("PROXY TCP4 192.0.2.9 127.0.0.1 49152 1883\r\n"), "lamp-7", d.plus(wrong)...), d.code(0x86, 4))
	})
	if !strings.Contains(s.log.String(), "addr=192.0.2.9") {
		t.Error("the log does not name the address behind the proxy")
	}
	// Without a header there is no connection.
	nc := s.open(1, nil)
	io.WriteString(nc, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
	if b, err := io.ReadAll(nc); len(b) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("without a header: % x, %v", b, err)
	}
}

// mutualTLS serves with certificates that name accounts, and returns how a client
// comes in with one, which is made and kept in certs.
func mutualTLS(t *testing.T, ca *listentest.CA, certs map[string]tls.Certificate, change func(*listen.TLS)) (*testServer, func(name string) net.Conn) {
	t.Helper()
	dir := t.TempDir()
	l := listen.Config{Address: "127.0.0.1:0", TLS: &listen.TLS{ClientCA: listentest.Write(t, dir, "ca.pem", ca.PEM())}}
	l.TLS.Cert, l.TLS.Key = listentest.WriteCertificate(t, dir, "server", ca.Server(nil))
	if change != nil {
		change(l.TLS)
	}
	s := serve(t, func(c *broker.Config) { c.Listeners = []listen.Config{l} })
	return s, func(name string) net.Conn {
		if certs[name].Leaf == nil {
			certs[name] = ca.Client(name, nil)
		}
		return s.open(1, &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{certs[name]}})
	}
}

// The account that a certificate names needs no password, and no other account
// can be had with it. [GRP-2.1-2]
func TestLoginByCertificate(t *testing.T) {
	s, with := mutualTLS(t, listentest.NewCA(t, "authority"), map[string]tls.Certificate{}, nil)
	op := s.operator()
	addAccount(op, "ann", "device")
	bob := addAccount(op, "bob", "device")
	addAccount(op, "eve", "operator")
	user := func(name string) option {
		return func(pk *packets.Packet, _ *client) {
			pk.Connect.UsernameFlag, pk.Connect.Username = true, []byte(name)
		}
	}
	inDialects(t, func(d dialect) {
		no := d.code(0x87, 5)
		tests := []struct {
			name, cert string
			options    []option
			code       byte
		}{
			{"no User Name", "ann", nil, 0},
			{"the same User Name", "ann", []option{user("ann")}, 0},
			{"in other case", "ANN", []option{user("Ann")}, 0},
			{"with a password that is not looked at", "ann", []option{login("ann", "whatever")}, 0},
			{"another User Name", "ann", []option{user("bob")}, no},
			{"another one, with its password", "ann", []option{bob}, no},
			{"no such account", "carl", nil, no},
			{"no account's name", "a b", nil, no},
			{"local", "local", nil, no},
			{"anonymous", "anonymous", nil, no},
			{"muster", "muster", nil, no},
		}
		for _, tt := range tests {
			c := attemptOver(t, with(tt.cert), "lamp-7", d.plus(tt.options...)...)
			if tt.code != 0 {
				refusedConnect(t, c, tt.code)
				continue
			}
			s.accepted(c)
			c.disconnect()
		}
		// Its role is the account's.
		eve := s.accepted(attemptOver(t, with("eve"), "muster~eve", d.with...))
		eve.must("list", "")
		eve.disconnect()
		refusedConnect(t, attemptOver(t, with("ann"), "muster~ann", d.with...), d.code(0x85, 2))
	})
	if e := op.must("show", `{"device":"lamp-7"}`); e.User != "ann" {
		t.Errorf("lamp-7 belongs to %q", e.User)
	}
	// A disabled account's certificate opens nothing, at once.
	c := s.accepted(attemptOver(t, with("ann"), "lamp-7", v5))
	op.must("account", `{"op":"remove","user":"ann"}`)
	c.ended()
	refusedConnect(t, attemptOver(t, with("ann"), "lamp-7"), 5)
}

// A certificate without the account in it is no more than leave to come in.
func TestCertificateAndPassword(t *testing.T) {
	s, with := mutualTLS(t, listentest.NewCA(t, "authority"), map[string]tls.Certificate{}, func(c *listen.TLS) { c.Account = "password" })
	ann := addAccount(s.operator(), "ann", "device")
	s.accepted(attemptOver(t, with("whoever"), "lamp-7", ann)).disconnect()
	refusedConnect(t, attemptOver(t, with("ann"), "lamp-7", login("ann", "not it")), 4)
}

// Who is put on the list of revoked certificates is gone after Reload, and nobody
// else is.
func TestRevokedWhileConnected(t *testing.T) {
	ca := listentest.NewCA(t, "authority")
	dir, hour := t.TempDir(), time.Now().Add(time.Hour)
	certs := map[string]tls.Certificate{}
	s, with := mutualTLS(t, ca, certs, func(c *listen.TLS) { c.CRL = listentest.Write(t, dir, "crl.pem", ca.CRL(1, hour)) })
	op := s.operator()
	for _, name := range []string{"ann", "bob"} {
		addAccount(op, name, "device")
	}
	c := s.accepted(attemptOver(t, with("ann"), "lamp-7", v5))
	other := s.accepted(attemptOver(t, with("bob"), "lamp-8", v5))
	listentest.Write(t, dir, "crl.pem", []byte("nothing"))
	if err := s.srv.Reload(); err == nil {
		t.Error("a list that is none was loaded")
	}
	c.flushed()
	listentest.Write(t, dir, "crl.pem", ca.CRL(2, hour, certs["ann"]))
	if err := s.srv.Reload(); err != nil {
		t.Fatal(err)
	}
	rest := c.ended()
	if len(rest) != 1 || rest[0].FixedHeader.Type != packets.Disconnect || rest[0].ReasonCode != 0x87 {
		t.Errorf("revoked, it receives %v", rest)
	}
	other.flushed()
}

// A silent connection is closed when the time for CONNECT is over, also in the
// middle of a handshake, and keeps nobody else out.
func TestConnectTimeoutDuringHandshake(t *testing.T) {
	for _, way := range ways[:4] {
		for _, first := range []string{"", "\x16\x03\x01\x02\x00\x01", "GET /mqtt HTT"} {
			s := serveOver(t, way, func(c *broker.Config) { c.Limits.ConnectTimeout = 100 * time.Millisecond })
			n := 1
			if way == "tcp" {
				n, first = 0, first[:min(len(first), 0)]
			}
			_, rest, _ := strings.Cut(s.srv.Addrs()[n], "://")
			addr, _, _ := strings.Cut(rest, "/")
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			nc.SetDeadline(time.Now().Add(patience))
			io.WriteString(nc, first)
			if b, err := io.ReadAll(nc); errors.Is(err, net.ErrClosed) || err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("%s, %q: % x, %v", way, first, b, err)
			}
			nc.Close()
		}
	}
}

// A listener that cannot be opened is named, and those before it are closed.
func TestListenersErrors(t *testing.T) {
	s := serve(t, nil)
	cfg := s.cfg
	cfg.Socket, cfg.Listen = "", nil
	cfg.Listeners = []listen.Config{{Address: "127.0.0.1:0"}, {Address: s.addr}}
	_, err := broker.Open(t.Context(), cfg)
	if want := fmt.Sprintf("listen on %s (listeners, entry 2): address already in use", s.addr); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
