package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/muster-mqtt/muster/group"
	"pgregory.net/rapid"
)

// The keys are those of the table in docs/protocol.md. [GRP-5.6-1]
func TestKeysAreThoseOfTheProtocol(t *testing.T) {
	doc, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "### 5.6 Keys")
	section, _, _ = strings.Cut(section, "### 5.7")
	rows := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\d+) \\|").FindAllStringSubmatch(section, -1)
	if len(rows) != int(keys)-1 || len(rows) != len(numbers) {
		t.Errorf("the protocol has %d keys, the code %d, these tests %d", len(rows), keys-1, len(numbers))
	}
	for _, row := range rows {
		n, err := strconv.Atoi(row[2])
		if err != nil || n <= 0 || n >= int(keys) || keyTable[n].name != row[1] || numbers[row[1]] != n {
			t.Errorf("key %s is %s in the protocol, and %d in these tests", row[1], row[2], numbers[row[1]])
		}
	}
}

// words are texts that are hard to write.
var words = rapid.SampledFrom([]string{"", "lamps", "é\u2028\"\\/\x00\x1f\x7f", "\U0001F600", "\uFFFD", strings.Repeat("x", 300)})

func anyOf[T ~uint32 | ~uint64 | ~int | ~int64](t *rapid.T, name string, most uint64) T {
	return T(rapid.SampledFrom([]uint64{0, 1, 23, 24, 255, 256, 65535, 65536, math.MaxUint32, most}).Draw(t, name) % (most + 1 | 1<<63))
}

func number32(t *rapid.T, name string) group.Number {
	return group.Number(rapid.SampledFrom([]uint32{0, 1, 24, 256, 65536, math.MaxUint32}).Draw(t, name))
}

func maybe[T any](t *rapid.T, name string, values ...T) *T {
	if rapid.Bool().Draw(t, "has "+name) {
		return ptr(rapid.SampledFrom(values).Draw(t, name))
	}
	return nil
}

func states0(t *rapid.T) string { return rapid.SampledFrom(append(stateNames[:], "")).Draw(t, "state") }

func anID(t *rapid.T) group.ID {
	return group.ID(rapid.SampledFrom([]group.ID{{}, {1}, {15: 255}}).Draw(t, "id"))
}

func anEntry(t *rapid.T) Entry {
	text := func(name string) string { return words.Draw(t, name) }
	e := Entry{
		N: number32(t, "n"), G: anID(t), Name: text("name"), State: states0(t), Since: anyOf[group.Rev](t, "since", math.MaxUint64),
		At: anyOf[int64](t, "at", math.MaxInt64), Role: text("role"), Device: group.ClientID(text("device")), User: text("user"),
		Online: maybe(t, "online", true, false), Policy: text("policy"), Visible: text("visible"), PINInTopic: maybe(t, "pin_in_topic", true, false),
		MembersTo: maybe(t, "members_to", true, false), MembersEvents: maybe(t, "members_events", true, false), Members: maybe(t, "members", 0, 1, 100000),
		Findable: maybe(t, "findable", true, false), Epoch: anyOf[group.Epoch](t, "epoch", math.MaxUint64), Recv: maybe(t, "recv", true, false),
		QoS: maybe[byte](t, "qos", 0, 1), Disabled: maybe(t, "disabled", true, false),
	}
	if rapid.Bool().Draw(t, "lists") {
		e.Groups, e.Filter, e.Aliases = []group.Number{1, math.MaxUint32}, []string{"#", "a/+"}, []string{"old", text("alias")}
		e.Topics = []string{"allow both #", text("rule")}
	}
	return e
}

func aList(t *rapid.T) []Entry {
	var list []Entry
	for range rapid.IntRange(0, 3).Draw(t, "entries") {
		list = append(list, anEntry(t))
	}
	return list
}

func anAnswer(t *rapid.T) Answer {
	text := func(name string) string { return words.Draw(t, name) }
	a := Answer{
		Code: rapid.SampledFrom(group.Codes()).Draw(t, "code"), Op: Op(text("op")), N: number32(t, "n"), G: anID(t), Name: text("name"),
		From: number32(t, "from"), To: number32(t, "to"), Prev: number32(t, "prev"), State: states0(t),
		Epoch: anyOf[group.Epoch](t, "epoch", math.MaxUint64), Rev: anyOf[group.Rev](t, "rev", math.MaxUint64), Device: group.ClientID(text("device")),
		User: text("user"), Role: text("role"), Exp: anyOf[int64](t, "exp", math.MaxInt64), Secret: text("secret"), PIN: text("pin"),
		Dropped: anyOf[int](t, "dropped", math.MaxInt), Retry: anyOf[int](t, "retry", math.MaxInt), Why: text("why"), Kind: text("kind"),
		List: aList(t), Next: text("next"),
	}
	a.HasList = len(a.List) > 0 || rapid.Bool().Draw(t, "empty list")
	if rapid.Bool().Draw(t, "bytes") {
		a.ID, a.Grant = []byte("é1"), bytes.Repeat([]byte{0xFB}, 64)
	}
	return a
}

