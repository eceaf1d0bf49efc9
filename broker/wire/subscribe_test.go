package wire

import (
	"reflect"
	"testing"
)

func TestSubscribeRules(t *testing.T) {
	id, none, a := raw(0, 1), section(), str("a/#")
	v4 := func(rest ...[]byte) []byte { return packet(0x82, append([][]byte{id}, rest...)...) }
	v5 := func(props []byte, rest ...[]byte) []byte { return v4(append([][]byte{props}, rest...)...) }
	judge(t, []frameTest{
		{"one filter", 4, v4(a, raw(0)), Success},
		{"one filter", 5, v5(none, a, raw(0)), Success},
		{"wrong flags", 4, packet(0x80, id, a, raw(0)), MalformedPacket},
		{"nothing", 4, packet(0x82), MalformedPacket},
		{"Packet Identifier 0", 4, packet(0x82, raw(0, 0), a, raw(0)), ProtocolError},
		{"Packet Identifier 0", 5, packet(0x82, raw(0, 0), none, a, raw(0)), ProtocolError},
		{"no filter", 4, v4(), ProtocolError},
		{"no filter", 5, v5(none), ProtocolError},
		{"no properties", 5, v4(), MalformedPacket},
		{"options are missing", 4, v4(a), MalformedPacket},
		{"options are missing", 5, v5(none, a), MalformedPacket},
		{"an empty filter without options (mochi panics on it)", 5, raw(0x82, 5, 0, 1, 0, 0, 0), MalformedPacket},
		{"second filter ends early", 4, v4(a, raw(0), raw(0, 9, 'b')), MalformedPacket},
		{"filter is not UTF-8", 4, v4(str("\xff"), raw(0)), MalformedPacket},
		{"filter with U+0000", 5, v5(none, str("a\x00"), raw(0)), MalformedPacket},
		{"a wrong wildcard is for SUBACK", 4, v4(str("a#b"), raw(0)), Success},
		{"a wrong wildcard is for SUBACK", 5, v5(none, str("a/#/b"), raw(0)), Success},
		{"an empty filter is for SUBACK", 5, v5(none, str(""), raw(0)), Success},
		{"QoS 2", 4, v4(a, raw(2)), Success},
		{"QoS 3", 4, v4(a, raw(3)), MalformedPacket},
		{"No Local", 4, v4(a, raw(4)), MalformedPacket},
		{"QoS 3", 5, v5(none, a, raw(3)), ProtocolError},
		{"all options", 5, v5(none, a, raw(0x2E)), Success},
		{"Retain Handling 3", 5, v5(none, a, raw(0x30)), ProtocolError},
		{"reserved bit 6", 5, v5(none, a, raw(0x40)), MalformedPacket},
		{"reserved bit 7", 5, v5(none, a, raw(0x80)), MalformedPacket},
		{"No Local on a Shared Subscription", 5, v5(none, str("$share/g/a"), raw(4)), ProtocolError},
		{"No Local on $shared", 5, v5(none, str("$shared/g/a"), raw(4)), Success},
		{"Shared Subscription", 5, v5(none, str("$share/g/a"), raw(1)), Success},
		{"a fault in the second filter", 5, v5(none, a, raw(0), a, raw(3)), ProtocolError},
		{"Subscription Identifier 1", 5, v5(section(raw(propSubID, 1)), a, raw(0)), Success},
		{"Subscription Identifier 0", 5, v5(section(raw(propSubID, 0)), a, raw(0)), ProtocolError},
		{"Subscription Identifier with padding", 5, v5(section(raw(propSubID, 0x81, 0)), a, raw(0)), MalformedPacket},
		{"Subscription Identifier of five bytes", 5, v5(section(raw(propSubID, 0xFF, 0xFF, 0xFF, 0xFF, 1)), a, raw(0)), MalformedPacket},
		{"two Subscription Identifiers", 5, v5(section(raw(propSubID, 1), raw(propSubID, 2)), a, raw(0)), ProtocolError},
	})
}

func TestUnsubscribeRules(t *testing.T) {
	id, none, a := raw(0, 1), section(), str("a/#")
	judge(t, []frameTest{
		{"one filter", 4, packet(0xA2, id, a), Success},
		{"two filters", 5, packet(0xA2, id, none, a, a), Success},
		{"wrong flags", 4, packet(0xA0, id, a), MalformedPacket},
		{"Packet Identifier 0", 4, packet(0xA2, raw(0, 0), a), ProtocolError},
		{"no filter", 4, packet(0xA2, id), ProtocolError},
		{"no filter", 5, packet(0xA2, id, none), ProtocolError},
		{"filter ends early", 4, packet(0xA2, id, raw(0, 3, 'a')), MalformedPacket},
		{"filter is not UTF-8", 5, packet(0xA2, id, none, str("\xff")), MalformedPacket},
		{"a byte is left", 4, packet(0xA2, id, a, raw(0)), MalformedPacket},
		{"an empty filter", 4, packet(0xA2, id, str("")), Success},
	})
}

func TestParseSubscribe(t *testing.T) {
	frame := samples()[10].frame
	got, err := ParseSubscribe(frame, 5)
	clear(frame) // what was returned shares nothing with it
	want := Subscribe{ID: 1, SubID: 268_435_455, Secret: "4711", Filters: []Subscription{
		{Filter: "$share/g/a", QoS: 2, RetainAsPublished: true, RetainHandling: 2},
		{Filter: "b", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 1},
	}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("5.0:\n got %+v, %v\nwant %+v", got, err, want)
	}
	got, err = ParseSubscribe(samples()[9].frame, 4)
	want = Subscribe{ID: 1, Filters: []Subscription{{Filter: "a/#", QoS: 1}, {Filter: "+", QoS: 2}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("3.1.1:\n got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestParseUnsubscribe(t *testing.T) {
	want := Unsubscribe{ID: 1, Filters: []string{"a/#", "b"}}
	for i, version := range map[int]byte{11: 4, 12: 5} {
		got, err := ParseUnsubscribe(samples()[i].frame, version)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("version %d:\n got %+v, %v\nwant %+v", version, got, err, want)
		}
	}
}
