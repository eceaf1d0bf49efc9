package wire

import (
	"reflect"
	"slices"
	"testing"
)

func TestConnectRules(t *testing.T) {
	v4 := func(flags byte, rest ...[]byte) []byte { return connectPacket(4, flags, rest...) }
	v5 := func(flags byte, props []byte, rest ...[]byte) []byte {
		return connectPacket(5, flags, append([][]byte{props}, rest...)...)
	}
	none, id := section(), str("pump-7")
	named := func(name string, level byte) []byte { return packet(0x10, str(name), raw(level, 2, 0, 60), id) }
	judge(t, []frameTest{
		{"plain", 0, v4(2, id), Success},
		{"plain", 0, v5(2, none, id), Success},
		{"the version argument does not count", 5, v4(2, id), Success},
		{"padded length is allowed by 3.1.1", 5, slices.Concat(raw(0x10, 0x80|18, 0), v4(2, id)[2:]), Success},
		{"padded length is not by 5.0", 0, slices.Concat(raw(0x10, 0x80|19, 0), v5(2, none, id)[2:]), MalformedPacket},
		{"protocol name", 0, named("MQTX", 4), UnsupportedProtocolVersion},
		{"protocol name in lower case", 0, named("mqtt", 4), UnsupportedProtocolVersion},
		{"MQTT 3.1", 0, named("MQIsdp", 3), UnsupportedProtocolVersion},
		{"level 3", 0, named("MQTT", 3), UnsupportedProtocolVersion},
		{"level 6", 0, named("MQTT", 6), UnsupportedProtocolVersion},
		{"bridge bit", 0, named("MQTT", 0x84), UnsupportedProtocolVersion},
		{"reserved flag", 0, v4(3, id), MalformedPacket},
		{"reserved flag", 0, v5(3, none, id), MalformedPacket},
		{"Will QoS 3", 0, v4(0x1E, id, str("w"), str("")), MalformedPacket},
		{"Will QoS 3", 0, v5(0x1E, none, id, none, str("w"), str("")), MalformedPacket},
		{"Will QoS without Will", 0, v4(0x0A, id), ProtocolError},
		{"Will Retain without Will", 0, v5(0x22, none, id), ProtocolError},
		{"Password without User Name", 0, v4(0x42, id, str("p")), ProtocolError},
		{"Password without User Name", 0, v5(0x42, none, id, str("p")), Success},
		{"empty Password", 0, v4(0xC2, id, str("u"), str("")), Success},
		{"User Name is missing", 0, v4(0x82, id), MalformedPacket},
		{"Password is missing", 0, v4(0xC2, id, str("u")), MalformedPacket},
		{"User Name is not UTF-8", 0, v4(0x82, id, str("\xff")), MalformedPacket},
		{"Password is any bytes", 0, v4(0xC2, id, str("u"), str("\xff\x00")), Success},
		{"bytes after the last field", 0, v4(2, id, raw(0)), MalformedPacket},
		{"bytes after the last field", 0, v5(2, none, id, raw(0)), MalformedPacket},
		{"User Name without its flag", 0, v4(2, id, str("u")), MalformedPacket},
		{"no Client Identifier, clean", 0, v4(2, str("")), Success},
		{"no Client Identifier, kept", 0, v4(0, str("")), ClientIdentifierNotValid},
		{"no Client Identifier, kept", 0, v5(0, none, str("")), Success},
		{"malformed before all else", 0, v4(0, str(""), raw(0)), MalformedPacket},
		{"Client Identifier is missing", 0, v4(2), MalformedPacket},
		{"Client Identifier is not UTF-8", 0, v4(2, str("a\xc0\xaf")), MalformedPacket},
		{"Client Identifier with surrogate", 0, v4(2, str("\xed\xa0\x80")), MalformedPacket},
		{"Client Identifier with U+0000", 0, v5(2, none, str("a\x00b")), MalformedPacket},
		{"Client Identifier with U+FEFF", 0, v5(2, none, str("\ufeffa")), Success},
		{"Will", 0, v4(0x36, id, str("w/t"), str("")), Success},
		{"Will Topic is empty", 0, v4(0x06, id, str(""), str("")), ProtocolError},
		{"Will Topic with wildcard", 0, v4(0x06, id, str("w/#"), str("")), ProtocolError},
		{"Will Topic with wildcard", 0, v5(0x06, none, id, none, str("w/+"), str("")), ProtocolError},
		{"Will Topic is not UTF-8", 0, v4(0x06, id, str("\xff"), str("")), MalformedPacket},
		{"Will Payload is missing", 0, v4(0x06, id, str("w")), MalformedPacket},
		{"Will Properties are missing", 0, v5(0x06, none, id, str("w"), str("")), MalformedPacket},
		{"no properties", 0, connectPacket(5, 2, id), MalformedPacket},
		{"Authentication Method alone", 0, v5(2, section(text(propAuthMethod, "x")), id), Success},
		{"Authentication Data alone", 0, v5(2, section(text(propAuthData, "x")), id), ProtocolError},
		{"Receive Maximum 0", 0, v5(2, section(raw(propReceiveMaximum, 0, 0)), id), ProtocolError},
		{"Maximum Packet Size 0", 0, v5(2, section(raw(propMaxPacketSize, 0, 0, 0, 0)), id), ProtocolError},
		{"Request Problem Information 2", 0, v5(2, section(raw(propProblemInfo, 2)), id), ProtocolError},
		{"Request Response Information 2", 0, v5(2, section(raw(propResponseRequest, 2)), id), ProtocolError},
		{"Will Response Topic with wildcard", 0, v5(6, none, id, section(text(propResponseTopic, "#")), str("w"), str("")), ProtocolError},
	})
}

