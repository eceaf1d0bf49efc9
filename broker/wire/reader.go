package wire

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// A reader takes one packet, or a part of it, apart. After the first error it
// has nothing left, reads zeros and keeps the error.
type reader struct {
	b   []byte
	i   int
	err *Error

	users    int // user properties read so far
	maxUsers int // 0 is no limit
}

func (r *reader) fail(reason Reason, rule string) {
	if r.err == nil {
		r.err = &Error{reason, rule}
	}
	r.i = len(r.b)
}

func (r *reader) malformed(rule string) { r.fail(MalformedPacket, rule) }
func (r *reader) protocol(rule string)  { r.fail(ProtocolError, rule) }

// result returns the error as one that is nil if there is none.
func (r *reader) result() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

func (r *reader) more() bool { return r.i < len(r.b) }

func (r *reader) take(n int) []byte {
	if n > len(r.b)-r.i {
		r.malformed("the packet ends within a field (1.5)")
		return nil
	}
	b := r.b[r.i : r.i+n : r.i+n]
	r.i += n
	return b
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// varint reads a Variable Byte Integer of MQTT 5.0, which must have its shortest
// form.
func (r *reader) varint() uint32 {
	v, n := varint(r.b[r.i:])
	switch {
	case n == 0:
		r.malformed("the packet ends within a Variable Byte Integer (1.5.5)")
	case n < 0:
		r.malformed("a Variable Byte Integer has more than 4 bytes (1.5.5)")
	case n != varintLen(v):
		r.malformed("a Variable Byte Integer is longer than necessary (1.5.5)")
	default:
		r.i += n
		return v
	}
	return 0
}

// data reads Binary Data (1.5.6). It is not nil unless there is an error.
func (r *reader) data() []byte { return r.take(int(r.u16())) }

// text reads a UTF-8 Encoded String (1.5.4).
func (r *reader) text() []byte {
	b := r.data()
	if !validText(b) {
		r.malformed("a string is not UTF-8, or holds U+0000 (1.5.4)")
		return nil
	}
	return b
}

// packetID reads a Packet Identifier.
func (r *reader) packetID() uint16 {
	id := r.u16()
	if id == 0 {
		r.protocol("the Packet Identifier is 0 (2.2.1)")
	}
	return id
}

// end says that nothing may follow.
func (r *reader) end() {
	if r.more() {
		r.malformed("bytes follow the last field (2.1.4)")
	}
}

// validText reports whether b may be a UTF-8 Encoded String. Code points of
// surrogates are not UTF-8 to Go either.
func validText(b []byte) bool {
	return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
}

// varint decodes a Variable Byte Integer. n is its length; 0 if it is not
// complete, -1 if it is too long.
func varint(b []byte) (v uint32, n int) {
	for i := range 4 {
		if i == len(b) {
			return 0, 0
		}
		v |= uint32(b[i]&0x7F) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, -1
}

func varintLen(v uint32) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<21:
		return 3
	}
	return 4
}

func appendVarint(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}
