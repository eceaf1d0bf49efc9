package broker_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// roles connects a client of each role, each with a device in group 1 and not in
// group 2: an observer of all, one of group 1 alone, and an operator who logs in.
func roles(s *testServer, op *client, options ...option) map[string]*client {
	s.t.Helper()
	const password = "correct horse battery"
	for _, body := range []string{
		`{"op":"add","user":"ann","secret":"` + password + `"}`,
		`{"op":"add","user":"eve","role":"observer","secret":"` + password + `"}`,
		`{"op":"add","user":"one","role":"observer","groups":[1],"secret":"` + password + `"}`,
		`{"op":"add","user":"opa","role":"operator","secret":"` + password + `"}`,
	} {
		op.must("account", body)
	}
	all := map[string]*client{"anonymous": s.dial("dev-anonymous", options...)}
	for _, user := range []string{"ann", "eve", "one", "opa"} {
		all[user] = s.dial("dev-"+user, append([]option{login(user, password)}, options...)...)
	}
	for _, c := range all {
		c.must("join", "lamps")
	}
	return all
}

// What is not for a role is answered 30 and changes nothing; what is, is done.
// [GRP-6-1]
func TestOpsOfRoles(t *testing.T) {
	everyone := []string{"anonymous", "ann", "eve", "one", "opa"}
	tests := []struct {
		op, body string
		allowed  []string
	}{
		{"mine", `{}`, everyone},
		{"join", `{"g":"lamps"}`, everyone},
		{"grant", `{"op":"leave","g":"lamps"}`, everyone},
		{"members", `{"g":"lamps"}`, everyone},
		{"show", `{"g":"lamps"}`, everyone},
		{"show", `{"g":"vault"}`, []string{"eve", "opa"}},
		{"members", `{"g":"vault"}`, []string{"eve", "opa"}},
		{"list", `{}`, []string{"eve", "one", "opa"}},
		{"list", `{"kind":"group"}`, []string{"eve", "one", "opa"}},
		{"list", `{"kind":"device"}`, []string{"opa"}},
		{"show", `{"device":"victim"}`, []string{"opa"}},
		{"mine", `{"device":"victim"}`, []string{"opa"}},
		{"account", `{"op":"list"}`, []string{"opa"}},
		{"account", `{"op":"add","user":"new"}`, nil},
		{"account", `{"op":"update","user":"ann","role":"operator"}`, nil},
		{"account", `{"op":"passwd","user":"opa"}`, nil},
		{"account", `{"op":"remove","user":"ann"}`, nil},
		{"account", `{}`, nil},
		{"create", `{"name":"mine"}`, nil},
		{"create", `{}`, nil},
		{"update", `{"g":"lamps","policy":"pin"}`, nil},
		{"update", `{"g":"nowhere"}`, nil},
		{"delete", `{"g":"lamps"}`, nil},
		{"delete", `{"g":"nowhere"}`, nil},
		{"move", `{"device":"victim","from":1,"to":2}`, nil},
		{"move", `{"device":"$self","from":1,"to":2}`, nil},
		{"remove", `{"device":"victim","g":1}`, nil},
		{"remove", `{"device":"$self","g":1}`, nil},
		{"remove", `{"device":"nobody","g":1}`, nil},
		{"forget", `{"device":"victim"}`, nil},
		{"forget", `{"device":"$self"}`, nil},
		{"forget", `{}`, nil},
		{"join", `{"device":"victim","g":2}`, nil},
		{"join", `{"device":"unheard-of","g":2}`, nil},
		{"leave", `{"device":"victim","g":1}`, nil},
		{"switch", `{"device":"victim","from":1,"to":2}`, nil},
		{"grant", `{"device":"victim","op":"join","g":2}`, nil},
	}
	for version, options := range versions {
		t.Run(version, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator()
			op.must("create", `{"name":"lamps"}`)
			op.must("create", `{"name":"yard"}`)
			op.must("create", `{"name":"vault","policy":"pin"}`)
			op.must("join", `{"device":"victim","g":1}`)
			all := roles(s, op, options...)
			before := s.record(op)
			for _, tt := range tests {
				for who, c := range all {
					if who == "opa" && tt.allowed == nil {
						continue // it would be done
					}
					body := strings.ReplaceAll(tt.body, "$self", c.id)
					a := c.ask(tt.op, body)
					if slices.Contains(tt.allowed, who) != a.Code.Success() || !a.Code.Success() && a.Code != group.NotAuthorized {
						t.Errorf("%s %s by %s: answered %d", tt.op, body, who, a.Code)
					}
				}
				if after := s.record(op); after != before {
					t.Fatalf("%s %s: the record is\n%s, was\n%s", tt.op, tt.body, after, before)
				}
			}
			var listed []group.Number
			for _, e := range all["one"].must("list", "").List {
				listed = append(listed, e.N)
			}
			if !slices.Equal(listed, []group.Number{1}) {
				t.Errorf("the observer of group 1 is told of %v", listed)
			}
		})
	}
}

