package control

import (
	"bytes"
	"crypto/sha256"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/muster-mqtt/muster/group"
)

// MaxBody is the greatest size of a request's body, in bytes.
const MaxBody = 8 << 10

// The bounds of a request's values.
const (
	maxID     = 16   // bytes of an identifier
	minPIN    = 4    // bytes of a PIN that a group is to have
	maxLimit  = 1000 // entries of a page
	maxDevice = 1024 // bytes of a Client Identifier, also of one unfit for groups
)

// The words that keys of requests take.
var (
	policyWords  = []string{"open", "pin"}
	visibleWords = []string{"all", "members"}
	roleWords    = []string{"device", "observer", "operator"}
	kindWords    = []string{"group", "device"}
	grantOps     = []string{"join", "leave", "switch"}
	accountOps   = []string{"add", "list", "show", "update", "passwd", "remove"}
)

// ParseRequest reads the body of a request for op, which is a map in JSON or
// CBOR or, if its first byte begins neither, a bare word. It checks each value
// for itself: its type, its range, the rule for names. Which keys an op needs,
// and who may ask, is for the caller to judge. Unknown keys are ignored.
//
// The error is a [group.Code]: [group.TooLarge] for a body over [MaxBody],
// [group.GrantUnknown] for a grant whose text was cut short, and
// [group.BadRequest] for everything else that cannot be read.
func ParseRequest(op Op, body []byte) (Request, error) {
	if len(body) > MaxBody {
		return Request{}, group.TooLarge
	}
	r := Request{Op: op, Encoding: EncodingOf(body)}
	if r.Encoding == Bare {
		if !r.parseBare(body) {
			return Request{}, group.BadRequest
		}
	} else {
		v, ok := parse(body, r.Encoding)
		if !ok {
			return Request{}, group.BadRequest
		}
		code := group.BadRequest
		ok = v.fields(func(k key, v value) bool {
			if k == keyGrant {
				if c := readGrant(v, &r.Grant); c != group.OK {
					code = c
					return false
				}
				return true
			}
			return r.set(k, v)
		})
		if !ok {
			return Request{}, code
		}
	}
	if r.Device != "" && forGroups(op) && CheckClientID(r.Device) != nil {
		return Request{}, group.BadRequest
	}
	r.Body = digest(op, body)
	return r, nil
}

// set stores the value of a key, and reports whether it is one that the key may
// have.
func (r *Request) set(k key, v value) bool {
	switch k {
	case keyID:
		return readIdent(v, &r.ID) && len(r.ID) <= maxID
	case keyG:
		return readRef(v, &r.G)
	case keyTo:
		return readRef(v, &r.To)
	case keyFrom:
		return readRef(v, &r.From)
	case keySecret:
		return readText(v, &r.Secret) && len(r.Secret) <= maxSecret
	case keyPIN:
		return readText(v, &r.PIN) && len(r.PIN) >= minPIN && len(r.PIN) <= maxSecret
	case keyEpoch:
		return readIntPtr(v, &r.Epoch)
	case keyTTL:
		return readInt(v, &r.TTL) && r.TTL > 0 && r.TTL <= math.MaxInt32
	case keyFilter:
		return readTexts(v, &r.Filter) && len(r.Filter) <= maxFilters && allOf(r.Filter, validFilter)
	case keyRecv:
		return readBoolPtr(v, &r.Recv)
	case keyQoS:
		return readIntPtr(v, &r.QoS) && *r.QoS <= 1
	case keyDevice:
		return readText(v, &r.Device) && r.Device != "" && len(r.Device) <= maxDevice
	case keyOp:
		return r.setSub(v)
	case keyNext:
		return readText(v, &r.Next)
	case keyLimit:
		var n uint64
		ok := readInt(v, &n)
		r.Limit = int(min(n, maxLimit))
		return ok
	}
	return r.setRecord(k, v)
}

// setRecord is set for the keys that describe a group or an account.
func (r *Request) setRecord(k key, v value) bool {
	switch k {
	case keyName:
		return readName(v, &r.Name)
	case keyPolicy:
		return readWord(v, &r.Policy, policyWords)
	case keyVisible:
		return readWord(v, &r.Visible, visibleWords)
	case keyPINInTopic:
		return readBoolPtr(v, &r.PINInTopic)
	case keyMembersTo:
		return readBoolPtr(v, &r.MembersTo)
	case keyMembersEvents:
		return readBoolPtr(v, &r.MembersEvents)
	case keyUser:
		return readName(v, &r.User)
	case keyRole:
		return readWord(v, &r.Role, roleWords)
	case keyFindable:
		return readBoolPtr(v, &r.Findable)
	case keyGroups:
		r.SetGroups = true
		return v.items(func(v value) bool {
			var ref group.Ref
			ok := readRef(v, &ref)
			r.Groups = append(r.Groups, ref)
			return ok
		})
	case keyTopics:
		r.SetTopics = true
		return readRules(v, &r.Topics)
	case keyDisabled:
		return readBoolPtr(v, &r.Disabled)
	case keyKind:
		return readWord(v, &r.Kind, kindWords)
	}
	return v.has(keyTable[k].shape)
}

// setSub reads key "op", which has a meaning in two ops.
func (r *Request) setSub(v value) bool {
	switch r.Op {
	case OpGrant:
		return readWord(v, &r.Sub, grantOps)
	case OpAccount:
		return readWord(v, &r.Sub, accountOps)
	}
	return v.has(text)
}

