package store

import (
	"bytes"
	"encoding/hex"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-mqtt/muster/group"
)

var noon = time.Date(2027, 3, 4, 12, 0, 0, 0, time.UTC)

// Records with each field in use.
var (
	fullGroup = group.Group{
		Number: 7, ID: group.NewID(noon, [10]byte{1, 2, 3}), Name: "North", Aliases: []group.Alias{{Name: "Nord", Until: noon}},
		Policy: group.PolicyPIN, Visible: group.VisibleAll, PIN: "$argon2id$v=19$x", PINInTopic: true, MembersTo: true,
		MembersEvents: true, PolicyRev: 3, Created: noon, Deleted: true,
	}
	fullDevice = group.Device{
		ClientID: "pump-7", Account: "ann", Epoch: 9, Groups: []group.Membership{
			{Number: 1, Since: 5, At: noon, QoS: 1, Recv: true, Filter: []string{"cmd/#", "+"}, Exit: group.ExitSession, By: "bob"},
			{Number: 2, Since: 0, At: noon, By: "ann"},
		},
		Ends: []group.End{{From: 3, To: 4, Epoch: 8}, {From: 4, Epoch: 9}},
		Last: group.Last{Op: group.OpSwitch, From: 3, To: 1, Epoch: 9, Own: true}, Assigned: true,
	}
	fullAccount = group.Account{
		Name: "Ann", Role: group.RoleObserver, Secret: "sha256:00", Findable: true, Groups: []group.Number{1, 7},
		Created: noon, Removed: true, Disabled: true, Topics: []group.TopicRule{
			{Publish: true, Filter: "s/%c/#"}, {Deny: true, Publish: true, Subscribe: true, Filter: "+/x"},
		},
	}
	fullNote = Note{
		At: noon, Account: "ann", Device: "pump-7", ReqID: []byte{1, 2}, Body: [16]byte{15: 1}, Op: "switch", From: 1, To: 2,
		Code: group.Unchanged, Epoch: 10, By: "bob", Rule: "open", Addr: "127.0.0.1:1883",
	}
)

// A kind is a kind of record: how it is encoded, and decoded and encoded again.
type kind struct {
	name  string
	full  []byte
	again func(b []byte) (any, []byte, error)
}

var kinds = []kind{
	{"group", EncodeGroup(fullGroup), func(b []byte) (any, []byte, error) {
		g, err := DecodeGroup(b)
		return g, EncodeGroup(g), err
	}},
	{"device", EncodeDevice(fullDevice), func(b []byte) (any, []byte, error) {
		d, err := DecodeDevice(0, b)
		return d, EncodeDevice(d), err
	}},
	{"account", EncodeAccount(fullAccount), func(b []byte) (any, []byte, error) {
		a, err := DecodeAccount(b)
		return a, EncodeAccount(a), err
	}},
	{"note", EncodeNote(fullNote), func(b []byte) (any, []byte, error) {
		n, err := DecodeNote(b)
		return n, EncodeNote(n), err
	}},
}

