package wire

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAppend(t *testing.T) {
	users := []UserProperty{{"n", "1"}, {"epoch", "7"}}
	why := slices.Concat(text(propReasonString, "why"), user("n", "1"), user("epoch", "7"))
	tests := []struct {
		name      string
		got, want []byte
	}{
		{"PUBACK 3.1.1", AppendAck(nil, 4, PUBACK, 0x0102, NotAuthorized), raw(0x40, 2, 1, 2)},
		{"PUBACK", AppendAck(nil, 5, PUBACK, 0x0102, Success), raw(0x40, 2, 1, 2)},
		{"PUBREC with a reason", AppendAck(nil, 5, PUBREC, 1, QuotaExceeded), raw(0x50, 3, 0, 1, 0x97)},
		{"PUBREL", AppendAck(nil, 5, PUBREL, 1, Success), raw(0x62, 2, 0, 1)},
		{"PUBCOMP", AppendAck(nil, 4, PUBCOMP, 1, Success), raw(0x70, 2, 0, 1)},
		{"PUBACK with text", AppendAckText(nil, 5, PUBACK, 1, NotAuthorized, "no"), raw(0x40, 9, 0, 1, 0x87, 5, 0x1F, 0, 2, 'n', 'o')},
		{"PUBACK with text, Success", AppendAckText(nil, 5, PUBACK, 1, Success, "y"), raw(0x40, 8, 0, 1, 0, 4, 0x1F, 0, 1, 'y')},
		{"PUBACK with text, 3.1.1", AppendAckText(nil, 4, PUBACK, 1, NotAuthorized, "no"), raw(0x40, 2, 0, 1)},
		{"DISCONNECT", AppendDisconnect(nil, 5, SessionTakenOver, ""), raw(0xE0, 1, 0x8E)},
		{"DISCONNECT with text", AppendDisconnect(nil, 5, ProtocolError, "no"), raw(0xE0, 7, 0x82, 5, 0x1F, 0, 2, 'n', 'o')},
		{"DISCONNECT 3.1.1", AppendDisconnect(nil, 4, ProtocolError, "no"), nil},
		{"PINGRESP", AppendPingresp(nil), raw(0xD0, 0)},
		{"SUBACK 3.1.1", AppendSuback(nil, 4, 1, raw(0, 1, 2, 0x87, 0x8F), "why", users), raw(0x90, 7, 0, 1, 0, 1, 2, 0x80, 0x80)},
		{"SUBACK", AppendSuback(nil, 5, 1, raw(0, 0x87), "", nil), raw(0x90, 5, 0, 1, 0, 0, 0x87)},
		{"SUBACK with properties", AppendSuback(nil, 5, 1, raw(1), "why", users), packet(0x90, raw(0, 1), section(why), raw(1))},
		{"UNSUBACK 3.1.1", AppendUnsuback(nil, 4, 1, raw(0), "why", users), raw(0xB0, 2, 0, 1)},
		{"UNSUBACK", AppendUnsuback(nil, 5, 1, raw(0x11), "", nil), raw(0xB0, 4, 0, 1, 0, 0x11)},
		{"UNSUBACK with properties", AppendUnsuback(nil, 5, 1, raw(0), "why", users), packet(0xB0, raw(0, 1), section(why), raw(0))},
		{"PUBLISH 3.1.1", AppendPublish(nil, 4, "a/b", []byte("x"), raw(1)), packet(0x30, str("a/b"), []byte("x"))},
		{"PUBLISH", AppendPublish(nil, 5, "a/b", []byte("x"), nil), packet(0x30, str("a/b"), raw(0), []byte("x"))},
		{"PUBLISH with Correlation Data", AppendPublish(nil, 5, "a", []byte("x"), raw(0, 1)), packet(0x30, str("a"), raw(5, 9, 0, 2, 0, 1), []byte("x"))},
		{"PUBLISH with empty Correlation Data", AppendPublish(nil, 5, "a", nil, []byte{}), packet(0x30, str("a"), raw(3, 9, 0, 0))},
		{"CONNACK 3.1.1 by code", AppendConnack311(nil, true, 0), raw(0x20, 2, 1, 0)},
		{"long packets have a long length", AppendPublish(nil, 4, "a", make([]byte, 200), nil)[:3], raw(0x30, 0xCB, 0x01)},
		{"what is there stays", AppendPingresp(raw(9)), raw(9, 0xD0, 0)},
	}
	for _, tt := range tests {
		if !bytes.Equal(tt.got, tt.want) {
			t.Errorf("%s: % x, want % x", tt.name, tt.got, tt.want)
		}
	}
}

