package wire

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
)

func TestPublishRules(t *testing.T) {
	top, none, id := str("a/b"), section(), raw(0, 9)
	judge(t, []frameTest{
		{"QoS 0", 4, packet(0x30, top), Success},
		{"QoS 0", 5, packet(0x30, top, none), Success},
		{"no properties", 5, packet(0x30, top), MalformedPacket},
		{"no topic", 4, packet(0x30), MalformedPacket},
		{"topic ends early", 4, packet(0x30, raw(0, 4, 'a')), MalformedPacket},
		{"Packet Identifier is missing", 4, packet(0x32, top), MalformedPacket},
		{"Packet Identifier 0", 4, packet(0x32, top, raw(0, 0)), ProtocolError},
		{"Packet Identifier 0", 5, packet(0x34, top, raw(0, 0), none), ProtocolError},
		{"QoS 3", 4, packet(0x36, top, id), MalformedPacket},
		{"DUP with QoS 0", 4, packet(0x38, top), ProtocolError},
		{"empty topic", 4, packet(0x30, str("")), ProtocolError},
		{"empty topic without alias", 5, packet(0x30, str(""), none), ProtocolError},
		{"empty topic with alias", 5, packet(0x30, str(""), section(raw(propAlias, 0, 1))), Success},
		{"topic and alias", 5, packet(0x30, top, section(raw(propAlias, 0xFF, 0xFF))), Success},
		{"alias 0", 5, packet(0x30, top, section(raw(propAlias, 0, 0))), TopicAliasInvalid},
		{"topic with +", 4, packet(0x30, str("a/+")), ProtocolError},
		{"topic with #", 5, packet(0x30, str("a#"), none), ProtocolError},
		{"topic with $", 4, packet(0x30, str("$SYS/a")), Success},
		{"topic is not UTF-8", 4, packet(0x30, str("a\xff")), MalformedPacket},
		{"topic with U+0000", 4, packet(0x30, str("a\x00")), MalformedPacket},
		{"topic with surrogate", 5, packet(0x30, str("\xed\xbf\xbf"), none), MalformedPacket},
		{"topic with overlong NUL", 5, packet(0x30, str("\xc0\x80"), none), MalformedPacket},
		{"topic beyond U+10FFFF", 5, packet(0x30, str("\xf4\x90\x80\x80"), none), MalformedPacket},
		{"Subscription Identifier", 5, packet(0x30, top, section(raw(propSubID, 1))), ProtocolError},
		{"Payload Format Indicator 2", 5, packet(0x30, top, section(raw(propPayloadFormat, 2))), ProtocolError},
		{"Response Topic with wildcard", 5, packet(0x30, top, section(text(propResponseTopic, "a/+"))), ProtocolError},
		{"Response Topic is empty", 5, packet(0x30, top, section(text(propResponseTopic, ""))), ProtocolError},
		{"properties longer than the packet", 5, packet(0x30, top, raw(5, propPayloadFormat, 1)), MalformedPacket},
		{"property longer than the properties", 5, packet(0x30, top, raw(2, propAlias, 0), raw(1, 2, 3)), MalformedPacket},
		{"Property Length with padding", 5, packet(0x30, top, raw(0x80, 0)), MalformedPacket},
		{"Property Length of five bytes", 5, packet(0x30, top, raw(0x80, 0x80, 0x80, 0x80, 0)), MalformedPacket},
	})
}

