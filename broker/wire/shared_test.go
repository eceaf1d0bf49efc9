package wire

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func TestSharedAppend(t *testing.T) {
	props := slices.Concat(raw(propPayloadFormat, 1), user("a", "b"))
	plain := Message{Topic: "a/b", Payload: []byte("x"), QoS: 1}
	rich := Message{Topic: "a/b", Payload: []byte("x"), QoS: 2, Props: props, Expires: noon.Add(10 * time.Second)}
	top, x := str("a/b"), []byte("x")
	tests := []struct {
		name string
		m    Message
		o    SendOptions
		want []byte
	}{
		{"QoS 0", plain, SendOptions{Version: 4}, packet(0x30, top, x)},
		{"QoS 0, 5.0", plain, SendOptions{Version: 5}, packet(0x30, top, raw(0), x)},
		{"QoS 0 has no identifier and no DUP", plain, SendOptions{Version: 4, ID: 7, Dup: true}, packet(0x30, top, x)},
		{"QoS 1", plain, SendOptions{Version: 4, QoS: 1, ID: 0x0102}, packet(0x32, top, raw(1, 2), x)},
		{"QoS 2, DUP, RETAIN", plain, SendOptions{Version: 5, QoS: 2, ID: 0x0102, Dup: true, Retain: true}, packet(0x3D, top, raw(1, 2, 0), x)},
		{"Subscription Identifiers", plain, SendOptions{Version: 5, SubIDs: []uint32{1, 268_435_455}},
			packet(0x30, top, section(raw(0x0B, 1), raw(0x0B, 0xFF, 0xFF, 0xFF, 0x7F)), x)},
		{"3.1.1 has no Subscription Identifiers", plain, SendOptions{Version: 4, SubIDs: []uint32{1}}, packet(0x30, top, x)},
		{"3.1.1 has no properties", rich, SendOptions{Version: 4}, packet(0x30, top, x)},
		{"all ten seconds are left", rich, SendOptions{Version: 5, Now: noon}, packet(0x30, top, section(raw(2, 0, 0, 0, 10), props), x)},
		{"a part of a second has passed", rich, SendOptions{Version: 5, Now: noon.Add(1)}, packet(0x30, top, section(raw(2, 0, 0, 0, 10), props), x)},
		{"one second has passed", rich, SendOptions{Version: 5, Now: noon.Add(time.Second)}, packet(0x30, top, section(raw(2, 0, 0, 0, 9), props), x)},
		{"the last instant", rich, SendOptions{Version: 5, Now: noon.Add(10*time.Second - 1)}, packet(0x30, top, section(raw(2, 0, 0, 0, 1), props), x)},
		{"nothing is left", rich, SendOptions{Version: 5, Now: noon.Add(time.Hour)}, packet(0x30, top, section(raw(2, 0, 0, 0, 0), props), x)},
		{"the clock is not given", rich, SendOptions{Version: 5}, packet(0x30, top, section(raw(2, 0xFF, 0xFF, 0xFF, 0xFF), props), x)},
		{"everything", rich, SendOptions{Version: 5, QoS: 1, ID: 9, SubIDs: []uint32{200}, Now: noon},
			packet(0x32, top, raw(0, 9), section(raw(2, 0, 0, 0, 10), raw(0x0B, 0xC8, 0x01), props), x)},
		{"Topic Alias", rich, SendOptions{Version: 5, Alias: 300, Now: noon}, packet(0x30, top, section(raw(2, 0, 0, 0, 10, 0x23, 1, 44), props), x)},
		{"Topic Alias alone", rich, SendOptions{Version: 5, QoS: 1, ID: 9, Alias: 1, AliasOnly: true, SubIDs: []uint32{2}, Now: noon},
			packet(0x32, raw(0, 0, 0, 9), section(raw(2, 0, 0, 0, 10, 0x23, 0, 1, 0x0B, 2), props), x)},
		{"3.1.1 has no Topic Alias", plain, SendOptions{Version: 4, Alias: 1, AliasOnly: true}, packet(0x30, top, x)},
		{"no topic and no payload", Message{}, SendOptions{Version: 5}, raw(0x30, 3, 0, 0, 0)},
	}
	for _, tt := range tests {
		s := NewShared(tt.m)
		for i := range 2 { // the first encodes, the second copies
			got := s.Append(raw(0xAA), tt.o)
			if !bytes.Equal(got[1:], tt.want) || got[0] != 0xAA {
				t.Errorf("%s, time %d:\n got % x\nwant % x", tt.name, i+1, got[1:], tt.want)
			}
			if n := s.Size(tt.o); n != len(tt.want) {
				t.Errorf("%s: Size is %d, want %d", tt.name, n, len(tt.want))
			}
		}
	}
}

// What one receiver gets does not depend on who was served before.
func TestSharedForms(t *testing.T) {
	m := Message{Topic: "a/b", Payload: []byte("x"), Props: user("a", "b"), Expires: noon.Add(time.Minute)}
	var options []SendOptions
	for _, version := range []byte{4, 5} {
		for qos := range byte(3) {
			for _, ids := range [][]uint32{nil, {1}, {1, 300}} {
				options = append(options, SendOptions{Version: version, QoS: qos, ID: 6, Now: noon, SubIDs: ids, Alias: 3, AliasOnly: qos > 0},
					SendOptions{Version: version, QoS: qos, ID: 7, Now: noon, SubIDs: ids},
					SendOptions{Version: version, QoS: qos, ID: 8, Dup: true, Retain: true, Now: noon.Add(time.Second), SubIDs: ids})
			}
		}
	}
	shared := NewShared(m)
	for range 2 {
		for _, o := range options {
			if got, want := shared.Append(nil, o), NewShared(m).Append(nil, o); !bytes.Equal(got, want) {
				t.Errorf("%+v:\n got % x\nwant % x", o, got, want)
			}
		}
	}
}

