package device_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/device"
	"github.com/muster-mqtt/muster/group"
)

func TestDialLearnsTheState(t *testing.T) {
	f := listen(t)
	o := options()
	o.User, o.Password, o.CleanSession = "ann", "s3cret", true
	d, p := connected(t, f, o, 7, 2, 1)
	c := p.connect
	if c.ClientIdentifier != "lamp-7" || c.Username != "ann" || string(c.Password) != "s3cret" || !c.CleanSession ||
		c.ProtocolVersion != 4 || c.Keepalive != 30 || c.WillFlag {
		t.Errorf("CONNECT %v", c)
	}
	if got := numbers(d); !reflect.DeepEqual(got, []group.Number{1, 2}) || d.Epoch() != 7 || !d.Connected() {
		t.Errorf("groups %v, epoch %d, connected %v", got, d.Epoch(), d.Connected())
	}
	m, ok := d.Member(2)
	if want := (device.Membership{Number: 2, Name: "lamps-2", QoS: 1, Recv: true, Since: 40}); !ok || !reflect.DeepEqual(m, want) {
		t.Errorf("membership %+v, want %+v", m, want)
	}
	if _, ok := d.Member(3); ok {
		t.Error("member of 3")
	}
}

func TestDialOverUnixSocket(t *testing.T) {
	f := listenOn(t, "unix", filepath.Join(t.TempDir(), "s"))
	d, _ := connected(t, f, options(), 1, 1)
	if got := numbers(d); len(got) != 1 {
		t.Errorf("groups %v", got)
	}
}

// certificate returns one for 127.0.0.1, and who trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	trust := x509.NewCertPool()
	trust.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, trust
}

func TestDialOverTLS(t *testing.T) {
	own, trust := certificate(t)
	f := listen(t)
	f.ln = tls.NewListener(f.ln, &tls.Config{Certificates: []tls.Certificate{own}})
	at := "mqtts://" + f.ln.Addr().String()
	o := options()
	o.TLS = &tls.Config{RootCAs: trust}
	dialed := later(func() (*device.Device, error) { return device.Dial(t.Context(), at, o) })
	f.accept().welcome(1, 1)
	d, err := get(t, dialed)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	// Who does not trust the server does not send it anything.
	dialed = later(func() (*device.Device, error) { return device.Dial(t.Context(), at, options()) })
	conn, err := f.ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes", n)
	}
	_ = conn.Close()
	var unknown x509.UnknownAuthorityError
	if _, err := get(t, dialed); !errors.As(err, &unknown) {
		t.Errorf("error %v", err)
	}
}

// A tool of the operator's is never a member: there is no state to wait for.
func TestDialOfATool(t *testing.T) {
	f := listen(t)
	o := options()
	o.ClientID = "muster~a1"
	dialed := later(func() (*device.Device, error) { return device.Dial(t.Context(), f.url(), o) })
	p := f.accept()
	p.connack(0, false)
	d, err := get(t, dialed)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	done := later(func() (control.Answer, error) {
		return d.Do(t.Context(), control.Request{Op: control.OpMove, Device: "lamp-7", From: group.Ref{Number: 1}, To: group.Ref{Number: 2}})
	})
	r, _ := p.request()
	p.answer(control.Answer{Op: r.Op, ID: r.ID, Device: "lamp-7", From: 1, To: 2, N: 2, State: "member", Epoch: 8})
	if a, err := get(t, done); err != nil || a.To != 2 {
		t.Errorf("answer %+v, %v", a, err)
	}
	if len(d.Groups()) != 0 || d.Epoch() != 0 {
		t.Error("another device's change was taken for the own")
	}
}

func TestDialRefused(t *testing.T) {
	tests := []struct {
		name   string
		connac byte
		code   group.Code
		text   string
	}{
		{"protocol", 1, group.UnsupportedVersion, "MQTT 3.1.1"},
		{"identifier", 2, group.NotAuthorized, "belongs to another account"},
		{"unavailable", 3, group.Unavailable, "try again later"},
		{"password", 4, group.NotAuthorized, "wrong user name or password"},
		{"not authorized", 5, group.NotAuthorized, "may not connect here"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := listen(t)
			o := options()
			o.User, o.Password = "ann", "s3cret"
			dialed := later(func() (*device.Device, error) { return device.Dial(t.Context(), f.url(), o) })
			p := f.accept()
			p.connack(tt.connac, false)
			_, err := get(t, dialed)
			var refusal *device.Error
			if !errors.As(err, &refusal) || refusal.Op != "connect" || !errors.Is(err, tt.code) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want code %v and %q", err, tt.code, tt.text)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error tells the password: %v", err)
			}
			p.closed()
		})
	}
}

