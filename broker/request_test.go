package broker_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// versions are the two versions of MQTT, as options.
var versions = map[string][]option{"3.1.1": nil, "5.0": {v5}}

// publishes sends a PUBLISH and returns the PUBLISHes that came of it, and the
// reason of its acknowledgement.
func (c *client) publishes(change func(*packets.Packet), topic string, body []byte, qos byte) (got []packets.Packet, reason byte) {
	c.t.Helper()
	reason = c.publishWith(change, topic, string(body), qos).ReasonCode
	for _, pk := range c.flushed() {
		if pk.FixedHeader.Type == packets.Publish {
			got = append(got, pk)
		}
	}
	return got, reason
}

// answered sends a request and returns its one answer, as bytes, and the reason
// of its acknowledgement.
func (c *client) answered(topic string, body []byte, qos byte) (answer []byte, reason byte) {
	c.t.Helper()
	got, reason := c.publishes(nil, topic, body, qos)
	if len(got) != 1 || got[0].TopicName != control.AnswerTopic {
		c.t.Fatalf("%s: %s %q: %d packets, want one answer: %v", c.id, topic, body, len(got), got)
	}
	return got[0].Payload, reason
}

// keyNumbers is the table of docs/protocol.md, 5.6, by name and by number.
func keyNumbers(t *testing.T) (byName map[string]uint64, byNumber map[uint64]string) {
	t.Helper()
	doc, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "### 5.6 Keys")
	section, _, _ = strings.Cut(section, "### 5.7")
	byName, byNumber = map[string]uint64{}, map[uint64]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\d+) \\|").FindAllStringSubmatch(section, -1) {
		n, err := strconv.ParseUint(row[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		byName[row[1]], byNumber[n] = n, row[1]
	}
	if len(byName) < 50 || len(byName) != len(byNumber) {
		t.Fatalf("the table has %d names and %d numbers", len(byName), len(byNumber))
	}
	return byName, byNumber
}

// asCBOR writes a JSON object as a client that speaks CBOR would.
func asCBOR(t *testing.T, object string) []byte {
	t.Helper()
	byName, _ := keyNumbers(t)
	d := json.NewDecoder(strings.NewReader(object))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%s: %v", object, err)
	}
	out := map[any]any{}
	for name, v := range m {
		if n, ok := v.(json.Number); ok {
			u, err := strconv.ParseUint(n.String(), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			v = u
		}
		if name == "grant" {
			b, err := base64.RawURLEncoding.DecodeString(v.(string))
			if err != nil {
				t.Fatal(err)
			}
			v = b
		}
		if n, ok := byName[name]; ok {
			out[n] = v
		} else {
			out[name] = v
		}
	}
	b, err := cbor.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// plain returns an answer as names and values, without what differs from one
// server to another. JSON's err and text are left out: CBOR has none.
func plain(t *testing.T, answer []byte) string {
	t.Helper()
	_, byNumber := keyNumbers(t)
	var v any
	if answer[0] == '{' {
		d := json.NewDecoder(bytes.NewReader(answer))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%s: %v", answer, err)
		}
		m := v.(map[string]any)
		if m["err"] == nil || m["text"] == nil {
			t.Errorf("%s has no err or no text", answer)
		}
		delete(m, "err")
		delete(m, "text")
	} else if err := cbor.Unmarshal(answer, &v); err != nil {
		t.Fatalf("%x: %v", answer, err)
	}
	var names func(v any) any
	names = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k := range v {
				v[k] = names(v[k])
			}
			return masked(v)
		case map[any]any:
			m := map[string]any{}
			for k, v := range v {
				n, ok := k.(uint64)
				name := byNumber[n]
				if !ok || name == "" {
					t.Fatalf("%x: key %v is not in the table", answer, k)
				}
				switch name {
				case "state":
					v = []string{"out", "member"}[v.(uint64)]
				case "grant":
					v = base64.RawURLEncoding.EncodeToString(v.([]byte))
				case "id":
					if b, ok := v.([]byte); ok {
						v = string(b)
					}
				}
				m[name] = names(v)
			}
			return masked(m)
		case []any:
			for i := range v {
				v[i] = names(v[i])
			}
		}
		return v
	}
	return jsonOf(names(v))
}

