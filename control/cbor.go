package control

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// The major types of CBOR, in the high three bits (RFC 8949, 3.1), and the
// simple values that are in use.
const (
	cborUint  = 0x00
	cborBytes = 0x40
	cborText  = 0x60
	cborArray = 0x80
	cborMap   = 0xA0
	cborTag   = 0xC0

	cborFalse = 0xF4
	cborTrue  = 0xF5
	cborBreak = 0xFF
)

// cborDepth is how deep maps and lists may be nested.
const cborDepth = 16

// cborMode checks that bytes are well-formed before anything is read.
var cborMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{MaxNestedLevels: cborDepth}.DecMode()
	if err != nil {
		panic(err) // the options are constant
	}
	return m
}()

// cborValid reports whether b is one well-formed item, with text in UTF-8.
func cborValid(b []byte) bool {
	if cborMode.Wellformed(b) != nil {
		return false
	}
	_, _, ok := cborNext(b)
	return ok
}

// A head is the beginning of an item: its major type and argument.
type head struct {
	major      byte
	arg        uint64
	size       int  // of the head, in bytes
	indefinite bool // the length is told by a break
}

// cborHead reads the head of a well-formed item.
func cborHead(b []byte) head {
	h := head{major: b[0] & 0xE0, size: 1}
	switch info := b[0] & 0x1F; info {
	case 24:
		h.arg, h.size = uint64(b[1]), 2
	case 25:
		h.arg, h.size = uint64(binary.BigEndian.Uint16(b[1:])), 3
	case 26:
		h.arg, h.size = uint64(binary.BigEndian.Uint32(b[1:])), 5
	case 27:
		h.arg, h.size = binary.BigEndian.Uint64(b[1:]), 9
	case 31:
		h.indefinite = true
	default:
		h.arg = uint64(info)
	}
	return h
}

// cborNext cuts the first of several well-formed items. It is false if it holds
// text that is not UTF-8.
func cborNext(b []byte) (item, rest []byte, ok bool) {
	h := cborHead(b)
	rest, ok = b[h.size:], true
	for h.major == cborTag { // any number of tags may precede an item
		h = cborHead(rest)
		rest = rest[h.size:]
	}
	switch n := h.arg; h.major {
	case cborBytes, cborText:
		if h.indefinite {
			rest, ok = cborSkip(rest, 0, true)
			break
		}
		ok = h.major == cborBytes || utf8.Valid(rest[:n])
		rest = rest[n:]
	case cborArray:
		rest, ok = cborSkip(rest, n, h.indefinite)
	case cborMap:
		rest, ok = cborSkip(rest, 2*n, h.indefinite)
	}
	return b[:len(b)-len(rest)], rest, ok
}

// cborSkip skips n items, or those up to a break.
func cborSkip(b []byte, n uint64, indefinite bool) (rest []byte, ok bool) {
	for ; indefinite || n > 0; n-- {
		if indefinite && b[0] == cborBreak {
			return b[1:], true
		}
		if _, b, ok = cborNext(b); !ok {
			return nil, false
		}
	}
	return b, true
}

// cborEach calls f with each item of a list or map until f returns false.
func cborEach(raw []byte, h head, n uint64, f func(item []byte) bool) bool {
	for b := raw[h.size:]; ; n-- {
		if h.indefinite && b[0] == cborBreak || !h.indefinite && n == 0 {
			return true
		}
		item, rest, _ := cborNext(b)
		if !f(item) {
			return false
		}
		b = rest
	}
}

func cborItems(raw []byte, f func(value) bool) bool {
	h := cborHead(raw)
	return h.major == cborArray && cborEach(raw, h, h.arg, func(item []byte) bool { return f(value{true, item}) })
}

func cborFields(raw []byte, f func(k key, name string, v value) bool) bool {
	h := cborHead(raw)
	var name []byte
	return h.major == cborMap && cborEach(raw, h, 2*h.arg, func(item []byte) bool {
		if name == nil {
			name = item
			return true
		}
		k, other := cborKey(name)
		name = nil
		return f(k, other, value{true, item})
	})
}

// cborKey returns the key that an item stands for, or what tells it from other
// unknown ones.
func cborKey(item []byte) (key, string) {
	h := cborHead(item)
	if h.major != cborUint {
		return 0, string(item)
	}
	if h.arg > 0 && h.arg < uint64(keys) {
		return key(h.arg), ""
	}
	return 0, string(appendCBORHead(nil, cborUint, h.arg))
}

// cborString returns the bytes of a byte or text string.
func cborString(raw []byte, major byte) ([]byte, bool) {
	h := cborHead(raw)
	if h.major != major {
		return nil, false
	}
	if !h.indefinite {
		return raw[h.size:], true
	}
	var all []byte
	cborEach(raw, h, 0, func(chunk []byte) bool {
		all = append(all, chunk[cborHead(chunk).size:]...)
		return true
	})
	return all, true
}

// appendCBORHead appends the shortest head with the argument.
func appendCBORHead(dst []byte, major byte, arg uint64) []byte {
	switch {
	case arg < 24:
		return append(dst, major|byte(arg))
	case arg <= 0xFF:
		return append(dst, major|24, byte(arg))
	case arg <= 0xFFFF:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(arg))
	case arg <= 0xFFFFFFFF:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(arg))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), arg)
}
