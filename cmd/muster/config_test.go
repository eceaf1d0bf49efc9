package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/configs"
)

// load reads a file with the given content as muster.yaml of an empty
// directory, and takes that directory out of the error.
func load(t *testing.T, content string, env map[string]string, flags map[string][]string) (config, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "muster.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(path, lookup(env), flags)
	if err == nil {
		return c, ""
	}
	return c, strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "")
}

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
}

// configs/muster.yaml says what a server does that was told nothing.
func TestConfigFileHoldsDefaults(t *testing.T) {
	got, err := load(t, configs.Default, nil, nil)
	if err != "" {
		t.Fatal(err)
	}
	want := defaults()
	want.Socket = "muster-data/muster.sock"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("configs/muster.yaml gives\n%+v\nthe defaults are\n%+v", got, want)
	}
	without, loadErr := loadConfig("", lookup(nil), nil)
	if loadErr != nil {
		t.Fatal(loadErr)
	}
	if !reflect.DeepEqual(without, want) {
		t.Errorf("no file gives\n%+v\nthe defaults are\n%+v", without, want)
	}
}

// configs/conformance.yaml is a configuration, as docs/conformance.md describes it.
func TestConformanceFile(t *testing.T) {
	b, err := os.ReadFile("../../configs/conformance.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, text := load(t, string(b), nil, nil)
	if text != "" {
		t.Fatal(text)
	}
	l := &c.Limits
	if !c.Anonymous || len(c.AnonymousTopics) != 1 || len(c.RefuseFilters) != 1 || l.KeepAliveMax != time.Minute ||
		l.PacketSize != 1<<20 || l.TopicLevels != 200 || l.TopicAliases == 0 {
		t.Errorf("configs/conformance.yaml gives %+v", c)
	}
}

// configs/muster.yaml names each key and nothing else, each below a comment.
func TestConfigFileNamesEachKey(t *testing.T) {
	var c config
	l := loader{keys: c.keys(), from: map[string]string{}}
	if err := l.file("muster.yaml", []byte(configs.Default)); err != nil {
		t.Fatal(err)
	}
	for _, k := range l.keys {
		if l.from[k.name] == "" {
			t.Errorf("configs/muster.yaml does not name %s", k.name)
		}
	}
	before := ""
	for line := range strings.Lines(configs.Default) {
		line = strings.TrimSpace(line)
		_, value, ok := strings.Cut(line, ":")
		if ok && value != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(before, "#") {
			t.Errorf("no comment above %q", line)
		}
		before = line
	}
}

// Every field of a config can be set by a key, and none by two.
func TestConfigKeysCoverFields(t *testing.T) {
	var c config
	keys := map[uintptr]string{}
	for _, k := range c.keys() {
		v := reflect.ValueOf(k.value)
		if at := v.Elem(); at.Kind() == reflect.Struct {
			v = at.FieldByName("at")
		}
		if other := keys[v.Pointer()]; other != "" {
			t.Errorf("%s and %s set the same field", other, k.name)
		}
		keys[v.Pointer()] = k.name
	}
	fields := 0
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				walk(name+"."+v.Type().Field(i).Name, v.Field(i))
			}
			return
		}
		fields++
		if keys[v.Addr().Pointer()] == "" {
			t.Errorf("config%s has no key", name)
		}
	}
	walk("", reflect.ValueOf(&c).Elem())
	if fields != len(keys) {
		t.Errorf("%d fields, %d keys", fields, len(keys))
	}
}

