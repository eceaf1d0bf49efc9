package broker_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/group"
)

// Asked again with its id, a request that changed something has its effect once:
// by the same connection, by a side connection, after a lost connection and after
// a restart, also when its effect has been undone. [GRP-5.5-1]
func TestAskedAgain(t *testing.T) {
	for version, options := range versions {
		t.Run(version, func(t *testing.T) {
			s := serve(t, nil)
			op := s.operator()
			op.must("create", `{"name":"lamps"}`)
			op.must("create", `{"name":"yard"}`)
			c := s.dial("a", options...)
			const body = `{"from":"lamps","to":"yard","id":"x1"}`
			c.refused(group.NotMember, "switch", body) // refused: not remembered
			c.must("join", "lamps")
			first := c.must("switch", body)
			again := func(by *client, state string) {
				t.Helper()
				before := s.record(op)
				a := by.must("switch", body)
				if a.Why != "repeat" || a.State != state || a.N != 2 || string(a.ID) != "x1" || a.Epoch < first.Epoch {
					t.Errorf("%+v, first %+v", a, first)
				}
				if shown := op.must("show", `{"device":"a"}`); shown.Epoch != a.Epoch {
					t.Errorf("answered epoch %d, it is %d", a.Epoch, shown.Epoch)
				}
				if after := s.record(op); after != before {
					t.Errorf("the record is\n%s, was\n%s", after, before)
				}
			}
			again(c, "member")
			again(s.dial("a~1", options...), "member")
			c.must("switch", "yard lamps")
			again(c, "out")
			op.must("move", "a lamps yard")
			again(c, "member")
			op.must("remove", `{"device":"a","g":"yard"}`)
			s.cut(op, c)
			c = s.dial("a", options...)
			again(c, "out")
			s.restart()
			op, c = s.operator(), s.dial("a", options...)
			again(c, "out")
			c.refused(group.NotMember, "switch", `{"from":"lamps","to":"yard","id":"x2"}`)
		})
	}
}

// The same holds for operators; what was generated is not told again. [GRP-5.5-1]
func TestOperatorAsksAgain(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	requests := []struct {
		op, body string
		makes    bool // a PIN or password
	}{
		{"create", `{"name":"lamps","policy":"pin","id":"1"}`, true},
		{"update", `{"g":"lamps","name":"lights","id":"2"}`, false},
		{"account", `{"op":"add","user":"ann","id":"3"}`, true},
		{"account", `{"op":"passwd","user":"ann","id":"4"}`, true},
		{"join", `{"device":"a","g":1,"id":"5"}`, false},
		{"remove", `{"device":"a","g":1,"id":"6"}`, false},
		{"forget", `{"device":"a","id":"7"}`, false},
		{"account", `{"op":"remove","user":"ann","id":"8"}`, false},
		{"delete", `{"g":1,"id":"9"}`, false},
	}
	for _, r := range requests {
		first := op.must(r.op, r.body)
		if made := first.PIN+first.Secret != ""; made != r.makes {
			t.Errorf("%s %s: generated something: %v", r.op, r.body, made)
		}
	}
	for restarted := range 2 {
		before := s.record(op)
		for _, r := range requests {
			a := op.must(r.op, r.body)
			if a.Why != "repeat" || a.PIN != "" || a.Secret != "" {
				t.Errorf("restarted %d times: %s %s: %+v", restarted, r.op, r.body, a)
			}
		}
		if after := s.record(op); after != before {
			t.Errorf("the record is\n%s, was\n%s", after, before)
		}
		s.restart()
		op = s.operator()
	}
}

// Two at once with one id have the effect once. [GRP-5.5-1]
func TestAskedTwiceAtOnce(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	var clients []*client
	for i := range 8 {
		clients = append(clients, s.dial(fmt.Sprintf("a~%d", i)))
	}
	why := make([]string, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { why[i] = c.must("join", `{"g":1,"id":"once"}`).Why })
	}
	wg.Wait()
	first := 0
	for _, w := range why {
		if w != "repeat" {
			first++
		}
	}
	if first != 1 {
		t.Errorf("the effects were %q", why)
	}
}

// An id with another op or body is refused, and that of another account or
// device is its own. [GRP-5.5-2]
func TestIDOfAnotherRequest(t *testing.T) {
	tests := []struct {
		name, who, op, body string
		code                group.Code
	}{
		{"another op", "a", "leave", `{"g":1,"id":"x"}`, 51},
		{"another group", "a", "join", `{"g":2,"id":"x"}`, 51},
		{"another option", "a", "join", `{"g":1,"id":"x","qos":0}`, 51},
		{"another reference to the group", "a", "join", `{"g":"lamps","id":"x"}`, 51},
		{"another order of keys", "a", "join", `{"id":"x","g":1}`, 51},
		{"by a side connection", "a~1", "join", `{"g":2,"id":"x"}`, 51},
		{"another device", "b", "join", `{"g":2,"id":"x"}`, 0},
		{"another account, for the same device", "op", "join", `{"device":"a","g":2,"id":"x"}`, 0},
		{"another id", "a", "join", `{"g":1,"id":"X"}`, 1},
		{"without one", "a", "join", `{"g":1}`, 1},
		{"the same", "a", "join", `{"g":1,"id":"x"}`, 0},
	}
	for version, options := range versions {
		for _, restart := range []bool{false, true} {
			for _, tt := range tests {
				s := serve(t, nil)
				op := s.operator()
				op.must("create", `{"name":"lamps"}`)
				op.must("create", `{"name":"yard"}`)
				c := s.dial("a", options...)
				c.must("join", `{"g":1,"id":"x"}`)
				c.disconnect()
				if restart {
					s.restart()
					op = s.operator()
				}
				by := op
				if tt.who != "op" {
					by = s.dial(tt.who, options...)
				}
				before := s.record(op)
				if a := by.ask(tt.op, tt.body); a.Code != tt.code {
					t.Errorf("%s, restart %v: %s: answered %d, want %d", version, restart, tt.name, a.Code, tt.code)
				}
				if after := s.record(op); tt.code == group.IDReused && after != before {
					t.Errorf("%s, restart %v: %s: the record is\n%s, was\n%s", version, restart, tt.name, after, before)
				}
			}
		}
	}
}

