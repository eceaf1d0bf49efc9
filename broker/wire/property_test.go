package wire

import (
	"fmt"
	"slices"
	"testing"
)

// A propertyRow is a row of the table in MQTT 5.0, 2.2.2.2: where a property may
// stand, in packets that a Client sends, with a value of its type.
type propertyRow struct {
	id    byte
	value []byte
	where []place
}

func propertyTable() []propertyRow {
	message := []place{PUBLISH, will}
	return []propertyRow{
		{0x01, raw(1), message},
		{0x02, raw(0, 0, 0, 0), message},
		{0x03, str("a"), message},
		{0x08, str("a"), message},
		{0x09, str("\xff"), message},
		{0x0B, raw(1), []place{SUBSCRIBE}}, // a Client's PUBLISH must not have it (3.3.4)
		{0x11, raw(0, 0, 0, 0), []place{CONNECT, DISCONNECT}},
		{0x12, str("a"), nil}, // CONNACK
		{0x13, raw(0, 0), nil},
		{0x15, str("a"), []place{CONNECT, AUTH}},
		{0x16, str("\xff"), []place{CONNECT, AUTH}},
		{0x17, raw(0), []place{CONNECT}},
		{0x18, raw(0, 0, 0, 0), []place{will}},
		{0x19, raw(0), []place{CONNECT}},
		{0x1A, str("a"), nil},
		{0x1C, str("a"), []place{DISCONNECT}},
		{0x1F, str("a"), []place{PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT, AUTH}},
		{0x21, raw(0, 1), []place{CONNECT}},
		{0x22, raw(0, 0), []place{CONNECT}},
		{0x23, raw(0, 1), []place{PUBLISH}},
		{0x24, raw(0), nil},
		{0x25, raw(0), nil},
		{0x26, slices.Concat(str(""), str("")), []place{
			CONNECT, will, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, AUTH,
		}},
		{0x27, raw(0, 0, 0, 1), []place{CONNECT}},
		{0x28, raw(0), nil},
		{0x29, raw(0), nil},
		{0x2A, raw(0), nil},
	}
}

// with returns a valid packet with the properties at the place.
func with(at place, properties ...[]byte) []byte {
	s := section(properties...)
	switch at {
	case CONNECT:
		return connectPacket(5, 2, s, str("c"))
	case will:
		return connectPacket(5, 6, section(), str("c"), s, str("w"), str(""))
	case PUBLISH:
		return packet(0x30, str("t"), s)
	case SUBSCRIBE:
		return packet(0x82, raw(0, 1), s, str("t"), raw(0))
	case UNSUBSCRIBE:
		return packet(0xA2, raw(0, 1), s, str("t"))
	case PUBREL:
		return packet(0x62, raw(0, 1, 0), s)
	case DISCONNECT:
		return packet(0xE0, raw(0), s)
	case AUTH:
		return packet(0xF0, raw(0x18), s)
	}
	return packet(byte(at)<<4, raw(0, 1, 0), s)
}

// Every property, with and without its table row, once and twice, in every
// packet.
func TestPropertyTable(t *testing.T) {
	rows := propertyTable()
	for id := range 256 {
		if !slices.ContainsFunc(rows, func(r propertyRow) bool { return r.id == byte(id) }) {
			rows = append(rows, propertyRow{id: byte(id), value: raw(0, 0, 0, 0)})
		}
	}
	places := []place{CONNECT, will, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, AUTH}
	method := text(propAuthMethod, "x")
	for _, row := range rows {
		for _, at := range places {
			property := append(raw(row.id), row.value...)
			once := [][]byte{property}
			if row.id != propAuthMethod && (at == AUTH || row.id == propAuthData && at == CONNECT) {
				once = append(once, method) // goes with it
			}
			want, wantTwice := Success, ProtocolError
			switch {
			case row.id == propSubID && at == PUBLISH: // it may stand there, but not from a Client
				want = ProtocolError
			case !slices.Contains(row.where, at):
				want, wantTwice = MalformedPacket, MalformedPacket
			case row.id == propUser:
				wantTwice = Success
			}
			name := fmt.Sprintf("property %#02x at %d", row.id, at)
			tests := []frameTest{
				{name, 5, with(at, once...), want},
				{name + " twice", 5, with(at, append(once, property)...), wantTwice},
			}
			if want == Success {
				for n := 1; n < len(property); n++ {
					tests = append(tests, frameTest{name + " cut off", 5, with(at, property[:n]), MalformedPacket})
				}
			}
			judge(t, tests)
		}
	}
}

// Strings in properties are held to the same rules as others.
func TestPropertyStrings(t *testing.T) {
	for _, bad := range []string{"\xff", "a\x00", "\xed\xa0\x80"} {
		judge(t, []frameTest{
			{"Content Type", 5, with(PUBLISH, text(propContentType, bad)), MalformedPacket},
			{"Response Topic", 5, with(PUBLISH, text(propResponseTopic, bad)), MalformedPacket},
			{"Correlation Data is any bytes", 5, with(PUBLISH, text(propCorrelationData, bad)), Success},
			{"user property key", 5, with(UNSUBSCRIBE, user(bad, "")), MalformedPacket},
			{"user property value", 5, with(PUBACK, user("", bad)), MalformedPacket},
			{"Reason String", 5, with(DISCONNECT, text(propReasonString, bad)), MalformedPacket},
			{"Authentication Method", 5, with(CONNECT, text(propAuthMethod, bad)), MalformedPacket},
		})
	}
}
