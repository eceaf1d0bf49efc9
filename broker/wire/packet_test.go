package wire

import (
	"errors"
	"slices"
	"testing"
)

// packet puts the fixed header before parts.
func packet(first byte, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	return append(appendHeader(nil, first, len(body)), body...)
}

// section is properties with their length.
func section(properties ...[]byte) []byte {
	body := slices.Concat(properties...)
	return append(appendVarint(nil, uint32(len(body))), body...)
}

func raw(b ...byte) []byte    { return b }
func str(s string) []byte     { return appendString(nil, s) }
func user(k, v string) []byte { return slices.Concat(raw(propUser), str(k), str(v)) }

// text is a property whose value is a string.
func text(id byte, s string) []byte { return append(raw(id), str(s)...) }

// reasonOf returns the reason of err; Success if it is nil.
func reasonOf(t *testing.T, err error) Reason {
	t.Helper()
	if err == nil {
		return Success
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %T %v is no *Error", err, err)
	}
	if e.Reason < 0x80 || e.Rule == "" {
		t.Fatalf("error %#v says nothing", e)
	}
	return e.Reason
}

// A frameTest is one packet and how it is judged.
type frameTest struct {
	name    string
	version byte
	frame   []byte
	want    Reason // Success: it is valid
}

// judge checks that Validate and the Parse function of the type agree on want.
func judge(t *testing.T, tests []frameTest) {
	t.Helper()
	for _, tt := range tests {
		err := Validate(tt.frame, tt.version, Limits{})
		if got := reasonOf(t, err); got != tt.want {
			t.Errorf("%s, version %d: % x: %v, want %v", tt.name, tt.version, tt.frame, err, tt.want)
		}
		if perr, ok := parse(tt.frame, tt.version); ok && reasonOf(t, perr) != reasonOf(t, err) {
			t.Errorf("%s, version %d: % x: parsing says %v, Validate %v", tt.name, tt.version, tt.frame, perr, err)
		}
	}
}

// parse parses a packet of a type that has a Parse function.
func parse(frame []byte, version byte) (err error, ok bool) {
	switch FrameType(frame) {
	case CONNECT:
		_, err = ParseConnect(frame)
	case PUBLISH:
		_, err = ParsePublish(frame, version)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		_, _, err = ParseAck(frame, version)
	case SUBSCRIBE:
		_, err = ParseSubscribe(frame, version)
	case UNSUBSCRIBE:
		_, err = ParseUnsubscribe(frame, version)
	case DISCONNECT:
		_, err = ParseDisconnect(frame, version)
	default:
		return nil, false
	}
	return err, true
}

// connectPacket is a CONNECT with the flags and what follows the Keep Alive.
func connectPacket(version, flags byte, rest ...[]byte) []byte {
	return packet(0x10, slices.Concat(str("MQTT"), raw(version, flags, 0, 60)), slices.Concat(rest...))
}

// A sample is a valid packet.
type sample struct {
	version byte
	frame   []byte
}

// samples returns valid packets of every type that a Client sends, with every
// field that they can have.
func samples() []sample {
	willProps := section(raw(propWillDelay, 0, 0, 0, 5), raw(propPayloadFormat, 1), raw(propMessageExpiry, 0, 0, 1, 0),
		text(propContentType, "text/plain"), text(propResponseTopic, "r/t"), text(propCorrelationData, "\xff\x00"), user("a", "b"))
	connProps := section(raw(propSessionExpiry, 0, 0, 1, 0), raw(propReceiveMaximum, 0, 9), raw(propMaxPacketSize, 0, 1, 0, 0),
		raw(propAliasMaximum, 0, 7), raw(propResponseRequest, 1), raw(propProblemInfo, 0), user("recv", "0"),
		text(propAuthMethod, "SCRAM"), text(propAuthData, "\x00\xff"))
	pubProps := section(raw(propPayloadFormat, 1), raw(propMessageExpiry, 0, 0, 1, 0), text(propContentType, "text/plain"),
		text(propResponseTopic, "r/t"), text(propCorrelationData, "\xff"), raw(propAlias, 0, 3), user("a", "b"), user("secret", "4711"))
	why := section(text(propReasonString, "why"), user("a", "b"))
	out := []sample{
		{4, connectPacket(4, 0x02, str(""))},
		{4, connectPacket(4, 0xEE, str("pump-7"), str("w/t"), str("bye"), str("ann"), str("\xff\x00"))},
		{5, connectPacket(5, 0x02, section(), str(""))},
		{5, connectPacket(5, 0xF4, connProps, str("pump-7"), willProps, str("w/t"), str(""), str("ann"), str(""))},
		{5, connectPacket(5, 0x40, section(), str("pump-7"), str("only a password"))},
		{4, packet(0x30, str("a/b"), raw(1, 2, 3))},
		{4, packet(0x3D, str("a/b"), raw(0, 9))},
		{5, packet(0x32, str("a/b"), raw(0, 9), pubProps, raw(1, 2, 3))},
		{5, packet(0x31, str(""), section(raw(propAlias, 0, 3)))},
		{4, packet(0x82, raw(0, 1), str("a/#"), raw(1), str("+"), raw(2))},
		{5, packet(0x82, raw(0, 1), section(raw(propSubID, 0xFF, 0xFF, 0xFF, 0x7F), user("secret", "4711")), str("$share/g/a"), raw(0x2A), str("b"), raw(0x1D))},
		{4, packet(0xA2, raw(0, 1), str("a/#"), str("b"))},
		{5, packet(0xA2, raw(0, 1), section(user("a", "b")), str("a/#"), str("b"))},
		{4, raw(0xC0, 0)}, {5, raw(0xC0, 0)},
		{4, raw(0xE0, 0)}, {5, raw(0xE0, 0)}, {5, raw(0xE0, 1, 0x04)},
		{5, packet(0xE0, raw(0x81), section(raw(propSessionExpiry, 0, 0, 0, 9), text(propReasonString, "why"), text(propServerReference, "x"), user("a", "b")))},
		{5, packet(0xF0, raw(0x18), section(text(propAuthMethod, "SCRAM"), text(propAuthData, "x"), text(propReasonString, "why"), user("a", "b")))},
	}
	for _, first := range []byte{0x40, 0x50, 0x62, 0x70} {
		out = append(out,
			sample{4, raw(first, 2, 0, 9)}, sample{5, raw(first, 2, 0, 9)}, sample{5, raw(first, 3, 0, 9, 0)},
			sample{5, packet(first, raw(0, 9, 0), why)})
	}
	return out
}