func TestParseConnect(t *testing.T) {
	frames := samples()
	tests := []struct {
		frame []byte
		want  Connect
	}{
		{frames[0].frame, Connect{Version: 4, Clean: true, KeepAlive: 60, ReceiveMaximum: 65_535, RequestProblemInfo: true}},
		{frames[1].frame, Connect{
			Version: 4, Clean: true, KeepAlive: 60, ClientID: "pump-7",
			HasUser: true, User: "ann", HasPassword: true, Password: raw(0xFF, 0),
			Will:           &Will{Topic: "w/t", Payload: []byte("bye"), QoS: 1, Retain: true},
			ReceiveMaximum: 65_535, RequestProblemInfo: true,
		}},
		{frames[3].frame, Connect{
			Version: 5, KeepAlive: 60, ClientID: "pump-7",
			HasUser: true, User: "ann", HasPassword: true, Password: []byte{},
			Will: &Will{
				Topic: "w/t", Payload: []byte{}, QoS: 2, Retain: true, Delay: 5, Expiry: 256, HasExpiry: true,
				Props: slices.Concat(raw(propPayloadFormat, 1), text(propContentType, "text/plain"),
					text(propResponseTopic, "r/t"), text(propCorrelationData, "\xff\x00"), user("a", "b")),
			},
			SessionExpiry: 256, HasSessionExpiry: true, ReceiveMaximum: 9, MaximumPacketSize: 65_536,
			TopicAliasMaximum: 7, RequestResponseInfo: true, Recv0: true, AuthMethod: "SCRAM",
		}},
		{frames[4].frame, Connect{
			Version: 5, KeepAlive: 60, ClientID: "pump-7", HasPassword: true, Password: []byte("only a password"),
			ReceiveMaximum: 65_535, RequestProblemInfo: true,
		}},
		{connectPacket(5, 2, section(user("recv", "0"), user("recv", "1"), raw(propProblemInfo, 1)), str("c")), Connect{
			Version: 5, Clean: true, KeepAlive: 60, ClientID: "c", ReceiveMaximum: 65_535, RequestProblemInfo: true,
		}},
	}
	for _, tt := range tests {
		frame := slices.Clone(tt.frame)
		got, err := ParseConnect(frame)
		clear(frame) // what was returned shares nothing with it
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("% x:\n got %+v, %v\nwant %+v", tt.frame, got, err, tt.want)
		}
	}
	if _, err := ParseConnect(raw(0xC0, 0)); err == nil {
		t.Error("a PINGREQ is parsed as CONNECT")
	}
}

func TestConnectVersion(t *testing.T) {
	tests := []struct {
		name    string
		frame   []byte
		version byte
		ok      bool
	}{
		{"3.1.1", connectPacket(4, 2, str("")), 4, true},
		{"as much as is needed", raw(0x10, 0x7F, 0, 4, 'M', 'Q', 'T', 'T', 5), 5, true},
		{"one byte less", raw(0x10, 0x7F, 0, 4, 'M', 'Q', 'T', 'T'), 0, false},
		{"length of four bytes", raw(0x10, 0xFF, 0xFF, 0xFF, 0x7F, 0, 4, 'M', 'Q', 'T', 'T', 5), 5, true},
		{"length of five bytes", raw(0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 4, 'M', 'Q', 'T', 'T', 5), 0, false},
		{"wrong flags", raw(0x11, 0x7F, 0, 4, 'M', 'Q', 'T', 'T', 5), 5, true},
		{"another version", connectPacket(6, 2, str("")), 6, true},
		{"MQTT 3.1", packet(0x10, str("MQIsdp"), raw(3, 2, 0, 0)), 3, true},
		{"another protocol", packet(0x10, str("HTTP"), raw(4)), 0, false},
		{"another packet", raw(0xC0, 0), 0, false},
		{"nothing", nil, 0, false},
		{"first byte alone", raw(0x10), 0, false},
	}
	for _, tt := range tests {
		if v, ok := ConnectVersion(tt.frame); v != tt.version || ok != tt.ok {
			t.Errorf("%s: %d, %v, want %d, %v", tt.name, v, ok, tt.version, tt.ok)
		}
	}
}
