package group_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/muster-mqtt/muster/group"
)

func join(c group.ClientID, n group.Number) group.Request {
	r := group.Join(c, n)
	r.Account = "ann"
	return r
}

// Quotas count what is recorded and what is staged, so that two changes under
// way do not break one together.
func TestQuotas(t *testing.T) {
	type step struct {
		what string
		r    group.Request
		code group.Code
	}
	tests := []struct {
		name   string
		limits group.Limits
		steps  []step // "stage", "record", or "drop" what was staged last
	}{
		// [GRP-12-2]
		{"members, recorded", group.Limits{MembersPerGroup: 1}, []step{
			{"record", join("a", north), 0}, {"record", join("b", north), group.GroupFull},
			{"record", group.Leave("a", north), 0}, {"record", join("b", north), 0},
		}},
		{"members, staged", group.Limits{MembersPerGroup: 1}, []step{
			{"stage", join("a", north), 0}, {"record", join("b", north), group.GroupFull},
		}},
		{"members, staged and dropped", group.Limits{MembersPerGroup: 1}, []step{
			{"stage", join("a", north), 0}, {"drop", group.Request{}, 0}, {"record", join("b", north), 0},
		}},
		{"a leave that is not recorded frees no place", group.Limits{MembersPerGroup: 1}, []step{
			{"record", join("a", north), 0}, {"stage", group.Leave("a", north), 0}, {"record", join("b", north), group.GroupFull},
		}},
		{"one's own place, between two verbs of one packet", group.Limits{MembersPerGroup: 1}, []step{
			{"record", join("a", north), 0}, {"stage", group.Leave("a", north), 0}, {"record", join("a", north), 0},
		}},
		{"a member's join of a full group", group.Limits{MembersPerGroup: 1}, []step{
			{"record", join("a", north), 0}, {"record", join("a", north), group.Unchanged},
		}},
		{"a switch into a full group", group.Limits{MembersPerGroup: 1}, []step{
			{"record", join("a", north), 0}, {"record", join("b", south), 0}, {"record", group.Switch("b", south, north), group.GroupFull},
		}},
		{"groups of a device", group.Limits{GroupsPerDevice: 2}, []step{
			{"record", join("a", north), 0}, {"record", join("a", south), 0}, {"record", join("a", east), group.TooManyGroups},
			{"record", group.Switch("a", south, east), 0},
		}},
		{"identifiers of an account", group.Limits{DevicesPerAccount: 1, AnonymousDevices: 1}, []step{
			{"stage", group.Request{Op: group.OpBind, Client: "a", Account: "ann"}, 0},
			{"record", group.Request{Op: group.OpBind, Client: "b", Account: "Ann"}, group.Unavailable},
			{"record", group.Request{Op: group.OpBind, Client: "b", Account: "anonymous"}, 0},
			{"record", group.Request{Op: group.OpBind, Client: "c", Account: "anonymous"}, group.Unavailable},
		}},
		{"identifiers that are claimed together", group.Limits{DevicesPerAccount: 1}, []step{
			{"record", group.Request{Op: group.OpBind, Client: "a", Account: "anonymous"}, 0},
			{"record", group.Request{Op: group.OpBind, Client: "b", Account: "anonymous"}, 0},
			{"stage", group.Request{Op: group.OpBind, Client: "a", Account: "ann"}, 0},
			{"record", group.Request{Op: group.OpBind, Client: "b", Account: "ann"}, group.Unavailable},
			{"drop", group.Request{}, 0},
			{"record", group.Request{Op: group.OpBind, Client: "b", Account: "ann"}, 0},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.limits)
			var staged group.Change
			for i, s := range tt.steps {
				if s.what == "drop" {
					w.Drop(staged)
					continue
				}
				c, err := w.Decide(s.r, allow, noon)
				if code := codeOf(c, err); code != s.code {
					t.Fatalf("step %d: %v, want %v", i, code, s.code)
				}
				switch {
				case err != nil || !c.Write:
				case s.what == "stage":
					w.Stage(c)
					staged = c
				default:
					w.record(c)
				}
			}
		})
	}
}

