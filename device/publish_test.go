package device_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/device"
	"github.com/muster-mqtt/muster/group"
)

// What is published in a group names it by number and the sender by the
// device's own Client Identifier, also on a side connection.
func TestPublishTopics(t *testing.T) {
	f := listen(t)
	o := options()
	o.ClientID = "lamp-7~shell"
	d, p := connected(t, f, o, 4, 1)
	tests := []struct {
		publish func() error
		want    string
	}{
		{func() error { return d.Publish(t.Context(), 1, "state/on", []byte("x"), 0) }, "g/1/all/lamp-7/state/on"},
		{func() error { return d.Publish(t.Context(), 1, "", []byte("x"), 0) }, "g/1/all/lamp-7"},
		{func() error { return d.PublishUp(t.Context(), 1, "temp", []byte("x"), 0) }, "g/1/up/lamp-7/temp"},
		{func() error { return d.PublishTo(t.Context(), 1, "lamp-8", "ping", []byte("x"), 0) }, "g/1/to/lamp-8/lamp-7/ping"},
		{func() error { return d.PublishRaw(t.Context(), "plant/temp", []byte("x"), 0, true) }, "plant/temp"},
	}
	for _, tt := range tests {
		if err := tt.publish(); err != nil {
			t.Error(err)
		}
		m := take[*packets.PublishPacket](p)
		if m.TopicName != tt.want || string(m.Payload) != "x" || m.Qos != 0 || m.Retain != (tt.want == "plant/temp") {
			t.Errorf("PUBLISH %v, want topic %s", m, tt.want)
		}
	}
	for name, err := range map[string]error{
		"group 0":          d.Publish(t.Context(), 0, "x", nil, 0),
		"a wildcard":       d.Publish(t.Context(), 1, "x/+", nil, 0),
		"bytes, no text":   d.Publish(t.Context(), 1, "\xff", nil, 0),
		"17 levels":        d.Publish(t.Context(), 1, strings.Repeat("x/", 12)+"x", nil, 0),
		"QoS 2":            d.Publish(t.Context(), 1, "x", nil, 2),
		"a member of two":  d.PublishTo(t.Context(), 1, "a/b", "x", nil, 0),
		"no topic":         d.PublishRaw(t.Context(), "", nil, 0, false),
		"a long topic":     d.PublishRaw(t.Context(), strings.Repeat("x", 65536), nil, 0, false),
		"a zero character": d.PublishRaw(t.Context(), "x\x00", nil, 0, false),
	} {
		if err == nil {
			t.Errorf("%s is published", name)
		}
	}
	if err := d.Publish(t.Context(), 1, "x", make([]byte, 256<<10), 1); !errors.Is(err, group.TooLarge) {
		t.Errorf("a large payload: %v", err)
	}
}

// A publish with QoS 1 returns with its acknowledgement, and survives the loss of
// the connection; one with QoS 0 says that there is none.
func TestPublishAcrossALoss(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 4, 1)
	done := later(func() (struct{}, error) { return struct{}{}, d.Publish(t.Context(), 1, "x", []byte("kept"), 1) })
	if m := take[*packets.PublishPacket](p); m.Qos != 1 || m.Dup {
		t.Errorf("PUBLISH %v", m)
	}
	_ = p.conn.Close()
	p = f.accept() // not connected yet
	if err := d.Publish(t.Context(), 1, "x", nil, 0); !errors.Is(err, device.ErrNotConnected) || d.Connected() {
		t.Errorf("QoS 0 without a connection: %v", err)
	}
	p.welcome(4, 1)
	m := take[*packets.PublishPacket](p)
	if string(m.Payload) != "kept" || m.TopicName != "g/1/all/lamp-7/x" {
		t.Errorf("PUBLISH %v", m)
	}
	select {
	case o := <-done:
		t.Fatalf("it returned before the acknowledgement: %v", o.err)
	default:
	}
	p.puback(m.MessageID)
	if _, err := get(t, done); err != nil {
		t.Error(err)
	}
}

// Filters of one's own are subscribed again on each connection; a refused one is
// not.
func TestSubscribe(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 4, 1)
	for _, s := range []struct {
		filter string
		code   byte
	}{{"g/1/#", 1}, {"secret/#", 0x80}} {
		done := later(func() (struct{}, error) { return struct{}{}, d.Subscribe(t.Context(), s.filter, 1) })
		p.granted(s.filter, s.code)
		_, err := get(t, done)
		var refusal *device.Error
		if refused := errors.As(err, &refusal); refused != (s.code == 0x80) || refused && !errors.Is(err, group.NotAuthorized) {
			t.Errorf("%s: %v", s.filter, err)
		}
	}
	_ = p.conn.Close()
	p = f.accept()
	p.connack(0, true)
	p.granted(control.MeTopic, 0)
	p.state(4, 1)
	p.granted("g/1/#", 0x80) // no longer: that does not keep the device from its groups
	done := later(func() (struct{}, error) { return struct{}{}, d.Publish(t.Context(), 1, "x", nil, 1) })
	p.puback(take[*packets.PublishPacket](p).MessageID)
	if _, err := get(t, done); err != nil {
		t.Error(err)
	}
	for _, filter := range []string{"", "a/#/b", "a+", "#a", "$join/lamps/4711", "$CONTROL/group/v1/me", "$G/res/1", strings.Repeat("x/", 16) + "x"} {
		err := d.Subscribe(t.Context(), filter, 0)
		if err == nil {
			t.Errorf("%q is subscribed", filter)
		} else if strings.Contains(err.Error(), "4711") {
			t.Errorf("the error tells the PIN: %v", err)
		}
	}
	if err := d.Subscribe(t.Context(), "x", 2); err == nil {
		t.Error("QoS 2 is subscribed")
	}
}