func TestConfigPrecedence(t *testing.T) {
	type source struct {
		file  string
		env   map[string]string
		flags map[string][]string
	}
	ttl := func(c config) any { return c.Grant.TTL }
	listen := func(c config) any { return c.Listen }
	rules := func(c config) any {
		var all []string
		for _, r := range c.AnonymousTopics {
			all = append(all, r.String())
		}
		return all
	}
	anonymous := func(c config) any { return c.Anonymous }
	tests := []struct {
		name string
		in   source
		of   func(config) any
		want any
	}{
		{"nothing said: the default", source{}, ttl, time.Minute},
		{"file over default", source{file: "grant: {ttl: 2m}"}, ttl, 2 * time.Minute},
		{"environment over file", source{file: "grant: {ttl: 2m}", env: map[string]string{"MUSTER_GRANT_TTL": "3m"}}, ttl, 3 * time.Minute},
		{"an empty variable is not set", source{file: "grant: {ttl: 2m}", env: map[string]string{"MUSTER_GRANT_TTL": ""}}, ttl, 2 * time.Minute},
		{"flag over environment", source{env: map[string]string{"MUSTER_ANONYMOUS": "true"}, flags: map[string][]string{"anonymous": {"false"}}}, anonymous, false},
		{"flag over file", source{file: "anonymous: false", flags: map[string][]string{"anonymous": {"true"}}}, anonymous, true},
		{"a list replaces a list", source{file: "listen: [a:1, b:2]", flags: map[string][]string{"listen": {"c:3", "unix:d"}}}, listen, []string{"c:3", "unix:d"}},
		{"commas separate in the environment", source{env: map[string]string{"MUSTER_LISTEN": "a:1, unix:b"}}, listen, []string{"a:1", "unix:b"}},
		{"rules", source{file: `anonymous_topics: ["allow both #", deny publish %c]`}, rules, []string{"allow both #", "deny publish %c"}},
		{"rules in the environment", source{env: map[string]string{"MUSTER_ANONYMOUS_TOPICS": "allow both #, deny publish %c"}}, rules, []string{"allow both #", "deny publish %c"}},
		{"an empty list is a list", source{file: "listen: []"}, listen, []string{}},
		{"a list of lines", source{file: "listen:\n- 127.0.0.1:0\n- '[::1]:0'\n"}, listen, []string{"127.0.0.1:0", "[::1]:0"}},
		{"an empty section", source{file: "grant:\n  # ttl: 2m\n"}, ttl, time.Minute},
		{"comments alone", source{file: "# nothing\n"}, ttl, time.Minute},
		{"an empty document", source{file: "---\n"}, ttl, time.Minute},
		{"a flag that is no key's", source{flags: map[string][]string{"print-config": {"true"}}}, ttl, time.Minute},
		{"log.format is the flag log", source{flags: map[string][]string{"log": {"json"}}}, func(c config) any { return c.Log.Format }, "json"},
		{"log.format is MUSTER_LOG", source{env: map[string]string{"MUSTER_LOG": "json"}}, func(c config) any { return c.Log.Format }, "json"},
		{"a level", source{file: "log: {level: debug}"}, func(c config) any { return c.Log.Level }, slog.LevelDebug},
		{"a size with its unit", source{file: "limits: {packet_size: 1MiB}"}, func(c config) any { return c.Limits.PacketSize }, 1 << 20},
		{"a size in bytes", source{file: "limits: {packet_size: 65536}"}, func(c config) any { return c.Limits.PacketSize }, 65536},
		{"no limit", source{file: "limits: {connections: 0}"}, func(c config) any { return c.Limits.Connections }, 0},
		{"the socket follows the data directory", source{flags: map[string][]string{"data": {"/d"}}}, func(c config) any { return c.Socket }, "/d/muster.sock"},
		{"the socket has a key of its own", source{file: "socket: /run/m.sock"}, func(c config) any { return c.Socket }, "/run/m.sock"},
		{"a socket path of 107 bytes", source{file: "socket: " + strings.Repeat("s", 107)}, func(c config) any { return len(c.Socket) }, 107},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := load(t, tt.in.file, tt.in.env, tt.in.flags)
			if err != "" {
				t.Fatal(err)
			}
			if got := tt.of(c); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestConfigFileErrors(t *testing.T) {
	long := strings.Repeat("d", 100)
	tests := []struct {
		name, file, want string
	}{
		{"unknown key", "data: x\n\nlisen: []", `muster.yaml:3: unknown key "lisen" (did you mean "listen"?)`},
		{"unknown key in a section", "limits:\n  inflght: 3", `muster.yaml:2: unknown key "limits.inflght" (did you mean "limits.inflight"?)`},
		{"letters swapped", "grnat: {}", `muster.yaml:1: unknown key "grnat" (did you mean "grant"?)`},
		{"key in the wrong place", "ttl: 3s", `muster.yaml:1: unknown key "ttl" (did you mean "grant.ttl"?)`},
		{"nothing like it", "colour: red", `muster.yaml:1: unknown key "colour"`},
		{"written with a dot", "grant.ttl: 3s", `muster.yaml:1: write "grant.ttl" as key "ttl" below "grant"`},
		{"key twice", "data: a\ndata: b", `muster.yaml:2: key "data" stands in line 1 already`},
		{"section twice", "grant:\n  ttl: 3s\ngrant:\n  ttl: 4s", `muster.yaml:3: key "grant" stands in line 1 already`},
		{"above the range", "grant:\n  ttl: 48h", "muster.yaml:2: grant.ttl: 48h is not between 1s and 24h"},
		{"below the range", "grant:\n  ttl: 999ms", "muster.yaml:2: grant.ttl: 999ms is not between 1s and 24h"},
		{"no unit", "grant:\n  ttl: 60", "muster.yaml:2: grant.ttl: 60 is not a duration such as 90s, 10m or 24h"},
		{"not a number", "limits: {inflight: many}", "muster.yaml:1: limits.inflight: many is not a whole number"},
		{"a fraction", "limits: {inflight: 1.5}", "muster.yaml:1: limits.inflight: 1.5 is not a whole number"},
		{"a number that fits no integer", "limits: {inflight: 99999999999999999999}", "muster.yaml:1: limits.inflight: 99999999999999999999 is not between 1 and 65535"},
		{"zero where it means nothing", "limits: {inflight: 0}", "muster.yaml:1: limits.inflight: 0 is not between 1 and 65535"},
		{"below zero where zero is no limit", "limits: {sessions: -1}", "muster.yaml:1: limits.sessions: -1 is not between 1 and 10000000, nor 0 for no limit"},
		{"a unit that is none", "limits: {packet_size: 64KB}", "muster.yaml:1: limits.packet_size: 64KB is not a size such as 65536, 256KiB or 1MiB"},
		{"a size out of range", "limits: {packet_size: 1GiB}", "muster.yaml:1: limits.packet_size: 1GiB is not between 16KiB and 16MiB"},
		{"a size that fits no integer", "limits: {packet_size: 9223372036854775807GiB}", "muster.yaml:1: limits.packet_size: 9223372036854775807GiB is not between 16KiB and 16MiB"},
		{"not a truth", "anonymous: yes", "muster.yaml:1: anonymous: yes is neither true nor false"},
		{"not a word", "log: {format: xml}", "muster.yaml:1: log.format: xml is not one of text, json"},
		{"not a level", "log: {level: INFO+1}", "muster.yaml:1: log.level: INFO+1 is not one of debug, info, warn, error"},
		{"list for a single value", "data: [a, b]", "muster.yaml:1: data: want a single value, found a list"},
		{"nothing for a value", "data:", "muster.yaml:1: data: want a single value, found none"},
		{"empty path", `data: ""`, "muster.yaml:1: data: must not be empty"},
		{"zero byte in a path", `data: "a\0b"`, `muster.yaml:1: data: "a\x00b" is not a path`},
		{"alias", "data: &d x\nready: *d", "muster.yaml:2: ready: want a single value, found an alias"},
		{"single value for a list", "listen: 127.0.0.1:1883", `muster.yaml:1: listen: want a list, as in ["127.0.0.1:1883"], found a single value`},
		{"rule that is none", "anonymous_topics: [allow read a]", "muster.yaml:1: anonymous_topics: allow read a: a rule is such as \"allow publish sensors/%c/#\""},
		{"rule that ends in a comment", "anonymous_topics:\n- allow both #\n", "muster.yaml:1: anonymous_topics: allow both: a rule ends with a Topic Filter (in a file, put a rule in quotes: # begins a comment)"},
		{"single rule", "anonymous_topics: allow both a", `muster.yaml:1: anonymous_topics: want a list, as in ["allow publish sensors/%c/#"], found a single value`},
		{"too many rules", "anonymous_topics: [" + strings.Repeat("allow both a,", 65) + "]", "muster.yaml:1: anonymous_topics: 65 rules are more than 64"},
		{"list in a list", "listen: [[a]]", "muster.yaml:1: listen: want a list of single values, found a list in it"},
		{"single value for a section", "grant: 60s", "muster.yaml:1: grant: want keys and values, found a single value"},
		{"list for the file", "- data", "muster.yaml:1: want keys and values, found a list"},
		{"a list as key", "? [a]\n: b", "muster.yaml:1: want a key, found a list"},
		{"two documents", "data: a\n---\ndata: b", "muster.yaml: more than one YAML document"},
		{"not YAML", "data: [", "muster.yaml: line 1: did not find expected node content"},
		{"address without port", "listen: [localhost]", "muster.yaml:1: listen: localhost is neither HOST:PORT nor unix:PATH"},
		{"port that is none", "listen: ['localhost:mqtt']", "muster.yaml:1: listen: localhost:mqtt: port mqtt is not between 0 and 65535"},
		{"port too high", "listen: ['localhost:65536']", "muster.yaml:1: listen: localhost:65536: port 65536 is not between 0 and 65535"},
		{"socket without path", "listen: ['unix:']", `muster.yaml:1: listen: "" is not the path of a socket`},
		{"listener on the operator socket", "data: d\nlisten: ['unix:./d/muster.sock']", "muster.yaml:2: listen: unix:./d/muster.sock is the operator socket"},
		{"abstract socket", `socket: "@muster"`, "muster.yaml:1: socket: @muster is not the path of a socket"},
		{"socket path of 108 bytes", "socket: " + long + "ddd.sock", "muster.yaml:1: socket: " + long + "ddd.sock has 108 bytes, and only 107 fit the address of a socket"},
		{"data directory too long for its socket", "data: " + long, "muster.yaml:1: data: operator socket " + long + "/muster.sock has 112 bytes, and only 107 fit the address of a socket: use a shorter --data or set the key socket"},
		{"queue smaller than a packet", "limits:\n  packet_size: 1MiB\n  queue_bytes: 64KiB", "muster.yaml:3: limits.queue_bytes: 64KiB is less than limits.packet_size, 1MiB"},
		{"packet larger than the queue", "limits:\n  packet_size: 8MiB", "muster.yaml:2: limits.packet_size: 8MiB is more than limits.queue_bytes, 4MiB"},
		{"file of a megabyte", "#" + strings.Repeat("x", maxConfigFile), "muster.yaml: larger than 1MiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := load(t, tt.file, nil, nil); err != tt.want {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
		})
	}
}

// An error names the variable or the flag that is wrong, not the file.
func TestConfigErrorsNameTheirSource(t *testing.T) {
	tests := []struct {
		name  string
		env   map[string]string
		flags map[string][]string
		want  string
	}{
		{"variable", map[string]string{"MUSTER_GRANT_TTL": "48h"}, nil, "MUSTER_GRANT_TTL: 48h is not between 1s and 24h"},
		{"flag", nil, map[string][]string{"listen": {"a:1", "b"}}, "--listen: b is neither HOST:PORT nor unix:PATH"},
		{"flag without value", nil, map[string][]string{"data": {""}}, "--data: must not be empty"},
		{"wrong in the environment though a flag stands over it", map[string]string{"MUSTER_LOG": "xml"}, map[string][]string{"log": {"json"}}, "MUSTER_LOG: xml is not one of text, json"},
		{"what follows from a flag", nil, map[string][]string{"data": {strings.Repeat("d", 96)}}, "--data: operator socket " + strings.Repeat("d", 96) + "/muster.sock has 108 bytes, and only 107 fit the address of a socket: use a shorter --data or set the key socket"},
		{"a value of no use to a terminal", map[string]string{"MUSTER_LOG": "\x1b[2J"}, nil, `MUSTER_LOG: "\x1b[2J" is not one of text, json`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := loadConfig("", lookup(tt.env), tt.flags)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestConfigFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name, path, want string
		env              map[string]string
	}{
		{"no such file", filepath.Join(dir, "x.yaml"), filepath.Join(dir, "x.yaml") + ": no such file or directory", nil},
		{"a directory", dir, dir + ": is a directory", nil},
		{"named by MUSTER_CONFIG", "", "/nowhere.yaml: no such file or directory", map[string]string{"MUSTER_CONFIG": "/nowhere.yaml"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := loadConfig(tt.path, lookup(tt.env), nil)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// FuzzConfigFile reads random files. A file is refused in one line that names
// it, or it gives a configuration whose sizes are in range and whose sockets
// can be opened.
func FuzzConfigFile(f *testing.F) {
	f.Add([]byte(configs.Default))
	f.Add([]byte("listen:\n- unix:a\n- '[::1]:0'\n"))
	f.Add([]byte("limits: {packet_size: 16KiB, connect_timeout: 1m0.5s}"))
	f.Add([]byte("data: &a x\nready: *a\n<<: {a: b}\n"))
	f.Add([]byte("? {a: b}\n: c\n"))
	f.Add([]byte("!!binary aGk=: !!float 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := defaults()
		l := loader{keys: c.keys(), from: map[string]string{}}
		err := l.file("muster.yaml", b)
		if err == nil {
			err = l.check(&c)
		}
		if err != nil {
			if s := err.Error(); strings.ContainsAny(s, "\n\r\x00") || !strings.HasPrefix(s, "muster.yaml:") {
				t.Errorf("error %q", s)
			}
			return
		}
		for _, k := range l.keys {
			switch v := k.value.(type) {
			case *number:
				if (*v.at != 0 || !v.zero) && (*v.at < v.min || *v.at > v.max) {
					t.Errorf("%s: %d", k.name, *v.at)
				}
			case *size:
				if *v.at < v.min || *v.at > v.max {
					t.Errorf("%s: %d", k.name, *v.at)
				}
			case *duration:
				if *v.at < v.min || *v.at > v.max {
					t.Errorf("%s: %s", k.name, *v.at)
				}
			}
		}
		if c.Data == "" || c.Socket == "" || len(c.Socket) > 107 {
			t.Errorf("data %q, socket %q", c.Data, c.Socket)
		}
	})
}

// A variable that is mistyped stops the start, rather than being ignored.
func TestUnknownVariable(t *testing.T) {
	for _, tt := range []struct {
		environ string
		ok      bool
	}{
		{"MUSTER_ANONYMOUS=false", true}, {"MUSTER_LIMITS_FILTERS=3", true}, {"MUSTER_CONFIG=x", true}, {"MUSTER_CRASH_POINT=x", true},
		{"HOME=/", true}, {"MUSTER_ANONYMUS=false", false}, {"MUSTER_LIMTS_FILTERS=3", false}, {"MUSTER_LOG_FORMAT=json", false},
	} {
		if err := checkEnviron([]string{"PATH=/bin", tt.environ}); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.environ, err)
		}
	}
}
