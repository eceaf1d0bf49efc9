package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
	"github.com/muster-mqtt/muster/group"
)

// numbers is the table of docs/protocol.md, 5.6, as a client has it.
var numbers = map[string]int{
	"id": 1, "g": 2, "to": 3, "code": 4, "secret": 5, "epoch": 6, "exp": 7, "ttl": 8, "grant": 9, "state": 10, "n": 11, "rev": 12,
	"filter": 13, "recv": 14, "qos": 15, "from": 16, "device": 17, "name": 18, "policy": 19, "list": 20, "user": 21, "retry": 22,
	"why": 23, "kind": 24, "prev": 25, "at": 26, "by": 27, "role": 28, "since": 29, "online": 30, "next": 31, "seq": 32, "boot": 33,
	"part": 34, "last": 35, "op": 36, "for": 37, "pin": 38, "dropped": 39, "limit": 40, "visible": 41, "pin_in_topic": 42,
	"members_to": 43, "members_events": 44, "findable": 45, "groups": 46, "members": 47, "aliases": 48, "topic": 49, "count": 50,
	"topics": 51, "disabled": 52,
}

// toCBOR writes a JSON object as a client that speaks CBOR would, with a
// library that has nothing to do with this package.
func toCBOR(t *testing.T, object string) []byte {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(object))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%s: %v", object, err)
	}
	b, err := cbor.Marshal(numbered(t, m))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func numbered(t *testing.T, v any) any {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		m := map[any]any{}
		for name, v := range v {
			n, ok := numbers[name]
			switch {
			case !ok:
				m[name] = numbered(t, v)
			case name == "grant":
				grant, err := grantText.DecodeString(v.(string))
				if err != nil {
					t.Fatal(err)
				}
				m[n] = grant
			default:
				m[n] = numbered(t, v)
			}
		}
		return m
	case []any:
		list := []any{}
		for _, v := range v {
			list = append(list, numbered(t, v))
		}
		return list
	case json.Number:
		var n uint64
		if _, err := fmt.Sscan(v.String(), &n); err != nil || fmt.Sprint(n) != v.String() {
			f, _ := v.Float64()
			return f
		}
		return n
	}
	return v
}

func ptr[T any](v T) *T { return &v }

// same reports whether two requests have the same effect.
func same(a, b Request) bool {
	a.Encoding, a.Body = b.Encoding, b.Body
	return reflect.DeepEqual(a, b)
}

