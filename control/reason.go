package control

import "github.com/muster-mqtt/muster/group"

// The Reason Codes of MQTT 5.0 that a result code becomes (MQTT 5.0, 2.4).
const (
	reasonSuccess        = 0x00
	reasonImplementation = 0x83
	reasonNotAuthorized  = 0x87
	reasonFilterInvalid  = 0x8F
	reasonTopicInvalid   = 0x90
	reasonQuota          = 0x97
	reasonPayloadFormat  = 0x99
)

// PubackReason returns the Reason Code of the PUBACK or PUBREC of a request
// that is answered c.
func PubackReason(c group.Code) byte {
	switch {
	case c.Success():
		return reasonSuccess
	case c == group.UnknownOp:
		return reasonTopicInvalid
	case c >= 10 && c < 20:
		return reasonPayloadFormat
	}
	return refusalReason(c)
}

// SubackReason returns the Reason Code of the SUBACK of a verb that is refused
// with c, and 0, granted QoS 0, for a success: the QoS granted is not in a code.
// A 3.1.1 client is told 0x80 of every refusal.
func SubackReason(c group.Code) byte {
	switch {
	case c.Success():
		return reasonSuccess
	case c >= 10 && c < 20:
		return reasonFilterInvalid
	}
	return refusalReason(c)
}

// refusalReason is the part of the table in which PUBACK and SUBACK agree.
func refusalReason(c group.Code) byte {
	switch {
	case c >= 20 && c < 50:
		return reasonNotAuthorized
	case c >= 60 && c < 70, c == group.Unavailable:
		return reasonQuota
	}
	return reasonImplementation
}