// seal makes a record of a payload, as encode does.
func seal(payload []byte) []byte {
	b := append([]byte{version}, payload...)
	sum := crc32.Checksum(b, castagnoli)
	return append(b, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// same reports whether want comes back.
func same[T any](t interface{ Errorf(string, ...any) }, got T, err error, want T) {
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%T comes back as\n%+v, error %v, want\n%+v", want, got, err, want)
	}
}

// The bytes on disk are the same for ever: a record written by any release with
// this version byte reads so.
func TestEncoding(t *testing.T) {
	golden := map[string]string{
		"group":   "01ad0107025001a410694a000102030000000000000003654e6f7274680481a201644e6f7264021a6b895240050106010770246172676f6e32696424763d3139247808f509f50af50b030c1a6b8952400df53c87bdb9",
		"device":  "01a7016670756d702d370263616e6e03090482a701010205031a6b8952400401068265636d642f23612b07010863626f62a40102031a6b89524005f50863616e6e0582a3010302040308a20104030906a5016673776974636802030301040905f507f5e42d8f6d",
		"account": "01a90163416e6e020103697368613235363a303004f505820107061a6b89524007f5088274616c6c6f77207075626c69736820732f25632f236d64656e7920626f7468202b2f7809f5cd739509",
		"note":    "01ad011a6b8952400263616e6e036670756d702d370442010205500000000000000000000000000000000106667377697463680701080209010a0a0b63626f620c646f70656e0d6e3132372e302e302e313a31383833d54499be",
	}
	// What a release wrote that did not know topic rules.
	older, err := DecodeAccount(unhex("01a70163416e6e020103697368613235363a303004f505820107061a6b89524007f5f6b3c3cd"))
	plain := fullAccount
	plain.Topics, plain.Disabled = nil, false
	same(t, older, err, plain)
	full := map[string]any{"group": fullGroup, "device": fullDevice, "account": fullAccount, "note": fullNote}
	for _, k := range kinds {
		if got := hex.EncodeToString(k.full); got != golden[k.name] {
			t.Errorf("%s encodes as %s, want %s", k.name, got, golden[k.name])
		}
		got, _, err := k.again(k.full)
		same(t, got, err, full[k.name])
	}
}

// A membership that began with the write of its record has that write's rev.
func TestSinceIsTheRecordsRev(t *testing.T) {
	d, err := DecodeDevice(41, EncodeDevice(fullDevice))
	if err != nil || d.Groups[0].Since != 5 || d.Groups[1].Since != 41 {
		t.Errorf("%+v, error %v, want Since 5 and 41", d.Groups, err)
	}
}

// A hundred thousand devices should not need more memory than need be.
func TestCompact(t *testing.T) {
	d := group.Device{
		ClientID: "pump-7.north.example", Account: "pump-7.north.example", Epoch: 300,
		Groups: []group.Membership{{Number: 70_000, At: noon, QoS: 1, Recv: true, By: "pump-7.north.example"}},
		Last:   group.Last{Op: group.OpJoin, To: 70_000, Epoch: 300, Own: true},
	}
	if n := len(EncodeDevice(d)); n > 120 {
		t.Errorf("a device in one group takes %d bytes", n)
	}
}

func TestTimes(t *testing.T) {
	zone := time.FixedZone("", 3600)
	tests := []struct {
		name     string
		in, want time.Time
	}{
		{"none", time.Time{}, time.Time{}},
		{"none, elsewhere", time.Time{}.In(zone), time.Time{}},
		{"noon", noon, noon},
		{"a part of a second, elsewhere", noon.Add(999).In(zone), noon},
		{"1970", time.Unix(0, 0), time.Unix(0, 0).UTC()},
		{"before 1970", time.Unix(-1, 0), time.Unix(-1, 0).UTC()},
		{"after 1970", time.Unix(1, 0), time.Unix(1, 0).UTC()},
		{"the first", time.Time{}.Add(time.Second), time.Time{}.Add(time.Second)},
		{"the last", time.Date(9999, 12, 31, 23, 59, 59, 5, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
		{"after the last", time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
	}
	for _, test := range tests {
		n, err := DecodeNote(EncodeNote(Note{At: test.in}))
		if err != nil || n.At != test.want {
			t.Errorf("%s: %v comes back as %v, error %v, want %v", test.name, test.in, n.At, err, test.want)
		}
	}
}

// What is damaged is refused, whichever bit it is.
func TestDamageIsRefused(t *testing.T) {
	for _, k := range kinds {
		for i := range k.full {
			for bit := range 8 {
				b := bytes.Clone(k.full)
				b[i] ^= 1 << bit
				if _, _, err := k.again(b); err == nil {
					t.Errorf("%s: bit %d of byte %d is flipped, and it decodes", k.name, bit, i)
				}
			}
			if _, _, err := k.again(k.full[:i]); err == nil {
				t.Errorf("%s: cut to %d bytes it decodes", k.name, i)
			}
		}
		if _, _, err := k.again(append(bytes.Clone(k.full), 0)); err == nil {
			t.Errorf("%s: with a byte more it decodes", k.name)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	tests := []struct {
		name    string
		kind    string
		payload string // hexadecimal
		want    string // of the error; "" if it decodes
	}{
		{"what a later release added", "device", "a2 01 6161 18c8 820102", ""},
		{"nothing", "note", "", "EOF"},
		{"a map of nothing", "note", "a0", ""},
		{"not a map", "note", "01", "cannot unmarshal"},
		{"the same key twice", "device", "a2 01 6161 01 6162", "duplicate"},
		{"an indefinite length", "device", "bf 01 6161 ff", "indefinite"},
		{"a tag", "device", "a1 01 c0 6161", "tag"},
		{"more than a map", "device", "a1 01 6161 00", "extraneous"},
		{"a text for a number", "device", "a2 01 6161 03 6161", "cannot unmarshal"},
		{"a number too large", "group", "a1 01 1b0000000100000000", "cannot unmarshal"},
		{"too deep", "note", "a1 18c8 81818181818181818181818100", "nested"},
		{"a length of many gigabytes", "device", "a1 01 7b00000fffffffffff", "EOF"},
		{"an array of many gigabytes", "device", "a2 01 6161 04 9b00000fffffffffff", "elements"},
		{"a group without a number", "group", "a1 03 6161", "no number"},
		{"a group with half an ID", "group", "a2 01 01 02 420102", "ID has 2 bytes"},
		{"an unknown policy", "group", "a2 01 01 05 02", "policy 2 is unknown"},
		{"an unknown visibility", "group", "a2 01 01 06 02", "visibility 2 is unknown"},
		{"a time out of range", "group", "a2 01 01 0c 1b00ffffffffffffff", "out of range"},
		{"an alias's time out of range", "group", "a2 01 01 04 81 a1 02 3b00ffffffffffffff", "out of range"},
		{"a device without a Client Identifier", "device", "a1 02 6161", "no Client Identifier"},
		{"a membership of no group", "device", "a2 01 6161 04 81 a0", "not in order"},
		{"a group twice", "device", "a2 01 6161 04 82 a1 01 07 a1 01 07", "not in order"},
		{"groups in the wrong order", "device", "a2 01 6161 04 82 a1 01 07 a1 01 06", "not in order"},
		{"QoS 2", "device", "a2 01 6161 04 81 a2 01 07 04 02", "QoS 2 is unknown"},
		{"an unknown exit rule", "device", "a2 01 6161 04 81 a2 01 07 07 02", "exit rule 2 is unknown"},
		{"an account without a name", "account", "a1 02 01", "no name"},
		{"an unknown role", "account", "a2 01 6161 02 03", "role 3 is unknown"},
		{"an unknown topic rule", "account", "a2 01 6161 08 81 6161", "topic rule \"a\""},
		{"half a digest", "note", "a1 05 420102", "digest has 2 bytes"},
	}
	for _, test := range tests {
		payload, err := hex.DecodeString(strings.ReplaceAll(test.payload, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range kinds {
			if k.name != test.kind {
				continue
			}
			_, _, err := k.again(seal(payload))
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v, want %q", test.name, err, test.want)
			}
		}
	}
	later := []byte{version + 1, 0xa0}
	if _, err := DecodeNote(later); err == nil || !strings.Contains(err.Error(), "it has version 2, and this release knows up to 1") {
		t.Errorf("a later version: %v", err)
	}
}

// Whatever a record holds comes back.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		when := rapid.Map(rapid.Int64Range(minTime, maxTime), func(s int64) time.Time {
			if s == minTime {
				return time.Time{}
			}
			return time.Unix(s, 0).UTC()
		})
		name := text.Filter(func(s string) bool { return s != "" })
		yes := rapid.Bool()
		draw := func(s string) string { return text.Draw(t, s) }

		g := group.Group{
			Number: group.Number(rapid.Uint32Min(1).Draw(t, "n")), Name: draw("name"), PIN: draw("pin"),
			Policy: group.Policy(rapid.IntRange(0, 1).Draw(t, "policy")), Visible: group.Visibility(rapid.IntRange(0, 1).Draw(t, "visible")),
			PINInTopic: yes.Draw(t, "a"), MembersTo: yes.Draw(t, "b"), MembersEvents: yes.Draw(t, "c"), Deleted: yes.Draw(t, "d"),
			PolicyRev: rapid.Uint64().Draw(t, "rev"), Created: when.Draw(t, "created"),
		}
		copy(g.ID[:], rapid.SliceOfN(rapid.Byte(), 0, 16).Draw(t, "id"))
		for range rapid.IntRange(0, 3).Draw(t, "aliases") {
			g.Aliases = append(g.Aliases, group.Alias{Name: draw("alias"), Until: when.Draw(t, "until")})
		}
		gotGroup, err := DecodeGroup(EncodeGroup(g))
		same(t, gotGroup, err, g)

		d := group.Device{
			ClientID: group.ClientID(name.Draw(t, "client")), Account: draw("account"), Epoch: group.Epoch(rapid.Uint64().Draw(t, "epoch")),
			Last: group.Last{
				Op: group.Op(draw("op")), From: group.Number(rapid.Uint32().Draw(t, "from")), To: group.Number(rapid.Uint32().Draw(t, "to")),
				Epoch: group.Epoch(rapid.Uint64().Draw(t, "lastEpoch")), Own: yes.Draw(t, "own"),
			},
			Assigned: yes.Draw(t, "assigned"),
		}
		for n := range rapid.IntRange(0, 4).Draw(t, "groups") {
			m := group.Membership{
				Number: group.Number(n*1000 + rapid.IntRange(1, 999).Draw(t, "number")), Since: group.Rev(rapid.Uint64().Draw(t, "since")),
				At: when.Draw(t, "at"), QoS: byte(rapid.IntRange(0, 1).Draw(t, "qos")), Recv: yes.Draw(t, "recv"),
				Exit: group.Exit(rapid.IntRange(0, 1).Draw(t, "exit")), By: draw("by"),
			}
			for range rapid.IntRange(0, 2).Draw(t, "filters") {
				m.Filter = append(m.Filter, draw("filter"))
			}
			d.Groups = append(d.Groups, m)
		}
		for range rapid.IntRange(0, group.MaxEnds).Draw(t, "ends") {
			n := rapid.Uint32().Draw(t, "end")
			d.Ends = append(d.Ends, group.End{From: group.Number(n), To: group.Number(n / 2), Epoch: group.Epoch(n)})
		}
		gotDevice, err := DecodeDevice(0, EncodeDevice(d))
		same(t, gotDevice, err, d)

		a := group.Account{
			Name: name.Draw(t, "name"), Role: group.Role(rapid.IntRange(0, 2).Draw(t, "role")), Secret: draw("secret"),
			Findable: yes.Draw(t, "findable"), Created: when.Draw(t, "created"), Removed: yes.Draw(t, "removed"),
			Disabled: yes.Draw(t, "disabled"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "groups") {
			a.Groups = append(a.Groups, group.Number(rapid.Uint32().Draw(t, "group")))
		}
		for range rapid.IntRange(0, 3).Draw(t, "rules") {
			a.Topics = append(a.Topics, group.TopicRule{
				Deny: yes.Draw(t, "deny"), Publish: yes.Draw(t, "publish"), Subscribe: true,
				Filter: rapid.StringMatching("[ab+]/(%c|%u|x y)/#?").Draw(t, "rule"),
			})
		}
		gotAccount, err := DecodeAccount(EncodeAccount(a))
		same(t, gotAccount, err, a)

		n := Note{
			At: when.Draw(t, "at"), Account: draw("account"), Device: group.ClientID(draw("device")), Op: draw("op"),
			From: group.Number(rapid.Uint32().Draw(t, "from")), To: group.Number(rapid.Uint32().Draw(t, "to")),
			Code: group.Code(rapid.Byte().Draw(t, "code")), Epoch: group.Epoch(rapid.Uint64().Draw(t, "epoch")),
			By: draw("by"), Rule: draw("rule"), Addr: draw("addr"),
		}
		copy(n.Body[:], rapid.SliceOfN(rapid.Byte(), 0, 16).Draw(t, "body"))
		if id := rapid.SliceOf(rapid.Byte()).Draw(t, "id"); len(id) > 0 {
			n.ReqID = id
		}
		gotNote, err := DecodeNote(EncodeNote(n))
		same(t, gotNote, err, n)
	})
}

// The decoders get any bytes, with a checksum that fits. What decodes is encoded
// in one way only, which is no longer than what it came from and decodes to the
// same again.
func FuzzDecodeGroup(f *testing.F)   { fuzzDecode(f, kinds[0]) }
func FuzzDecodeDevice(f *testing.F)  { fuzzDecode(f, kinds[1]) }
func FuzzDecodeAccount(f *testing.F) { fuzzDecode(f, kinds[2]) }
func FuzzDecodeNote(f *testing.F)    { fuzzDecode(f, kinds[3]) }

func fuzzDecode(f *testing.F, k kind) {
	f.Add(k.full[1 : len(k.full)-4])
	f.Add([]byte{0xa0})
	f.Add([]byte{0xa2, 0x01, 0x61, 'a', 0x18, 0xc8, 0x01})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if _, _, err := k.again(payload); err == nil && crc32.Checksum(payload, castagnoli) == 0 {
			t.Errorf("%x decodes without its checksum", payload)
		}
		v, b, err := k.again(seal(payload))
		if err != nil {
			return
		}
		w, c, err := k.again(b)
		same(t, w, err, v)
		if !bytes.Equal(b, c) || len(b) > len(seal(payload)) {
			t.Errorf("%x encodes as %x, and that as %x", payload, b, c)
		}
	})
}

func BenchmarkDevice(b *testing.B) {
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			EncodeDevice(fullDevice)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeDevice(1, kinds[1].full); err != nil {
				b.Fatal(err)
			}
		}
	})
}
