package wire

import (
	"encoding/binary"
	"unicode/utf8"
)

// A UserProperty is a pair of names that MQTT 5.0 lets packets carry.
type UserProperty struct{ Key, Value string }

// AppendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP. For MQTT 3.1.1 it has
// no reason.
func AppendAck(dst []byte, version byte, t Type, id uint16, r Reason) []byte {
	return AppendAckText(dst, version, t, id, r, "")
}

// AppendAckText is [AppendAck] with a Reason String, unless text is empty. The
// caller checks that the Client wants it, and that it fits (MQTT 5.0, 3.4.2.2.2).
func AppendAckText(dst []byte, version byte, t Type, id uint16, r Reason, text string) []byte {
	first := byte(t) << 4
	if t == PUBREL {
		first |= 0x02
	}
	hi, lo := byte(id>>8), byte(id)
	switch {
	case version < 5 || r == Success && text == "":
		return append(dst, first, 2, hi, lo)
	case text == "":
		return append(dst, first, 3, hi, lo, byte(r))
	}
	size := reasonStringLen(text)
	dst = appendHeader(dst, first, 3+sized(size))
	dst = append(dst, hi, lo, byte(r))
	dst = appendVarint(dst, uint32(size))
	return appendReasonString(dst, text)
}

// AppendDisconnect appends a DISCONNECT, with a Reason String unless text is
// empty. For MQTT 3.1.1, whose Server cannot send one, it appends nothing.
func AppendDisconnect(dst []byte, version byte, r Reason, text string) []byte {
	if version < 5 {
		return dst
	}
	if text == "" {
		return append(dst, byte(DISCONNECT)<<4, 1, byte(r))
	}
	size := reasonStringLen(text)
	dst = appendHeader(dst, byte(DISCONNECT)<<4, 1+sized(size))
	dst = append(dst, byte(r))
	dst = appendVarint(dst, uint32(size))
	return appendReasonString(dst, text)
}

// AppendPingresp appends a PINGRESP.
func AppendPingresp(dst []byte) []byte { return append(dst, byte(PINGRESP)<<4, 0) }

// AppendSuback appends a SUBACK with one reason for each Topic Filter of the
// SUBSCRIBE, in order. For MQTT 3.1.1 each failure is 0x80, and reasonString and
// user are left out. For 5.0 the caller checks that the Client wants them, and
// that they fit (3.9.2.1).
func AppendSuback(dst []byte, version byte, id uint16, reasons []byte, reasonString string, user []UserProperty) []byte {
	if version >= 5 {
		return appendCodes(dst, SUBACK, id, reasons, reasonString, user)
	}
	dst = appendHeader(dst, byte(SUBACK)<<4, 2+len(reasons))
	dst = binary.BigEndian.AppendUint16(dst, id)
	for _, r := range reasons {
		dst = append(dst, min(r, 0x80))
	}
	return dst
}

// AppendUnsuback appends an UNSUBACK: [AppendSuback] for UNSUBSCRIBE. That of
// MQTT 3.1.1 has no reasons.
func AppendUnsuback(dst []byte, version byte, id uint16, reasons []byte, reasonString string, user []UserProperty) []byte {
	if version >= 5 {
		return appendCodes(dst, UNSUBACK, id, reasons, reasonString, user)
	}
	return append(dst, byte(UNSUBACK)<<4, 2, byte(id>>8), byte(id))
}

func appendCodes(dst []byte, t Type, id uint16, reasons []byte, reasonString string, user []UserProperty) []byte {
	size := reasonStringLen(reasonString) + userLen(user)
	dst = appendHeader(dst, byte(t)<<4, 2+sized(size)+len(reasons))
	dst = binary.BigEndian.AppendUint16(dst, id)
	dst = appendVarint(dst, uint32(size))
	dst = appendReasonString(dst, reasonString)
	dst = appendUser(dst, user)
	return append(dst, reasons...)
}

// AppendPublish appends a PUBLISH with QoS 0: an answer or a notice. For MQTT
// 5.0 it has Correlation Data, of at most 65,535 bytes, unless correlation is
// nil.
func AppendPublish(dst []byte, version byte, topic string, payload []byte, correlation []byte) []byte {
	topic = cut(topic)
	if version < 5 {
		dst = appendHeader(dst, byte(PUBLISH)<<4, 2+len(topic)+len(payload))
		dst = appendString(dst, topic)
		return append(dst, payload...)
	}
	size := 0
	if correlation != nil {
		size = 3 + len(correlation)
	}
	dst = appendHeader(dst, byte(PUBLISH)<<4, 2+len(topic)+sized(size)+len(payload))
	dst = appendString(dst, topic)
	dst = appendVarint(dst, uint32(size))
	if correlation != nil {
		dst = append(dst, propCorrelationData)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(correlation)))
		dst = append(dst, correlation...)
	}
	return append(dst, payload...)
}

// appendHeader appends the fixed header of a packet with that Remaining Length.
func appendHeader(dst []byte, first byte, length int) []byte {
	return appendVarint(append(dst, first), uint32(length))
}

// sized returns the bytes of properties together with their Property Length.
func sized(properties int) int { return varintLen(uint32(properties)) + properties }

// cut returns as much of s as a UTF-8 Encoded String can hold, in whole
// characters.
func cut(s string) string {
	if len(s) <= maxString {
		return s
	}
	n := maxString
	for n > maxString-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func appendString(dst []byte, s string) []byte {
	s = cut(s)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

func reasonStringLen(s string) int {
	if s == "" {
		return 0
	}
	return 3 + len(cut(s))
}

func appendReasonString(dst []byte, s string) []byte {
	if s == "" {
		return dst
	}
	return appendString(append(dst, propReasonString), s)
}

func userLen(user []UserProperty) int {
	n := 0
	for _, u := range user {
		n += 5 + len(cut(u.Key)) + len(cut(u.Value))
	}
	return n
}

func appendUser(dst []byte, user []UserProperty) []byte {
	for _, u := range user {
		dst = appendString(append(dst, propUser), u.Key)
		dst = appendString(dst, u.Value)
	}
	return dst
}
