package device_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/muster-mqtt/muster/device"
)

// gateway is an HTTP server whose WebSockets lead to the fake, each message from
// the fake cut in two.
func (f *fake) gateway(secure bool, paths chan<- string) *httptest.Server {
	f.t.Helper()
	serve := func(w http.ResponseWriter, r *http.Request) {
		paths <- r.URL.Path
		u := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
		ws, err := u.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		nc, err := net.Dial("tcp", f.ln.Addr().String())
		if err != nil {
			f.t.Error(err)
			return
		}
		defer nc.Close()
		go func() {
			defer nc.Close()
			for {
				_, b, err := ws.ReadMessage()
				if err != nil {
					return
				}
				nc.Write(b)
			}
		}()
		b := make([]byte, 1<<10)
		for {
			n, err := nc.Read(b)
			if err != nil {
				return
			}
			ws.WriteMessage(websocket.BinaryMessage, b[:n/2])
			ws.WriteMessage(websocket.BinaryMessage, b[n/2:n])
		}
	}
	var s *httptest.Server
	if secure {
		s = httptest.NewTLSServer(http.HandlerFunc(serve))
	} else {
		s = httptest.NewServer(http.HandlerFunc(serve))
	}
	f.t.Cleanup(s.Close)
	return s
}

// A Device works over WebSocket as it does elsewhere; without a path it is /mqtt.
func TestDialOverWebSocket(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for path, want := range map[string]string{"": "/mqtt", "/": "/mqtt", "/other/path": "/other/path"} {
			f, paths := listen(t), make(chan string, 1)
			s := f.gateway(secure, paths)
			o := options()
			at := "ws" + strings.TrimPrefix(s.URL, "http") + path
			if secure {
				o.TLS = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
				o.TLS.NextProtos = nil
			}
			dialed := later(func() (*device.Device, error) { return device.Dial(t.Context(), at, o) })
			f.accept().welcome(1, 1)
			d, err := get(t, dialed)
			if err != nil {
				t.Fatal(err)
			}
			if got := <-paths; got != want {
				t.Errorf("%s asks for %s", at, got)
			}
			if got := numbers(d); len(got) != 1 {
				t.Errorf("groups %v", got)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// What is no server of MQTT over WebSocket is said to be none.
func TestDialOverWebSocketRefused(t *testing.T) {
	tests := []struct {
		name  string
		serve http.HandlerFunc
		want  string
	}{
		{"no WebSocket", http.NotFound, "no WebSocket there: HTTP 404 Not Found"},
		{"another subprotocol", func(w http.ResponseWriter, r *http.Request) {
			u := websocket.Upgrader{Subprotocols: []string{"chat"}}
			if ws, err := u.Upgrade(w, r, nil); err == nil {
				ws.Close()
			}
		}, "does not speak MQTT over WebSocket"},
		{"text", func(w http.ResponseWriter, r *http.Request) {
			u := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
			if ws, err := u.Upgrade(w, r, nil); err == nil {
				defer ws.Close()
				ws.WriteMessage(websocket.TextMessage, []byte("\x20\x02\x00\x00"))
				io.Copy(io.Discard, ws.NetConn())
			}
		}, "not binary"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(tt.serve)
			defer s.Close()
			_, err := device.Dial(t.Context(), "ws"+strings.TrimPrefix(s.URL, "http"), options())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	o := options()
	o.TLS = &tls.Config{}
	if _, err := device.Dial(t.Context(), "ws://127.0.0.1:1", o); err == nil || !strings.Contains(err.Error(), "is for mqtts:// and wss://") {
		t.Errorf("TLS without wss: %v", err)
	}
}