func TestAppendConnack(t *testing.T) {
	expiry, alive := uint32(0), uint16(60)
	full := Connack{
		SessionPresent: true, SessionExpiry: &expiry, ReceiveMaximum: 64, MaximumPacketSize: 262_144,
		AssignedClientID: "m-1", ReasonString: "why", ResponseInfo: "r", TopicAliasMaximum: 8, ServerKeepAlive: &alive,
		User: []UserProperty{{"grp", "1"}, {"grp", "2"}},
	}
	props := section(raw(0x11, 0, 0, 0, 0), raw(0x21, 0, 64), raw(0x27, 0, 4, 0, 0), text(0x12, "m-1"), raw(0x22, 0, 8),
		raw(0x13, 0, 60), text(0x1A, "r"), text(0x1F, "why"), user("grp", "1"), user("grp", "2"))
	tests := []struct {
		name    string
		version byte
		c       Connack
		want    []byte
	}{
		{"plain", 5, Connack{}, raw(0x20, 3, 0, 0, 0)},
		{"defaults are left out", 5, Connack{SessionPresent: true, ReceiveMaximum: 65_535}, raw(0x20, 3, 1, 0, 0)},
		{"every field", 5, full, packet(0x20, raw(1, 0), props)},
		{"every field, 3.1.1", 4, full, raw(0x20, 2, 1, 0)},
		{"no Session where there is none", 5, Connack{SessionPresent: true, Reason: NotAuthorized}, raw(0x20, 3, 0, 0x87, 0)},
		{"no Session where there is none", 4, Connack{SessionPresent: true, Reason: NotAuthorized}, raw(0x20, 2, 0, 5)},
		{"a later version", 6, Connack{Reason: UnsupportedProtocolVersion}, raw(0x20, 3, 0, 0x84, 0)},
		{"an earlier version", 3, Connack{Reason: UnsupportedProtocolVersion}, raw(0x20, 2, 0, 1)},
	}
	for _, tt := range tests {
		if got := AppendConnack(nil, tt.version, tt.c); !bytes.Equal(got, tt.want) {
			t.Errorf("%s: % x, want % x", tt.name, got, tt.want)
		}
	}
}

func TestReturnCodes(t *testing.T) {
	want := map[Reason]byte{
		Success: 0, UnsupportedProtocolVersion: 1, ClientIdentifierNotValid: 2,
		UnspecifiedError: 3, ImplementationSpecificError: 3, ServerUnavailable: 3, ServerBusy: 3, ServerShuttingDown: 3,
		QuotaExceeded: 3, UseAnotherServer: 3, ServerMoved: 3, ConnectionRateExceeded: 3,
		BadUserNameOrPassword: 4, BadAuthenticationMethod: 4, NotAuthorized: 5, Banned: 5, TopicNameInvalid: 5,
	}
	for r := range 256 {
		got := AppendConnack(nil, 4, Connack{Reason: Reason(r)})
		code, ok := want[Reason(r)]
		if ok && !bytes.Equal(got, raw(0x20, 2, 0, code)) || !ok && got != nil {
			t.Errorf("%v: % x", Reason(r), got)
		}
	}
}

// A text that is too long must not spoil the packet.
func TestLongStrings(t *testing.T) {
	long := strings.Repeat("a", 65_534) + "ä and more"
	if c := cut(long); len(c) != 65_534 {
		t.Errorf("cut leaves %d bytes", len(c))
	}
	if c := cut(strings.Repeat("\x80", 70_000)); len(c) > maxString || len(c) < maxString-utf8.UTFMax {
		t.Errorf("cut leaves %d bytes of no UTF-8", len(c))
	}
	for _, frame := range [][]byte{
		AppendAckText(nil, 5, PUBACK, 1, NotAuthorized, long),
		AppendDisconnect(nil, 5, NotAuthorized, long),
		AppendSuback(nil, 5, 1, raw(0), long, []UserProperty{{long, long}}),
		AppendConnack(nil, 5, Connack{AssignedClientID: long, ResponseInfo: long, ReasonString: long, User: []UserProperty{{long, long}}}),
		AppendPublish(nil, 5, long, nil, nil),
	} {
		if err := decodeByMochi(frame, 5); err != nil {
			t.Errorf("%v: %v", FrameType(frame), err)
		}
	}
}