func readName(v value, to *string) bool {
	s, ok := v.text()
	if !ok {
		return false
	}
	name, err := Name(s)
	*to = name
	return err == nil
}

// readRules reads the texts of an account's rules.
func readRules(v value, to *[]group.TopicRule) bool {
	ok := v.items(func(v value) bool {
		s, ok := v.text()
		if !ok {
			return false
		}
		r, err := group.ParseTopicRule(s)
		*to = append(*to, r)
		return err == nil
	})
	return ok && len(*to) <= group.MaxTopicRules
}

func readWord(v value, to *string, words []string) bool {
	return readText(v, to) && slices.Contains(words, *to)
}

// forGroups reports whether the device that op names is to be put into a group
// or taken out of one.
func forGroups(op Op) bool {
	switch op {
	case OpJoin, OpLeave, OpSwitch, OpGrant, OpMove, OpRemove:
		return true
	}
	return false
}

// parseBare reads words that are separated by spaces. White space around them
// does not count: what a shell pipes ends with a line end.
func (r *Request) parseBare(body []byte) bool {
	body = bytes.Trim(body, " \t\r\n")
	var words []string
	for w := range bytes.SplitSeq(body, []byte{' '}) {
		if len(w) == 0 {
			continue
		}
		if len(words) == 3 {
			return false
		}
		words = append(words, string(w))
	}
	if len(words) == 0 {
		return true
	}
	ok := false
	switch {
	case r.Op == OpJoin && len(words) <= 2:
		ok = parseRef(words[0], &r.G)
		if len(words) == 2 {
			r.Secret = words[1]
			ok = ok && len(r.Secret) <= maxSecret && utf8.ValidString(r.Secret)
		}
	case (r.Op == OpLeave || r.Op == OpMembers) && len(words) == 1:
		ok = parseRef(words[0], &r.G)
	case r.Op == OpSwitch && len(words) == 1:
		ok = parseRef(words[0], &r.To)
	case r.Op == OpSwitch && len(words) == 2:
		ok = parseRef(words[0], &r.From) && parseRef(words[1], &r.To)
	case r.Op == OpMove && len(words) == 3:
		r.Device = group.ClientID(words[0])
		ok = parseRef(words[1], &r.From) && parseRef(words[2], &r.To)
	}
	return ok
}

func parseRef(s string, to *group.Ref) bool {
	ref, err := ParseRef(s)
	*to = ref
	return err == nil
}

// digest tells requests with another op or body apart.
func digest(op Op, body []byte) (d [16]byte) {
	h := sha256.New()
	h.Write([]byte(op))
	h.Write([]byte{0})
	h.Write(body)
	sum := h.Sum(nil)
	copy(d[:], sum)
	return d
}

// EncodeRequest writes the body of a request in JSON or CBOR, for clients. The
// error is a [group.Code] if [ParseRequest] would refuse the body:
// [group.TooLarge], or [group.BadRequest] for a value that is out of range, and
// for every other encoding.
func EncodeRequest(r Request, e Encoding) ([]byte, error) {
	if e != JSON && e != CBOR {
		return nil, group.BadRequest
	}
	w := newWriter(e)
	spans, start := w.open()
	w.ident(r.ID)
	w.text(keyOp, r.Sub)
	w.text(keyDevice, string(r.Device))
	w.ref(keyG, r.G)
	w.ref(keyFrom, r.From)
	w.ref(keyTo, r.To)
	w.text(keySecret, r.Secret)
	w.grant(r.Grant)
	if r.Epoch != nil {
		w.key(keyEpoch)
		w.rawUint(uint64(*r.Epoch))
	}
	w.int(keyTTL, int64(r.TTL))
	w.qos(r.QoS)
	w.bool(keyRecv, r.Recv)
	w.texts(keyFilter, r.Filter)
	w.text(keyName, r.Name)
	w.text(keyPolicy, r.Policy)
	w.text(keyPIN, r.PIN)
	w.text(keyVisible, r.Visible)
	w.bool(keyPINInTopic, r.PINInTopic)
	w.bool(keyMembersTo, r.MembersTo)
	w.bool(keyMembersEvents, r.MembersEvents)
	w.text(keyUser, r.User)
	w.text(keyRole, r.Role)
	w.bool(keyFindable, r.Findable)
	if r.SetGroups || len(r.Groups) > 0 {
		w.key(keyGroups)
		w.array(len(r.Groups))
		for i, ref := range r.Groups {
			w.comma(i)
			w.rawRef(ref)
		}
		w.endArray()
	}
	if r.SetTopics || len(r.Topics) > 0 {
		rules := make([]string, len(r.Topics))
		for i, t := range r.Topics {
			rules[i] = t.String()
		}
		w.texts(keyTopics, rules)
	}
	w.bool(keyDisabled, r.Disabled)
	w.text(keyKind, r.Kind)
	w.text(keyNext, r.Next)
	w.int(keyLimit, int64(r.Limit))
	w.close(spans, start)
	if _, err := ParseRequest(r.Op, w.buf); err != nil {
		return nil, err
	}
	if w.lossy || r.TTL < 0 || r.Limit < 0 {
		return nil, group.BadRequest
	}
	return w.buf, nil
}
