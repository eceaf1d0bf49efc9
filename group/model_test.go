package group_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/muster-mqtt/muster/group"
	"pgregory.net/rapid"
)

// A model of one device, in the words of docs/protocol.md and without the code
// under test: the groups it is in, where others have sent it, and its last own
// leave.
type model struct {
	in    map[group.Number]bool
	ends  []group.End // by whom it was sent where; the newest last
	left  group.Number
	epoch int // changes so far
}

// ask says what the request is answered, and makes its effect.
func (m *model) ask(r group.Request, full func(group.Number) bool) group.Code {
	verb := r.Verb && !r.Forced
	to, from := r.To, r.From
	join := func() group.Code {
		if verb {
			if where, ended := m.follow(to); where != 0 {
				return group.Unchanged
			} else if ended {
				return group.MembershipTerminated
			}
		}
		if to == 0 || to > 4 {
			return group.NoSuchGroup
		}
		if full(to) {
			return group.GroupFull
		}
		return group.OK
	}
	switch r.Op {
	case group.OpJoin:
		if m.in[to] {
			return group.Unchanged
		}
		if code := join(); code != group.OK {
			return code
		}
		m.enter(to)
	case group.OpLeave:
		cleared := false
		if verb {
			if where, ended := m.follow(from); ended {
				m.clear(from)
				cleared = true
				if where != 0 {
					m.change()
					delete(m.in, where)
					m.left = from
					return group.OK
				}
			}
		}
		if !m.in[from] {
			if cleared || m.left == from && from != 0 {
				return group.Unchanged
			}
			return group.NotMember
		}
		m.change()
		delete(m.in, from)
		if r.Forced {
			m.end(from, 0)
		} else {
			m.left = from
		}
		return group.OK
	case group.OpSwitch:
		if m.in[to] && (!m.in[from] || from == to) {
			return group.Unchanged
		}
		if verb && !m.in[to] {
			if where, ended := m.follow(to); where != 0 {
				return group.Unchanged
			} else if ended {
				return group.MembershipTerminated
			}
		}
		if !m.in[from] {
			return group.NotMember
		}
		if !m.in[to] {
			if code := join(); code != group.OK {
				return code
			}
		}
		delete(m.in, from)
		if r.Forced {
			m.end(from, to)
		}
		m.enter(to)
	}
	m.change()
	return group.OK
}

func (m *model) change() { m.epoch, m.left = m.epoch+1, 0 }

func (m *model) enter(n group.Number) {
	m.in[n] = true
	m.clear(n)
}

func (m *model) clear(n group.Number) {
	m.ends = slices.DeleteFunc(m.ends, func(e group.End) bool { return e.From == n })
}

func (m *model) end(from, to group.Number) {
	m.clear(from)
	m.ends = append(m.ends, group.End{From: from, To: to})
}

// follow walks from where a device was sent to where it is now.
func (m *model) follow(n group.Number) (group.Number, bool) {
	ended := false
	for range 9 {
		i := slices.IndexFunc(m.ends, func(e group.End) bool { return e.From == n })
		if i < 0 {
			return 0, ended
		}
		ended, n = true, m.ends[i].To
		if n == 0 || m.in[n] {
			return n, true
		}
	}
	return 0, ended
}

// TestModel compares a State with the model over random requests of three
// devices and four groups that hold two members each. Some requests are staged
// and dropped on the way.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(group.Limits{MembersPerGroup: 2})
		devices := []group.ClientID{"a", "b", "c"}
		models := map[group.ClientID]*model{}
		for _, c := range devices {
			models[c] = &model{in: map[group.Number]bool{}}
		}
		ops := rapid.SampledFrom([]group.Op{group.OpJoin, group.OpJoin, group.OpLeave, group.OpSwitch})
		number := rapid.Uint32Range(0, 5)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			r := group.Request{
				Op: ops.Draw(t, "op"), Client: rapid.SampledFrom(devices).Draw(t, "device"), Account: "ann",
				From: group.Number(number.Draw(t, "from")), To: group.Number(number.Draw(t, "to")),
				Verb: rapid.Bool().Draw(t, "verb"), Forced: rapid.Bool().Draw(t, "forced"),
			}
			before, _ := w.Newest(r.Client)
			c, err := w.Decide(r, allow, noon)
			if err == nil && c.Write && rapid.IntRange(0, 9).Draw(t, "fails") == 0 {
				w.Stage(c)
				w.Drop(c)
				if d, _ := w.Newest(r.Client); !same(d, before) {
					t.Fatalf("after Drop: %+v, was %+v", d, before)
				}
				continue
			}
			if err == nil && c.Write {
				c = w.record(c)
			}
			m := models[r.Client]
			changes := m.epoch
			want := m.ask(r, func(n group.Number) bool {
				members := 0
				for _, o := range models {
					if o.in[n] {
						members++
					}
				}
				return members >= 2
			})
			if code := codeOf(c, err); code != want {
				t.Fatalf("%+v is answered %v, want %v", r, code, want)
			}
			if err == nil && int(c.Next.Epoch-c.Prev.Epoch) != m.epoch-changes {
				t.Fatalf("%+v moves the epoch from %d to %d", r, c.Prev.Epoch, c.Next.Epoch)
			}
			d, _ := w.Device(r.Client)
			if fmt.Sprint(groups(d)) != fmt.Sprint(m.groups()) {
				t.Fatalf("after %+v the device is in %v, want %v", r, groups(d), m.groups())
			}
		}
	})
}

func groups(d group.Device) []group.Number {
	out := []group.Number{}
	for _, m := range d.Groups {
		out = append(out, m.Number)
	}
	return out
}

func (m *model) groups() []group.Number {
	out := []group.Number{}
	for n := range group.Number(9) {
		if m.in[n] {
			out = append(out, n)
		}
	}
	return out
}
