package group_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/group"
)

// edit records a change of a group.
func (w *world) edit(n group.Number, now time.Time, f func(*group.Group)) error {
	g, _ := w.Group(n)
	f(&g)
	op := group.OpUpdate
	if n == 0 {
		op = group.OpCreate
	}
	c, err := w.DecideGroup(op, g, "root", now)
	if err == nil {
		w.record(c)
	}
	return err
}

func rename(name string) func(*group.Group) { return func(g *group.Group) { g.Name = name } }

// [GRP-3.2-2]
func TestResolve(t *testing.T) {
	w := newWorld(group.Limits{})
	for _, a := range []group.Account{
		{Name: "Ann", Findable: true}, {Name: "bob", Findable: true}, {Name: "cid", Findable: true},
		{Name: "dan"}, {Name: "eve", Findable: true}, {Name: "fay", Findable: true, Removed: true}, {Name: "gus", Findable: true},
	} {
		w.LoadAccount(a, 1)
	}
	in := func(c group.ClientID, account string, groups ...group.Number) {
		d := group.Device{ClientID: c, Account: account}
		for _, n := range groups {
			d.Groups = append(d.Groups, group.Membership{Number: n})
		}
		w.LoadDevice(d, 1)
	}
	in("a-1", "Ann", north)
	in("a-2", "Ann", north) // two devices, one group
	in("b-1", "bob", north, south)
	in("c-1", "cid", north)
	in("c-2", "cid", west)
	in("d-1", "dan", north)
	in("f-1", "fay", north)
	in("g-1", "gus", west)
	deleteGroup(t, w, east)
	seesAllButWest := func(g *group.Group) bool { return g.Number != west }
	tests := []struct {
		name string
		ref  group.Ref
		want group.Number
		code group.Code
	}{
		{"by number", group.Ref{Number: south}, south, 0},
		{"by ID", group.Ref{ID: group.ID{15: 2}}, south, 0},
		{"by name", group.Ref{Name: "south"}, south, 0},
		{"by a name in another case", group.Ref{Name: "SOUTH"}, south, 0},
		{"nothing", group.Ref{}, 0, group.NoSuchGroup},
		{"an unknown number", group.Ref{Number: 99}, 0, group.NoSuchGroup},
		{"an unknown ID", group.Ref{ID: group.ID{15: 99}}, 0, group.NoSuchGroup},
		{"an unknown name", group.Ref{Name: "souths"}, 0, group.NoSuchGroup},
		{"a deleted group by number", group.Ref{Number: east}, east, 0},
		{"a deleted group by ID", group.Ref{ID: group.ID{15: 3}}, east, 0},
		{"a deleted group by name", group.Ref{Name: "east"}, 0, group.NoSuchGroup},
		{"a user in one group", group.Ref{User: "ann"}, north, 0},
		{"a user in several that the asker may see", group.Ref{User: "bob"}, 0, group.AmbiguousRef},
		{"a user in several of which the asker may see one", group.Ref{User: "cid"}, north, 0},
		{"a user who is not findable", group.Ref{User: "dan"}, 0, group.NoSuchGroup},
		{"a user in none", group.Ref{User: "eve"}, 0, group.NoSuchGroup},
		{"a user who is removed", group.Ref{User: "fay"}, 0, group.NoSuchGroup},
		{"a user in one group that the asker may not see", group.Ref{User: "gus"}, west, 0},
		{"an unknown user", group.Ref{User: "zoe"}, 0, group.NoSuchGroup},
	}
	for _, tt := range tests {
		n, err := w.Resolve(tt.ref, noon, seesAllButWest)
		if n != tt.want || tt.code == 0 && err != nil || tt.code != 0 && !errors.Is(err, tt.code) {
			t.Errorf("%s: %d, %v, want %d, %v", tt.name, n, err, tt.want, tt.code)
		}
	}
}

// [GRP-3.1-3]
func TestOldNames(t *testing.T) {
	w := newWorld(group.Limits{})
	if err := w.edit(north, noon, rename("lamps")); err != nil {
		t.Fatal(err)
	}
	find := func(name string, now time.Time) group.Number {
		n, _ := w.Resolve(group.Ref{Name: name}, now, nil)
		return n
	}
	last := noon.Add(group.AliasLife - 1)
	tests := []struct {
		name  string
		ref   string
		after time.Time
		want  group.Number
	}{
		{"the new name", "lamps", noon, north},
		{"the old name", "North", noon, north},
		{"the old name, at the last instant", "north", last, north},
		{"the old name, afterwards", "north", noon.Add(group.AliasLife), 0},
	}
	for _, tt := range tests {
		if n := find(tt.ref, tt.after); n != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, n, tt.want)
		}
	}
	if err := w.edit(south, last, rename("NORTH")); !errors.Is(err, group.NameTaken) {
		t.Errorf("another group takes the old name: %v", err)
	}
	if err := w.edit(north, last, rename("north")); err != nil {
		t.Errorf("the group takes its old name back: %v", err)
	}
	if find("lamps", last) != north || find("north", last) != north {
		t.Error("after the way back a name is lost")
	}
}

// A lapsed old name of one group, which another has borne since, leads to the
// other, also after a restart that reads the groups in the order of numbers.
func TestOldNameOfTwoGroupsLeadsToTheLaterOne(t *testing.T) {
	w := newWorld(group.Limits{})
	w.edit(north, noon, rename("lamps")) // "north" is an old name of 1 …
	later := noon.Add(group.AliasLife)
	w.edit(south, later, rename("north")) // … lapsed, and a name of 2 …
	w.edit(south, later, rename("south-2"))
	again := group.NewState(group.Limits{})
	for n := range group.Number(4) {
		g, _ := w.Group(n + 1)
		again.LoadGroup(g, 1)
	}
	for name, s := range map[string]*group.State{"at once": w.State, "after a restart": again} {
		if n, err := s.Resolve(group.Ref{Name: "north"}, later, nil); n != south {
			t.Errorf("%s: north is %d, %v, want %d", name, n, err, south)
		}
	}
}

// Old names are not forgotten before their time, so their number is bounded by
// refusing one more rename.
func TestTooManyRenames(t *testing.T) {
	w := newWorld(group.Limits{})
	for i := range group.MaxAliases {
		if err := w.edit(north, noon, rename(fmt.Sprint("n", i))); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := w.edit(north, noon, rename("one-more")); !errors.Is(err, group.RateLimited) {
		t.Errorf("one more rename: %v", err)
	}
	if n, err := w.Resolve(group.Ref{Name: "north"}, noon, nil); n != north {
		t.Errorf("the first name is forgotten: %v", err)
	}
	if err := w.edit(north, noon.Add(group.AliasLife), rename("one-more")); err != nil {
		t.Errorf("a rename when the old names have lapsed: %v", err)
	}
}

func TestDroppedRename(t *testing.T) {
	w := newWorld(group.Limits{})
	g, _ := w.Group(north)
	g.Name = "lamps"
	c, err := w.DecideGroup(group.OpUpdate, g, "root", noon)
	if err != nil {
		t.Fatal(err)
	}
	w.Stage(c)
	w.Drop(c)
	if n, _ := w.Resolve(group.Ref{Name: "north"}, noon, nil); n != north {
		t.Errorf("north is %d", n)
	}
	if n, err := w.Resolve(group.Ref{Name: "lamps"}, noon, nil); err == nil {
		t.Errorf("lamps is %d", n)
	}
	if err := w.edit(south, noon, rename("lamps")); err != nil {
		t.Errorf("the name is not free: %v", err)
	}
}