func TestParsePublish(t *testing.T) {
	why := "every field"
	got, err := ParsePublish(samples()[7].frame, 5)
	if err != nil {
		t.Fatal(err)
	}
	want := Publish{
		Topic: []byte("a/b"), Payload: raw(1, 2, 3), ID: 9, QoS: 1, Alias: 3, Expiry: 256, HasExpiry: true,
		Props: slices.Concat(raw(propPayloadFormat, 1), text(propContentType, "text/plain"),
			text(propResponseTopic, "r/t"), text(propCorrelationData, "\xff"), user("a", "b"), user("secret", "4711")),
		ResponseTopic: []byte("r/t"), CorrelationData: raw(0xFF), ContentType: []byte("text/plain"),
		PayloadFormat: 1, HasPayloadFormat: true, Secret: []byte("4711"),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", why, got, want)
	}
	got, err = ParsePublish(packet(0x3D, str("t"), raw(1, 0)), 4)
	want = Publish{Topic: []byte("t"), Payload: []byte{}, ID: 256, QoS: 2, Retain: true, Dup: true}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("3.1.1:\n got %+v, %v\nwant %+v", got, err, want)
	}
	got, err = ParsePublish(packet(0x30, str("t"), section(text(propCorrelationData, ""), user("secret", "x"), user("secret", ""))), 5)
	if err != nil || got.CorrelationData == nil || got.ContentType != nil || got.Secret == nil || len(got.Secret) != 0 {
		t.Errorf("empty is not absent, and the last secret counts: %+v, %v", got, err)
	}
}

// What is forwarded is all but alias and expiry, wherever these stand.
func TestPublishProps(t *testing.T) {
	kept := [][]byte{user("b", "1"), text(propCorrelationData, "c"), user("a", "2"), user("b", "3")}
	alias, expiry := raw(propAlias, 0, 1), raw(propMessageExpiry, 0, 0, 0, 1)
	for i := range len(kept) + 1 {
		for j := range len(kept) + 2 {
			all := slices.Insert(slices.Insert(slices.Clone(kept), i, alias), j, expiry)
			frame := packet(0x30, str("t"), section(all...), []byte("payload"))
			before := bytes.Clone(frame)
			p, err := ParsePublish(frame, 5)
			if err != nil || !bytes.Equal(p.Props, slices.Concat(kept...)) || p.Alias != 1 || p.Expiry != 1 {
				t.Errorf("alias at %d, expiry at %d: %+v, %v", i, j, p, err)
			}
			if !bytes.Equal(frame, before) {
				t.Fatal("parsing changes the packet")
			}
			_ = append(p.Props, 0xEE)
			if !bytes.Equal(frame, before) {
				t.Fatal("appending to Props changes the packet")
			}
			var pairs []string
			p.UserProperties(func(k, v []byte) bool {
				pairs = append(pairs, string(k)+"="+string(v))
				return true
			})
			if !slices.Equal(pairs, []string{"b=1", "a=2", "b=3"}) {
				t.Errorf("user properties %q", pairs)
			}
		}
	}
}

func TestUserPropertiesStops(t *testing.T) {
	p, err := ParsePublish(packet(0x30, str("t"), section(raw(propPayloadFormat, 0), user("a", ""), user("b", ""))), 5)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	p.UserProperties(func(_, _ []byte) bool { n++; return false })
	if n != 1 {
		t.Errorf("f was called %d times after it said no", n)
	}
}

func TestParsePublishAllocations(t *testing.T) {
	frame := samples()[7].frame
	simple := packet(0x32, str("g/1/all/pump-7/temp"), raw(0, 9), section(), make([]byte, 64))
	ordered := packet(0x30, str("t"), section(raw(propMessageExpiry, 0, 0, 0, 1), user("a", "b"), raw(propAlias, 0, 1)))
	for name, tt := range map[string]struct {
		frame []byte
		most  float64
	}{"plain": {simple, 0}, "properties in a row": {ordered, 0}, "properties apart": {frame, 1}} {
		if n := testing.AllocsPerRun(100, func() { _, _ = ParsePublish(tt.frame, 5) }); n > tt.most {
			t.Errorf("%s: %v allocations, want at most %v", name, n, tt.most)
		}
		if n := testing.AllocsPerRun(100, func() { _ = Validate(tt.frame, 5, Limits{}) }); n > tt.most {
			t.Errorf("%s: Validate makes %v allocations, want at most %v", name, n, tt.most)
		}
	}
}

func BenchmarkParsePublish(b *testing.B) {
	frame := packet(0x32, str("g/1/all/pump-7/temp"), raw(0, 9), section(), make([]byte, 64))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParsePublish(frame, 5); err != nil {
			b.Fatal(err)
		}
	}
}
