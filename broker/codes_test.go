package broker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store/storetest"
)

// codeRows returns the codes of docs/protocol.md with their names.
func codeRows(t *testing.T) (doc string, codes map[group.Code]string) {
	t.Helper()
	b, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	codes = map[group.Code]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| ([0-9]+) \\|? ?`([a-z_]+)` \\|").FindAllStringSubmatch(string(b), -1) {
		n, err := strconv.ParseUint(m[1], 10, 8)
		if err != nil {
			continue // a key
		}
		codes[group.Code(n)] = m[2]
	}
	if len(codes) < 25 {
		t.Fatalf("the document's tables have %d codes", len(codes))
	}
	return string(b), codes
}

// The names and numbers of the document are those of the code, in JSON and in
// CBOR. The command line prints group.Code's name.
func TestCodesOfTheDocument(t *testing.T) { // [GRP-9-1]
	_, codes := codeRows(t)
	for c, name := range codes {
		if c.Error() != name || c.String() != name {
			t.Errorf("code %d is %q in the document and %q in the program", c, name, c)
		}
		if back, ok := group.ParseCode(name); !ok || back != c {
			t.Errorf("%s is read as %d", name, back)
		}
		if c.Success() != (c < 10) || c.Retryable() != (c == 62 || c >= 80 && c < 90) {
			t.Errorf("%s: success %v, retryable %v", c, c.Success(), c.Retryable())
		}
		a := control.Answer{Code: c, Op: control.OpJoin}
		var j struct {
			Code      uint8
			Err, Text string
		}
		if err := json.Unmarshal(control.EncodeAnswer(a, control.JSON), &j); err != nil || group.Code(j.Code) != c || j.Err != name || j.Text != c.Text() {
			t.Errorf("JSON of %s: %+v, %v", name, j, err)
		}
		var m map[int]any
		if err := cbor.Unmarshal(control.EncodeAnswer(a, control.CBOR), &m); err != nil || m[4] != uint64(c) || len(m) != 2 {
			t.Errorf("CBOR of %s: %v, %v", name, m, err)
		}
	}
}

