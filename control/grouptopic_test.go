package control

import (
	"fmt"
	"testing"
)

func TestParseTopic(t *testing.T) {
	tests := []struct {
		topic string
		want  Topic // zero if there is no such form
	}{
		{"g/1/all/lamp-7", Topic{Number: 1, Part: All, Sender: "lamp-7"}},
		{"g/1/all/lamp-7/", Topic{Number: 1, Part: All, Sender: "lamp-7", HasRest: true}},
		{"g/1/all/lamp-7/a//b", Topic{Number: 1, Part: All, Sender: "lamp-7", Rest: "a//b", HasRest: true}},
		{"g/4294967295/up/lamp-7/x", Topic{Number: 4294967295, Part: Up, Sender: "lamp-7", Rest: "x", HasRest: true}},
		{"g/1/to/lamp-8/lamp-7/x", Topic{Number: 1, Part: To, Member: "lamp-8", Sender: "lamp-7", Rest: "x", HasRest: true}},
		{"g/1/to/lamp-8/lamp-7", Topic{Number: 1, Part: To, Member: "lamp-8", Sender: "lamp-7"}},
		{"g/1/evt", Topic{Number: 1, Part: Evt}},
		{"g/all", Topic{Part: All, Short: true}},
		{"g/all/", Topic{Part: All, HasRest: true, Short: true}},
		{"g/all/x/y", Topic{Part: All, Rest: "x/y", HasRest: true, Short: true}},
		{"g/up/1/all", Topic{Part: Up, Rest: "1/all", HasRest: true, Short: true}},
		{"g/to/lamp-8/x", Topic{Part: To, Member: "lamp-8", Rest: "x", HasRest: true, Short: true}},
		{"g/to/lamp-8", Topic{Part: To, Member: "lamp-8", Short: true}},
		{"g/lamps/all", Topic{Name: "lamps", Part: All, Short: true}},
		{"g/Lamps/up/x", Topic{Name: "lamps", Part: Up, Rest: "x", HasRest: true, Short: true}},
		{"g/lamps/to/lamp-8/x", Topic{Name: "lamps", Part: To, Member: "lamp-8", Rest: "x", HasRest: true, Short: true}},

		{"g", Topic{}},
		{"g/", Topic{}},
		{"g/1", Topic{}},
		{"g/1/", Topic{}},
		{"g/1/all", Topic{}},
		{"g/1/all/", Topic{}},
		{"g/1/all//x", Topic{}},
		{"g/1/to/lamp-8", Topic{}},
		{"g/1/to//lamp-7", Topic{}},
		{"g/1/evt/x", Topic{}},
		{"g/1/agg/x", Topic{}},
		{"g/1/re/x", Topic{}},
		{"g/1/ALL/lamp-7", Topic{}},
		{"g/0/all/lamp-7", Topic{}},
		{"g/01/all/lamp-7", Topic{}},
		{"g/4294967296/all/lamp-7", Topic{}},
		{"g/99999999999999999999/all/lamp-7", Topic{}},
		{"g/to", Topic{}},
		{"g/to/", Topic{}},
		{"g/evt", Topic{}},
		{"g/lamps", Topic{}},
		{"g/lamps/evt", Topic{}},
		{"g/ALL/all/x", Topic{}},
		{"g/a b/all/x", Topic{}},
		{"g//all/x", Topic{}},
		{"h/1/all/x", Topic{}},
		{"", Topic{}},
	}
	for _, test := range tests {
		got, ok := ParseTopic(test.topic)
		if got != test.want || ok != (test.want != Topic{}) {
			t.Errorf("ParseTopic(%q) = %+v, %t; want %+v", test.topic, got, ok, test.want)
		}
	}
}

// The path of a message has no room for garbage.
func TestParseTopicDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 64)
	for _, topic := range []string{"g/1/all/lamp-7/x", "g/1/to/lamp-8/lamp-7/x", "g/all/x", "g/lamps/up/x"} {
		if n := testing.AllocsPerRun(100, func() {
			topic, _ := ParseTopic(topic)
			buf = AppendTopic(buf[:0], topic)
		}); n != 0 {
			t.Errorf("%s: %v allocations", topic, n)
		}
	}
}

// A short form is delivered under the full topic, once what the server knows is
// filled in.
func ExampleParseTopic() {
	t, ok := ParseTopic("g/lamps/to/lamp-8/color")
	fmt.Println(t.Name, t.Short, ok)
	t.Number, t.Sender = 1, "lamp-7"
	fmt.Println(t)
	// Output:
	// lamps true true
	// g/1/to/lamp-8/lamp-7/color
}

// FuzzParseTopic takes any topic apart. The full form is the same text when it
// is put together again.
func FuzzParseTopic(f *testing.F) {
	for _, s := range []string{"g/1/all/a/b", "g/1/to/a/b/", "g/1/evt", "g/all/x", "g/\u212a/up", "g/to/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		topic, ok := ParseTopic(s)
		switch {
		case !ok && topic != Topic{}:
			t.Fatalf("%q: refused with %+v", s, topic)
		case !ok:
		case topic.Short && (topic.Number != 0 || topic.Sender != ""):
			t.Fatalf("%q: a short form with %+v", s, topic)
		case !topic.Short && topic.String() != s:
			t.Fatalf("%q is put together as %q", s, topic)
		}
	})
}