// masked hides what a server makes by chance or by the clock.
func masked(m map[string]any) map[string]any {
	for _, k := range []string{"at", "exp", "grant", "pin", "secret", "g"} {
		if _, ok := m[k]; ok {
			m[k] = "…"
		}
	}
	if id, ok := m["id"].(string); ok && len(id) == 26 {
		m["id"] = "…"
	}
	return m
}

// A step is a request in the forms that there are; who is "op" or a device.
type step struct{ who, op, json, bare string }

// steps are requests of each op, in an order that gives each something to do.
var steps = []step{
	{"op", "create", `{"name":"lamps","id":"a1"}`, ""},
	{"op", "create", `{"name":"doors","policy":"pin","pin":"4711","visible":"all","pin_in_topic":false}`, ""},
	{"op", "create", `{"name":"valves","policy":"pin","members_to":true,"members_events":true}`, ""},
	{"a", "join", `{"g":"lamps"}`, "lamps"},
	{"a", "join", `{"g":1}`, "1"},
	{"a", "join", `{"g":"lamps","qos":0,"filter":["x/#","y"],"recv":false,"id":"0123456789abcdef"}`, ""},
	{"a", "join", `{"g":"doors","secret":"4712"}`, "doors 4712"},
	{"a", "join", `{"g":"doors","secret":"4711"}`, "  doors  4711 "},
	{"a", "join", `{"g":"nowhere"}`, "nowhere"},
	{"a", "mine", `{}`, ""},
	{"a", "members", `{"g":"LAMPS"}`, "LAMPS"},
	{"a", "switch", `{"from":1,"to":2}`, "1 2"},
	{"a", "switch", `{"to":"lamps"}`, "lamps"},
	{"a", "leave", `{"g":"doors"}`, "doors"},
	{"a", "leave", `{"from":"lamps","epoch":1}`, ""},
	{"a", "grant", `{"op":"leave","g":"lamps","ttl":300}`, ""},
	{"op", "move", `{"device":"a","from":"lamps","to":"doors"}`, "a lamps doors"},
	{"op", "remove", `{"device":"a","g":"doors"}`, ""},
	{"op", "join", `{"device":"b","g":"valves"}`, ""},
	{"op", "show", `{"device":"b"}`, ""},
	{"op", "show", `{"g":"valves"}`, ""},
	{"op", "members", `{"g":"valves"}`, "valves"},
	{"op", "list", `{}`, ""},
	{"op", "list", `{"kind":"device","limit":1}`, ""},
	{"op", "update", `{"g":"valves","name":"taps"}`, ""},
	{"op", "delete", `{"g":"taps"}`, ""},
	{"op", "delete", `{"g":"taps"}`, ""},
	{"op", "account", `{"op":"add","user":"ann","role":"observer","groups":["lamps",2],"findable":true}`, ""},
	{"op", "account", `{"op":"list"}`, ""},
	{"op", "account", `{"op":"passwd","user":"ann","secret":"correct horse battery"}`, ""},
	{"op", "account", `{"op":"remove","user":"ann"}`, ""},
	{"op", "forget", `{"device":"a"}`, ""},
}

// runSteps makes the requests of steps on a new server, as send says, and returns the
// answers.
func runSteps(t *testing.T, send func(c *client, st step) []byte, options ...option) []string {
	t.Helper()
	s := serve(t, nil)
	clients := map[string]*client{"op": s.operator(options...), "a": s.dial("a", options...)}
	var answers []string
	for _, st := range steps {
		answers = append(answers, plain(t, send(clients[st.who], st)))
	}
	return answers
}

func compareAnswers(t *testing.T, name string, got, want []string) {
	t.Helper()
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s: %s %s:\n%s, want\n%s", name, steps[i].op, steps[i].json, got[i], want[i])
		}
	}
}