// Ten minutes are enough to be forgotten. [GRP-5.5-1]
func TestForgottenAfterTenMinutes(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := serve(t, func(c *broker.Config) {
		c.SetClock(func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		})
	})
	pass := func(d time.Duration) {
		mu.Lock()
		now = now.Add(d)
		mu.Unlock()
	}
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	c := s.dial("a")
	c.must("join", `{"g":1,"id":"x"}`)
	c.must("leave", "1")
	pass(10*time.Minute - time.Second)
	if a := c.must("join", `{"g":1,"id":"x"}`); a.Why != "repeat" || a.State != "out" {
		t.Errorf("%+v", a)
	}
	pass(time.Second)
	if a := c.must("join", `{"g":1,"id":"x"}`); a.Why == "repeat" || a.State != "member" {
		t.Errorf("%+v", a)
	}
}

// What was refused is decided anew. [GRP-5.5-3]
func TestRefusedIsDecidedAnew(t *testing.T) {
	for version, options := range versions {
		s := serve(t, nil)
		op := s.operator()
		op.must("create", `{"name":"lamps","pin":"4711","visible":"all"}`)
		c := s.dial("a", options...)
		c.refused(group.BadSecret, "join", `{"g":1,"secret":"4712","id":"x"}`)
		c.refused(group.BadSecret, "join", `{"g":1,"secret":"4712","id":"x"}`)
		op.must("update", `{"g":1,"pin":"4712"}`)
		if a := c.must("join", `{"g":1,"secret":"4712","id":"x"}`); a.Why == "repeat" || a.State != "member" {
			t.Errorf("%s: %+v", version, a)
		}
		c.refused(group.IDReused, "join", `{"g":1,"secret":"4713","id":"x"}`)
		// One that changed nothing is no repeat either.
		c.refused(group.Unchanged, "join", `{"g":1,"id":"y"}`)
		c.must("leave", `{"g":1,"id":"y"}`)
		op.refused(group.NameTaken, "create", `{"name":"LAMPS","id":"z"}`)
		op.must("update", `{"g":1,"name":"lights"}`)
		op.must("delete", `{"g":1}`)
		if a := op.must("create", `{"name":"LAMPS","id":"z"}`); a.Why == "repeat" || a.N != 2 {
			t.Errorf("%s: %+v", version, a)
		}
	}
}

// A request for another epoch than the device's is answered 50 with the epoch
// that is, whatever else there is to say of it. [GRP-5.5-4]
func TestEpochOfARequest(t *testing.T) {
	for version, options := range versions {
		s := serve(t, nil)
		op := s.operator()
		for _, body := range []string{`{"name":"lamps"}`, `{"name":"yard"}`, `{"name":"doors","pin":"4711"}`} {
			op.must("create", body)
		}
		c := s.dial("a", options...)
		epoch := c.must("join", "lamps").Epoch
		before := s.record(op)
		for _, stale := range []group.Epoch{0, epoch - 1, epoch + 1, 1<<63 - 1} {
			tests := []struct {
				by       *client
				op, body string
			}{
				{c, "join", `{"g":"yard"`},
				{c, "join", `{"g":"lamps"`},
				{c, "join", `{"g":"lamps","qos":0`},
				{c, "join", `{"g":"doors","secret":"4711"`},
				{c, "join", `{"g":"doors","secret":"0000"`},
				{c, "join", `{"g":"nowhere"`},
				{c, "leave", `{"g":"lamps"`},
				{c, "leave", `{"g":"yard"`},
				{c, "leave", `{"g":"nowhere"`},
				{c, "switch", `{"to":"yard"`},
				{c, "switch", `{"from":"yard","to":"lamps"`},
				{c, "switch", `{"from":"yard","to":"doors"`},
				{c, "grant", `{"op":"join","g":"yard"`},
				{c, "join", `{"grant":"AAAA"`},
				{op, "join", `{"device":"a","g":"yard"`},
				{op, "move", `{"device":"a","from":"lamps","to":"yard"`},
				{op, "remove", `{"device":"a","g":"lamps"`},
				{op, "remove", `{"device":"a","g":99`},
			}
			for _, tt := range tests {
				body := fmt.Sprintf(`%s,"epoch":%d}`, tt.body, stale)
				if a := tt.by.ask(tt.op, body); a.Code != group.StaleEpoch || a.Epoch != epoch {
					t.Errorf("%s: %s %s: answered %d, epoch %d, want 50, %d", version, tt.op, body, a.Code, a.Epoch, epoch)
				}
			}
		}
		if after := s.record(op); after != before {
			t.Errorf("%s: the record is\n%s, was\n%s", version, after, before)
		}
		a := c.must("switch", fmt.Sprintf(`{"to":"yard","epoch":%d}`, epoch))
		op.must("move", fmt.Sprintf(`{"device":"a","from":"yard","to":"lamps","epoch":%d}`, a.Epoch))
		c.refused(group.StaleEpoch, "leave", fmt.Sprintf(`{"g":"lamps","epoch":%d}`, a.Epoch))
		c.must("leave", fmt.Sprintf(`{"g":"lamps","epoch":%d}`, a.Epoch+1))
	}
}
