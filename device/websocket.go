package device

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gorilla/websocket"
)

// A webSocket is a WebSocket as a stream of bytes.
type webSocket struct {
	*websocket.Conn
	message io.Reader // that is being read; nil between two
}

// dialWebSocket opens one at the address, ws:// or wss://.
func dialWebSocket(ctx context.Context, at string, conf *tls.Config) (*webSocket, error) {
	d := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: conf}
	conn, r, err := d.DialContext(ctx, at, nil)
	switch {
	case r != nil && err != nil:
		return nil, fmt.Errorf("no WebSocket there: HTTP %s", r.Status)
	case err != nil:
		return nil, err
	case conn.Subprotocol() != "mqtt": // MQTT 5.0, 6.0.0-4
		_ = conn.Close()
		return nil, errors.New("the server does not speak MQTT over WebSocket")
	}
	return &webSocket{Conn: conn}, nil
}

// Read reads on in the message, or in the next one.
func (w *webSocket) Read(b []byte) (int, error) {
	for {
		if w.message == nil {
			kind, r, err := w.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errors.New("the server sent a WebSocket message that is not binary")
			}
			w.message = r
		}
		n, err := w.message.Read(b)
		if errors.Is(err, io.EOF) {
			w.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends the bytes as one message.
func (w *webSocket) Write(b []byte) (int, error) {
	if err := w.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// SetDeadline sets both deadlines.
func (w *webSocket) SetDeadline(t time.Time) error {
	return errors.Join(w.SetReadDeadline(t), w.SetWriteDeadline(t))
}
