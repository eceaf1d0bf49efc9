package control

import (
	"strconv"

	"github.com/muster-mqtt/muster/group"
)

// A value is one value of a message that is known to be well-formed, in JSON or
// in CBOR. It is read when it is asked for, so what nobody asks for costs
// nothing, however deep it is.
type value struct {
	cbor bool
	raw  []byte
}

// parse returns the value of which body consists, and whether there is one: it
// is false for anything malformed, for bytes after the value, and for text that
// is not UTF-8.
func parse(body []byte, e Encoding) (value, bool) {
	if e == CBOR {
		return value{true, body}, cborValid(body)
	}
	raw, ok := jsonValid(body)
	return value{false, raw}, ok
}

// EncodingOf returns the encoding that the first byte of a body tells, also of
// one that cannot be read: the answer is written in it.
func EncodingOf(body []byte) Encoding {
	switch {
	case len(body) > 0 && body[0] == '{':
		return JSON
	case len(body) > 0 && body[0]&0xE0 == cborMap:
		return CBOR
	}
	return Bare
}

// fields calls f with each key of a map and its value until f returns false. It
// is false if v is no map, a key stands twice, or f returned false.
func (v value) fields(f func(key, value) bool) bool {
	var known uint64 // a bit for each key seen
	var others map[string]struct{}
	once := func(k key, name string, v value) bool {
		if k != 0 {
			if known&(1<<k) != 0 {
				return false
			}
			known |= 1 << k
			return f(k, v)
		}
		if _, ok := others[name]; ok {
			return false
		}
		if others == nil {
			others = map[string]struct{}{}
		}
		others[name] = struct{}{}
		return true
	}
	if v.cbor {
		return cborFields(v.raw, once)
	}
	return jsonFields(v.raw, once)
}

// items calls f with each element of a list until f returns false. It is false
// if v is no list, or f returned false.
func (v value) items(f func(value) bool) bool {
	if v.cbor {
		return cborItems(v.raw, f)
	}
	return jsonItems(v.raw, f)
}

// uint returns an unsigned number, which in JSON has digits only.
func (v value) uint() (uint64, bool) {
	if v.cbor {
		h := cborHead(v.raw)
		return h.arg, h.major == cborUint
	}
	if !allDigits(string(v.raw)) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(v.raw), 10, 64)
	return n, err == nil
}

// bool returns true or false.
func (v value) bool() (b, ok bool) {
	if v.cbor {
		return v.raw[0] == cborTrue, v.raw[0] == cborTrue || v.raw[0] == cborFalse
	}
	return v.raw[0] == 't', v.raw[0] == 't' || v.raw[0] == 'f'
}

// text returns text, which does not share memory with the message.
func (v value) text() (string, bool) {
	if v.cbor {
		b, ok := cborString(v.raw, cborText)
		return string(b), ok
	}
	return jsonText(v.raw)
}

// isBytes reports whether v is a byte string, which JSON has none of.
func (v value) isBytes() bool { return v.cbor && v.raw[0]&0xE0 == cborBytes }

// isList reports whether v is a list.
func (v value) isList() bool {
	if v.cbor {
		return v.raw[0]&0xE0 == cborArray
	}
	return v.raw[0] == '['
}

// has reports whether v has the shape.
func (v value) has(s shape) bool {
	switch s {
	case number:
		_, ok := v.uint()
		return ok
	case text:
		_, ok := v.text()
		return ok
	case truth:
		_, ok := v.bool()
		return ok
	case list:
		return v.isList()
	case refs:
		return v.has(number) || v.has(text)
	case idents:
		return v.has(text) || v.isBytes()
	case octets:
		return v.isBytes() || v.has(text) && !v.cbor
	case states:
		return v.has(number) == v.cbor && v.has(text) != v.cbor
	}
	return true
}

// The readers below store a value of one type. Each is false, and stores
// nothing, if v is not of it or out of its range.

// integers are the types of the numbers in messages.
type integers interface {
	~byte | ~uint32 | ~uint64 | ~int | ~int64
}

func readInt[T integers](v value, to *T) bool {
	n, ok := v.uint()
	if ok = ok && T(n) >= 0 && uint64(T(n)) == n; ok {
		*to = T(n)
	}
	return ok
}

func readIntPtr[T integers](v value, to **T) bool {
	n := new(T)
	ok := readInt(v, n)
	if ok {
		*to = n
	}
	return ok
}

func readText[T ~string](v value, to *T) bool {
	s, ok := v.text()
	if ok {
		*to = T(s)
	}
	return ok
}

func readBool(v value, to *bool) bool {
	b, ok := v.bool()
	if ok {
		*to = b
	}
	return ok
}

func readBoolPtr(v value, to **bool) bool {
	b, ok := v.bool()
	if ok {
		*to = &b
	}
	return ok
}

func readTexts(v value, to *[]string) bool {
	all := []string{}
	ok := v.items(func(v value) bool {
		s, ok := v.text()
		all = append(all, s)
		return ok
	})
	if ok {
		*to = all
	}
	return ok
}

// readIdent reads a request's identifier: text or, in CBOR, bytes.
func readIdent(v value, to *[]byte) bool {
	if s, ok := v.text(); ok {
		*to = bytesOrNil([]byte(s))
		return true
	}
	b, ok := v.octets()
	if ok {
		*to = bytesOrNil(b)
	}
	return ok
}

// octets returns a copy of the bytes of a CBOR byte string.
func (v value) octets() ([]byte, bool) {
	if !v.cbor {
		return nil, false
	}
	b, ok := cborString(v.raw, cborBytes)
	return append([]byte(nil), b...), ok
}

// readGrant reads a grant. The code is OK, BadRequest or, for text that was cut
// short, GrantUnknown.
func readGrant(v value, to *[]byte) group.Code {
	if !v.cbor {
		s, ok := v.text()
		if !ok {
			return group.BadRequest
		}
		grant, code := parseGrant(s)
		if code == group.OK {
			*to = grant
		}
		return code
	}
	b, ok := v.octets()
	if !ok || len(b) == 0 || len(b) > maxGrant {
		return group.BadRequest
	}
	*to = b
	return group.OK
}

// readState reads the word for a state or, in CBOR, its number.
func readState(v value, to *string) bool {
	if v.cbor {
		n, ok := v.uint()
		if ok = ok && n < uint64(len(stateNames)); ok {
			*to = stateNames[n]
		}
		return ok
	}
	return readText(v, to)
}

// readULID reads a group's ID.
func readULID(v value, to *group.ID) bool {
	s, ok := v.text()
	if !ok {
		return false
	}
	id, err := group.ParseID(s)
	*to = id
	return err == nil
}

// readRef reads a reference to a group.
func readRef(v value, to *group.Ref) bool {
	var n group.Number
	if readInt(v, &n) {
		*to = group.Ref{Number: n}
		return n != 0
	}
	s, ok := v.text()
	if !ok {
		return false
	}
	ref, err := ParseRef(s)
	*to = ref
	return err == nil
}

func bytesOrNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