// The two topics, each QoS, RETAIN, both versions of MQTT, and the encodings are
// the same to the server. [GRP-5.1-1] [GRP-5.2-1] [GRP-5.6-1]
func TestFormsOfARequest(t *testing.T) {
	topic := func(prefix string, qos byte) func(c *client, st step) []byte {
		return func(c *client, st step) []byte {
			answer, reason := c.answered(prefix+st.op, []byte(st.json), qos)
			a, err := control.DecodeAnswer(answer)
			if want := control.PubackReason(a.Code); err != nil || c.version == 5 && qos > 0 && reason != want || c.version < 5 && reason != 0 {
				t.Errorf("%s %s: %v, acknowledged with 0x%02x", st.op, st.json, a.Code, reason)
			}
			return answer
		}
	}
	want := runSteps(t, topic("$G/", 0))
	for i, op := range []group.Code{0, 0, 0, 0, 1, 0, 31, 0, 30} {
		if !strings.HasPrefix(want[i], fmt.Sprintf(`{"code":%d,`, op)) {
			t.Errorf("%s %s: %s, want code %d", steps[i].op, steps[i].json, want[i], op)
		}
	}
	for name, options := range versions {
		for qos := byte(0); qos <= 2; qos++ {
			compareAnswers(t, fmt.Sprintf("%s QoS %d", name, qos), runSteps(t, topic("$CONTROL/group/v1/", qos), options...), want)
		}
	}
	compareAnswers(t, "RETAIN", runSteps(t, func(c *client, st step) []byte {
		got, _ := c.publishes(func(pk *packets.Packet) { pk.FixedHeader.Retain = true }, "$G/"+st.op, []byte(st.json), 1)
		if len(got) != 1 || got[0].FixedHeader.Retain {
			t.Fatalf("%s: %v", st.op, got)
		}
		return got[0].Payload
	}), want)
	compareAnswers(t, "CBOR", runSteps(t, func(c *client, st step) []byte {
		answer, _ := c.answered("$G/"+st.op, asCBOR(t, st.json), 0)
		if answer[0]&0xE0 != 0xA0 {
			t.Errorf("%s: the answer to CBOR is %q", st.op, answer)
		}
		return answer
	}), want)
	compareAnswers(t, "bare words", runSteps(t, func(c *client, st step) []byte {
		body := st.bare
		if body == "" && st.json != "{}" {
			body = st.json
		}
		answer, _ := c.answered("$G/"+st.op, []byte(body), 0)
		if answer[0] != '{' {
			t.Errorf("%s: the answer to %q is %q", st.op, body, answer)
		}
		return answer
	}), want)
}

// [GRP-5.1-2]
func TestUnknownOps(t *testing.T) {
	tests := []struct {
		topic  string
		code   group.Code
		reason byte // 5.0
	}{
		{"$G/nope", group.UnknownOp, 0x90},
		{"$G/", group.UnknownOp, 0x90},
		{"$G/JOIN", group.UnknownOp, 0x90},
		{"$G/join/", group.UnknownOp, 0x90},
		{"$G/join/lamps", group.UnknownOp, 0x90},
		{"$G/res/1", group.UnknownOp, 0x90},
		{"$G/me", group.UnknownOp, 0x90},
		{"$G/v1/join", group.UnknownOp, 0x90},
		{"$CONTROL/group/v1/nope", group.UnknownOp, 0x90},
		{"$CONTROL/group/v1/", group.UnknownOp, 0x90},
		{"$CONTROL/group/v1", group.UnknownOp, 0x90},
		{"$CONTROL/group/v1/res/me", group.UnknownOp, 0x90},
		{"$CONTROL/group/v1/me", group.UnknownOp, 0x90},
		{"$CONTROL/group/v2/join", group.UnsupportedVersion, 0x99},
		{"$CONTROL/group/v2/nope", group.UnsupportedVersion, 0x99},
		{"$CONTROL/group/v10/join", group.UnsupportedVersion, 0x99},
		{"$CONTROL/group/V1/join", group.UnsupportedVersion, 0x99},
		{"$CONTROL/group//join", group.UnsupportedVersion, 0x99},
		{"$CONTROL/group/join", group.UnsupportedVersion, 0x99},
	}
	s := serve(t, nil)
	s.operator().must("create", `{"name":"lamps"}`)
	for name, options := range versions {
		c := s.dial("a", options...)
		for _, tt := range tests {
			for qos := byte(0); qos <= 2; qos++ {
				for _, body := range [][]byte{nil, []byte("lamps"), []byte(`{"g":1}`), {0xA1, 0x02, 0x01}} {
					answer, reason := c.answered(tt.topic, body, qos)
					a, err := control.DecodeAnswer(answer)
					if err != nil || a.Code != tt.code {
						t.Errorf("%s, %s %q: answered %q, want %v", name, tt.topic, body, answer, tt.code)
					}
					if wantCBOR := len(body) == 3; (answer[0]&0xE0 == 0xA0) != wantCBOR {
						t.Errorf("%s, %s %q: answered %q, in another encoding", name, tt.topic, body, answer)
					}
					if c.version == 5 && qos > 0 && reason != tt.reason {
						t.Errorf("%s, %s: reason 0x%02x, want 0x%02x", name, tt.topic, reason, tt.reason)
					}
				}
			}
		}
		// Beside the control protocol nothing is answered.
		for _, topic := range []string{"$CONTROL", "$CONTROL/group", "$CONTROL/groups/v1/join", "$G", "$Gx/join"} {
			for qos := byte(0); qos <= 2; qos++ {
				got, reason := c.publishes(nil, topic, []byte("lamps"), qos)
				if len(got) != 0 || c.version == 5 && qos > 0 && reason != 0x87 {
					t.Errorf("%s, %s: %v, reason 0x%02x", name, topic, got, reason)
				}
			}
		}
		if in := c.groups(); len(in) != 0 {
			t.Errorf("%s: the device is in %v", name, in)
		}
		c.disconnect()
	}
}