// What is staged is decided upon and not shown; what is dropped never was.
func TestStagedIsNotShown(t *testing.T) {
	w := newWorld(group.Limits{})
	c, err := w.Decide(join(pump, north), allow, noon)
	if err != nil {
		t.Fatal(err)
	}
	w.Stage(c)
	if d, ok := w.Device(pump); ok || w.Count(north) != 0 || len(w.Devices("", 10)) != 0 {
		t.Errorf("a staged device is shown: %v", d)
	}
	if d, ok := w.Newest(pump); !ok || len(d.Groups) != 1 {
		t.Errorf("a staged device is not decided upon: %v", d)
	}
	w.Drop(c)
	if _, ok := w.Newest(pump); ok || len(w.Bound("ann")) != 0 {
		t.Errorf("a dropped device is there: bound are %v", w.Bound("ann"))
	}
	w.do(join(pump, north))
	if w.Count(north) != 1 || !slices.Equal(w.Members(north, "", 10), []group.ClientID{pump}) || len(w.Devices("", 10)) != 1 {
		t.Errorf("a recorded member is not shown")
	}
	if d, _ := w.Device(pump); d.Groups[0].Since != w.rev {
		t.Errorf("a member since %d, want %d", d.Groups[0].Since, w.rev)
	}
}

// A deleted record does not bring an old epoch back: what was granted for the
// device that it was never fits the one that it becomes.
func TestEpochNeverGoesBack(t *testing.T) {
	w := newWorld(group.Limits{})
	var last group.Epoch
	for range 5 {
		for _, step := range []string{"bind", "join 1", "join 2", "leave 1", "force forget"} {
			c, err := w.do(request(t, step))
			if err != nil {
				t.Fatal(err)
			}
			if c.Next.Epoch <= last && step != "bind" || c.Next.Epoch < last || group.Rev(c.Next.Epoch) > w.rev {
				t.Fatalf("%s at rev %d: epoch %d after %d", step, w.rev, c.Next.Epoch, last)
			}
			if step == "bind" && c.Next.Epoch == last {
				t.Fatalf("the new record begins with the epoch at which the old one ended: %d", last)
			}
			last = c.Next.Epoch
		}
	}
}

// deleteGroup records that a group is deleted, and returns whom it had.
func deleteGroup(t *testing.T, w *world, n group.Number) []group.Device {
	t.Helper()
	g, _ := w.Group(n)
	g.Deleted = true
	c, err := w.DecideGroup(group.OpDelete, g, "root", noon)
	if err != nil {
		t.Fatal(err)
	}
	w.Stage(c)
	w.rev++
	_, ended := w.Settle(c, w.rev)
	return ended
}

// A deleted group ends its memberships at once, with one epoch each, and what
// is read is the same before the records are tidied, after, and after a restart
// in between.
func TestDeletedGroup(t *testing.T) {
	w := newWorld(group.Limits{})
	stored := map[group.ClientID]group.Device{}
	for i := range 5 {
		c := group.ClientID(fmt.Sprint("pump-", i))
		w.do(join(c, north))
		w.do(join(c, south))
		stored[c], _ = w.Device(c)
	}
	ended := deleteGroup(t, w, north)
	if len(ended) != 5 || w.Count(north) != 0 || w.Count(south) != 5 {
		t.Fatalf("%d memberships ended, %d left in north", len(ended), w.Count(north))
	}
	seen := map[group.ClientID]group.Device{}
	for _, d := range ended {
		if d.Epoch != stored[d.ClientID].Epoch+1 || len(d.Groups) != 1 {
			t.Errorf("%s is now %+v", d.ClientID, d)
		}
		seen[d.ClientID] = d
	}

	again := newWorld(group.Limits{})
	g, _ := w.Group(north)
	again.LoadGroup(g, w.rev)
	for _, d := range stored {
		again.LoadDevice(d, 1)
	}
	again.rev = w.rev
	again.Loaded(w.rev)
	for _, w := range []*world{w, again} {
		if dirty := w.Dirty(); len(dirty) != 5 {
			t.Fatalf("dirty are %v", dirty)
		}
		for c := range seen {
			if d, _ := w.Device(c); !same(d, seen[c]) {
				t.Errorf("%s is read as %+v, want %+v", c, d, seen[c])
			}
			tidy := w.Tidy(c)
			if !tidy.Write || tidy.Delete || !same(tidy.Next, seen[c]) {
				t.Errorf("tidying makes %+v of %+v", tidy.Next, seen[c])
			}
			w.record(tidy)
			if d, _ := w.Device(c); !same(d, seen[c]) || w.Tidy(c).Write {
				t.Errorf("after tidying %s is %+v, want %+v", c, d, seen[c])
			}
		}
		if dirty := w.Dirty(); len(dirty) != 0 {
			t.Errorf("dirty are still %v", dirty)
		}
	}
}

