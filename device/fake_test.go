package device_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/device"
	"github.com/muster-mqtt/muster/group"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// A fake is a server that does only what the test has it do.
type fake struct {
	t  *testing.T
	ln net.Listener
}

func listen(t *testing.T) *fake { return listenOn(t, "tcp", "127.0.0.1:0") }

func listenOn(t *testing.T, network, at string) *fake {
	t.Helper()
	ln, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return &fake{t, ln}
}

func (f *fake) url() string {
	if f.ln.Addr().Network() == "unix" {
		return "unix:" + f.ln.Addr().String()
	}
	return "mqtt://" + f.ln.Addr().String()
}

// A peer is one connection of a device, seen from the server.
type peer struct {
	t       *testing.T
	conn    net.Conn
	connect *packets.ConnectPacket
}

// accept waits for a CONNECT.
func (f *fake) accept() *peer {
	f.t.Helper()
	conn, err := f.ln.Accept()
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	p := &peer{t: f.t, conn: conn}
	p.connect = take[*packets.ConnectPacket](p)
	return p
}

// take returns the next packet, which must be of the given type. It answers
// PINGREQ by the way.
func take[T packets.ControlPacket](p *peer) T {
	p.t.Helper()
	for {
		if err := p.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			p.t.Fatal(err)
		}
		got, err := packets.ReadPacket(p.conn)
		if err != nil {
			p.t.Fatalf("want a %T, got: %v", *new(T), err)
		}
		if _, ok := got.(*packets.PingreqPacket); ok {
			p.send(packets.NewControlPacket(packets.Pingresp))
			continue
		}
		want, ok := got.(T)
		if !ok {
			p.t.Fatalf("want a %T, got %v", want, got)
		}
		return want
	}
}

func (p *peer) send(c packets.ControlPacket) {
	p.t.Helper()
	if err := c.Write(p.conn); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) connack(code byte, resumed bool) {
	p.t.Helper()
	c := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
	c.ReturnCode, c.SessionPresent = code, resumed
	p.send(c)
}

// granted waits for a SUBSCRIBE of the filter and answers it.
func (p *peer) granted(filter string, code byte) {
	p.t.Helper()
	s := take[*packets.SubscribePacket](p)
	if len(s.Topics) != 1 || s.Topics[0] != filter {
		p.t.Fatalf("SUBSCRIBE %q, want %q", s.Topics, filter)
	}
	c := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
	c.MessageID, c.ReturnCodes = s.MessageID, []byte{code}
	p.send(c)
}

// welcome accepts the device and tells it that it is in the groups.
func (p *peer) welcome(epoch group.Epoch, in ...group.Number) {
	p.t.Helper()
	p.connack(0, false)
	p.granted(control.MeTopic, 0)
	p.state(epoch, in...)
}

func entries(in []group.Number) []control.Entry {
	list := make([]control.Entry, 0, len(in))
	for _, n := range in {
		list = append(list, control.Entry{N: n, Name: "lamps-" + n.String(), State: "member", Since: 40})
	}
	return list
}

func (p *peer) state(epoch group.Epoch, in ...group.Number) {
	p.t.Helper()
	p.notice(control.Notice{Kind: "state", Epoch: epoch, List: entries(in), HasList: true})
}

func (p *peer) notice(n control.Notice) {
	p.t.Helper()
	p.message(control.MeTopic, string(control.EncodeNotice(n)))
}

func (p *peer) answer(a control.Answer) {
	p.t.Helper()
	p.message(control.AnswerTopic, string(control.EncodeAnswer(a, control.JSON)))
}

// message sends a PUBLISH with QoS 0.
func (p *peer) message(topic, payload string) {
	p.t.Helper()
	m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	m.TopicName, m.Payload = topic, []byte(payload)
	p.send(m)
}

// message1 sends a PUBLISH with QoS 1.
func (p *peer) message1(topic, payload string, id uint16, dup bool) {
	p.t.Helper()
	m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	m.TopicName, m.Payload, m.Qos, m.MessageID, m.Dup = topic, []byte(payload), 1, id, dup
	p.send(m)
}

func (p *peer) puback(id uint16) {
	p.t.Helper()
	c := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
	c.MessageID = id
	p.send(c)
}

// request waits for a request, and returns it with its bytes.
func (p *peer) request() (control.Request, string) {
	p.t.Helper()
	m := take[*packets.PublishPacket](p)
	op, code, ours := control.ParseRequestTopic(m.TopicName)
	if !ours || code != group.OK {
		p.t.Fatalf("PUBLISH on %s is no request", m.TopicName)
	}
	r, err := control.ParseRequest(op, m.Payload)
	if err != nil {
		p.t.Fatalf("request %s %s: %v", op, m.Payload, err)
	}
	return r, string(m.Payload)
}

// mine waits for the question of the own state and answers it.
func (p *peer) mine(epoch group.Epoch, in ...group.Number) {
	p.t.Helper()
	r, _ := p.request()
	if r.Op != control.OpMine {
		p.t.Fatalf("request %s, want mine", r.Op)
	}
	p.answer(control.Answer{Op: r.Op, ID: r.ID, Epoch: epoch, List: entries(in), HasList: true})
}

// closed waits for the end of the connection, and reports whether it began with
// a DISCONNECT.
func (p *peer) closed() (polite bool) {
	p.t.Helper()
	for {
		if err := p.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			p.t.Fatal(err)
		}
		got, err := packets.ReadPacket(p.conn)
		if err != nil {
			if strings.Contains(err.Error(), "timeout") {
				p.t.Fatal("the connection is still there")
			}
			return polite
		}
		if _, ok := got.(*packets.DisconnectPacket); ok {
			polite = true
		}
	}
}

// noWait lets the device ask again and reconnect at once.
func noWait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

type outcome[T any] struct {
	v   T
	err error
}

// later runs f while the test plays the server.
func later[T any](f func() (T, error)) <-chan outcome[T] {
	c := make(chan outcome[T], 1)
	go func() {
		v, err := f()
		c <- outcome[T]{v, err}
	}()
	return c
}

// get waits for what f returned.
func get[T any](t *testing.T, c <-chan outcome[T]) (T, error) {
	t.Helper()
	o := next(t, c)
	return o.v, o.err
}

// next takes the next value from the channel.
func next[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	panic("unreachable")
}

func options() device.Options { return device.Options{ClientID: "lamp-7"} }

// connected returns a device that is in the groups, and the server's end.
func connected(t *testing.T, f *fake, o device.Options, epoch group.Epoch, in ...group.Number) (*device.Device, *peer) {
	t.Helper()
	dialed := later(func() (*device.Device, error) { return device.DialWaiting(t.Context(), f.url(), o, noWait) })
	p := f.accept()
	p.welcome(epoch, in...)
	d, err := get(t, dialed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, p
}

func numbers(d *device.Device) []group.Number {
	var in []group.Number
	for _, m := range d.Groups() {
		in = append(in, m.Number)
	}
	return in
}