// The payloads of the table, and no others. [GRP-5.3-1]
func TestBareWords(t *testing.T) {
	tests := []struct {
		who, op, body string
		code          group.Code
	}{
		{"a", "join", "lamps", 0},
		{"a", "join", " lamps   ", 1},
		{"a", "join", "doors 4711", 0},
		{"a", "join", "", 10},
		{"a", "join", "   ", 10},
		{"a", "join", "lamps 4711 x", 10},
		{"a", "join", "\n", 10},
		{"a", "join", "lamps \r\n", 1},
		{"a", "join", "lamps\nyard", 10},
		{"a", "join", "lamps\x00", 10},
		{"a", "join", "la#mps", 10},
		{"a", "join", "+", 10},
		{"a", "join", "all", 10},
		{"a", "join", "0", 10},
		{"a", "join", "4294967296", 10},
		{"a", "join", "@", 10},
		{"a", "join", "\xff\xfe", 10},
		{"a", "join", "doors \xff", 10},
		{"a", "join", "[1]", 10},
		{"a", "join", `"lamps"`, 10},
		{"a", "members", "lamps", 0},
		{"a", "members", "", 10},
		{"a", "members", "lamps doors", 10},
		{"a", "switch", "lamps yard", 0},
		{"a", "switch", "yard", 21},
		{"a", "switch", "", 10},
		{"a", "switch", "yard lamps x", 10},
		{"a", "leave", "doors", 0},
		{"a", "leave", "", 10},
		{"a", "leave", "yard x", 10},
		{"a", "switch", "lamps", 0},
		{"a", "mine", "", 0},
		{"a", "mine", "  ", 0},
		{"a", "mine", "lamps", 10},
		{"a", "grant", "join lamps", 10},
		{"a", "grant", "", 10},
		{"a", "show", "lamps", 10},
		{"a", "show", "", 10},
		{"a", "move", "", 30},
		{"op", "move", "a lamps yard", 0},
		{"op", "move", "a yard", 10},
		{"op", "move", "a yard lamps x", 10},
		{"op", "move", "a/b yard lamps", 10},
		{"op", "move", "", 10},
		{"op", "remove", "a yard", 10},
		{"op", "create", "attic", 10},
		{"op", "create", "", 10},
		{"op", "update", "lamps", 10},
		{"op", "delete", "lamps", 10},
		{"op", "delete", "", 10},
		{"op", "list", "group", 10},
		{"op", "account", "list", 10},
		{"op", "account", "", 10},
		{"op", "forget", "a", 10},
		{"op", "forget", "", 10},
	}
	for name, options := range versions {
		s := serve(t, nil)
		clients := map[string]*client{"op": s.operator(options...), "a": s.dial("a", options...)}
		for _, body := range []string{`{"name":"lamps"}`, `{"name":"yard"}`, `{"name":"doors","pin":"4711"}`} {
			clients["op"].must("create", body)
		}
		for _, tt := range tests {
			if a := clients[tt.who].ask(tt.op, tt.body); a.Code != tt.code {
				t.Errorf("%s: %s %q: answered %d, want %d", name, tt.op, tt.body, a.Code, tt.code)
			}
		}
	}
}
