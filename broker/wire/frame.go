package wire

// Frame returns the length of the first packet in b, fixed header included. It
// is 0 if more bytes are needed to tell, or to have the whole packet.
//
// The error is an [*Error], found as early as the bytes allow: for a reserved
// type and wrong flags the first byte suffices, and a packet of more than max
// bytes is refused (PacketTooLarge) by its header alone. After an error nothing
// more can be read from the connection.
func Frame(b []byte, max int) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := checkFlags(b[0]); err != nil {
		return 0, err
	}
	length, size := varint(b[1:])
	switch {
	case size < 0:
		return 0, &Error{MalformedPacket, "the Remaining Length has more than 4 bytes (2.1.4)"}
	case size == 0:
		return 0, nil
	}
	n = 1 + size + int(length)
	if n > max {
		return 0, &Error{PacketTooLarge, "the packet is larger than the Maximum Packet Size (3.2.2.3.6)"}
	}
	if n > len(b) {
		return 0, nil
	}
	return n, nil
}

// checkFlags checks the first byte of a packet (2.1.2, 2.1.3).
func checkFlags(b byte) error {
	flags := b & 0x0F
	switch t := Type(b >> 4); t {
	case 0:
		return &Error{MalformedPacket, "packet type 0 is reserved (2.1.2)"}
	case PUBLISH:
		switch {
		case flags&0x06 == 0x06:
			return &Error{MalformedPacket, "a PUBLISH has QoS 3 (3.3.1.2)"}
		case flags&0x0E == 0x08:
			return &Error{ProtocolError, "a PUBLISH has DUP with QoS 0 (3.3.1.1)"}
		}
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		if flags != 0x02 {
			return &Error{MalformedPacket, "the flags of the fixed header are not 0010 (2.1.3)"}
		}
	default:
		if flags != 0 {
			return &Error{MalformedPacket, "the flags of the fixed header are not 0000 (2.1.3)"}
		}
	}
	return nil
}

// Limits are what a packet may hold beyond what MQTT says. Zero fields are no
// limit. The levels of a topic are none of them, since too many do not make a
// packet wrong: see [Levels].
type Limits struct {
	UserProperties int // in one packet, those of the Will included
}

// Validate checks one whole packet from a Client: all that MQTT says of it for
// that version, 4 or 5. A CONNECT says itself which version it is. A Topic
// Filter that is only put together wrongly is not an error of the packet, but of
// that one subscription (MQTT 5.0, 3.9.3): see [ValidFilter].
//
// The error is an [*Error]: MalformedPacket or ProtocolError as MQTT 5.0, 1.2
// tells them apart; UnsupportedProtocolVersion, ClientIdentifierNotValid or
// TopicAliasInvalid for what has a code of its own; QuotaExceeded if the packet
// holds more than lim.
func Validate(frame []byte, version byte, lim Limits) error {
	t := FrameType(frame)
	if t == CONNECT {
		version = 0 // not known yet
	}
	r, err := open(frame, version, lim)
	if err != nil {
		return err
	}
	switch t {
	case CONNECT:
		var c connect
		c.read(&r)
	case PUBLISH:
		var p Publish
		p.read(&r, frame[0], version)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		readAck(&r, t, version)
	case SUBSCRIBE:
		readSubscribe(&r, version, nil)
	case UNSUBSCRIBE:
		readUnsubscribe(&r, version, nil)
	case PINGREQ:
	case DISCONNECT:
		var d Disconnect
		d.read(&r, version)
	case AUTH:
		readAuth(&r, version)
	default:
		r.protocol("only a Server sends this packet (2.1.2)")
	}
	r.end()
	return r.result()
}

// open returns a reader of what follows the fixed header of a whole packet.
func open(frame []byte, version byte, lim Limits) (reader, error) {
	n, err := Frame(frame, len(frame))
	if err != nil {
		return reader{}, err
	}
	if n == 0 || n != len(frame) {
		return reader{}, &Error{MalformedPacket, "this is not one whole packet (2.1.4)"}
	}
	length, size := varint(frame[1:])
	r := reader{b: frame, i: 1 + size, maxUsers: lim.UserProperties}
	if size != varintLen(length) && version >= 5 {
		r.malformed("the Remaining Length is longer than necessary (1.5.5)")
	}
	return r, nil
}

// openAs is open for a packet that must be of the type.
func openAs(frame []byte, t Type, version byte) (reader, error) {
	if FrameType(frame) != t {
		return reader{}, &Error{MalformedPacket, "this is not the type of packet that was asked for (2.1.2)"}
	}
	return open(frame, version, Limits{})
}
