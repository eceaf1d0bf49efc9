package listen_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/muster-mqtt/muster/broker/listen"
)

// A stream is a WebSocket as a stream of bytes, each Write one message.
type stream struct {
	*websocket.Conn
	r io.Reader
}

func (s *stream) Write(b []byte) (int, error) {
	return len(b), s.WriteMessage(websocket.BinaryMessage, b)
}

func (s *stream) SetDeadline(at time.Time) error {
	return errors.Join(s.SetReadDeadline(at), s.SetWriteDeadline(at))
}

func (s *stream) Read(b []byte) (int, error) {
	for {
		if s.r == nil {
			_, r, err := s.NextReader()
			if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				return 0, io.EOF
			}
			if err != nil {
				return 0, err
			}
			s.r = r
		}
		n, err := s.r.Read(b)
		if errors.Is(err, io.EOF) {
			s.r, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func dialWebSocket(l *listen.Listener, conf *tls.Config, path string, header http.Header) (net.Conn, error) {
	_, addr := hostPort(l)
	scheme, _, _ := strings.Cut(l.URL(), ":")
	d := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: conf, HandshakeTimeout: patience}
	ws, r, err := d.Dial(scheme+"://"+addr+path, header)
	if err != nil {
		if r != nil {
			err = fmt.Errorf("%w: %s", err, r.Status)
		}
		return nil, err
	}
	if ws.Subprotocol() != "mqtt" {
		return nil, errors.New("the subprotocol is not mqtt")
	}
	return &stream{Conn: ws}, nil
}

// Frames and MQTT packets need not be the same: one may hold half of the other,
// or several, also as fragments, with pings between them.
func TestWebSocketFramesAreNoPackets(t *testing.T) {
	l := open(t, listen.Config{Address: "127.0.0.1:0", WebSocket: &listen.WebSocket{}})
	c, nc := pair(t, l, func() (net.Conn, error) { return dialWebSocket(l, nil, "/mqtt", nil) })
	ws := nc.(*stream)
	pongs := make(chan string, 4)
	ws.SetPongHandler(func(s string) error {
		pongs <- s
		return nil
	})
	go io.Copy(io.Discard, ws)
	if err := ws.WriteMessage(websocket.BinaryMessage, []byte{0xC0}); err != nil {
		t.Fatal(err)
	}
	ws.WriteControl(websocket.PingMessage, []byte("there?"), time.Now().Add(patience))
	ws.WriteMessage(websocket.BinaryMessage, nil)
	ws.WriteMessage(websocket.BinaryMessage, []byte{0x00, 0xC0, 0x00, 0xC0})
	w, err := ws.NextWriter(websocket.BinaryMessage)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []byte{0x00, 0xC0, 0x00} {
		w.Write([]byte{b}) // a fragment each, as the buffer is flushed
		ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(patience))
	}
	w.Close()
	got := make([]byte, 8)
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if want := "\xC0\x00\xC0\x00\xC0\x00\xC0\x00"; string(got) != want {
		t.Errorf("% x came, want % x", got, want)
	}
	go c.Read(make([]byte, 1)) // who reads on has answered what was read
	if s := <-pongs; s != "there?" {
		t.Errorf("the pong is %q", s)
	}
}

// A text frame ends the connection, and the client is told so.
func TestWebSocketBinaryOnly(t *testing.T) {
	l := open(t, listen.Config{Address: "127.0.0.1:0", WebSocket: &listen.WebSocket{}})
	c, nc := pair(t, l, func() (net.Conn, error) { return dialWebSocket(l, nil, "/mqtt", nil) })
	ws := nc.(*stream)
	ws.WriteMessage(websocket.TextMessage, []byte("\xC0\x00"))
	if n, err := c.Read(make([]byte, 9)); n != 0 || err == nil {
		t.Errorf("a text frame was read: %d, %v", n, err)
	}
	c.CloseWrite()
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseUnsupportedData) {
		t.Errorf("the client sees %v", err)
	}
}

// The end is a close frame, from either side.
func TestWebSocketClose(t *testing.T) {
	l := open(t, listen.Config{Address: "127.0.0.1:0", WebSocket: &listen.WebSocket{}})
	connect := func() (*listen.Conn, *stream) {
		c, nc := pair(t, l, func() (net.Conn, error) { return dialWebSocket(l, nil, "/mqtt", nil) })
		return c, nc.(*stream)
	}
	c, ws := connect()
	c.CloseWrite()
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("the client sees %v", err)
	}
	c, ws = connect()
	ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, ""), time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the server sees %v", err)
	}
	c.CloseWrite()
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("the client is answered %v", err)
	}
}