// [GRP-6.1-1] [GRP-6.2-1] [GRP-6.3-1] [GRP-6.3-2]
func TestJoinLeaveSwitch(t *testing.T) {
	type ask struct {
		op, body string
		code     group.Code
		moves    group.Epoch // by how much the epoch grows
		in       string
	}
	tests := []struct {
		name string
		asks []ask
	}{
		{"join", []ask{
			{"join", "lamps", 0, 1, "1"},
			{"join", "lamps", 1, 0, "1"},
			{"join", `{"g":1,"qos":1,"recv":true}`, 1, 0, "1"},
			{"join", `{"g":1,"qos":0}`, 0, 1, "1"},
			{"join", `{"g":1,"qos":0}`, 1, 0, "1"},
			{"join", `{"g":1}`, 1, 0, "1"},
			{"join", `{"g":1,"recv":false}`, 0, 1, "1"},
			{"join", `{"g":1,"recv":false,"qos":0}`, 1, 0, "1"},
			{"join", `{"g":1,"filter":["x/#"]}`, 0, 1, "1"},
			{"join", `{"g":1,"filter":["x/#"]}`, 1, 0, "1"},
			{"join", `{"g":1,"filter":["y"],"recv":true,"qos":1}`, 0, 1, "1"},
			{"join", `{"to":"yard"}`, 0, 1, "1 2"},
			{"join", `{"to":"yard","secret":"nobody asks"}`, 1, 0, "1 2"},
		}},
		{"leave", []ask{
			{"leave", "lamps", 36, 0, ""},
			{"leave", "nowhere", 30, 0, ""},
			{"leave", "99", 30, 0, ""},
			{"leave", "vault", 30, 0, ""},
			{"leave", "gone", 30, 0, ""},
			{"leave", "3", 30, 0, ""},
			{"join", "lamps", 0, 1, "1"},
			{"leave", "lamps", 0, 1, ""},
			{"leave", "lamps", 1, 0, ""},
			{"leave", "1", 1, 0, ""},
			{"leave", "yard", 36, 0, ""},
			{"join", "yard", 0, 1, "2"},
			{"leave", "lamps", 36, 0, "2"},
			{"join", "vault 4711", 0, 1, "2 4"},
			{"leave", `{"from":"vault"}`, 0, 1, "2"},
			{"leave", "vault", 1, 0, "2"},
			{"switch", "yard lamps", 0, 1, "1"},
			{"leave", "yard", 36, 0, "1"},
			{"leave", "vault", 30, 0, "1"},
		}},
		{"switch", []ask{
			{"switch", "lamps yard", 36, 0, ""},
			{"switch", "yard", 36, 0, ""},
			{"switch", "nowhere yard", 30, 0, ""},
			{"join", "lamps", 0, 1, "1"},
			{"switch", "yard vault", 36, 0, "1"},
			{"switch", "yard doors", 36, 0, "1"},
			{"switch", "yard nowhere", 36, 0, "1"},
			{"switch", "yard lamps", 1, 0, "1"},
			{"switch", "nowhere lamps", 1, 0, "1"},
			{"switch", "lamps lamps", 1, 0, "1"},
			{"switch", "lamps yard", 0, 1, "2"},
			{"switch", "lamps yard", 1, 0, "2"},
			{"switch", "lamps", 0, 1, "1"},
			{"join", "yard", 0, 1, "1 2"},
			{"switch", "doors", 21, 0, "1 2"},
			{"switch", "lamps yard", 0, 1, "2"},
			{"switch", `{"from":"yard","g":"lamps","qos":0}`, 0, 1, "1"},
		}},
		{"refused joins of a switch", []ask{
			{"join", "lamps", 0, 1, "1"},
			{"switch", "lamps doors", 31, 0, "1"},
			{"switch", `{"from":"lamps","to":"doors","secret":"0000"}`, 31, 0, "1"},
			{"switch", `{"to":"doors","secret":"0000"}`, 31, 0, "1"},
			{"switch", "lamps vault", 30, 0, "1"},
			{"switch", "lamps nowhere", 30, 0, "1"},
			{"switch", "lamps 3", 30, 0, "1"},
			{"switch", "lamps full", 60, 0, "1"},
			{"switch", `{"to":"yard","epoch":99999}`, 50, 0, "1"},
			{"switch", `{"from":"lamps","to":"yard","filter":["#/x"]}`, 10, 0, "1"},
			{"switch", `{"from":"lamps","to":"doors","secret":"4711"}`, 0, 1, "5"},
		}},
	}
	for version, options := range versions {
		for _, tt := range tests {
			t.Run(version+" "+tt.name, func(t *testing.T) {
				s := serve(t, func(c *broker.Config) { c.Authority.PINGuesses, c.Limits.MembersPerGroup = 1000, 2 })
				op := s.operator()
				for _, body := range []string{
					`{"name":"lamps"}`, `{"name":"yard"}`, `{"name":"gone"}`, `{"name":"vault","pin":"4711"}`,
					`{"name":"doors","pin":"4711","visible":"all"}`, `{"name":"full"}`,
				} {
					op.must("create", body)
				}
				op.must("delete", `{"g":"gone"}`)
				op.must("join", `{"device":"x","g":"full"}`)
				op.must("join", `{"device":"y","g":"full"}`)
				c := s.dial("a", options...)
				epoch := op.must("show", `{"device":"a"}`).Epoch
				for _, r := range tt.asks {
					before := s.record(op)
					a := c.ask(r.op, r.body)
					shown := op.must("show", `{"device":"a"}`)
					if a.Code != r.code || a.Epoch != shown.Epoch && a.Code != group.BadRequest || shown.Epoch != epoch+r.moves {
						t.Errorf("%s %s: %+v, was at epoch %d, is at %d", r.op, r.body, a, epoch, shown.Epoch)
					}
					epoch = shown.Epoch
					if in := strings.Trim(fmt.Sprint(c.groups()), "[]"); in != r.in {
						t.Errorf("%s %s: the device is in %s, want %s", r.op, r.body, in, r.in)
					}
					if after := s.record(op); r.moves == 0 && after != before {
						t.Errorf("%s %s: the record is\n%s, was\n%s", r.op, r.body, after, before)
					}
				}
			})
		}
	}
}

