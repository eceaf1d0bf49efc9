package control

import (
	"errors"

	"github.com/muster-mqtt/muster/group"
)

// errMessage is why an answer, a notice or an event cannot be read.
var errMessage = errors.New("malformed message of the control protocol")

// EncodeAnswer writes an answer in CBOR or, for every other encoding, in JSON.
// The same answer is always the same bytes.
func EncodeAnswer(a Answer, e Encoding) []byte {
	w := newWriter(e)
	spans, start := w.open()
	w.code(a.Code)
	w.ident(a.ID)
	w.text(keyOp, string(a.Op))
	w.text(keyKind, a.Kind)
	w.text(keyDevice, string(a.Device))
	w.uint(keyN, uint64(a.N))
	w.ulid(keyG, a.G)
	w.text(keyName, a.Name)
	w.uint(keyFrom, uint64(a.From))
	w.uint(keyTo, uint64(a.To))
	w.uint(keyPrev, uint64(a.Prev))
	w.state(a.State)
	w.text(keyUser, a.User)
	w.text(keyRole, a.Role)
	w.grant(a.Grant)
	w.int(keyExp, a.Exp)
	w.text(keySecret, a.Secret)
	w.text(keyPIN, a.PIN)
	w.uint(keyEpoch, uint64(a.Epoch))
	w.uint(keyRev, uint64(a.Rev))
	w.int(keyDropped, int64(a.Dropped))
	w.int(keyRetry, int64(a.Retry))
	w.text(keyWhy, a.Why)
	w.list(a.List, a.HasList)
	w.text(keyNext, a.Next)
	w.close(spans, start)
	return w.buf
}

// code writes a result code, in JSON with its name and text.
func (w *writer) code(c group.Code) {
	w.key(keyCode)
	w.rawUint(uint64(c))
	if !w.cbor {
		w.name("err")
		w.rawText(c.Error())
		w.name("text")
		w.rawText(c.Text())
	}
}

// DecodeAnswer reads an answer in CBOR or JSON, as its first byte tells. Unknown
// keys are ignored. After an error, which holds nothing of the answer, the
// Answer is zero.
func DecodeAnswer(b []byte) (Answer, error) {
	var a Answer
	code := false
	err := decode(b, func(k key, v value) bool {
		code = code || k == keyCode
		return a.set(k, v)
	})
	if err != nil || !code {
		return Answer{}, errMessage
	}
	return a, nil
}

func (a *Answer) set(k key, v value) bool {
	switch k {
	case keyCode:
		return readInt(v, &a.Code)
	case keyID:
		return readIdent(v, &a.ID)
	case keyOp:
		return readText(v, &a.Op)
	case keyKind:
		return readText(v, &a.Kind)
	case keyDevice:
		return readText(v, &a.Device)
	case keyN:
		return readInt(v, &a.N)
	case keyG:
		return readULID(v, &a.G)
	case keyName:
		return readText(v, &a.Name)
	case keyFrom:
		return readInt(v, &a.From)
	case keyTo:
		return readInt(v, &a.To)
	case keyPrev:
		return readInt(v, &a.Prev)
	case keyState:
		return readState(v, &a.State)
	case keyUser:
		return readText(v, &a.User)
	case keyRole:
		return readText(v, &a.Role)
	case keyGrant:
		return readGrant(v, &a.Grant) == group.OK
	case keyExp:
		return readInt(v, &a.Exp)
	case keySecret:
		return readText(v, &a.Secret)
	case keyPIN:
		return readText(v, &a.PIN)
	case keyEpoch:
		return readInt(v, &a.Epoch)
	case keyRev:
		return readInt(v, &a.Rev)
	case keyDropped:
		return readInt(v, &a.Dropped)
	case keyRetry:
		return readInt(v, &a.Retry)
	case keyWhy:
		return readText(v, &a.Why)
	case keyList:
		a.HasList = true
		return readList(v, &a.List)
	case keyNext:
		return readText(v, &a.Next)
	}
	return true
}

// decode calls f with each key and value of a message.
func decode(b []byte, f func(key, value) bool) error {
	e := EncodingOf(b)
	if e == Bare {
		return errMessage
	}
	v, ok := parse(b, e)
	if !ok || !v.fields(f) {
		return errMessage
	}
	return nil
}

// Fit returns the answer with as much of its list as an encoded answer of at
// most max bytes holds; max of 0 or less sets no bound. If entries were cut off,
// Next is where the next page starts: at the last entry that was kept, by its
// device, account or number. If not even one entry fits the answer is
// [group.TooLarge]. An answer without a list is returned as it is.
func Fit(a Answer, e Encoding, max int) Answer {
	if max <= 0 || len(a.List) == 0 || len(EncodeAnswer(a, e)) <= max {
		return a
	}
	fits := func(n int) bool { return len(EncodeAnswer(firstEntries(a, n), e)) <= max }
	low, high := 0, len(a.List) // low entries fit, or low is 0; high do not
	for high-low > 1 {
		if mid := (low + high) / 2; fits(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	if low == 0 {
		return Answer{Code: group.TooLarge, ID: a.ID, Op: a.Op}
	}
	return firstEntries(a, low)
}

// firstEntries returns the answer as a page of the first n entries, which are
// not all.
func firstEntries(a Answer, n int) Answer {
	last := &a.List[n-1]
	a.List = a.List[:n:n]
	switch {
	case last.Device != "":
		a.Next = string(last.Device)
	case last.User != "":
		a.Next = last.User
	default:
		a.Next = last.N.String()
	}
	return a
}
