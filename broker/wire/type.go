package wire

// Type is the type of an MQTT Control Packet (MQTT 5.0, 2.1.2).
type Type byte

// The types of packets.
const (
	CONNECT Type = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH // MQTT 5.0 only
)

var typeNames = [16]string{
	"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// String returns the name in the specification.
func (t Type) String() string { return typeNames[t&15] }

// FrameType returns the type of a packet, of which the first byte suffices. It
// is 0, which is no type, if there is none.
func FrameType(frame []byte) Type {
	if len(frame) == 0 {
		return 0
	}
	return Type(frame[0] >> 4)
}