func TestDialErrors(t *testing.T) {
	f := listen(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	short := options()
	short.ConnectTimeout, short.RequestTimeout = 50*time.Millisecond, 50*time.Millisecond
	tests := []struct {
		name   string
		o      device.Options
		server func(f *fake) string
		play   func(p *peer)
		want   string
	}{
		{"nobody there", options(), func(*fake) string { return "unix:" + filepath.Join(t.TempDir(), "none") }, nil, "no such file"},
		{"no CONNACK in time", short, (*fake).url, func(p *peer) { p.closed() }, "within Options.ConnectTimeout"},
		{"closed before CONNACK", options(), (*fake).url, func(p *peer) { _ = p.conn.Close() }, "no CONNACK: EOF"},
		{"an unknown return code", options(), (*fake).url, func(p *peer) { p.connack(0x87, false) }, "malformed packet"},
		{"the state is refused", options(), (*fake).url, func(p *peer) { p.connack(0, false); p.granted(control.MeTopic, 0x80) }, "not_authorized"},
		{"no state is told", short, (*fake).url, func(p *peer) { p.connack(0, false); p.granted(control.MeTopic, 0); p.closed() }, "is it muster?"},
		{"closed before the state", options(), (*fake).url, func(p *peer) { p.connack(0, false); p.granted(control.MeTopic, 0); _ = p.conn.Close() }, "lost"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dialed := later(func() (*device.Device, error) { return device.Dial(t.Context(), tt.server(f), tt.o) })
			if tt.play != nil {
				tt.play(f.accept())
			}
			if _, err := get(t, dialed); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := device.Dial(ended, f.url(), options()); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	tests := []struct {
		name, server string
		change       func(*device.Options)
		want         string
	}{
		{"no identifier", "mqtt://127.0.0.1:1", func(o *device.Options) { o.ClientID = "" }, "ClientID"},
		{"identifier with a level", "mqtt://127.0.0.1:1", func(o *device.Options) { o.ClientID = "a/b" }, "ClientID"},
		{"identifier with a wildcard", "mqtt://127.0.0.1:1", func(o *device.Options) { o.ClientID = "a#" }, "ClientID"},
		{"control character of a side connection", "mqtt://127.0.0.1:1", func(o *device.Options) { o.ClientID = "a~\n" }, "ClientID"},
		{"password alone", "mqtt://127.0.0.1:1", func(o *device.Options) { o.Password = "s3cret" }, "needs a User"},
		{"keep alive", "mqtt://127.0.0.1:1", func(o *device.Options) { o.KeepAlive = time.Millisecond }, "KeepAlive: 1ms is not between 1s"},
		{"half a second", "mqtt://127.0.0.1:1", func(o *device.Options) { o.KeepAlive = 1500 * time.Millisecond }, "whole seconds"},
		{"negative", "mqtt://127.0.0.1:1", func(o *device.Options) { o.BufferMessages = -1 }, "BufferMessages: -1 is not between 1"},
		{"packet size", "mqtt://127.0.0.1:1", func(o *device.Options) { o.PacketSize = 100 }, "PacketSize"},
		{"scheme", "http://127.0.0.1:1", nil, "is not mqtt://"},
		{"no scheme", "127.0.0.1:1883", nil, "is not mqtt://"},
		{"no host", "mqtt://:1883", nil, "is not mqtt://"},
		{"path", "mqtt://127.0.0.1:1/x", nil, "is not mqtt://"},
		{"unix without a path", "unix:", nil, "a path is missing"},
		{"password in the address", "mqtt://ann:s3cret@127.0.0.1:1", nil, "belong in Options"},
		{"password in a bad address", "mqtt://ann:s3cret%zz@127.0.0.1:1", nil, "belong in Options"},
		{"TLS without mqtts", "mqtt://127.0.0.1:1", func(o *device.Options) { o.TLS = &tls.Config{} }, "is for mqtts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options()
			if tt.change != nil {
				tt.change(&o)
			}
			_, err := device.Dial(t.Context(), tt.server, o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

// Close says DISCONNECT, ends what waits, closes the channels and leaves no
// goroutine, neither of this package nor of paho.
func TestCloseEndsEverything(t *testing.T) {
	for _, cut := range []bool{false, true} {
		f := listen(t)
		d, p := connected(t, f, options(), 1, 1)
		p.message1("g/1/all/lamp-8/x", "not taken", 1, false)
		asked := later(func() (control.Answer, error) { return d.Do(t.Context(), control.Request{Op: control.OpMine}) })
		p.request()
		if cut { // it is closed while it has no connection
			_ = p.conn.Close()
			p = f.accept()
		}
		closed := later(func() (struct{}, error) { return struct{}{}, d.Close() })
		if polite := p.closed(); polite == cut {
			t.Errorf("cut %v: DISCONNECT %v", cut, polite)
		}
		if _, err := get(t, closed); err != nil {
			t.Error(err)
		}
		if _, err := get(t, asked); !errors.Is(err, device.ErrClosed) {
			t.Errorf("a request that was under way: %v", err)
		}
		for range d.Messages() {
			t.Error("a message after Close")
		}
		for range d.Changes() {
			t.Error("a change after Close")
		}
		if err := d.Publish(t.Context(), 1, "x", nil, 1); !errors.Is(err, device.ErrClosed) {
			t.Errorf("publish: %v", err)
		}
		if err := d.Close(); err != nil || d.Connected() {
			t.Errorf("closed again: %v, connected %v", err, d.Connected())
		}
		for {
			buf := make([]byte, 1<<20)
			all := string(buf[:runtime.Stack(buf, true)])
			if !strings.Contains(all, "paho.mqtt.golang.") && !strings.Contains(all, "muster/device.") {
				break
			}
			runtime.Gosched() // the last ones are on their way out
		}
	}
}

// A network that takes nothing does not hold up Close, nor a caller beyond its
// context.
func TestCloseWhileTheNetworkIsStuck(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 1, 1)
	if err := p.conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	for err := error(nil); err == nil; { // the server reads nothing
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err = d.Publish(ctx, 1, "x", make([]byte, 200<<10), 0); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		cancel()
	}
	if _, err := get(t, later(func() (struct{}, error) { return struct{}{}, d.Close() })); err != nil {
		t.Error(err)
	}
}

func TestBackOff(t *testing.T) {
	const most = 10 * time.Second
	last := time.Duration(0)
	for tries, whole := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, most, most} {
		seen := map[time.Duration]bool{}
		for range 100 {
			got := device.BackOff(tries, most)
			if got < whole/2 || got > whole {
				t.Errorf("try %d: waits %v, want %v to %v", tries, got, whole/2, whole)
			}
			seen[got] = true
		}
		if len(seen) < 50 {
			t.Errorf("try %d: devices that were cut off together return together", tries)
		}
		last = whole
	}
	if got := device.BackOff(1<<40, most); got > last {
		t.Errorf("after many tries: %v", got)
	}
	if got := device.BackOff(0, time.Millisecond); got > time.Millisecond {
		t.Errorf("with MaxReconnect 1ms: %v", got)
	}
}

// The bytes that a server sends never end the process: what paho gets are
// whole packets that a server may send, begun with CONNACK.
func FuzzGuard(f *testing.F) {
	f.Add([]byte{0x20, 2, 0, 0, 0x90, 3, 0, 1, 1, 0x30, 5, 0, 1, 'a', 'x', 'y', 0xd0, 0})
	f.Add([]byte{0x20, 2, 0, 0, 0x90, 4, 0, 1, 1, 1})
	f.Add([]byte{0x20, 2, 0, 0, 0x32, 4, 0, 1, 'a', 0})
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		conn := device.Guarded(b, 1<<10)
		for n := 0; ; n++ {
			got, err := packets.ReadPacket(conn)
			if err != nil {
				return
			}
			switch got := got.(type) {
			case *packets.ConnackPacket:
				if n != 0 {
					t.Fatal("a second CONNACK")
				}
				continue
			case *packets.SubackPacket:
				if len(got.ReturnCodes) != 1 {
					t.Fatalf("SUBACK with %d codes", len(got.ReturnCodes))
				}
			case *packets.PublishPacket:
				if len(got.TopicName)+len(got.Payload) > 1<<10 || got.Qos > 1 || strings.ContainsAny(got.TopicName, "+#") {
					t.Fatalf("PUBLISH %v", got)
				}
			case *packets.ConnectPacket, *packets.SubscribePacket, *packets.UnsubscribePacket, *packets.PingreqPacket, *packets.DisconnectPacket:
				t.Fatalf("a server sent %T", got)
			}
			if n == 0 {
				t.Fatal("it does not begin with CONNACK")
			}
		}
	})
}

// What a server may not send ends the connection, and the next one is as ever.
func TestHostileServer(t *testing.T) {
	tests := []struct {
		name  string
		bytes []byte
	}{
		{"a SUBACK with more codes than filters", []byte{0x90, 4, 0, 1, 0, 0}},
		{"a packet larger than PacketSize", []byte{0x30, 0xff, 0xff, 0xff, 0x7f}},
		{"a Remaining Length of five bytes", []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x01}},
		{"a second CONNACK", []byte{0x20, 2, 0, 0}},
		{"a client's packet", []byte{0xc0, 0}},
		{"QoS 3", []byte{0x36, 5, 0, 1, 'a', 0, 1}},
		{"a topic beyond the packet", []byte{0x30, 3, 0xff, 0xff, 'a'}},
		{"a topic with a wildcard", []byte{0x30, 3, 0, 1, '#'}},
		{"a topic that is no text", []byte{0x30, 3, 0, 1, 0xff}},
		{"packet identifier 0", []byte{0x32, 5, 0, 1, 'a', 0, 0}},
		{"packet type 15", []byte{0xf0, 0}},
	}
	f := listen(t)
	d, p := connected(t, f, options(), 1, 1)
	for _, tt := range tests {
		if _, err := p.conn.Write(tt.bytes); err != nil {
			t.Fatal(err)
		}
		p.closed()
		p = f.accept()
		p.welcome(1, 1)
	}
	// What cannot be read is passed over, and the connection stays.
	p.message(control.AnswerTopic, `{"code":`)
	p.message(control.MeTopic, `[[[[`)
	p.message("g/4294967296/all/x", "no group topic")
	if m := next(t, d.Messages()); m.Group != 0 || m.Topic != "g/4294967296/all/x" {
		t.Errorf("message %+v", m)
	}
}
