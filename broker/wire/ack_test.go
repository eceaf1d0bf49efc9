package wire

import (
	"slices"
	"testing"
)

// What Clients may say in which packet (MQTT 5.0, 2.4, and the tables of the
// packets).
func TestReasonsOfClients(t *testing.T) {
	first := []byte{0x00, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99} // 0x10 is only sent by a Server
	second := []byte{0x00, 0x92}
	reasons := map[byte][]byte{
		0x40: first, 0x50: first, 0x62: second, 0x70: second,
		0xE0: {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99},
		0xF0: {0x18, 0x19},
	}
	var tests []frameTest
	for header, allowed := range reasons {
		for r := range 256 {
			want := ProtocolError
			if slices.Contains(allowed, byte(r)) {
				want = Success
			}
			frame := packet(header, raw(0, 9, byte(r)), section())
			switch header {
			case 0xE0:
				frame = packet(header, raw(byte(r)))
			case 0xF0:
				frame = packet(header, raw(byte(r)), section(text(propAuthMethod, "x")))
			}
			tests = append(tests, frameTest{"reason", 5, frame, want})
		}
	}
	judge(t, tests)
}

func TestAckRules(t *testing.T) {
	for _, first := range []byte{0x40, 0x50, 0x62, 0x70} {
		judge(t, []frameTest{
			{"plain", 4, raw(first, 2, 0, 1), Success},
			{"plain", 5, raw(first, 2, 0, 1), Success},
			{"wrong flags", 4, raw(first^0x02, 2, 0, 1), MalformedPacket},
			{"Packet Identifier 0", 4, raw(first, 2, 0, 0), ProtocolError},
			{"Packet Identifier 0", 5, raw(first, 2, 0, 0), ProtocolError},
			{"no Packet Identifier", 4, raw(first, 0), MalformedPacket},
			{"half a Packet Identifier", 5, raw(first, 1, 0), MalformedPacket},
			{"reason", 4, raw(first, 3, 0, 1, 0), MalformedPacket},
			{"reason without properties", 5, raw(first, 3, 0, 1, 0), Success},
			{"no properties", 5, raw(first, 4, 0, 1, 0, 0), Success},
			{"a byte is left", 5, raw(first, 5, 0, 1, 0, 0, 0), MalformedPacket},
			{"two Reason Strings", 5, packet(first, raw(0, 1, 0), section(text(propReasonString, ""), text(propReasonString, ""))), ProtocolError},
		})
	}
	judge(t, []frameTest{
		{"DISCONNECT", 4, raw(0xE0, 0), Success},
		{"DISCONNECT with a reason", 4, raw(0xE0, 1, 0), MalformedPacket},
		{"DISCONNECT with no properties", 5, raw(0xE0, 2, 0, 0), Success},
		{"DISCONNECT with a byte left", 5, raw(0xE0, 3, 0, 0, 0), MalformedPacket},
		{"AUTH without reason", 5, raw(0xF0, 0), ProtocolError},
		{"AUTH without properties", 5, raw(0xF0, 1, 0x18), MalformedPacket},
		{"AUTH without method", 5, raw(0xF0, 2, 0x18, 0), ProtocolError},
		{"AUTH with a byte left", 5, packet(0xF0, raw(0x18), section(text(propAuthMethod, "x")), raw(0)), MalformedPacket},
	})
}

func TestParseAck(t *testing.T) {
	tests := []struct {
		frame   []byte
		version byte
		id      uint16
		reason  Reason
	}{
		{raw(0x40, 2, 1, 2), 4, 0x0102, Success},
		{raw(0x40, 2, 1, 2), 5, 0x0102, Success},
		{raw(0x50, 3, 1, 2, 0x97), 5, 0x0102, QuotaExceeded},
		{packet(0x62, raw(1, 2, 0x92), section(user("a", "b"))), 5, 0x0102, PacketIDNotFound},
	}
	for _, tt := range tests {
		if id, r, err := ParseAck(tt.frame, tt.version); id != tt.id || r != tt.reason || err != nil {
			t.Errorf("% x: %d, %v, %v, want %d, %v", tt.frame, id, r, err, tt.id, tt.reason)
		}
	}
	if _, _, err := ParseAck(raw(0xC0, 0), 4); err == nil {
		t.Error("a PINGREQ is parsed as an acknowledgement")
	}
}

func TestParseDisconnect(t *testing.T) {
	tests := []struct {
		frame   []byte
		version byte
		want    Disconnect
	}{
		{raw(0xE0, 0), 4, Disconnect{}},
		{raw(0xE0, 0), 5, Disconnect{}},
		{raw(0xE0, 1, 4), 5, Disconnect{Reason: DisconnectWithWill}},
		{packet(0xE0, raw(0), section(raw(propSessionExpiry, 0, 0, 0, 0))), 5, Disconnect{HasSessionExpiry: true}},
		{packet(0xE0, raw(4), section(user("a", "b"), raw(propSessionExpiry, 0, 0, 1, 0))), 5, Disconnect{DisconnectWithWill, 256, true}},
	}
	for _, tt := range tests {
		if got, err := ParseDisconnect(tt.frame, tt.version); got != tt.want || err != nil {
			t.Errorf("% x: %+v, %v, want %+v", tt.frame, got, err, tt.want)
		}
	}
}