// What is written in JSON and what is written in CBOR read the same, and as it
// was; libraries that have nothing to do with this package can read both, and
// CBOR is in its one deterministic form. [GRP-5.6-1]
func TestAnswersReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := anAnswer(t)
		for _, e := range []Encoding{JSON, CBOR} {
			b := EncodeAnswer(a, e)
			if got, err := DecodeAnswer(b); err != nil || !reflect.DeepEqual(got, a) {
				t.Fatalf("%q reads as\n%+v, %v; want\n%+v", b, got, err, a)
			}
			if !bytes.Equal(b, EncodeAnswer(a, e)) {
				t.Fatalf("%+v is written in two ways", a)
			}
		}
		if b := EncodeAnswer(a, JSON); !json.Valid(b) {
			t.Fatalf("no JSON: %s", b)
		}
		b := EncodeAnswer(a, CBOR)
		var v any
		if err := cbor.Unmarshal(b, &v); err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		mode, err := cbor.CoreDetEncOptions().EncMode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := mode.Marshal(v); err != nil || !bytes.Equal(b, again) {
			t.Fatalf("%x\nis written as\n%x, %v", b, again, err)
		}
	})
}

// A code has its number in both encodings, and its name in JSON. [GRP-9-1]
func TestCodesInAnswers(t *testing.T) {
	for _, c := range group.Codes() {
		var m struct {
			Code      int
			Err, Text string
		}
		if err := json.Unmarshal(EncodeAnswer(Answer{Code: c}, JSON), &m); err != nil || m.Code != int(c) || m.Err != c.Error() || m.Text != c.Text() {
			t.Errorf("code %d in JSON: %+v, %v", c, m, err)
		}
		var n map[int]int
		if err := cbor.Unmarshal(EncodeAnswer(Answer{Code: c}, CBOR), &n); err != nil || len(n) != 1 || n[4] != int(c) {
			t.Errorf("code %d in CBOR: %v, %v", c, n, err)
		}
	}
}

// The answers of docs/protocol.md, letter for letter. A bare word is answered
// in JSON. [GRP-5.2-1]
func TestAnswersOfTheProtocol(t *testing.T) {
	id, err := group.ParseID(ulid)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		a    Answer
		want string
	}{
		{Answer{ID: []byte("a1"), Op: OpJoin, N: 1, To: 1, State: "member", Epoch: 5, Rev: 41, Why: "open"},
			`{"code":0,"err":"ok","text":"done","id":"a1","op":"join","n":1,"to":1,"state":"member","epoch":5,"rev":41,"why":"open"}`},
		{Answer{Op: OpLeave, N: 1, From: 1, State: "out", Epoch: 6, Rev: 44, Why: "own"},
			`{"code":0,"err":"ok","text":"done","op":"leave","n":1,"from":1,"state":"out","epoch":6,"rev":44,"why":"own"}`},
		{Answer{Op: OpMove, Device: "lamp-7", N: 2, From: 1, To: 2, State: "member", Epoch: 8, Rev: 60, Why: "operator"},
			`{"code":0,"err":"ok","text":"done","op":"move","device":"lamp-7","n":2,"from":1,"to":2,"state":"member","epoch":8,"rev":60,"why":"operator"}`},
		{Answer{Op: OpMine, Epoch: 7, List: []Entry{{N: 2, G: id, Name: "lamps-east", State: "member", Role: "member", Since: 52, At: 1763990000}}},
			`{"code":0,"err":"ok","text":"done","op":"mine","epoch":7,"list":[{"n":2,"id":"` + ulid + `","name":"lamps-east","state":"member","role":"member","since":52,"at":1763990000}]}`},
		{Answer{Op: OpMembers, N: 1, Name: "lamps", Rev: 52, List: []Entry{{Device: "lamp-8", User: "anonymous", Online: ptr(true), Since: 40, At: 1763989000}}},
			`{"code":0,"err":"ok","text":"done","op":"members","n":1,"name":"lamps","rev":52,"list":[{"device":"lamp-8","user":"anonymous","online":true,"since":40,"at":1763989000}]}`},
		{Answer{Op: OpList, HasList: true}, `{"code":0,"err":"ok","text":"done","op":"list","list":[]}`},
		{Answer{Code: group.NotAuthorized, Op: OpJoin}, `{"code":30,"err":"not_authorized","text":"not authorized, or nothing that you may know of","op":"join"}`},
	}
	for _, test := range tests {
		for _, e := range []Encoding{JSON, Bare} {
			if got := string(EncodeAnswer(test.a, e)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		}
		if b := EncodeAnswer(test.a, CBOR); EncodingOf(b) != CBOR {
			t.Errorf("%x does not begin as CBOR", b)
		}
	}
}

