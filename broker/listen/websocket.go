package listen

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// A WebSocket says who may connect with WebSocket (RFC 6455). Clients must ask
// for the subprotocol mqtt (MQTT 5.0, 6).
type WebSocket struct {
	// Path is where; empty means /mqtt.
	Path string
	// Origins holds the web pages that may connect, each as a browser writes it in
	// the header Origin: https://app.example.com, with the port if it is not the
	// scheme's own. With none, only pages of the same host and port may, and on a
	// loopback address only pages of this machine. What sends no Origin is no
	// browser, and may always connect.
	Origins []string
}

func (w *WebSocket) path() string {
	if w.Path == "" {
		return "/mqtt"
	}
	return w.Path
}

// Check returns an error that names what is wrong.
func (w *WebSocket) Check() error {
	if u, err := url.ParseRequestURI(w.path()); err != nil || u.Path != w.path() || u.Host != "" {
		return fmt.Errorf("path: %q is not a path such as /mqtt", w.Path)
	}
	for _, o := range w.Origins {
		u, err := url.Parse(o)
		if err != nil || u.Scheme == "" || u.Host == "" || !strings.EqualFold(o, u.Scheme+"://"+u.Host) {
			return fmt.Errorf("origins: %q is not an origin such as https://app.example.com", o)
		}
	}
	return nil
}

const (
	// maxRequest bounds the HTTP request in bytes.
	maxRequest = 8 << 10
	// maxMessage bounds a WebSocket message in bytes. It is read piece by piece,
	// so it need not fit any packet.
	maxMessage = 64 << 20
	// maxPongs is how many bytes may wait for the peer while its pings are still
	// answered.
	maxPongs = 4 << 10
	// controlWait bounds how long a control frame waits for a frame that is being
	// put into the outbox, which takes no longer than to encrypt it.
	controlWait = 10 * time.Second
	// wsBuffer is the size in bytes of a buffer for WebSocket's headers.
	wsBuffer = 1 << 10
)

// wsWriteBuffers are shared: a connection has one only while it writes.
var wsWriteBuffers sync.Pool

// upgrade takes the HTTP request and makes a WebSocket of the connection.
func (c *Conn) upgrade() error {
	in := bufio.NewReaderSize(&io.LimitedReader{R: c.in, N: maxRequest}, wsBuffer)
	r, err := http.ReadRequest(in)
	if err != nil {
		return requestError(err)
	}
	w := &response{c: c, in: in}
	if r.URL.Path != c.l.cfg.WebSocket.path() {
		return w.refuse(http.StatusNotFound, errors.New("the client asks for another path"))
	}
	if !slices.Contains(websocket.Subprotocols(r), "mqtt") && websocket.IsWebSocketUpgrade(r) {
		return w.refuse(http.StatusBadRequest, errors.New("the client does not ask for the subprotocol mqtt"))
	}
	u := websocket.Upgrader{
		ReadBufferSize: wsBuffer, WriteBufferSize: wsBuffer, WriteBufferPool: &wsWriteBuffers,
		Subprotocols: []string{"mqtt"}, CheckOrigin: c.mayFrom,
		Error: func(_ http.ResponseWriter, _ *http.Request, status int, _ error) { w.status = status },
	}
	ws, err := u.Upgrade(w, r, nil)
	if err != nil {
		err = errors.New(strings.TrimPrefix(err.Error(), "websocket: "))
		if w.status != 0 {
			return w.refuse(w.status, err)
		}
		return err
	}
	ws.SetReadLimit(maxMessage)
	ws.SetPingHandler(func(text string) error {
		if c.out.size() > maxPongs {
			return nil // RFC 6455, 5.5.3: only the newest ping need be answered
		}
		ws.WriteControl(websocket.PongMessage, []byte(text), time.Now().Add(controlWait)) // an error shows when writing
		return nil
	})
	c.ws = ws
	return nil
}

// requestError says why there is no HTTP request, without the bytes that came in
// its place: they may be a CONNECT, with a password.
func requestError(err error) error {
	var ne net.Error
	switch {
	case errors.As(err, &ne) || errors.Is(err, io.EOF):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("no HTTP request of at most 8 KiB came")
	}
	return errors.New("what came is no HTTP request")
}

// mayFrom reports whether the page that the request comes from may connect.
func (c *Conn) mayFrom(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	origin := strings.ToLower(origins[0])
	if len(origins) > 1 {
		return false
	}
	if len(c.l.origins) > 0 {
		return slices.Contains(c.l.origins, origin)
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
		return false
	}
	// The host may be a name that somebody has made to lead here.
	return !c.l.loopback || namesLoopback(u.Hostname())
}

func namesLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// A response answers an HTTP request that is no more than one.
type response struct {
	c      *Conn
	in     *bufio.Reader
	header http.Header
	status int
}

// refuse answers with the status, and returns err.
func (w *response) refuse(status int, err error) error {
	more := ""
	if status == http.StatusBadRequest {
		more = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n"
	}
	fmt.Fprintf(w.layer(), "HTTP/1.1 %d %s\r\n%sConnection: close\r\nContent-Length: 0\r\n\r\n", status, http.StatusText(status), more)
	return err
}

// layer returns what WebSocket is spoken over.
func (w *response) layer() net.Conn {
	if w.c.tls != nil {
		return overTLS{layer{w.c}, w.c}
	}
	return layer{w.c}
}

// overTLS is a layer over TLS.
type overTLS struct {
	layer
	c *Conn
}

func (y overTLS) Read(b []byte) (int, error)  { return y.c.tls.Read(b) }
func (y overTLS) Write(b []byte) (int, error) { return y.c.tls.Write(b) }

func (w *response) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

func (w *response) Write(b []byte) (int, error) { return len(b), nil }
func (w *response) WriteHeader(int)             {}

// Hijack gives the connection to the WebSocket.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	y := w.layer()
	return y, bufio.NewReadWriter(w.in, bufio.NewWriterSize(y, 16)), nil
}

// readMessage reads on in the message, or in the next one.
func (c *Conn) readMessage(b []byte) (int, error) {
	for {
		if c.message == nil {
			kind, r, err := c.ws.NextReader()
			switch {
			case err != nil:
				return 0, ended(err)
			case kind != websocket.BinaryMessage: // MQTT 5.0, 6.0.0-1
				c.ws.WriteControl(websocket.CloseMessage,
					websocket.FormatCloseMessage(websocket.CloseUnsupportedData, "binary frames only"), time.Now().Add(controlWait))
				return 0, errors.New("the client sent a WebSocket message that is not binary")
			}
			c.message = r
		}
		n, err := c.message.Read(b)
		if errors.Is(err, io.EOF) {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, ended(err)
		}
	}
}

// ended makes of a WebSocket's own end that of a stream.
func ended(err error) error {
	var ce *websocket.CloseError
	if errors.As(err, &ce) {
		return io.EOF
	}
	return err
}