// Pings of a client that takes no pongs cost the server no memory.
func TestWebSocketPingFlood(t *testing.T) {
	l := open(t, listen.Config{Address: "127.0.0.1:0", WebSocket: &listen.WebSocket{}})
	c, nc := pair(t, l, func() (net.Conn, error) { return dialWebSocket(l, nil, "/mqtt", nil) })
	for n := 1; n > 0; { // until the kernel is full
		var err error
		if n, err = c.Try(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	before := c.Waiting()
	ws := nc.(*stream)
	go func() {
		for range 2000 {
			ws.WriteControl(websocket.PingMessage, make([]byte, 125), time.Now().Add(patience))
		}
		ws.WriteMessage(websocket.BinaryMessage, []byte{1})
	}()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if n := c.Waiting(); n > before+8<<10 {
		t.Errorf("%d bytes wait after the pings, %d before", n, before)
	}
}

// request sends an HTTP request as it is written, and returns the status.
func request(t *testing.T, l *listen.Listener, text string) (status int, err error) {
	t.Helper()
	done := accept(t, l)
	nc := dial(t, l)
	io.WriteString(nc, strings.ReplaceAll(text, "\n", "\r\n"))
	r, readErr := http.ReadResponse(bufio.NewReader(nc), nil)
	if readErr == nil {
		status = r.StatusCode
		r.Body.Close()
	}
	nc.Close()
	return status, (<-done).err
}

const goodRequest = "GET /mqtt HTTP/1.1\nHost: HOST\nConnection: Upgrade\nUpgrade: websocket\n" +
	"Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Protocol: mqtt\n\n"

func TestWebSocketRequest(t *testing.T) {
	with := func(header string) string { return strings.Replace(goodRequest, "\n\n", "\n"+header+"\n\n", 1) }
	without := func(part string) string { return strings.Replace(goodRequest, part, "", 1) }
	instead := func(part, other string) string { return strings.Replace(goodRequest, part, other, 1) }
	listed := []string{"https://app.example.com", "http://other.example:8080"}
	tests := []struct {
		name    string
		origins []string
		request string
		status  int
	}{
		{"no browser", nil, goodRequest, 101},
		{"several subprotocols", nil, instead("Protocol: mqtt", "Protocol: mqttv3.1, mqtt"), 101},
		{"no subprotocol", nil, without("Sec-WebSocket-Protocol: mqtt\n"), 400},
		{"another subprotocol", nil, instead("Protocol: mqtt", "Protocol: mqttv3.1"), 400},
		{"another path", nil, instead("/mqtt", "/"), 404},
		{"a path below", nil, instead("/mqtt", "/mqtt/x"), 404},
		{"no upgrade", nil, "GET /mqtt HTTP/1.1\nHost: HOST\n\n", 400},
		{"another version", nil, instead("Version: 13", "Version: 8"), 400},
		{"no key", nil, without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n"), 400},
		{"POST", nil, instead("GET", "POST"), 405},
		{"same host", nil, with("Origin: http://HOST"), 101},
		{"another host", nil, with("Origin: http://evil.example"), 403},
		{"another port", nil, with("Origin: http://127.0.0.1:1"), 403},
		{"null", nil, with("Origin: null"), 403},
		{"two origins", nil, with("Origin: http://HOST\nOrigin: http://HOST"), 403},
		{"a name that was made to lead here", nil, strings.ReplaceAll(with("Origin: http://evil.example:1883"), "HOST", "evil.example:1883"), 403},
		{"listed", listed, with("Origin: https://app.example.com"), 101},
		{"listed, in other case", listed, with("Origin: HTTPS://App.Example.com"), 101},
		{"listed, with port", listed, with("Origin: http://other.example:8080"), 101},
		{"listed with another scheme", listed, with("Origin: http://app.example.com"), 403},
		{"a host that begins like one that is listed", listed, with("Origin: https://app.example.com.evil.example"), 403},
		{"same host, but others are listed", listed, with("Origin: http://HOST"), 403},
		{"no browser, with a list", listed, goodRequest, 101},
		{"too long", nil, with("X: " + strings.Repeat("x", 9<<10)), 0},
		{"a header that is none", nil, with("Authorization s3cret"), 0},
		{"a secret in the path", nil, instead("/mqtt", "/s3cret"), 404},
		{"no HTTP", nil, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00\n\n", 0},
		{"more than the request", nil, goodRequest + "\x82\x80", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := open(t, listen.Config{Address: "127.0.0.1:0", WebSocket: &listen.WebSocket{Origins: tt.origins}})
			_, addr := hostPort(l)
			status, err := request(t, l, strings.ReplaceAll(tt.request, "HOST", addr))
			if status != tt.status {
				t.Errorf("answered %d, want %d: %v", status, tt.status, err)
			}
			if (err == nil) != (tt.status == 101) || err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the handshake: %v", err)
			}
		})
	}
}