// Text that is not UTF-8 does not make an answer unreadable.
func TestEncodeAnswerMendsText(t *testing.T) {
	for _, e := range []Encoding{JSON, CBOR} {
		got, err := DecodeAnswer(EncodeAnswer(Answer{Why: "a\xffb", Dropped: -1}, e))
		if want := (Answer{Why: "a\uFFFDb"}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestDecodeAnswerRefuses(t *testing.T) {
	for _, s := range []string{
		"", "lamps", "[]", "{}", `{"code":"0"}`, `{"code":256}`, `{"code":-1}`, `{"op":"join"}`, `{"code":0}{}`, `{"code":0,"code":0}`,
		`{"code":0,"g":1}`, `{"code":0,"n":4294967296}`, `{"code":0,"list":{}}`, `{"code":0,"list":[1]}`, `{"code":0,"list":[{"n":1,"n":1}]}`,
		`{"code":0,"exp":9223372036854775808}`, `{"code":0,"grant":"="}`, "\xa0", "\xa1\x04", "\xa1\x04\x20", "\xa2\x04\x00\x0a\x05",
	} {
		if a, err := DecodeAnswer([]byte(s)); err == nil || !reflect.DeepEqual(a, Answer{}) {
			t.Errorf("%q = %+v, %v", s, a, err)
		}
	}
}

func TestFit(t *testing.T) {
	var members, groups, accounts []Entry
	for i := range 500 {
		members = append(members, Entry{Device: group.ClientID(fmt.Sprint("lamp-", i*i)), User: "anonymous"})
		groups = append(groups, Entry{N: group.Number(i + 1), Name: "x"})
		accounts = append(accounts, Entry{User: fmt.Sprint("user-", i), Role: "device"})
	}
	tests := []struct {
		name string
		list []Entry
		next func(Entry) string
	}{
		{"members", members, func(e Entry) string { return string(e.Device) }},
		{"groups", groups, func(e Entry) string { return e.N.String() }},
		{"accounts", accounts, func(e Entry) string { return e.User }},
	}
	for _, test := range tests {
		for _, e := range []Encoding{JSON, CBOR} {
			whole := Answer{Op: OpList, ID: []byte("a"), List: test.list, HasList: true, Next: "later"}
			for _, most := range []int{-1, 0, len(EncodeAnswer(whole, e)), 1 << 30} {
				if got := Fit(whole, e, most); !reflect.DeepEqual(got, whole) {
					t.Errorf("%s: %d bytes do not hold all", test.name, most)
				}
			}
			for most := 150; most < 3000; most += 97 {
				got := Fit(whole, e, most)
				n := len(got.List)
				if size := len(EncodeAnswer(got, e)); size > most || n == 0 || n == len(test.list) {
					t.Fatalf("%s: %d entries in %d of %d bytes", test.name, n, size, most)
				}
				if got.Next != test.next(test.list[n-1]) || !reflect.DeepEqual(got.List, test.list[:n]) {
					t.Fatalf("%s: after %d entries next is %q", test.name, n, got.Next)
				}
				if more := firstEntries(whole, n+1); len(EncodeAnswer(more, e)) <= most {
					t.Fatalf("%s: %d bytes hold more than %d entries", test.name, most, n)
				}
			}
			if got := Fit(whole, e, 20); got.Code != group.TooLarge || got.List != nil || string(got.ID) != "a" {
				t.Errorf("%s: not one entry fits, and the answer is %+v", test.name, got)
			}
		}
	}
	if len(members) != 500 || members[499].Device == "" {
		t.Error("Fit changed the caller's list")
	}
}

// The Reason Codes of the table of result codes.
func TestReasons(t *testing.T) {
	tests := []struct {
		from, to       group.Code
		puback, suback byte
	}{
		{0, 1, 0x00, 0x00},
		{10, 10, 0x99, 0x8F},
		{11, 11, 0x90, 0x8F},
		{12, 13, 0x99, 0x8F},
		{20, 44, 0x87, 0x87},
		{50, 53, 0x83, 0x83},
		{60, 62, 0x97, 0x97},
		{80, 80, 0x97, 0x97},
		{81, 81, 0x83, 0x83},
		{99, 99, 0x83, 0x83},
		{200, 200, 0x83, 0x83},
	}
	for _, test := range tests {
		for c := test.from; c <= test.to; c++ {
			if p, s := PubackReason(c), SubackReason(c); p != test.puback || s != test.suback {
				t.Errorf("code %d: PUBACK %#x, SUBACK %#x", c, p, s)
			}
		}
	}
}

// An answer is on the path of every change.
func TestEncodeAnswerAllocatesItsBytesOnly(t *testing.T) {
	a := Answer{ID: []byte("a1"), Op: OpJoin, N: 1, To: 1, State: "member", Epoch: 5, Rev: 41, Why: "open"}
	for e, most := range map[Encoding]float64{JSON: 1, CBOR: 3} {
		if n := testing.AllocsPerRun(100, func() { EncodeAnswer(a, e) }); n > most {
			t.Errorf("encoding %d: %v allocations, want at most %v", e, n, most)
		}
	}
}

func BenchmarkEncodeAnswer(b *testing.B) {
	a := Answer{ID: []byte("a1"), Op: OpJoin, N: 1, To: 1, State: "member", Epoch: 5, Rev: 41, Why: "open"}
	for name, e := range map[string]Encoding{"JSON": JSON, "CBOR": CBOR} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				EncodeAnswer(a, e)
			}
		})
	}
}

