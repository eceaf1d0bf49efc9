package wire

import (
	"strings"
	"testing"
)

func TestValidTopicName(t *testing.T) {
	for s, want := range map[string]bool{
		"a": true, "/": true, "a//b": true, "$SYS/a": true, "ä": true, " ": true,
		"": false, "+": false, "a#": false, "a\x00": false, "\xff": false,
		strings.Repeat("a", 65_535): true, strings.Repeat("a", 65_536): false,
	} {
		if got := ValidTopicName([]byte(s)); got != want {
			t.Errorf("ValidTopicName(%.20q) = %v", s, got)
		}
	}
}

func TestValidFilter(t *testing.T) {
	for s, want := range map[string]bool{
		"a": true, "#": true, "+": true, "a/#": true, "+/a/+": true, "/": true, "//": true, "+/#": true, "/#": true, "$SYS/#": true,
		"": false, "a#": false, "a/#/b": false, "#/": false, "##": false, "a+": false, "+a/b": false, "++": false, "a/+b": false,
		"a\x00": false, "\xff": false, "\xed\xa0\x80": false,
		"$share/g/a": true, "$share/g/#": true, "$share/g//": true, "$share": true, "$shared/a": true,
		"$share/": false, "$share/g": false, "$share/g/": false, "$share//a": false, "$share/+/a": false, "$share/g#/a": false,
		"$share/g/a#": false, "$SHARE/g/a": true,
		strings.Repeat("a", 65_535): true, strings.Repeat("a", 65_536): false,
	} {
		if got := ValidFilter(s); got != want {
			t.Errorf("ValidFilter(%.20q) = %v", s, got)
		}
	}
}

func TestSplitShare(t *testing.T) {
	for s, want := range map[string][2]string{
		"$share/g/a/b": {"g", "a/b"}, "$share/g//a": {"g", "/a"}, "$share/g/#": {"g", "#"},
		"$share/g": {}, "$share/g/": {}, "$share//a": {}, "$share/a+/b": {}, "a/b": {}, "": {}, "$SHARE/g/a": {},
	} {
		share, rest, ok := SplitShare(s)
		if share != want[0] || rest != want[1] || ok != (want[0] != "") {
			t.Errorf("SplitShare(%q) = %q, %q, %v", s, share, rest, ok)
		}
	}
}

func TestLevels(t *testing.T) {
	for s, want := range map[string]int{"": 1, "a": 1, "/": 2, "a/b": 2, "a/b/": 3, "//": 3} {
		if got := Levels(s); got != want {
			t.Errorf("Levels(%q) = %d", s, got)
		}
	}
}

// The examples of MQTT 5.0, 4.7, and what follows from them.
var matches = []struct {
	filter, topic string
	want          bool
}{
	{"sport/tennis/player1/#", "sport/tennis/player1", true},
	{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
	{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
	{"sport/tennis/player1/#", "sport/tennis/player10", false},
	{"sport/#", "sport", true},
	{"sport/#", "sport/", true},
	{"#", "sport", true},
	{"#", "/", true},
	{"sport/tennis/+", "sport/tennis/player1", true},
	{"sport/tennis/+", "sport/tennis/player1/ranking", false},
	{"sport/+", "sport", false},
	{"sport/+", "sport/", true},
	{"+/+", "/finance", true},
	{"/+", "/finance", true},
	{"+", "/finance", false},
	{"+", "finance", true},
	{"+/#", "a", true},
	{"+/#", "a/b/c", true},
	{"a/+/#", "a/b", true},
	{"a/+/#", "a", false},
	{"+/+/#", "a", false},
	{"#", "$SYS/a", false},
	{"+/monitor/Clients", "$SYS/monitor/Clients", false},
	{"+", "$SYS", false},
	{"$SYS/#", "$SYS/a", true},
	{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
	{"a/#", "a/$b", true},
	{"a/b", "a/b", true},
	{"a/b", "a/B", false},
	{"a/b", "a", false},
	{"a", "a/b", false},
	{"a", "a/", false},
	{"a/", "a", false},
	{"ACCOUNTS", "Accounts", false},
	{"a//b", "a//b", true},
	{"a/+/b", "a//b", true},
	{"", "", false},
	{"", "a", false},
	{"a", "", false},
	{"#", "", false},
}

func TestMatch(t *testing.T) {
	for _, tt := range matches {
		if got := Match(tt.filter, tt.topic); got != tt.want {
			t.Errorf("Match(%q, %q) = %v", tt.filter, tt.topic, got)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = Match("g/+/all/+/#", "g/1/all/pump-7/temp") }); n > 0 {
		t.Errorf("Match makes %v allocations", n)
	}
}

// FuzzMatch compares Match with the rule of MQTT 5.0, 4.7, put down level by
// level.
func FuzzMatch(f *testing.F) {
	for _, tt := range matches {
		f.Add(tt.filter, tt.topic)
	}
	f.Fuzz(func(t *testing.T, filter, topic string) {
		got := Match(filter, topic)
		if !ValidFilter(filter) || !ValidTopicName([]byte(topic)) {
			return
		}
		if want := matchLevels(filter, topic); got != want {
			t.Errorf("Match(%q, %q) = %v", filter, topic, got)
		}
	})
}

func matchLevels(filter, topic string) bool {
	f, n := strings.Split(filter, "/"), strings.Split(topic, "/")
	if topic[0] == '$' && (f[0] == "+" || f[0] == "#") {
		return false
	}
	if f[len(f)-1] == "#" {
		f = f[:len(f)-1]
		if len(n) < len(f) {
			return false
		}
		n = n[:len(f)]
	}
	if len(f) != len(n) {
		return false
	}
	for i := range f {
		if f[i] != "+" && f[i] != n[i] {
			return false
		}
	}
	return true
}

func BenchmarkMatch(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if !Match("g/+/all/+/#", "g/1/all/pump-7/temp") {
			b.Fatal("no match")
		}
	}
}