// The same request in JSON, in CBOR and as a bare word is the same; a reference
// may be a number, a numeral, an ID, a name or a user. [GRP-5.2-1] [GRP-3.2-1]
// [GRP-5.6-1]
func TestParseRequest(t *testing.T) {
	id, err := group.ParseID(ulid)
	if err != nil {
		t.Fatal(err)
	}
	lamps, east := group.Ref{Name: "lamps"}, group.Ref{Name: "lamps-east"}
	tests := []struct {
		op   Op
		json string
		bare string // "-" if there is no such form
		want Request
	}{
		{OpJoin, `{"g":"lamps"}`, "lamps", Request{G: lamps}},
		{OpJoin, `{"g":"LAMPS"}`, "  LAMPS  ", Request{G: lamps}},
		{OpJoin, `{"g":7}`, "7", Request{G: group.Ref{Number: 7}}},
		{OpJoin, `{"g":"7"}`, "7", Request{G: group.Ref{Number: 7}}},
		{OpJoin, `{"g":"` + ulid + `"}`, ulid, Request{G: group.Ref{ID: id}}},
		{OpJoin, `{"g":"@ann"}`, "@ann", Request{G: group.Ref{User: "ann"}}},
		{OpJoin, `{"g":"lamps","secret":"4711"}`, "lamps  4711", Request{G: lamps, Secret: "4711"}},
		{OpJoin, `{"to":4294967295,"qos":0,"recv":false,"filter":[],"id":"a1","epoch":0}`, "-", Request{
			To: group.Ref{Number: 4294967295}, QoS: ptr(byte(0)), Recv: ptr(false), Filter: []string{}, ID: []byte("a1"), Epoch: ptr(group.Epoch(0)),
		}},
		{OpJoin, `{"g":1,"filter":["#","a/+/b","$x"],"epoch":18446744073709551615}`, "-", Request{
			G: group.Ref{Number: 1}, Filter: []string{"#", "a/+/b", "$x"}, Epoch: ptr(group.Epoch(1<<64 - 1)),
		}},
		{OpJoin, `{"g":1,"device":"lamp-7","op":"leave"}`, "-", Request{G: group.Ref{Number: 1}, Device: "lamp-7"}},
		{OpLeave, `{"g":"lamps"}`, "lamps", Request{G: lamps}},
		{OpLeave, `{"from":"lamps"}`, "-", Request{From: lamps}},
		{OpSwitch, `{"from":"lamps","to":"lamps-east"}`, "lamps lamps-east", Request{From: lamps, To: east}},
		{OpSwitch, `{"to":"lamps-east"}`, "lamps-east", Request{To: east}},
		{OpSwitch, `{"grant":"AQID"}`, "-", Request{Grant: []byte{1, 2, 3}}},
		{OpMembers, `{"g":"lamps"}`, "lamps", Request{G: lamps}},
		{OpMembers, `{"g":"lamps","limit":5000,"next":"lamp-7"}`, "-", Request{G: lamps, Limit: 1000, Next: "lamp-7"}},
		{OpMine, `{}`, "", Request{}},
		{OpMine, `{}`, "  ", Request{}},
		{OpList, `{}`, "", Request{}},
		{OpMove, `{"device":"lamp-7","from":"lamps","to":"lamps-east"}`, "lamp-7 lamps lamps-east", Request{Device: "lamp-7", From: lamps, To: east}},
		{OpForget, `{"device":"any/thing"}`, "-", Request{Device: "any/thing"}},
		{OpGrant, `{"op":"switch","from":1,"to":2,"ttl":300}`, "-", Request{Sub: "switch", From: group.Ref{Number: 1}, To: group.Ref{Number: 2}, TTL: 300}},
		{OpCreate, `{"name":"Lamps","policy":"pin","pin":"4711","visible":"all","pin_in_topic":false,"members_to":true,"members_events":true}`, "-", Request{
			Name: "Lamps", Policy: "pin", PIN: "4711", Visible: "all", PINInTopic: ptr(false), MembersTo: ptr(true), MembersEvents: ptr(true),
		}},
		{OpList, `{"kind":"device"}`, "-", Request{Kind: "device"}},
		{OpAccount, `{"op":"add","user":"Ann","role":"observer","secret":"s","findable":true,"groups":["lamps",7]}`, "-", Request{
			Sub: "add", User: "Ann", Role: "observer", Secret: "s", Findable: ptr(true), Groups: []group.Ref{lamps, {Number: 7}}, SetGroups: true,
		}},
		{OpAccount, `{"op":"update","user":"ann","topics":["allow publish s/%c/#","deny both +/x y"],"disabled":true}`, "-", Request{
			Sub: "update", User: "ann", SetTopics: true, Disabled: ptr(true), Topics: []group.TopicRule{
				{Publish: true, Filter: "s/%c/#"}, {Deny: true, Publish: true, Subscribe: true, Filter: "+/x y"},
			},
		}},
		{OpAccount, `{"op":"update","user":"ann","topics":[],"disabled":false}`, "-", Request{Sub: "update", User: "ann", SetTopics: true, Disabled: ptr(false)}},
		{OpAccount, `{"op":"update","user":"anonymous","groups":[]}`, "-", Request{Sub: "update", User: "anonymous", SetGroups: true}},
	}
	for _, test := range tests {
		test.want.Op = test.op
		bodies := []struct {
			e    Encoding
			body string
		}{{JSON, test.json}, {CBOR, string(toCBOR(t, test.json))}, {Bare, test.bare}}
		for _, b := range bodies {
			if b.body == "-" {
				continue
			}
			got, err := ParseRequest(test.op, []byte(b.body))
			if err != nil || !same(got, test.want) {
				t.Errorf("%s %q = %+v, %v; want %+v", test.op, b.body, got, err, test.want)
			}
			if got.Encoding != b.e || got.Body == [16]byte{} {
				t.Errorf("%s %q has encoding %d, digest %x", test.op, b.body, got.Encoding, got.Body)
			}
		}
	}
}

