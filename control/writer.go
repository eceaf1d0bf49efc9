package control

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/muster-mqtt/muster/group"
)

// A writer writes one message. In JSON the keys come in the order in which they
// are written, for people; in CBOR in ascending order with the shortest heads
// (RFC 8949, 4.2.1). So each message has one form in each encoding.
type writer struct {
	cbor  bool
	buf   []byte
	first bool // of JSON: no key of the innermost map is written yet
	// spans are where the fields of the open CBOR maps lie in buf.
	spans   []span
	scratch []byte
	lossy   bool // some text was not UTF-8, and stands altered
}

type span struct {
	key        key
	start, end int
}

func newWriter(e Encoding) writer {
	return writer{cbor: e == CBOR, buf: make([]byte, 0, 256)}
}

// open begins a map, and returns what close needs.
func (w *writer) open() (spans, start int) {
	w.first = true
	switch {
	case !w.cbor:
		w.buf = append(w.buf, '{')
	case w.spans == nil:
		w.spans = make([]span, 0, 32)
	}
	return len(w.spans), len(w.buf)
}

// close ends the map that began there.
func (w *writer) close(spans, start int) {
	w.first = false
	if !w.cbor {
		w.buf = append(w.buf, '}')
		return
	}
	own := w.spans[spans:]
	for i := range own {
		own[i].end = len(w.buf)
		if i+1 < len(own) {
			own[i].end = own[i+1].start
		}
	}
	for i := 1; i < len(own); i++ {
		for j := i; j > 0 && own[j].key < own[j-1].key; j-- {
			own[j], own[j-1] = own[j-1], own[j]
		}
	}
	w.scratch = append(w.scratch[:0], w.buf[start:]...)
	w.buf = appendCBORHead(w.buf[:start], cborMap, uint64(len(own)))
	for _, s := range own {
		w.buf = append(w.buf, w.scratch[s.start-start:s.end-start]...)
	}
	w.spans = w.spans[:spans]
}

// key begins a field; its value follows.
func (w *writer) key(k key) {
	if w.cbor {
		w.spans = append(w.spans, span{key: k, start: len(w.buf)})
		w.buf = appendCBORHead(w.buf, cborUint, uint64(k))
		return
	}
	w.name(keyTable[k].name)
}

// name begins a field of JSON.
func (w *writer) name(s string) {
	if !w.first {
		w.buf = append(w.buf, ',')
	}
	w.first = false
	w.buf = append(w.buf, '"')
	w.buf = append(w.buf, s...)
	w.buf = append(w.buf, '"', ':')
}

func (w *writer) rawUint(n uint64) {
	if w.cbor {
		w.buf = appendCBORHead(w.buf, cborUint, n)
		return
	}
	w.buf = strconv.AppendUint(w.buf, n, 10)
}

// rawText writes text. What is not UTF-8 becomes U+FFFD, and is noted.
func (w *writer) rawText(s string) {
	if !utf8.ValidString(s) {
		s, w.lossy = strings.ToValidUTF8(s, "\uFFFD"), true
	}
	if !w.cbor {
		w.buf = appendJSONText(w.buf, s)
		return
	}
	w.buf = appendCBORHead(w.buf, cborText, uint64(len(s)))
	w.buf = append(w.buf, s...)
}

func (w *writer) rawBytes(b []byte) {
	w.buf = appendCBORHead(w.buf, cborBytes, uint64(len(b)))
	w.buf = append(w.buf, b...)
}

// array begins a list of n elements, between which comma is to be called, and
// which endArray ends.
func (w *writer) array(n int) {
	if w.cbor {
		w.buf = appendCBORHead(w.buf, cborArray, uint64(n))
		return
	}
	w.buf = append(w.buf, '[')
}

func (w *writer) comma(i int) {
	if !w.cbor && i > 0 {
		w.buf = append(w.buf, ',')
	}
}

func (w *writer) endArray() {
	if !w.cbor {
		w.buf = append(w.buf, ']')
	}
}

// The methods below write a field, unless its value is zero, empty or absent.

func (w *writer) uint(k key, n uint64) {
	if n != 0 {
		w.key(k)
		w.rawUint(n)
	}
}

// int writes a number that is not below zero.
func (w *writer) int(k key, n int64) { w.uint(k, uint64(max(n, 0))) }

func (w *writer) text(k key, s string) {
	if s != "" {
		w.key(k)
		w.rawText(s)
	}
}

func (w *writer) bool(k key, b *bool) {
	if b == nil {
		return
	}
	w.key(k)
	switch {
	case w.cbor && *b:
		w.buf = append(w.buf, cborTrue)
	case w.cbor:
		w.buf = append(w.buf, cborFalse)
	default:
		w.buf = strconv.AppendBool(w.buf, *b)
	}
}

func (w *writer) qos(q *byte) {
	if q != nil {
		w.key(keyQoS)
		w.rawUint(uint64(*q))
	}
}

// ident writes a request's identifier: text in JSON, bytes in CBOR.
func (w *writer) ident(id []byte) {
	switch {
	case len(id) == 0:
	case w.cbor:
		w.key(keyID)
		w.rawBytes(id)
	case utf8.Valid(id):
		w.key(keyID)
		w.buf = appendJSONText(w.buf, id)
	default:
		w.text(keyID, string(id))
	}
}

func (w *writer) ulid(k key, id group.ID) {
	if !id.IsZero() {
		w.key(k)
		w.rawText(id.String())
	}
}

func (w *writer) grant(b []byte) {
	switch {
	case len(b) == 0:
	case w.cbor:
		w.key(keyGrant)
		w.rawBytes(b)
	default:
		w.key(keyGrant)
		w.buf = append(w.buf, '"')
		w.buf = grantText.AppendEncode(w.buf, b)
		w.buf = append(w.buf, '"')
	}
}

func (w *writer) state(s string) {
	if !w.cbor {
		w.text(keyState, s)
		return
	}
	for i, name := range stateNames {
		if name == s {
			w.key(keyState)
			w.rawUint(uint64(i))
		}
	}
}

func (w *writer) ref(k key, r group.Ref) {
	if !r.IsZero() {
		w.key(k)
		w.rawRef(r)
	}
}

func (w *writer) rawRef(r group.Ref) {
	switch {
	case r.Number != 0:
		w.rawUint(uint64(r.Number))
	case !r.ID.IsZero():
		w.rawText(r.ID.String())
	case r.User != "":
		w.rawText("@" + r.User)
	default:
		w.rawText(r.Name)
	}
}

// texts writes a list of texts, also an empty one unless it is nil.
func (w *writer) texts(k key, all []string) {
	if all == nil {
		return
	}
	w.key(k)
	w.array(len(all))
	for i, s := range all {
		w.comma(i)
		w.rawText(s)
	}
	w.endArray()
}