// A mine that is asked for while others move the device, and delete its groups,
// tells the groups from which it receives at that point of its stream: those that
// the notices before it leave, and of the messages around it. [GRP-6.5-1]
func TestMineStandsAtItsPoint(t *testing.T) {
	const deleted = 40
	for version, options := range versions {
		s := serve(t, func(c *broker.Config) { c.Limits.QueueMessages = 100_000 })
		op := s.operator()
		c := s.dial("a", options...)
		for i := range deleted + 2 {
			op.must("create", fmt.Sprintf(`{"name":"group-%d"}`, i+1))
			c.must("join", fmt.Sprint(i+1))
		}
		c.must("leave", "2")
		c.subscribe("$G/me")
		in := map[group.Number]bool{}
		for _, e := range c.notice().List {
			in[e.N] = true
		}
		publisher := s.accepted(attempt(t, "unix", s.socket, "muster~publisher"))
		done := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
					publisher.publish(fmt.Sprintf("g/%d/all/muster/x", 1+i%(deleted+2)), "x", 1)
				}
			}
		})
		wg.Go(func() {
			defer close(done)
			for i := range deleted {
				op.must("move", "a 1 2")
				op.must("delete", fmt.Sprintf(`{"g":%d}`, i+3))
				op.must("move", "a 2 1")
			}
		})
		asked := 0
		for moving := true; moving; asked++ {
			pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "$G/mine"}
			c.write(&pk, (*packets.Packet).PublishEncode)
			c.putBack(c.flushed())
			select {
			case <-done:
				moving = false
			default:
			}
		}
		wg.Wait()
		answers, messages := 0, 0
		for _, pk := range c.flushed() {
			switch {
			case pk.TopicName == control.MeTopic:
				n, err := control.DecodeNotice(pk.Payload)
				if err != nil {
					t.Fatal(err)
				}
				if delete(in, n.From); n.To != 0 {
					in[n.To] = true
				}
			case pk.TopicName == control.AnswerTopic:
				a, err := control.DecodeAnswer(pk.Payload)
				same := len(a.List) == len(in)
				for _, e := range a.List {
					same = same && in[e.N]
				}
				if answers++; err != nil || !same {
					t.Fatalf("%s: mine says %s, the device is in %v", version, pk.Payload, in)
				}
			case pk.FixedHeader.Type == packets.Publish:
				topic, _ := control.ParseTopic(pk.TopicName)
				if messages++; !in[topic.Number] {
					t.Fatalf("%s: received %s, the device is in %v", version, pk.TopicName, in)
				}
			}
		}
		if answers != asked || messages == 0 || len(in) != 1 {
			t.Errorf("%s: %d answers to %d, %d messages, in %v", version, answers, asked, messages, in)
		}
	}
}