// A body that is malformed, or has a known key with a value of the wrong type
// or out of range, is bad; unknown keys are ignored. [GRP-5.2-2]
func TestParseRequestRefuses(t *testing.T) {
	long := strings.Repeat("a", 300)
	tests := []struct {
		rule, json string
	}{
		{"no object", `{"g":1`},
		{"trailing data", `{"g":1} {}`},
		{"trailing word", `{"g":1}x`},
		{"duplicate key", `{"g":1,"g":1}`},
		{"duplicate key, escaped", `{"g":1,"\u0067":1}`},
		{"duplicate unknown key", `{"x":1,"x":1}`},
		{"not UTF-8", "{\"g\":\"a\xff\"}"},
		{"not UTF-8 in an unknown key", "{\"x\":[{\"y\":\"\xff\"}]}"},
		{"half a surrogate pair", `{"secret":"\ud800"}`},
		{"two first halves", `{"secret":"\ud800\ud800"}`},
		{"second half", `{"secret":"\udc00\ud800"}`},
		{"null", `{"g":null}`},
		{"ref: truth", `{"g":true}`},
		{"ref: list", `{"g":[1]}`},
		{"ref: object", `{"g":{}}`},
		{"ref: 0", `{"g":0}`},
		{"ref: negative", `{"g":-1}`},
		{"ref: float", `{"g":1.0}`},
		{"ref: exponent", `{"g":1e0}`},
		{"ref: beyond 32 bits", `{"g":4294967296}`},
		{"ref: no name", `{"g":"a b"}`},
		{"to", `{"to":""}`},
		{"from", `{"from":"#"}`},
		{"id: number", `{"id":1}`},
		{"id: 17 bytes", `{"id":"` + long[:17] + `"}`},
		{"secret: number", `{"secret":4711}`},
		{"secret: too long", `{"secret":"` + long + `"}`},
		{"pin: empty", `{"pin":""}`},
		{"pin: too short", `{"pin":"123"}`},
		{"epoch: text", `{"epoch":"1"}`},
		{"epoch: negative", `{"epoch":-1}`},
		{"epoch: negative zero", `{"epoch":-0}`},
		{"epoch: beyond 64 bits", `{"epoch":18446744073709551616}`},
		{"ttl: 0", `{"ttl":0}`},
		{"ttl: beyond an int", `{"ttl":18446744073709551615}`},
		{"ttl: float", `{"ttl":60.5}`},
		{"grant: number", `{"grant":1}`},
		{"grant: empty", `{"grant":""}`},
		{"grant: padding", `{"grant":"AQ=="}`},
		{"grant: other alphabet", `{"grant":"+/+/"}`},
		{"grant: too long", `{"grant":"` + long + `"}`},
		{"filter: text", `{"filter":"#"}`},
		{"filter: numbers", `{"filter":[1]}`},
		{"filter: empty", `{"filter":[""]}`},
		{"filter: # not last", `{"filter":["#/a"]}`},
		{"filter: # within a level", `{"filter":["a#"]}`},
		{"filter: + within a level", `{"filter":["a+/b"]}`},
		{"filter: NUL", `{"filter":["\u0000"]}`},
		{"filter: too long", `{"filter":["` + long + `"]}`},
		{"filter: 17 levels", `{"filter":["` + strings.Repeat("/", 16) + `"]}`},
		{"filter: 17", `{"filter":["#"` + strings.Repeat(`,"#"`, 16) + `]}`},
		{"recv: number", `{"recv":1}`},
		{"qos: 2", `{"qos":2}`},
		{"qos: 256", `{"qos":256}`},
		{"qos: truth", `{"qos":true}`},
		{"device: empty", `{"device":""}`},
		{"device: unfit for groups", `{"device":"a/b"}`},
		{"device: side connection", `{"device":"a~1"}`},
		{"name", `{"name":"all"}`},
		{"policy", `{"policy":"closed"}`},
		{"visible", `{"visible":"none"}`},
		{"pin_in_topic", `{"pin_in_topic":"true"}`},
		{"members_to", `{"members_to":0}`},
		{"members_events", `{"members_events":[]}`},
		{"user", `{"user":"a b"}`},
		{"role", `{"role":"member"}`},
		{"findable", `{"findable":"yes"}`},
		{"topics: text", `{"topics":"allow both a"}`},
		{"topics: numbers", `{"topics":[1]}`},
		{"topics: not a rule", `{"topics":["allow both a","allow a"]}`},
		{"topics: a group's", `{"topics":["allow both g/1/#"]}`},
		{"topics: too many", `{"topics":[` + strings.Repeat(`"allow both a",`, 64) + `"allow both b"]}`},
		{"disabled: number", `{"disabled":1}`},
		{"groups: text", `{"groups":"lamps"}`},
		{"groups: truth", `{"groups":[true]}`},
		{"groups: 0", `{"groups":[0]}`},
		{"kind", `{"kind":"account"}`},
		{"op: number", `{"op":1}`},
		{"op: another", `{"op":"move"}`},
		{"next: number", `{"next":1}`},
		{"limit: negative", `{"limit":-1}`},
		{"limit: text", `{"limit":"1"}`},
		{"a key of answers: code", `{"code":"0"}`},
		{"a key of answers: online", `{"online":1}`},
		{"a key of answers: list", `{"list":{}}`},
		{"a key of answers: why", `{"why":1}`},
	}
	for _, test := range tests {
		if _, err := ParseRequest(OpGrant, []byte(test.json)); err != group.BadRequest {
			t.Errorf("%s: JSON %s: %v", test.rule, test.json, err)
		}
		// What is no JSON has no counterpart, and a grant is no text in CBOR.
		if !json.Valid([]byte(test.json)) || !utf8.ValidString(test.json) || strings.Contains(test.json, `\`) || strings.Contains(test.rule, "duplicate") ||
			strings.Contains(test.rule, "grant") || strings.Contains(test.rule, "negative zero") {
			continue
		}
		if _, err := ParseRequest(OpGrant, toCBOR(t, test.json)); err != group.BadRequest {
			t.Errorf("%s: CBOR of %s: %v", test.rule, test.json, err)
		}
	}
	cut := []byte(`{"grant":"AQIDA"}`)
	if _, err := ParseRequest(OpJoin, cut); err != group.GrantUnknown {
		t.Errorf("%s: %v", cut, err)
	}
}

// [GRP-5.2-2]
func TestUnknownKeysAreIgnored(t *testing.T) {
	deep := strings.Repeat("[", 1000) + strings.Repeat("]", 1000)
	for _, body := range []string{
		`{"g":"lamps","x":1.5e3,"G":2,"":null,"text":{"g":[1,"]}"]},"for":[{}]}`,
		` {"g":"lamps"}`[1:] + " \r\n\t",
		`{"\u0067":"\u006camp\u0073"}`,
		`{"x":` + deep + `,"g":"lamps"}`,
		"\xa1\x02\x65lamps",
		"\xbf\x02\x7f\x62la\x63mps\xff\xff", // indefinite lengths
		"\xa1\x18\x02\x65lamps",             // a number longer than need be
		"\xa6\x02\x65lamps\x18\x64\xc1\xfb\x40\x00\x00\x00\x00\x00\x00\x00\x20\xf7\x61g\x01\x80\x80\x19\x10\x00\xa1\x01\xf6", // tag, float, other keys
	} {
		got, err := ParseRequest(OpJoin, []byte(body))
		if want := (Request{Op: OpJoin, G: group.Ref{Name: "lamps"}}); err != nil || !same(got, want) {
			t.Errorf("%q = %+v, %v", body, got, err)
		}
	}
}

// [GRP-5.2-2]
func TestParseRequestRefusesCBOR(t *testing.T) {
	tests := []struct{ rule, body string }{
		{"cut short", "\xa1\x02"},
		{"no break", "\xbf\x02\x01"},
		{"trailing data", "\xa1\x02\x01\x00"},
		{"duplicate key", "\xa2\x02\x01\x02\x01"},
		{"duplicate key, longer", "\xa2\x02\x01\x18\x02\x01"},
		{"duplicate unknown key", "\xa2\x61x\x01\x61x\x01"},
		{"duplicate unknown number", "\xa2\x18\x64\x01\x19\x00\x64\x01"},
		{"not UTF-8", "\xa1\x02\x62a\xff"},
		{"not UTF-8 in an unknown key", "\xa1\x61x\x81\xa1\x61\xff\x01"},
		{"not UTF-8 within a chunk", "\xa1\x05\x7f\x61\xc3\x61\xa9\xff"},
		{"bytes for text", "\xa1\x05\x441234"},
		{"negative", "\xa1\x06\x20"},
		{"float", "\xa1\x06\xf9\x3c\x00"},
		{"tagged number", "\xa1\x06\xc1\x01"},
		{"undefined", "\xa1\x06\xf7"},
		{"grant as text", "\xa1\x09\x64AQID"},
		{"grant: empty", "\xa1\x09\x40"},
		{"grant: 97 bytes", "\xa1\x09\x58\x61" + strings.Repeat("x", 97)},
		{"state as text", "\xa1\x0a\x63out"},
		{"id: 17 bytes", "\xa1\x01\x51" + strings.Repeat("x", 17)},
		{"a length beyond the body", "\xa1\x05\x7b\xff\xff\xff\xff\xff\xff\xff\xff"},
		{"more pairs than there are", "\xbb\xff\xff\xff\xff\xff\xff\xff\xff"},
		{"more elements than there are", "\xa1\x0d\x9b\x7f\xff\xff\xff\xff\xff\xff\xff"},
		{"deep lists", "\xa1\x00" + strings.Repeat("\x81", 4000) + "\x01"},
		{"deep maps", strings.Repeat("\xa1\x14", 4000) + "\xa0"},
		{"tags without an item", "\xa1\x00" + strings.Repeat("\xc1", 8000)},
	}
	for _, test := range tests {
		if _, err := ParseRequest(OpJoin, []byte(test.body)); err != group.BadRequest {
			t.Errorf("%s: %v", test.rule, err)
		}
	}
}

// What a shell pipes into a tool ends with a line end. [GRP-5.3-1]
func TestBareWordEndsWithALineEnd(t *testing.T) {
	for _, body := range []string{"lamps\n", "lamps\r\n", "\tlamps \n"} {
		r, err := ParseRequest(OpJoin, []byte(body))
		if err != nil || r.G.Name != "lamps" {
			t.Errorf("%q: %+v, %v", body, r.G, err)
		}
	}
}

// Any other bare word than those of the table is bad. [GRP-5.3-1]
func TestParseBareRefuses(t *testing.T) {
	tests := []struct {
		op   Op
		body string
	}{
		{OpJoin, "lamps 4711 x"},
		{OpJoin, "lamps\nlamps-east"},
		{OpJoin, "lamps\t4711"},
		{OpJoin, "lamps \xff"},
		{OpJoin, "\xff"},
		{OpJoin, "[1]"},
		{OpJoin, " {}"},
		{OpJoin, "lamps " + strings.Repeat("1", maxSecret+1)},
		{OpLeave, "lamps lamps-east"},
		{OpSwitch, "a b c"},
		{OpSwitch, "a #"},
		{OpMembers, "a b"},
		{OpMine, "x"},
		{OpMove, "lamp-7 lamps"},
		{OpMove, "lamp/7 lamps lamps-east"},
		{OpMove, "lamp-7 lamps lamps-east x"},
		{OpRemove, "lamp-7 lamps"},
		{OpGrant, "join lamps"},
		{OpCreate, "lamps"},
		{OpUpdate, "lamps"},
		{OpDelete, "lamps"},
		{OpShow, "lamps"},
		{OpList, "group"},
		{OpForget, "lamp-7"},
		{OpAccount, "list"},
	}
	for _, test := range tests {
		if r, err := ParseRequest(test.op, []byte(test.body)); err != group.BadRequest {
			t.Errorf("%s %q = %+v, %v", test.op, test.body, r, err)
		}
	}
}

// A body of 8 KiB is read, one byte more is too large, whatever it is.
// [GRP-5.2-3]
func TestParseRequestTooLarge(t *testing.T) {
	for _, start := range []string{`{"g":1}`, "\xa1\x02\x01", "lamps"} {
		body := append([]byte(start), bytes.Repeat([]byte{' '}, MaxBody+1-len(start))...)
		if _, err := ParseRequest(OpJoin, body); err != group.TooLarge {
			t.Errorf("%q and spaces: %v", start, err)
		}
		if _, err := ParseRequest(OpJoin, body[:MaxBody]); err == group.TooLarge {
			t.Errorf("%q and spaces, 8 KiB: %v", start, err)
		}
	}
}

func TestDigest(t *testing.T) {
	seen := map[[16]byte]string{}
	for _, r := range []struct{ op, body string }{{"join", "a"}, {"join", "b"}, {"leave", "a"}, {"join", " a"}, {"join", `{"g":"a"}`}} {
		got, err := ParseRequest(Op(r.op), []byte(r.body))
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[got.Body]; ok {
			t.Errorf("%v has the digest of %s", r, other)
		}
		seen[got.Body] = fmt.Sprint(r)
		if again, _ := ParseRequest(Op(r.op), []byte(r.body)); again.Body != got.Body {
			t.Errorf("%v has two digests", r)
		}
	}
}

func TestEncodeRequestRefuses(t *testing.T) {
	lamps := group.Ref{Name: "lamps"}
	tests := []struct {
		rule string
		r    Request
		e    Encoding
		want group.Code
	}{
		{"bare", Request{Op: OpJoin, G: lamps}, Bare, group.BadRequest},
		{"id too long", Request{Op: OpJoin, G: lamps, ID: make([]byte, 17)}, CBOR, group.BadRequest},
		{"id not UTF-8", Request{Op: OpJoin, G: lamps, ID: []byte{0xFF}}, JSON, group.BadRequest},
		{"secret not UTF-8", Request{Op: OpJoin, G: lamps, Secret: "\xff"}, CBOR, group.BadRequest},
		{"qos", Request{Op: OpJoin, G: lamps, QoS: ptr(byte(2))}, JSON, group.BadRequest},
		{"ttl", Request{Op: OpGrant, G: lamps, TTL: -1}, JSON, group.BadRequest},
		{"name", Request{Op: OpCreate, Name: "a b"}, JSON, group.BadRequest},
		{"large", Request{Op: OpMembers, G: lamps, Next: strings.Repeat("a", MaxBody)}, JSON, group.TooLarge},
	}
	for _, test := range tests {
		if b, err := EncodeRequest(test.r, test.e); b != nil || !errors.Is(err, test.want) {
			t.Errorf("%s: %q, %v", test.rule, b, err)
		}
	}
	if b, err := EncodeRequest(Request{Op: OpJoin, G: lamps, ID: []byte{0xFF}}, CBOR); err != nil || string(b) != "\xa2\x01\x41\xff\x02\x65lamps" {
		t.Errorf("bytes as an id in CBOR: %q, %v", b, err)
	}
}

func ExampleEncodeRequest() {
	r := Request{Op: OpSwitch, From: group.Ref{Number: 1}, To: group.Ref{Name: "lamps-east"}, ID: []byte("a1")}
	text, err := EncodeRequest(r, JSON)
	fmt.Println(string(text), err)
	small, err := EncodeRequest(r, CBOR)
	fmt.Println(len(small), "bytes", err)
	// Output:
	// {"id":"a1","from":1,"to":"lamps-east"} <nil>
	// 19 bytes <nil>
}

// FuzzParseRequest reads any bytes as any op. What is a request is the same one
// after it was written and read again, in the encodings that can hold it.
func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{
		"lamps 4711", "lamp-7 a b", "", `{"g":"lamps","filter":["#"],"id":"a","epoch":1,"qos":0}`, `{"grant":"AQID","x":{"y":[1,"\u0041\ud83d\ude00"]}}`,
		"\xa2\x02\x65lamps\x01\x42\xff\x00", "\xbf\x05\x7f\x61a\xff\x18\x2e\x9f\x01\xff\xff", "\xa1\x18\x64\xc1\x81\xf6",
	} {
		for i := range ops {
			f.Add(byte(i), []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, op byte, body []byte) {
		r, err := ParseRequest(ops[int(op)%len(ops)], body)
		if err != nil {
			if _, plain := err.(group.Code); !plain || !reflect.DeepEqual(r, Request{}) {
				t.Fatalf("%q: %+v, %v", body, r, err)
			}
			return
		}
		for _, e := range []Encoding{JSON, CBOR} {
			b, err := EncodeRequest(r, e)
			if err != nil {
				// JSON has no identifiers that are not UTF-8; escapes and the
				// normal form of some characters are longer than what was read.
				if e == JSON && !utf8.Valid(r.ID) || err == group.TooLarge {
					continue
				}
				t.Fatalf("%q: %+v: %v", body, r, err)
			}
			again, err := ParseRequest(r.Op, b)
			if err != nil || !same(again, r) {
				t.Fatalf("%q is %+v, and %q is %+v, %v", body, r, b, again, err)
			}
		}
	})
}
