package broker

import (
	"errors"
	"strconv"
	"time"

	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/group"
)

func epochText(e group.Epoch) string { return strconv.FormatUint(uint64(e), 10) }

func (c *conn) wireLimits() wire.Limits {
	return wire.Limits{UserProperties: c.s.limits.UserProperties}
}

// body returns a packet without its fixed header.
func body(frame []byte) []byte {
	i := 1
	for frame[i]&0x80 != 0 {
		i++
	}
	return frame[i+1:]
}

// packet does what one packet asks for, or pauses the connection until that is
// done: the next one finds its effect. It returns a goodbye if the connection is to
// end.
func (c *conn) packet(frame []byte) *goodbye {
	if c.state == stateNew {
		return c.connect(frame)
	}
	if err := wire.Validate(frame, c.version, c.wireLimits()); err != nil {
		return c.broken(err, frame)
	}
	if c.session.dead.Load() {
		return goodbyeRights
	}
	err := c.handle(frame)
	var g *goodbyeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &g):
		return g.goodbye
	}
	return c.broken(err, frame)
}

// A goodbyeError carries a goodbye through functions that return errors.
type goodbyeError struct{ *goodbye }

func (g *goodbyeError) Error() string { return g.reason.String() }

// handle dispatches a packet that is valid.
func (c *conn) handle(frame []byte) error {
	sess := c.session
	switch wire.FrameType(frame) {
	case wire.PUBLISH:
		return c.publish(frame)
	case wire.PUBACK, wire.PUBCOMP:
		id, _, err := wire.ParseAck(frame, c.version)
		if err != nil {
			return err
		}
		sess.member.Ack(id)
	case wire.PUBREC:
		id, reason, err := wire.ParseAck(frame, c.version)
		if err != nil {
			return err
		}
		if reason >= 0x80 { // MQTT 5.0, 4.3.3: the exchange has ended
			sess.member.Ack(id)
			return nil
		}
		sess.member.Received(id)
	case wire.PUBREL:
		id, _, err := wire.ParseAck(frame, c.version)
		if err != nil {
			return err
		}
		c.released(id)
	case wire.SUBSCRIBE:
		sub, err := wire.ParseSubscribe(frame, c.version)
		if err != nil {
			return err
		}
		return c.subscribe(&sub)
	case wire.UNSUBSCRIBE:
		unsub, err := wire.ParseUnsubscribe(frame, c.version)
		if err != nil {
			return err
		}
		return c.unsubscribe(&unsub)
	case wire.PINGREQ:
		c.send(wire.AppendPingresp(nil))
	case wire.DISCONNECT:
		return c.disconnect(frame)
	case wire.CONNECT: // MQTT 5.0, 3.1: a second CONNECT
		return &wire.Error{Reason: wire.ProtocolError, Rule: "a second CONNECT (3.1)"}
	default:
		return &wire.Error{Reason: wire.ProtocolError, Rule: "a packet that this server did not ask for"}
	}
	return nil
}

// released ends the exchange of a QoS 2 message that was received (MQTT 5.0,
// 3.7.2.1).
func (c *conn) released(id uint16) {
	sess := c.session
	sess.mu.Lock()
	known := sess.inQoS2[id]
	delete(sess.inQoS2, id)
	sess.mu.Unlock()
	reason := wire.Success
	if !known {
		reason = wire.PacketIDNotFound
	}
	c.send(wire.AppendAck(nil, c.version, wire.PUBCOMP, id, reason))
}

// disconnect takes the client's goodbye (MQTT 5.0, 3.14).
func (c *conn) disconnect(frame []byte) error {
	d, err := wire.ParseDisconnect(frame, c.version)
	if err != nil {
		return err
	}
	if d.HasSessionExpiry {
		expiry := time.Duration(d.SessionExpiry) * time.Second
		sl := c.s.acquire(c.session.id)
		zero := c.session.expiry == 0
		if c.session.conn == c && !(zero && expiry > 0) {
			c.session.expiry = min(expiry, c.s.limits.SessionExpiryMax)
		}
		c.s.release(c.session.id, sl)
		if zero && expiry > 0 {
			return &wire.Error{Reason: wire.ProtocolError, Rule: "a Session Expiry Interval after none in CONNECT (3.14.2.2.2)"}
		}
	}
	g := *goodbyeNormal
	g.normal = d.Reason == wire.Success // MQTT 5.0, 3.14.4: else the Will is published
	return &goodbyeError{&g}
}