// A change that was staged before its group's deletion, and one that was staged
// after it, end up as if they had been made one after the other.
func TestChangesAroundADeletion(t *testing.T) {
	w := newWorld(group.Limits{})
	w.do(join("b", north))
	before, _ := w.Decide(join("a", north), allow, noon)
	w.Stage(before)
	g, _ := w.Group(north)
	g.Deleted = true
	deletion, _ := w.DecideGroup(group.OpDelete, g, "root", noon)
	w.Stage(deletion)
	after, err := w.Decide(join("b", south), allow, noon)
	if err != nil || effect(after) != "+2" {
		t.Fatalf("%q, %v", effect(after), err)
	}
	w.Stage(after)
	if c, err := w.Decide(join("c", north), group.Verdict{PolicyRev: 2}, noon); codeOf(c, err) != group.GroupDeleted {
		t.Errorf("a join of a group that is being deleted is answered %v", codeOf(c, err))
	}
	w.Settle(before, 111)
	if _, ended := w.Settle(deletion, 112); len(ended) != 2 {
		t.Errorf("%d memberships ended", len(ended))
	}
	w.Settle(after, 113)
	for c, want := range map[group.ClientID]string{"a": "[]", "b": "[2]"} {
		d, _ := w.Device(c)
		in := make([]group.Number, len(d.Groups))
		for i, m := range d.Groups {
			in[i] = m.Number
		}
		if fmt.Sprint(in) != want {
			t.Errorf("%s is in %v, want %s", c, in, want)
		}
	}
	if dirty := w.Dirty(); !slices.Equal(dirty, []group.ClientID{"a"}) {
		t.Errorf("dirty are %v: b's record was written after the deletion", dirty)
	}
}

// A deletion that could not be recorded leaves the group as it was.
func TestDroppedDeletion(t *testing.T) {
	w := newWorld(group.Limits{})
	w.do(join(pump, north))
	g, _ := w.Group(north)
	g.Deleted = true
	c, _ := w.DecideGroup(group.OpDelete, g, "root", noon)
	w.Stage(c)
	if _, err := w.Resolve(group.Ref{Name: "north"}, noon, nil); err == nil {
		t.Error("the name of a group that is being deleted still leads to it")
	}
	w.Drop(c)
	if n, err := w.Resolve(group.Ref{Name: "north"}, noon, nil); n != north || err != nil {
		t.Errorf("north is %v, %v", n, err)
	}
	if d, _ := w.Newest(pump); len(d.Groups) != 1 || w.Count(north) != 1 {
		t.Errorf("the member is %+v", d)
	}
}

// At a restart the Session of a device that the server named is gone, and with
// it the memberships; its record is deleted when it is tidied.
func TestAssignedDevice(t *testing.T) {
	w := newWorld(group.Limits{})
	r := join(pump, north)
	r.Assigned = true
	w.do(r)
	r.To = south
	w.do(r)
	d, _ := w.Device(pump)
	if d.Groups[0].Exit != group.ExitSession || len(w.Dirty()) != 0 {
		t.Fatalf("the device is %+v", d)
	}
	// In the running server, a deletion of a group leaves the other membership:
	// only the end of the Session ends it.
	deleteGroup(t, w, north)
	if c := w.Tidy(pump); c.Delete || len(c.Next.Groups) != 1 {
		t.Errorf("tidying makes %+v", c.Next)
	}
	again := newWorld(group.Limits{})
	again.LoadDevice(d, w.rev)
	if seen, _ := again.Device(pump); len(seen.Groups) != 0 || seen.Epoch != d.Epoch+1 || again.Count(north) != 0 {
		t.Errorf("after a restart the device is %+v", seen)
	}
	if c := again.Tidy(pump); !c.Delete {
		t.Error("the record is not deleted")
	} else {
		again.record(c)
	}
	if _, ok := again.Device(pump); ok || len(again.Bound("ann")) != 0 || len(again.Devices("", 10)) != 0 {
		t.Error("the record is still there")
	}
}