func TestSharedConcurrently(t *testing.T) {
	m := Message{Topic: "a/b", Payload: []byte("payload"), Props: user("a", "b"), Expires: noon.Add(time.Minute)}
	s := NewShared(m)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for id := range uint16(100) {
				o := SendOptions{Version: 4 + byte(i%2), QoS: byte(i / 2 % 3), ID: id + 1, Now: noon}
				got := s.Append(nil, o)
				if want := NewShared(m).Append(nil, o); !bytes.Equal(got, want) || s.Size(o) != len(want) {
					t.Errorf("%+v: % x, want % x", o, got, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestSharedAccessors(t *testing.T) {
	m := Message{Topic: "a", Payload: []byte("x"), QoS: 2, Retain: true, Expires: noon}
	s := NewShared(m)
	if s.Topic() != "a" || string(s.Payload()) != "x" || s.QoS() != 2 || !s.Retain() || !s.Expires().Equal(noon) {
		t.Errorf("%+v", s.m)
	}
	if s.Expired(noon.Add(-1)) || !s.Expired(noon) || NewShared(Message{}).Expired(noon) {
		t.Error("a message expires at Expires, or never")
	}
}

func TestSharedAllocations(t *testing.T) {
	s := NewShared(Message{Topic: "g/1/all/muster/hello", Payload: make([]byte, 64), Props: user("a", "b"), Expires: noon})
	dst := make([]byte, 0, 1024)
	for _, o := range []SendOptions{
		{Version: 4}, {Version: 5}, {Version: 4, QoS: 1, ID: 1}, {Version: 5, QoS: 1, ID: 1, Now: noon},
		{Version: 5, QoS: 1, ID: 1, SubIDs: []uint32{1, 2}, Now: noon},
	} {
		if n := testing.AllocsPerRun(100, func() { dst = s.Append(dst[:0], o) }); n > 0 {
			t.Errorf("%+v: Append makes %v allocations", o, n)
		}
		if n := testing.AllocsPerRun(100, func() { s.Size(o) }); n > 0 {
			t.Errorf("%+v: Size makes %v allocations", o, n)
		}
	}
}

// FuzzShared: what Append encodes, ParsePublish and mochi's decoder read as the
// same message, and Size says how long it is.
func FuzzShared(f *testing.F) {
	f.Add("a/b", []byte("x"), "key", "value", byte(1), uint16(7), uint32(0), uint32(10), byte(0xFF))
	f.Add("$SYS/ä", []byte{}, "", "", byte(0), uint16(0), uint32(300), uint32(0), byte(0))
	f.Fuzz(func(t *testing.T, topic string, payload []byte, key, value string, qos byte, id uint16, subID, expiry uint32, flags byte) {
		qos %= 3
		if !ValidTopicName([]byte(topic)) || !validText([]byte(key)) || !validText([]byte(value)) || qos > 0 && id == 0 {
			return
		}
		m := Message{Topic: topic, Payload: payload}
		if flags&1 != 0 {
			m.Props = user(key, value)
		}
		if flags&2 != 0 {
			m.Expires = noon.Add(time.Duration(expiry) * time.Second)
		}
		o := SendOptions{Version: 4, QoS: qos, ID: id, Dup: flags&4 != 0, Retain: flags&8 != 0, Now: noon}
		if flags&16 != 0 {
			o.Version = 5
		}
		if subID &= 1<<28 - 1; subID > 0 {
			o.SubIDs = []uint32{subID}
		}
		s := NewShared(m)
		frame := s.Append(nil, o)
		if s.Size(o) != len(frame) {
			t.Fatalf("Size %d, length %d", s.Size(o), len(frame))
		}
		if err := decodeByMochi(frame, o.Version); err != nil {
			t.Fatalf("% x: %v", frame, err)
		}
		if len(o.SubIDs) > 0 && o.Version == 5 {
			return // not to be read as from a Client
		}
		p, err := ParsePublish(frame, o.Version)
		if err != nil {
			t.Fatalf("% x: %v", frame, err)
		}
		if string(p.Topic) != topic || !bytes.Equal(p.Payload, payload) || p.QoS != qos || p.Retain != o.Retain ||
			p.Dup != (o.Dup && qos > 0) || qos > 0 && p.ID != id {
			t.Fatalf("%+v became %+v", m, p)
		}
		if o.Version == 5 && (!bytes.Equal(p.Props, m.Props) || p.HasExpiry != !m.Expires.IsZero() || p.HasExpiry && p.Expiry != expiry) {
			t.Fatalf("%+v became %+v", m, p)
		}
	})
}

func BenchmarkSharedAppend(b *testing.B) {
	s := NewShared(Message{Topic: "g/1/all/muster/hello", Payload: make([]byte, 64), QoS: 1})
	dst := make([]byte, 0, 1024)
	for _, o := range []SendOptions{
		{Version: 4}, {Version: 4, QoS: 1, ID: 9}, {Version: 5, QoS: 1, ID: 9}, {Version: 5, QoS: 1, ID: 9, SubIDs: []uint32{1}},
	} {
		b.Run(fmt.Sprintf("v%d/qos%d/subids%d", o.Version, o.QoS, len(o.SubIDs)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dst = s.Append(dst[:0], o)
			}
		})
	}
}
