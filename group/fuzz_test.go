package group_test

import (
	"testing"

	"github.com/muster-mqtt/muster/group"
)

// FuzzSwitch makes a random series of changes for three devices. After every
// step the rosters, the records and what a broker would deliver must agree, and
// no epoch may have gone back. A step is two bytes: what and by whom, and the
// groups.
func FuzzSwitch(f *testing.F) {
	f.Add([]byte{0, 0x01, 2, 0x12, 2, 0x21, 1, 0x10})    // join 1, switch to 2, switch back, leave
	f.Add([]byte{0, 0x01, 6, 0x12, 16, 0x01, 17, 0x10})  // join 1, moved to 2, $join/1, UNSUBSCRIBE
	f.Add([]byte{0, 0x01, 64, 0x02, 1, 0x20, 128, 0x01}) // join 1; join 2 fails; delete 1
	f.Fuzz(func(t *testing.T, steps []byte) {
		w := newWorld(group.Limits{MembersPerGroup: 2, GroupsPerDevice: 3})
		delivered := map[group.ClientID]map[group.Number]bool{}
		epochs := map[group.ClientID]group.Epoch{}
		for ; len(steps) >= 2; steps = steps[2:] {
			what, from, to := steps[0], group.Number(steps[1]>>4&7), group.Number(steps[1]&7)
			if what&128 != 0 && what&3 == 0 {
				if g, ok := w.Group(to); ok && !g.Deleted {
					for _, d := range deleteGroup(t, w, to) {
						delete(delivered[d.ClientID], to)
					}
				}
				continue
			}
			c := group.ClientID([]string{"a", "b", "c"}[what>>2&3%3])
			r := group.Request{
				Op: []group.Op{group.OpJoin, group.OpLeave, group.OpSwitch, group.OpForget}[what&3], Client: c, Account: "ann", From: from, To: to,
				Verb: what&16 != 0, Forced: what&32 != 0,
			}
			g, _ := w.Group(to)
			change, err := w.Decide(r, group.Verdict{PolicyRev: g.PolicyRev}, noon)
			if err != nil || !change.Write {
				continue
			}
			if what&64 != 0 {
				w.Stage(change)
				w.Drop(change)
				continue
			}
			if delivered[c] == nil {
				delivered[c] = map[group.Number]bool{}
			}
			for _, n := range change.Lost() {
				delete(delivered[c], n)
			}
			for _, n := range change.Gained() {
				delivered[c][n] = true
			}
			if w.record(change); change.Next.Epoch < epochs[c] || change.Next.Epoch > change.Prev.Epoch+1 {
				t.Fatalf("%s goes from epoch %d to %d, was at %d", c, change.Prev.Epoch, change.Next.Epoch, epochs[c])
			}
			epochs[c] = change.Next.Epoch
			compare(t, w, delivered)
		}
		compare(t, w, delivered)
	})
}

// compare looks for drift between records, rosters and what is delivered.
func compare(t *testing.T, w *world, delivered map[group.ClientID]map[group.Number]bool) {
	t.Helper()
	members := 0
	for _, d := range w.Devices("", 100) {
		if len(d.Groups) != len(delivered[d.ClientID]) || len(d.Groups) > 3 || len(d.Ends) > group.MaxEnds {
			t.Fatalf("%s is in %v, is delivered %v, ends %v", d.ClientID, d.Groups, delivered[d.ClientID], d.Ends)
		}
		for i, m := range d.Groups {
			if !delivered[d.ClientID][m.Number] || i > 0 && m.Number <= d.Groups[i-1].Number || m.Since == 0 {
				t.Fatalf("%s is in %v, is delivered %v", d.ClientID, d.Groups, delivered[d.ClientID])
			}
		}
		if newest, _ := w.Newest(d.ClientID); !same(newest, d) {
			t.Fatalf("nothing is staged, and %+v is decided upon as %+v", d, newest)
		}
		members += len(d.Groups)
	}
	for n := range group.Number(9) {
		roster := w.Members(n, "", 100)
		if len(roster) != w.Count(n) || len(roster) > 2 {
			t.Fatalf("group %d has %v, counted %d", n, roster, w.Count(n))
		}
		for _, c := range roster {
			if !delivered[c][n] {
				t.Fatalf("%s is on the roster of %d, and is delivered %v", c, n, delivered[c])
			}
		}
		members -= len(roster)
	}
	if members != 0 {
		t.Fatalf("the rosters lack %d members", members)
	}
}
