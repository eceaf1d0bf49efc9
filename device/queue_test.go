package device_test

import (
	"strconv"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/device"
)

// mustAck waits for the PUBACK of the given packet.
func mustAck(t *testing.T, p *peer, id uint16) {
	t.Helper()
	if a := take[*packets.PubackPacket](p); a.MessageID != id {
		t.Errorf("PUBACK %d, want %d", a.MessageID, id)
	}
}

// roundTrip returns when the device has read everything that was sent to it,
// and fails if it has sent something else meanwhile.
func roundTrip(t *testing.T, d *device.Device, p *peer) {
	t.Helper()
	asked := later(func() (control.Answer, error) { return d.Do(t.Context(), control.Request{Op: control.OpList}) })
	r, _ := p.request()
	p.answer(control.Answer{Op: r.Op, ID: r.ID})
	if _, err := get(t, asked); err != nil {
		t.Fatal(err)
	}
}

// A message with QoS 1 is acknowledged when it was handed over, and not before.
func TestAcknowledgedWhenHandedOver(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 1, 1)
	p.message1("g/1/all/lamp-8/x", "a", 1, false)
	p.message1("g/1/all/lamp-8/x", "b", 2, false)
	roundTrip(t, d, p)
	for id, want := range []string{"a", "b"} {
		if m := next(t, d.Messages()); string(m.Payload) != want || m.QoS != 1 {
			t.Errorf("message %+v, want %s", m, want)
		}
		mustAck(t, p, uint16(id+1))
	}
}

// What waits for the receiver when the connection is lost, and is sent again on
// the next, is handed over once and acknowledged there.
func TestSentAgainWhileItWaits(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 1, 1)
	p.message1("g/1/all/lamp-8/x", "a", 1, false)
	p.message1("g/1/all/lamp-8/x", "b", 2, false)
	roundTrip(t, d, p)
	_ = p.conn.Close()
	p = f.accept()
	p.connack(0, true)
	p.message1("g/1/all/lamp-8/x", "a", 1, true)
	p.message1("g/1/all/lamp-8/x", "b", 2, true)
	p.message1("g/1/all/lamp-8/x", "another", 3, true)
	p.granted(control.MeTopic, 0)
	p.state(1, 1)
	roundTrip(t, d, p)
	for id, want := range []string{"a", "b", "another"} {
		if m := next(t, d.Messages()); string(m.Payload) != want {
			t.Errorf("message %s, want %s", m.Payload, want)
		}
		mustAck(t, p, uint16(id+1))
	}
}

// Of a receiver that is too slow the oldest messages with QoS 0 are dropped and
// counted, and none with QoS 1.
func TestSlowReceiver(t *testing.T) {
	f := listen(t)
	o := options()
	o.BufferMessages = 2
	got, first := make(chan string), make(chan struct{})
	o.Messages = func(m device.Message) {
		if string(m.Payload) == "0" {
			close(first)
		}
		got <- string(m.Payload)
	}
	d, p := connected(t, f, o, 1, 1)
	p.message("g/1/all/lamp-8/x", "0")
	<-first
	p.message1("g/1/all/lamp-8/x", "one", 1, false)
	for i := 1; i <= 5; i++ {
		p.message("g/1/all/lamp-8/x", strconv.Itoa(i))
	}
	p.message1("g/1/all/lamp-8/x", "two", 2, false)
	roundTrip(t, d, p)
	if n := d.Dropped(); n != 3 {
		t.Errorf("dropped %d, want 3", n)
	}
	for _, want := range []string{"0", "one", "4", "5", "two"} {
		if m := next(t, got); m != want {
			t.Errorf("message %s, want %s", m, want)
		}
	}
	mustAck(t, p, 1)
	mustAck(t, p, 2)
}

// A server that does not wait for acknowledgements does not fill the memory.
func TestFloodOfQoS1(t *testing.T) {
	f := listen(t)
	_, p := connected(t, f, options(), 1, 1)
	for id := range uint16(1100) {
		m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		m.TopicName, m.Qos, m.MessageID = "g/1/all/lamp-8/x", 1, id+1
		if m.Write(p.conn) != nil {
			break // it has closed the connection
		}
	}
	p.closed()
}
