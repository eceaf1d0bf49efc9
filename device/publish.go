package device

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// maxLevels is how many levels a topic or filter may have.
const maxLevels = 16

// An ownFilter is a subscription beside the memberships, to be made again on
// each connection.
type ownFilter struct {
	filter string
	qos    byte
}

// Publish sends a message to every member and observer of group n: on
// g/<n>/all/<device>/<rest>, or without the last part if rest is empty. The
// number says which group is meant, also when the device is switched meanwhile.
//
// With QoS 0 it returns when the message is written; without a connection the
// error is [ErrNotConnected]. With QoS 1 it returns when the server has
// acknowledged, and sends again on a new connection until ctx ends: the members
// may then get it twice. In MQTT 3.1.1 a refused message is acknowledged too;
// that it was refused comes as a Change of kind Refused.
func (d *Device) Publish(ctx context.Context, n group.Number, rest string, payload []byte, qos byte) error {
	return d.publish(ctx, control.Topic{Number: n, Part: control.All}, rest, payload, qos)
}

// PublishUp sends a message to the observers of group n only; otherwise it is as
// [Device.Publish].
func (d *Device) PublishUp(ctx context.Context, n group.Number, rest string, payload []byte, qos byte) error {
	return d.publish(ctx, control.Topic{Number: n, Part: control.Up}, rest, payload, qos)
}

// PublishTo sends a message to one member of group n, which operators may, and
// members if the group allows it; otherwise it is as [Device.Publish].
func (d *Device) PublishTo(ctx context.Context, n group.Number, member group.ClientID, rest string, payload []byte, qos byte) error {
	if err := control.CheckClientID(member); err != nil {
		return fmt.Errorf("publish: member %q: %w", member, err)
	}
	return d.publish(ctx, control.Topic{Number: n, Part: control.To, Member: member}, rest, payload, qos)
}

func (d *Device) publish(ctx context.Context, t control.Topic, rest string, payload []byte, qos byte) error {
	if t.Number == 0 {
		return errors.New("publish: 0 is no group")
	}
	t.Sender, t.Rest, t.HasRest = d.self, rest, rest != ""
	return d.PublishRaw(ctx, t.String(), payload, qos, false)
}

// PublishRaw sends a message on any topic; otherwise it is as [Device.Publish].
func (d *Device) PublishRaw(ctx context.Context, topic string, payload []byte, qos byte, retain bool) error {
	switch {
	case qos > 1:
		return fmt.Errorf("publish: QoS %d is not 0 or 1", qos)
	case !validLevels(topic) || strings.ContainsAny(topic, "+#"):
		return fmt.Errorf("publish: %q is no topic of at most %d levels", topic, maxLevels)
	case len(topic)+len(payload)+4 > d.o.PacketSize:
		return fmt.Errorf("publish on %s: %d bytes do not fit Options.PacketSize, %d: %w", topic, len(payload), d.o.PacketSize, group.TooLarge)
	}
	if qos == 0 && !d.Connected() && d.ctx.Err() == nil {
		return fmt.Errorf("publish on %s: %w", topic, ErrNotConnected)
	}
	for {
		l, err := d.live(ctx)
		if err == nil {
			err = l.wait(ctx, l.client.Publish(topic, qos, retain, payload))
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, errLost) || qos == 0:
			return fmt.Errorf("publish on %s: %w", topic, err)
		}
	}
}

// Subscribe adds a filter beside the memberships: for an observer that reads a
// group, such as g/1/#, or for ordinary topics. It is subscribed again on each
// connection, so that retained messages and roster snapshots can come again.
//
// The error is an [*Error] if the server refused. What a device is sent as a
// member needs no Subscribe, and a verb such as $join/lamps is none: use
// [Device.Join].
func (d *Device) Subscribe(ctx context.Context, filter string, qos byte) error {
	switch {
	case qos > 1:
		return fmt.Errorf("subscribe: QoS %d is not 0 or 1", qos)
	case control.IsVerb(filter):
		return errors.New("subscribe: a verb is no subscription: use Join, Switch or Redeem") // may hold a PIN
	case control.IsControl(filter):
		return fmt.Errorf("subscribe: %q comes without it", filter)
	case !validFilter(filter):
		return fmt.Errorf("subscribe: %q is no filter of at most %d levels", filter, maxLevels)
	}
	for {
		l, err := d.live(ctx)
		if err == nil {
			err = l.subscribe(ctx, filter, qos)
		}
		switch {
		case err == nil:
			if d.remember(l, filter, qos) {
				return nil
			} // else the next connection may not have it
		case !errors.Is(err, errLost):
			return fmt.Errorf("subscribe %q: %w", filter, err)
		}
	}
}

// remember keeps the filter for later connections, and reports whether the link
// is still the one that is used.
func (d *Device) remember(l *link, filter string, qos byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.filters = slices.DeleteFunc(d.filters, func(f ownFilter) bool { return f.filter == filter })
	d.filters = append(d.filters, ownFilter{filter, qos})
	return d.cur == l
}

func (d *Device) ownFilters() []ownFilter {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.filters)
}

// validLevels checks what Topic Names and Topic Filters have in common (MQTT
// 3.1.1, 4.7.3).
func validLevels(s string) bool {
	return s != "" && len(s) <= 65535 && utf8.ValidString(s) && !strings.ContainsRune(s, 0) && strings.Count(s, "/") < maxLevels
}

// validFilter checks a Topic Filter (MQTT 3.1.1, 4.7.1).
func validFilter(s string) bool {
	if !validLevels(s) {
		return false
	}
	levels := strings.Split(s, "/")
	for i, level := range levels {
		switch {
		case level == "+", level == "#" && i == len(levels)-1:
		case strings.ContainsAny(level, "+#"):
			return false
		}
	}
	return true
}