// [GRP-6.6-1]
func TestMembers(t *testing.T) {
	for version, options := range versions {
		s := serve(t, nil)
		op := s.operator()
		op.must("create", `{"name":"lamps"}`)
		op.must("create", `{"name":"yard"}`)
		op.must("create", `{"name":"vault","policy":"pin"}`)
		all := roles(s, op, options...)
		for _, id := range []string{"b", "a", "B", "a.10", "a.9", "é", "Z", "_"} {
			op.must("join", fmt.Sprintf(`{"device":"%s","g":"yard"}`, id))
		}
		op.must("remove", `{"device":"a","g":"yard"}`)
		op.must("move", "b yard lamps")
		want := []string{"B", "Z", "_", "a.10", "a.9", "é"}
		op.must("join", `{"device":"a.9","g":"vault"}`)
		check := func(c *client, ref string, code group.Code, want ...string) {
			t.Helper()
			a := c.refused(code, "members", ref)
			var got []string
			for _, e := range a.List {
				got = append(got, string(e.Device))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: members %s by %s: %q, want %q", version, ref, c.id, got, want)
			}
		}
		check(op, "yard", 0, want...)
		check(all["eve"], "yard", 0, want...)
		check(all["one"], "yard", 36)
		check(all["ann"], "yard", 36)
		check(all["anonymous"], "2", 36)
		check(all["ann"], "vault", 30)
		check(all["one"], "vault", 30)
		check(all["eve"], "vault", 0, "a.9")
		check(all["one"], "lamps", 0, "b", "dev-ann", "dev-anonymous", "dev-eve", "dev-one", "dev-opa")
		all["ann"].must("join", "yard")
		check(all["ann"], "yard", 0, append([]string{"B", "Z", "_", "a.10", "a.9", "dev-ann"}, "é")...)
		all["ann"].must("leave", "yard")
		check(all["ann"], "yard", 36)
		for _, e := range op.must("members", "lamps").List {
			if want := e.Device != "b"; *e.Online != want || e.User == "" && want || e.Since == 0 || e.At == 0 {
				t.Errorf("%s: %+v", version, e)
			}
		}
		op.must("delete", `{"g":"yard"}`)
		check(op, "2", 22)
		check(all["one"], "2", 30)
	}
}