func BenchmarkParseRequest(b *testing.B) {
	for name, body := range map[string]string{"JSON": `{"g":"lamps","qos":1,"id":"a1"}`, "CBOR": "\xa3\x02\x65lamps\x0f\x01\x01\x42a1", "bare": "lamps"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseRequest(OpJoin, []byte(body)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzDecodeAnswer reads any bytes. What is an answer is the same one after it
// was written and read again.
func FuzzDecodeAnswer(f *testing.F) {
	f.Add([]byte(`{"code":0,"err":"ok","list":[{"n":1,"filter":["#"],"state":"member"}],"grant":"AQID"}`))
	f.Add([]byte("\xa3\x04\x00\x0a\x01\x14\x81\xa2\x0b\x01\x1e\xf5"))
	f.Add([]byte(`{"code":35,"kind":"move","from":2,"to":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := DecodeNotice(b); err == nil {
			if again, err := DecodeNotice(EncodeNotice(n)); err != nil || !reflect.DeepEqual(again, trim(n)) {
				t.Fatalf("%q: notice %+v, then %+v, %v", b, n, again, err)
			}
		}
		if _, err := DecodeEvent(b); err != nil && b == nil {
			t.Fatal("an event of nothing")
		}
		a, err := DecodeAnswer(b)
		if err != nil {
			return
		}
		for _, e := range []Encoding{JSON, CBOR} {
			if e == JSON && !bytes.Equal(a.ID, []byte(strings.ToValidUTF8(string(a.ID), ""))) {
				continue // JSON has no such identifier
			}
			again, err := DecodeAnswer(EncodeAnswer(a, e))
			if want := trimAnswer(a, e); err != nil || !reflect.DeepEqual(again, want) {
				t.Fatalf("%q: answer %+v, then %+v, %v", b, want, again, err)
			}
		}
	})
}

// trim and trimAnswer make empty lists of an entry absent, as they are written,
// and leave out states that CBOR has no number for.
func trim(n Notice) Notice {
	n.List = trimList(n.List, JSON)
	return n
}

func trimAnswer(a Answer, e Encoding) Answer {
	a.List, a.State = trimList(a.List, e), trimState(a.State, e)
	return a
}

func trimState(s string, e Encoding) string {
	for _, name := range stateNames {
		if s == name {
			return s
		}
	}
	if e == CBOR {
		return ""
	}
	return s
}

func trimList(list []Entry, e Encoding) []Entry {
	var out []Entry
	for _, entry := range list {
		if len(entry.Filter) == 0 {
			entry.Filter = nil
		}
		if len(entry.Aliases) == 0 {
			entry.Aliases = nil
		}
		entry.State = trimState(entry.State, e)
		out = append(out, entry)
	}
	return out
}
