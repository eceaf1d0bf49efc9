package wire

import (
	"bytes"
	"slices"
	"testing"
)

func TestFrame(t *testing.T) {
	const max = 1000
	tests := []struct {
		name string
		b    []byte
		n    int
		want Reason
	}{
		{"nothing", nil, 0, Success},
		{"first byte alone", raw(0xC0), 0, Success},
		{"whole", raw(0xC0, 0), 2, Success},
		{"two packets", raw(0xC0, 0, 0xC0, 0), 2, Success},
		{"body is missing", raw(0x30, 5, 0, 1), 0, Success},
		{"length is incomplete", raw(0x30, 0x80), 0, Success},
		{"length of three bytes is incomplete", raw(0x30, 0x80, 0x80, 0x80), 0, Success},
		{"length with padding, allowed by 3.1.1", raw(0xC0, 0x80, 0x80, 0x80, 0x00), 5, Success},
		{"length of five bytes", raw(0x30, 0x80, 0x80, 0x80, 0x80), 0, MalformedPacket},
		{"length of five bytes, ended", raw(0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01), 0, MalformedPacket},
		{"largest that fits", append(raw(0x30, 0xE5, 0x07), make([]byte, 997)...), 1000, Success},
		{"one byte too large, header alone", raw(0x30, 0xE6, 0x07), 0, PacketTooLarge},
		{"256 MiB", raw(0x10, 0xFF, 0xFF, 0xFF, 0x7F), 0, PacketTooLarge},
		{"type 0", raw(0x00), 0, MalformedPacket},
		{"flags of CONNECT", raw(0x11), 0, MalformedPacket},
		{"flags of SUBSCRIBE", raw(0x80), 0, MalformedPacket},
		{"flags of UNSUBSCRIBE", raw(0xA3), 0, MalformedPacket},
		{"flags of PUBREL", raw(0x60), 0, MalformedPacket},
		{"flags of PUBACK", raw(0x42), 0, MalformedPacket},
		{"flags of AUTH", raw(0xF8), 0, MalformedPacket},
		{"QoS 3", raw(0x36), 0, MalformedPacket},
		{"DUP with QoS 0", raw(0x38), 0, ProtocolError},
		{"DUP with QoS 2 and RETAIN", raw(0x3D), 0, Success},
	}
	for _, tt := range tests {
		n, err := Frame(tt.b, max)
		if n != tt.n || reasonOf(t, err) != tt.want {
			t.Errorf("%s: Frame(% x) = %d, %v, want %d, %v", tt.name, tt.b[:min(len(tt.b), 8)], n, err, tt.n, tt.want)
		}
	}
}

func TestValidateHeader(t *testing.T) {
	ping := raw(0xC0, 0)
	judge(t, []frameTest{
		{"nothing", 4, nil, MalformedPacket},
		{"PINGREQ", 4, ping, Success},
		{"PINGREQ with a body", 4, raw(0xC0, 1, 0), MalformedPacket},
		{"PINGREQ with a body", 5, raw(0xC0, 1, 0), MalformedPacket},
		{"two packets", 4, slices.Concat(ping, ping), MalformedPacket},
		{"padded length", 4, raw(0xC0, 0x80, 0), Success},
		{"padded length", 5, raw(0xC0, 0x80, 0), MalformedPacket},
		{"CONNACK", 4, raw(0x20, 2, 0, 0), ProtocolError},
		{"CONNACK", 5, raw(0x20, 3, 0, 0, 0), ProtocolError},
		{"SUBACK", 4, raw(0x90, 3, 0, 1, 0), ProtocolError},
		{"UNSUBACK", 5, raw(0xB0, 4, 0, 1, 0, 0), ProtocolError},
		{"PINGRESP", 4, raw(0xD0, 0), ProtocolError},
		{"AUTH", 4, packet(0xF0, raw(0x18), section(text(propAuthMethod, "x"))), ProtocolError},
	})
}

func TestSamplesAreValid(t *testing.T) {
	var tests []frameTest
	for _, s := range samples() {
		tests = append(tests, frameTest{"sample", s.version, s.frame, Success})
	}
	judge(t, tests)
}

// Every beginning of a valid packet is incomplete, and is an error to those who
// take it for whole, even if its length is made to fit.
func TestTruncated(t *testing.T) {
	for _, s := range samples() {
		for i := range len(s.frame) {
			part := s.frame[:i]
			if n, err := Frame(part, len(s.frame)); n != 0 || err != nil {
				t.Fatalf("Frame(% x) = %d, %v", part, n, err)
			}
			if Validate(part, s.version, Limits{}) == nil {
				t.Fatalf("Validate(% x) is nil", part)
			}
			ConnectVersion(part)
			_, _ = parse(part, s.version)
		}
		_, n := varint(s.frame[1:])
		body := s.frame[1+n:]
		for i := range len(body) {
			whole := packet(s.frame[0], body[:i])
			err := Validate(whole, s.version, Limits{})
			if perr, ok := parse(whole, s.version); ok && (err == nil) != (perr == nil) {
				t.Fatalf("% x: Validate says %v, parsing %v", whole, err, perr)
			}
		}
		if FrameType(s.frame) != PUBLISH { // its payload has no length
			long := packet(s.frame[0], body, raw(0xFF))
			if Validate(long, s.version, Limits{}) == nil {
				t.Fatalf("Validate(% x) is nil", long)
			}
		}
	}
}

func TestLimitUserProperties(t *testing.T) {
	pairs := section(user("a", "b"), user("a", "b"))
	for _, s := range []sample{
		{5, packet(0x30, str("t"), pairs)},
		{5, packet(0x82, raw(0, 1), pairs, str("t"), raw(0))},
		{5, connectPacket(5, 0x06, section(user("a", "b")), str("c"), section(user("a", "b")), str("w"), str(""))},
	} {
		for max, want := range []Reason{Success, QuotaExceeded, Success} {
			if got := reasonOf(t, Validate(s.frame, s.version, Limits{UserProperties: max})); got != want {
				t.Errorf("%v with 2 user properties, limit %d: %v, want %v", FrameType(s.frame), max, got, want)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		FrameType(raw(0x82)).String():   "SUBSCRIBE",
		FrameType(nil).String():         "reserved",
		AUTH.String():                   "AUTH",
		PacketIDNotFound.String():       "Packet Identifier not found",
		Reason(0xFF).String():           "Reason Code 0xFF",
		(&Error{0x81, "x (1)"}).Error(): "Malformed Packet: x (1)",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// FuzzFrame: what Frame says of a packet it says of every longer input, and
// what it says too early is never taken back.
func FuzzFrame(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.frame)
	}
	f.Add(raw(0x30, 0xFF, 0xFF, 0xFF, 0xFF))
	f.Fuzz(func(t *testing.T, b []byte) {
		const max = 200
		n, err := Frame(b, max)
		if n < 0 || n > len(b) || n > max || n > 0 && err != nil {
			t.Fatalf("Frame(% x) = %d, %v", b, n, err)
		}
		if more, moreErr := Frame(append(bytes.Clone(b), 0), max); n > 0 && more != n || err != nil && moreErr == nil {
			t.Fatalf("Frame(% x) = %d, %v, then %d, %v", b, n, err, more, moreErr)
		}
		for i := range min(len(b), 8) {
			switch m, early := Frame(b[:i], max); {
			case m > 0 && m != n:
				t.Fatalf("Frame(% x) = %d, later %d", b[:i], m, n)
			case early != nil && err == nil:
				t.Fatalf("Frame(% x): %v, later none", b[:i], early)
			}
		}
	})
}
