package wire

import "bytes"

// A Connect is a CONNECT packet. It shares nothing with the bytes it was read
// from. What MQTT 3.1.1 does not have is as if a 5.0 Client had left it out.
type Connect struct {
	Version     byte   // 4 or 5
	Clean       bool   // Clean Session, or Clean Start
	KeepAlive   uint16 // seconds; 0 is none
	ClientID    string // empty: the Server assigns one
	HasUser     bool
	HasPassword bool
	User        string
	Password    []byte
	Will        *Will // nil is none

	SessionExpiry       uint32 // seconds; 0xFFFFFFFF is for ever
	HasSessionExpiry    bool
	ReceiveMaximum      uint16 // at least 1; 65,535 if left out
	MaximumPacketSize   uint32 // bytes; 0 is none
	TopicAliasMaximum   uint16 // 0: the Server sends no Topic Alias
	RequestResponseInfo bool
	RequestProblemInfo  bool   // true if left out
	Recv0               bool   // the last user property "recv" is "0"
	AuthMethod          string // empty is none
}

// A Will is the Will Message of a CONNECT.
type Will struct {
	Topic     string // a Topic Name
	Payload   []byte
	QoS       byte // 0, 1 or 2
	Retain    bool
	Delay     uint32 // Will Delay Interval in seconds
	Expiry    uint32 // Message Expiry Interval in seconds
	HasExpiry bool
	Props     []byte // to forward, like those of [Publish]
}

// The Connect Flags (MQTT 5.0, 3.1.2.3).
const (
	flagReserved   = 0x01
	flagClean      = 0x02
	flagWill       = 0x04
	flagWillRetain = 0x20
	flagPassword   = 0x40
	flagUser       = 0x80
)

// ParseConnect reads a whole CONNECT. The error is that of [Validate].
func ParseConnect(frame []byte) (Connect, error) {
	r, err := openAs(frame, CONNECT, 0)
	if err != nil {
		return Connect{}, err
	}
	var c connect
	c.read(&r)
	if r.end(); r.err != nil {
		return Connect{}, r.err
	}
	return c.copy(), nil
}

// connect is a CONNECT whose slices alias the packet.
type connect struct {
	flags       byte
	version     byte
	keepAlive   uint16
	props       properties
	clientID    []byte
	willProps   properties
	willTopic   []byte
	willPayload []byte
	user        []byte
	password    []byte
}

func (c *connect) willQoS() byte { return c.flags >> 3 & 0x03 }

func (c *connect) read(r *reader) {
	header := r.i
	if name := r.data(); r.err == nil && string(name) != "MQTT" {
		r.fail(UnsupportedProtocolVersion, "the Protocol Name is not MQTT (3.1.2.1)")
	}
	if c.version = r.u8(); r.err == nil && c.version != 4 && c.version != 5 {
		r.fail(UnsupportedProtocolVersion, "the Protocol Version is neither 4 nor 5 (3.1.2.2)")
	}
	if c.version == 5 && header != 1+varintLen(uint32(len(r.b)-header)) {
		r.malformed("the Remaining Length is longer than necessary (1.5.5)")
	}
	c.flags = r.u8()
	c.checkFlags(r)
	c.keepAlive = r.u16()
	if c.version == 5 {
		c.props.read(r, CONNECT)
		if c.props.has(propAuthData) && !c.props.has(propAuthMethod) {
			r.protocol("there is Authentication Data without Authentication Method (3.1.2.11.10)")
		}
	}
	c.clientID = r.text()
	if c.flags&flagWill != 0 {
		if c.version == 5 {
			c.willProps.read(r, will)
		}
		c.willTopic = r.topic()
		c.willPayload = r.data()
	}
	if c.flags&flagUser != 0 {
		c.user = r.text()
	}
	if c.flags&flagPassword != 0 {
		c.password = r.data()
	}
	if r.end(); r.err == nil && c.version == 4 && len(c.clientID) == 0 && c.flags&flagClean == 0 {
		r.fail(ClientIdentifierNotValid, "there is no Client Identifier for a Session that is to be kept (MQTT 3.1.1, 3.1.3.1)")
	}
}

func (c *connect) checkFlags(r *reader) {
	switch {
	case c.flags&flagReserved != 0:
		r.malformed("the reserved bit of the Connect Flags is set (3.1.2.3)")
	case c.willQoS() == 3:
		r.malformed("the Will QoS is 3 (3.1.2.6)")
	case c.flags&flagWill == 0 && c.willQoS() != 0:
		r.protocol("there is a Will QoS without Will Flag (3.1.2.6)")
	case c.flags&flagWill == 0 && c.flags&flagWillRetain != 0:
		r.protocol("there is Will Retain without Will Flag (3.1.2.7)")
	case c.version == 4 && c.flags&flagPassword != 0 && c.flags&flagUser == 0:
		r.protocol("there is a Password without User Name (MQTT 3.1.1, 3.1.2.9)")
	}
}

func (c *connect) copy() Connect {
	out := Connect{
		Version:     c.version,
		Clean:       c.flags&flagClean != 0,
		KeepAlive:   c.keepAlive,
		ClientID:    string(c.clientID),
		HasUser:     c.flags&flagUser != 0,
		HasPassword: c.flags&flagPassword != 0,
		User:        string(c.user),
		Password:    bytes.Clone(c.password),

		SessionExpiry:       c.props.sessionExpiry,
		HasSessionExpiry:    c.props.has(propSessionExpiry),
		ReceiveMaximum:      c.props.receiveMaximum,
		MaximumPacketSize:   c.props.maxPacketSize,
		TopicAliasMaximum:   c.props.aliasMaximum,
		RequestResponseInfo: c.props.responseRequest == 1,
		RequestProblemInfo:  !c.props.has(propProblemInfo) || c.props.problemInfo == 1,
		Recv0:               string(c.props.recv) == "0",
		AuthMethod:          string(c.props.authMethod),
	}
	if !c.props.has(propReceiveMaximum) {
		out.ReceiveMaximum = 65_535
	}
	if c.flags&flagWill != 0 {
		out.Will = &Will{
			Topic:     string(c.willTopic),
			Payload:   bytes.Clone(c.willPayload),
			QoS:       c.willQoS(),
			Retain:    c.flags&flagWillRetain != 0,
			Delay:     c.willProps.willDelay,
			Expiry:    c.willProps.messageExpiry,
			HasExpiry: c.willProps.has(propMessageExpiry),
			Props:     bytes.Clone(c.willProps.forward),
		}
	}
	return out
}

// ConnectVersion returns the protocol version that a CONNECT asks for, from as
// much of it as is there: what is needed to answer one that is malformed or
// asks for another version than 4 and 5. ok is false if there is not enough, or
// if it is not a CONNECT of MQTT.
func ConnectVersion(frame []byte) (version byte, ok bool) {
	if FrameType(frame) != CONNECT {
		return 0, false
	}
	_, n := varint(frame[1:])
	if n <= 0 {
		return 0, false
	}
	r := reader{b: frame, i: 1 + n}
	name := r.data()
	version = r.u8()
	if r.err != nil || string(name) != "MQTT" && string(name) != "MQIsdp" {
		return 0, false
	}
	return version, true
}