// What an operator does for a device takes effect while it is away, connected or
// between, and holds when it returns: for its roster, its record and what it
// receives. [GRP-6.7-1]
func TestOperatorActsForAnAbsentDevice(t *testing.T) {
	acts := []struct{ op, body, in string }{
		{"join", `{"device":"a","g":"lamps"}`, "1"},
		{"move", `{"device":"a","from":"lamps","to":"doors"}`, "3"},
		{"switch", `{"device":"a","from":"doors","to":"yard"}`, "2"},
		{"join", `{"device":"a","g":"doors"}`, "2 3"},
		{"remove", `{"device":"a","g":"yard"}`, "3"},
		{"leave", `{"device":"a","g":"doors"}`, ""},
	}
	for version, options := range versions {
		for _, away := range []string{"never there", "cut", "gone", "restarted", "connected"} {
			t.Run(version+" "+away, func(t *testing.T) {
				s := serve(t, nil)
				op := s.operator()
				op.must("create", `{"name":"lamps"}`)
				op.must("create", `{"name":"yard"}`)
				op.must("create", `{"name":"doors","pin":"4711"}`)
				var c *client
				dial := func() { c = s.dial("a", append([]option{persistent}, options...)...) }
				if away != "never there" {
					dial()
				}
				for _, act := range acts {
					switch {
					case away == "cut":
						s.cut(op, c)
					case away == "gone":
						c.disconnect()
					case away == "restarted":
						c.disconnect()
						s.restart()
						op = s.operator()
					}
					a := op.must(act.op, act.body)
					if a.Device != "a" {
						t.Errorf("%s %s: %+v", act.op, act.body, a)
					}
					if away != "connected" {
						dial()
					}
					if in := strings.Trim(fmt.Sprint(c.groups()), "[]"); in != act.in {
						t.Errorf("%s %s: the device is in %q, want %q", act.op, act.body, in, act.in)
					}
					var want []string
					for n := 1; n <= 3; n++ {
						op.publish(fmt.Sprintf("g/%d/all/muster", n), "x", 1)
						if strings.Contains(act.in, fmt.Sprint(n)) {
							want = append(want, fmt.Sprintf("g/%d/all/muster x", n))
						}
					}
					c.expectMessages(want...)
					if away == "never there" {
						c.disconnect()
					}
				}
			})
		}
	}
}

// [GRP-6.7-2]
func TestDeviceOfAnother(t *testing.T) {
	for version, options := range versions {
		s := serve(t, nil)
		op := s.operator(options...)
		op.must("create", `{"name":"lamps"}`)
		op.must("create", `{"name":"yard"}`)
		op.must("create", `{"name":"gone"}`)
		op.must("delete", `{"g":"gone"}`)
		all := roles(s, op, options...)
		op.must("join", `{"device":"there","g":1}`)
		grant := base64.RawURLEncoding.EncodeToString(all["ann"].must("grant", `{"op":"join","g":2}`).Grant)
		requests := [][2]string{
			{"leave", `"g":1`}, {"switch", `"from":1,"to":2`}, {"grant", `"op":"join","g":2`}, {"grant", `"op":"leave","g":1`},
			{"leave", `"grant":"` + grant + `"`}, {"leave", `"g":99`}, {"move", `"from":1,"to":2`}, {"remove", `"g":1`}, {"mine", ``}, {"show", ``}, {"forget", ``},
		}
		before := s.record(op)
		for _, r := range append([][2]string{{"join", `"g":2`}, {"join", `"grant":"` + grant + `"`}}, requests...) {
			for _, device := range []string{"there", "nobody", "muster"} {
				body := strings.Replace(fmt.Sprintf(`{"device":"%s",%s}`, device, r[1]), ",}", "}", 1)
				for who, c := range all {
					if who == "opa" {
						continue
					}
					if a := c.ask(r[0], body); a.Code != group.NotAuthorized || a.Epoch != 0 || a.HasList {
						t.Errorf("%s: %s %s by %s: %+v", version, r[0], body, who, a)
					}
				}
			}
		}
		if after := s.record(op); after != before {
			t.Errorf("%s: the record is\n%s, was\n%s", version, after, before)
		}
		for _, r := range requests {
			body := strings.Replace(fmt.Sprintf(`{"device":"nobody",%s}`, r[1]), ",}", "}", 1)
			op.refused(group.NoSuchDevice, r[0], body)
		}
		// A join makes it known, and a refused one does not.
		op.refused(group.GroupDeleted, "join", `{"device":"fresh","g":3}`)
		op.refused(group.NoSuchDevice, "show", `{"device":"fresh"}`)
		op.must("join", `{"device":"fresh","g":2}`)
		if a := op.must("show", `{"device":"fresh"}`); a.Kind != "offline" || len(a.List) != 1 {
			t.Errorf("%s: %+v", version, a)
		}
		op.must("leave", `{"device":"fresh","g":2}`)
		// With its own identifier the key says nothing new.
		all["ann"].must("join", `{"device":"dev-ann","g":2}`)
		all["ann"].must("mine", `{"device":"dev-ann"}`)
	}
}
