package device

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// writeWait bounds how long paho waits for its own writer to take a packet: it
// goes on waiting when the connection was lost meanwhile.
const writeWait = time.Second

// A link is one connection to the server, from dialing to its loss. Each has a
// paho client of its own, so that nothing of an old one is left in it; what is
// repeated after a loss is repeated by this package.
type link struct {
	d      *Device
	n      uint64 // counts the connections of the Device
	client mqtt.Client
	guard  *guard
	told   chan struct{} // closed when the server has told the state
	known  bool          // told is closed; of the goroutine that receives
	gone   bool          // guarded by Device.mu: the connection is lost
}

// connect makes a connection and returns when the server has told the device's
// state on it. After an error nothing of it is left.
func (d *Device) connect(ctx context.Context) (*link, error) {
	l := &link{d: d, told: make(chan struct{})}
	d.mu.Lock()
	d.links++
	l.n = d.links
	d.mu.Unlock()
	dialCtx, cancel := context.WithTimeout(ctx, d.o.ConnectTimeout)
	defer cancel()
	conn, err := d.dial(dialCtx)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", d.server, explain(ctx, dialCtx, err))
	}
	l.guard = newGuard(conn, d.o.PacketSize, d.o.KeepAlive+d.o.ConnectTimeout, func() { d.down(l) })
	stop := context.AfterFunc(dialCtx, func() { l.guard.fail(dialCtx.Err()) })
	l.client = mqtt.NewClient(d.pahoOptions(l))
	token := l.client.Connect()
	<-token.Done() // bounded by dialCtx, which ends the connection
	stop()
	if code, _ := l.guard.connack(); code != 0 {
		_ = l.guard.Close()
		return nil, refusedConnect(d.clientID, d.server, code)
	}
	if err := token.Error(); err != nil {
		_ = l.guard.Close()
		return nil, fmt.Errorf("connect to %s: no CONNACK: %w", d.server, explain(ctx, dialCtx, cmp.Or(l.guard.cause(), err)))
	}
	if err := l.listen(ctx); err != nil {
		l.close()
		return nil, fmt.Errorf("connect to %s: %w", d.server, err)
	}
	return l, nil
}

// explain returns ctx's own error where the caller has given up, and says so
// where the time for connecting is over.
func explain(ctx, dialCtx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case dialCtx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer within Options.ConnectTimeout")
	}
	return err
}

// dial opens the Network Connection.
func (d *Device) dial(ctx context.Context) (net.Conn, error) {
	if d.addr.network == "ws" {
		return dialWebSocket(ctx, d.addr.at, d.addr.tls)
	}
	conn, err := new(net.Dialer).DialContext(ctx, d.addr.network, d.addr.at)
	if err != nil || d.addr.tls == nil {
		return conn, err
	}
	secure := tls.Client(conn, d.addr.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

func (d *Device) pahoOptions(l *link) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions()
	o.Servers = []*url.URL{{Scheme: "mqtt", Host: "server"}} // never dialed: the connection is there
	o.SetClientID(d.clientID)
	o.SetUsername(d.o.User)
	o.SetPassword(d.o.Password)
	o.SetCleanSession(d.o.CleanSession)
	o.SetKeepAlive(d.o.KeepAlive)
	o.SetPingTimeout(d.o.ConnectTimeout)
	o.SetConnectTimeout(d.o.ConnectTimeout)
	o.SetProtocolVersion(4) // 3.1.1, without a second try as 3.1
	o.SetAutoReconnect(false)
	o.SetOrderMatters(true)
	o.SetAutoAckDisabled(true)
	o.SetWriteTimeout(writeWait)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return l.guard, nil })
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { d.receive(l, m) })
	o.OnConnectionLost = func(_ mqtt.Client, err error) { l.guard.fail(err) }
	return o
}

// refusedConnect says what a CONNACK means, and what to do.
func refusedConnect(client, server string, code byte) error {
	e := &Error{Op: "connect", Client: group.ClientID(client), Code: group.NotAuthorized}
	var why error
	switch code {
	case 1:
		e.Code, why = group.UnsupportedVersion, errors.New("the server does not speak MQTT 3.1.1")
	case 2:
		why = fmt.Errorf("%w: use another one, or the account that used it first", ErrClientID)
	case 3:
		e.Code, why = group.Unavailable, errors.New("the server cannot serve now: try again later")
	case 4:
		why = errors.New("wrong user name or password")
	default:
		why = errors.New("the account may not connect here: without a User a server takes only connections from its own machine")
	}
	e.Err = fmt.Errorf("%w (%s, CONNACK %d)", why, server, code)
	return e
}

// listen subscribes to the device's own state and to the filters of the
// caller's, and returns when the state is known.
func (l *link) listen(ctx context.Context) error {
	d := l.d
	ctx, cancel := context.WithTimeout(ctx, d.o.RequestTimeout)
	defer cancel()
	if !isTool(d.self) {
		if err := l.subscribe(ctx, control.MeTopic, 0); err != nil {
			return fmt.Errorf("subscribe to the own state: %w", err)
		}
		select {
		case <-l.told:
		case <-l.guard.dead:
			return fmt.Errorf("lost before the server told the state: %w", l.guard.cause())
		case <-ctx.Done():
			return fmt.Errorf("the server does not tell the device's groups: is it muster? %w", context.Cause(ctx))
		}
	}
	for _, f := range d.ownFilters() {
		err := l.subscribe(ctx, f.filter, f.qos)
		var refusal *Error
		switch {
		case errors.As(err, &refusal):
			d.log.Warn("a filter is no longer granted", "client", d.clientID, "filter", f.filter)
		case err != nil:
			return fmt.Errorf("subscribe again: %w", err)
		}
	}
	return nil
}

// subscribe returns when the filter is granted.
func (l *link) subscribe(ctx context.Context, filter string, qos byte) error {
	token := l.client.Subscribe(filter, qos, nil)
	if err := l.wait(ctx, token); err != nil {
		return err
	}
	for _, code := range token.(*mqtt.SubscribeToken).Result() {
		if code <= 1 {
			return nil
		}
	}
	return &Error{Op: "subscribe", Client: l.d.self, Code: group.NotAuthorized, Err: fmt.Errorf("filter %q: the server refused it", filter)}
}

// errLost is the error of what was under way when the connection was lost.
var errLost = errors.New("the connection was lost")

// pause is how long what paho did not take waits before it is given to it again.
const pause = 100 * time.Millisecond

// wait waits for what the token stands for. The error is errLost where it may be
// tried again: what paho refuses for other reasons was checked before.
func (l *link) wait(ctx context.Context, token mqtt.Token) error {
	taken := token.Done()
	var again <-chan time.Time
	for {
		select {
		case <-taken:
			if token.Error() == nil {
				return nil
			}
			taken, again = nil, time.After(pause)
		case <-again:
			return errLost
		case <-l.guard.dead:
			return fmt.Errorf("%w: %w", errLost, l.guard.cause())
		case <-l.d.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// quiesce is how long, in milliseconds, a disconnect waits for what is under
// way, and how long for paho to end after the connection was closed.
const (
	quiesce = 1000
	ending  = 10000
)

// close ends the connection and returns when paho has ended with it.
func (l *link) close() {
	select {
	case <-l.guard.dead:
	default:
		l.client.Disconnect(quiesce)
		_ = l.guard.Close()
	}
	l.client.Disconnect(ending) // waits for an end that is under way
}