// The table of Reason Codes, row by row.
func TestReasonCodesOfTheDocument(t *testing.T) { // [GRP-9-2]
	doc, codes := codeRows(t)
	seen := map[group.Code]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([0-9][0-9, to]*) \| 0x([0-9A-F]{2}) [^|]*\| (?:0x([0-9A-F]{2})|granted)`).FindAllStringSubmatch(doc, -1) {
		pub, _ := strconv.ParseUint(m[2], 16, 8)
		sub, _ := strconv.ParseUint(m[3], 16, 8) // 0 if granted
		for _, part := range strings.Split(m[1], ", ") {
			from, to, span := strings.Cut(part, " to ")
			low, _ := strconv.Atoi(from)
			high := low
			if span {
				high, _ = strconv.Atoi(to)
			}
			for n := low; n <= high; n++ {
				c := group.Code(n)
				if _, ok := codes[c]; !ok {
					continue
				}
				seen[c] = true
				if got := control.PubackReason(c); got != byte(pub) {
					t.Errorf("%s: PUBACK 0x%02x, the document says 0x%02x", c, got, pub)
				}
				if got := control.SubackReason(c); got != byte(sub) {
					t.Errorf("%s: SUBACK 0x%02x, the document says 0x%02x", c, got, sub)
				}
			}
		}
	}
	for c := range codes {
		if !seen[c] {
			t.Errorf("%s has no Reason Code in the document", c)
		}
	}
}

// A codeStep is a request and what it is answered.
type codeStep struct {
	who, topic, body string
	code             group.Code
}

// codeSteps lead to each code that a request can be answered with.
func codeSteps(grant func(who, body string) string) []codeStep {
	return []codeStep{
		{"lamp", "$G/join", `{"g":"a"}`, group.OK},
		{"lamp", "$G/join", `{"g":"a"}`, group.Unchanged},
		{"lamp", "$G/join", `{"g":[]}`, group.BadRequest},
		{"lamp", "$G/dance", `{}`, group.UnknownOp},
		{"lamp", "$CONTROL/group/v2/join", `{"g":"a"}`, group.UnsupportedVersion},
		{"lamp", "$G/join", `{"g":"` + strings.Repeat("x", 8<<10) + `"}`, group.TooLarge},
		{"op", "$G/show", `{"g":99}`, group.NoSuchGroup},
		{"op", "$G/show", `{"g":6}`, group.GroupDeleted},
		{"op", "$G/show", `{"device":"nobody"}`, group.NoSuchDevice},
		{"op", "$G/account", `{"op":"update","user":"nobody","role":"observer"}`, group.NoSuchAccount},
		{"lamp", "$G/create", `{"name":"x"}`, group.NotAuthorized},
		{"lamp", "$G/join", `{"g":"v","secret":"1111"}`, group.BadSecret},
		{"lamp", "$G/leave", `{"g":"b"}`, group.NotMember},
		{"lamp", "$G/join", `{"grant":"AAAA"}`, group.GrantUnknown},
		{"lamp", "$G/leave", grant("lamp", `{"op":"join","g":"b"}`), group.GrantMismatch},
		{"lamp", "$G/join", `{"g":"b","id":"1"}`, group.OK},
		{"lamp", "$G/leave", `{"g":"b","id":"1"}`, group.IDReused},
		{"lamp", "$G/switch", `{"to":"c"}`, group.AmbiguousRef},
		{"lamp", "$G/leave", `{"g":"b","epoch":4000000000}`, group.StaleEpoch},
		{"op", "$G/create", `{"name":"A"}`, group.NameTaken},
		{"lamp", "$G/join", `{"g":"c"}`, group.TooManyGroups},
		{"lamp-2", "$G/join", `{"g":"a"}`, group.OK},
		{"lamp-3", "$G/join", `{"g":"a"}`, group.GroupFull},
		{"lamp-3", "$G/join", `{"g":"v","secret":"1111"}`, group.BadSecret},
		{"lamp-3", "$G/join", `{"g":"v","secret":"1112"}`, group.BadSecret},
		{"lamp-3", "$G/join", `{"g":"v","secret":"1113"}`, group.BadSecret},
		{"lamp-3", "$G/join", `{"g":"v","secret":"1114"}`, group.BadSecret},
		{"lamp-3", "$G/join", `{"g":"v","secret":"1115"}`, group.BadSecret},
		{"lamp-3", "$G/join", `{"g":"v","secret":"1116"}`, group.RateLimited},
	}
}

// The code in the answer, in JSON and CBOR, and the Reason Code of the PUBACK or
// PUBREC of each request.
func TestCodesOnTheWire(t *testing.T) { // [GRP-9-1] [GRP-9-2]
	for _, qos := range []byte{1, 2} {
		for _, encoding := range []control.Encoding{control.JSON, control.CBOR} {
			memory := storetest.NewMemory()
			s := serve(t, func(cfg *broker.Config) {
				cfg.Store, cfg.Limits.MembersPerGroup, cfg.Limits.GroupsPerDevice = memory, 2, 2
			})
			clients := map[string]*client{"op": s.operator(v5)}
			verbGroups(clients["op"])
			for _, id := range []string{"lamp", "lamp-2", "lamp-3"} {
				clients[id] = s.dial(id, v5)
			}
			seen := map[group.Code]bool{}
			steps := codeSteps(func(who, body string) string { return redeem(clients[who].must("grant", body).Grant, "") })
			for _, step := range steps {
				checkCode(t, clients[step.who], &step, qos, encoding)
				seen[step.code] = true
			}
			memory.Fail(errors.New("no space left on device"))
			checkCode(t, clients["lamp-2"], &codeStep{"lamp-2", "$G/leave", `{"g":"a"}`, group.Unavailable}, qos, encoding)
			_, codes := codeRows(t)
			for c, name := range codes {
				elsewhere := []group.Code{group.MembershipTerminated, group.GrantExpired, group.GrantUsed, group.Unavailable, group.Internal}
				if !seen[c] && !slices.Contains(elsewhere, c) {
					t.Errorf("no request was answered %s", name)
				}
			}
		}
	}
}

func checkCode(t *testing.T, c *client, step *codeStep, qos byte, encoding control.Encoding) {
	t.Helper()
	body := []byte(step.body)
	if r, err := control.ParseRequest(control.Op(step.topic[strings.LastIndexByte(step.topic, '/')+1:]), body); err == nil && encoding == control.CBOR {
		if body, err = control.EncodeRequest(r, control.CBOR); err != nil {
			t.Fatalf("%s %s: %v", step.topic, step.body, err)
		}
	}
	ack := c.publishWith(nil, step.topic, string(body), qos)
	a, raw := c.answer()
	if a.Code != step.code || ack.ReasonCode != control.PubackReason(step.code) {
		t.Errorf("%s %.60s: answered %s and 0x%02x, want %s and 0x%02x", step.topic, step.body, a.Code, ack.ReasonCode, step.code, control.PubackReason(step.code))
	}
	if step.code.Retryable() != (a.Retry > 0) {
		t.Errorf("%s %.60s: answered %s with retry %d", step.topic, step.body, a.Code, a.Retry)
	}
	if wantText := !step.code.Success(); wantText != strings.HasPrefix(ack.Properties.ReasonString, step.code.Error()+": ") {
		t.Errorf("%s %.60s: Reason String %q", step.topic, step.body, ack.Properties.ReasonString)
	}
	if raw[0] == '{' {
		if !bytes.Contains(raw, []byte(`"err":"`+step.code.Error()+`"`)) {
			t.Errorf("%s %.60s: answered %s", step.topic, step.body, raw)
		}
		return
	}
	var m map[int]any
	if err := cbor.Unmarshal(raw, &m); err != nil || m[4] != uint64(step.code) {
		t.Errorf("%s %.60s: answered % x: %v, %v", step.topic, step.body, raw, m[4], err)
	}
}

// 3.1.1 has no Reason Code: every request is acknowledged, and its answer says
// what came of it.
func TestCodesOn311(t *testing.T) { // [GRP-9-2]
	s := serve(t, nil)
	verbGroups(s.operator())
	c := s.dial("lamp")
	for _, qos := range []byte{1, 2} {
		for _, body := range []string{`{"g":"p"}`, `{"g":`, ``} {
			ack := c.publishWith(nil, "$G/join", body, qos)
			if a, _ := c.answer(); ack.ReasonCode != 0 || ack.FixedHeader.Remaining != 2 || a.Code.Success() {
				t.Errorf("QoS %d, %s: acknowledged %+v, answered %s", qos, body, ack, a.Code)
			}
		}
	}
	if got := c.flushed(); len(got) > 0 && got[0].FixedHeader.Type != packets.Pubcomp {
		t.Errorf("more came: %+v", got)
	}
}

// The verbs' SUBACKs with the codes that other tests do not lead to.
func TestVerbCodes(t *testing.T) { // [GRP-9-2]
	memory := storetest.NewMemory()
	s := serve(t, func(cfg *broker.Config) {
		cfg.Store, cfg.Limits.MembersPerGroup, cfg.Limits.GroupsPerDevice, cfg.Limits.ChangesPerMinute = memory, 1, 1, 2
	})
	op := s.operator()
	verbGroups(op)
	c, d := s.dial("lamp", v5), s.dial("lamp-2", v5)
	told := func(c *client, filter string, reason byte, code group.Code) {
		t.Helper()
		ack := c.subscribeWith(nil, filter)
		c.expectCodes(filter, ack.ReasonCodes, []byte{reason})
		if !strings.HasPrefix(ack.Properties.ReasonString, code.Error()+": ") {
			t.Errorf("%s: Reason String %q, want %s", filter, ack.Properties.ReasonString, code)
		}
	}
	c.expectCodes("join", c.subscribe("$join/a"), []byte{1})
	told(d, "$join/a", 0x97, group.GroupFull)
	told(c, "$join/b", 0x97, group.TooManyGroups)
	c.expectCodes("switch", c.subscribe("$switch/a/b"), []byte{1})
	told(c, "$switch/b/c", 0x97, group.RateLimited)
	c.expectCodes("a repeat", c.subscribe("$switch/a/b"), []byte{1})
	memory.Fail(errors.New("no space left on device"))
	told(d, "$join/a", 0x97, group.Unavailable)
	d.expectCodes("two verbs", d.subscribe("$join/a", "$switch/b/c"), []byte{0x97, 0x97})
}
