package group_test

import (
	"strings"
	"testing"

	"github.com/muster-mqtt/muster/group"
)

// The verbs of one packet make one change: its effect is that of all together,
// and its epoch is the next. [GRP-7-6]
func TestThen(t *testing.T) {
	tests := []struct {
		name   string
		before string
		verbs  string
		want   string // lost and gained by the one change
		code   group.Code
		epoch  group.Epoch // by how much it grows
		last   group.Last
	}{
		{"two joins", "", "join 1; join 2", "+1 +2", 0, 1, group.Last{Op: "join", To: 2, Own: true}},
		{"three joins", "", "join 1; join 2; join 3", "+1 +2 +3", 0, 1, group.Last{Op: "join", To: 3, Own: true}},
		{"a join and a switch onwards", "", "join 1; switch 1 2; switch 2 3", "+3", 0, 1, group.Last{Op: "switch", From: 2, To: 3, Own: true}},
		{"there and back", "join 1", "switch 1 2; switch 2 1", "", 0, 1, group.Last{Op: "switch", From: 2, To: 1, Own: true}},
		{"a change and then a repeat", "join 2", "join 1; join 2", "+1", 0, 1, group.Last{Op: "join", To: 1, Own: true}},
		{"a repeat and then a change", "join 2", "join 2; join 1", "+1", 0, 1, group.Last{Op: "join", To: 1, Own: true}},
		{"repeats", "join 1; join 2", "join 1; join 2", "", group.Unchanged, 0, group.Last{Op: "join", To: 2, Own: true}},
		{"one that is refused between two", "force join 3; force remove 3", "join 1; join 3; join 2", "+1 +2", 0, 1, group.Last{Op: "join", To: 2, Own: true}},
		{"cleared ends and a change", "join 1; force remove 1", "leave 1; join 2", "+2", 0, 1, group.Last{Op: "join", To: 2, Own: true}},
		{"a change and cleared ends", "join 1; force remove 1", "join 2; leave 1", "+2", 0, 1, group.Last{Op: "join", To: 2, Own: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(group.Limits{})
			for step := range strings.SplitSeq(tt.before, "; ") {
				if step != "" {
					w.do(request(t, step))
				}
			}
			before, _ := w.Newest(pump)
			if before.Epoch == 0 {
				before.Epoch = group.Epoch(w.rev) // a new record
			}
			var whole group.Change
			some := false
			for verb := range strings.SplitSeq(tt.verbs, "; ") {
				c, err := w.Decide(request(t, "verb "+verb), allow, noon)
				if err != nil {
					continue
				}
				if some {
					c = whole.Then(c)
				}
				if whole, some = c, true; whole.Write {
					w.Stage(whole)
				}
			}
			if effect(whole) != tt.want || whole.Code != tt.code {
				t.Errorf("%q, %v, want %q, %v", effect(whole), whole.Code, tt.want, tt.code)
			}
			if whole.Prev.Epoch != before.Epoch || whole.Next.Epoch != before.Epoch+tt.epoch {
				t.Errorf("the epoch goes from %d to %d, was %d", whole.Prev.Epoch, whole.Next.Epoch, before.Epoch)
			}
			if tt.epoch > 0 {
				tt.last.Epoch = whole.Next.Epoch
				if whole.Next.Last != tt.last {
					t.Errorf("the last change is %+v, want %+v", whole.Next.Last, tt.last)
				}
			}
			if !whole.Write {
				return
			}
			// Dropped, nothing of it is left; recorded, all of it is there.
			w.Drop(whole)
			if d, _ := w.Newest(pump); before.ClientID != "" && !same(d, before) || before.ClientID == "" && d.ClientID != "" {
				t.Errorf("after Drop the device is %+v, was %+v", d, before)
			}
			if w.Count(1)+w.Count(2)+w.Count(3) != len(before.Groups) {
				t.Error("the rosters changed")
			}
			whole = w.record(whole)
			if d, _ := w.Device(pump); !same(d, whole.Next) || w.Count(1)+w.Count(2)+w.Count(3) != len(d.Groups) {
				t.Errorf("recorded is %+v, want %+v", d, whole.Next)
			}
		})
	}
}
