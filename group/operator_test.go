package group_test

import (
	"errors"
	"testing"

	"github.com/muster-mqtt/muster/group"
)

func TestDecideGroup(t *testing.T) {
	tests := []struct {
		name string
		n    group.Number // 0: create
		edit func(*group.Group)
		code group.Code
		rev  uint64 // the policy's afterwards
	}{
		{"create", 0, rename("lamps"), 0, 1},
		// [GRP-3.1-2]
		{"create with a name that is taken", 0, rename("North"), group.NameTaken, 0},
		{"rename", north, rename("lamps"), 0, 1},
		{"rename in case only", north, rename("NORTH"), 0, 1},
		{"rename to a name that is taken", north, rename("South"), group.NameTaken, 0},
		{"a policy", north, func(g *group.Group) { g.Policy, g.PIN = group.PolicyPIN, "hash" }, 0, 2},
		{"visibility", north, func(g *group.Group) { g.Visible = group.VisibleMembers }, 0, 2},
		{"what members may", north, func(g *group.Group) { g.MembersTo, g.MembersEvents = true, true }, 0, 1},
		{"deletion", north, func(g *group.Group) { g.Deleted = true }, 0, 2},
		{"a group that never was", 9, func(g *group.Group) { g.Number = 9 }, group.NoSuchGroup, 0},
		{"a deleted group", west, rename("lamps"), group.GroupDeleted, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(group.Limits{})
			w.do(request(t, "join 1"))
			deleteGroup(t, w, west)
			before, _ := w.Device(pump)
			g, _ := w.Group(tt.n)
			tt.edit(&g)
			c, err := w.DecideGroup(group.OpUpdate, g, "root", noon)
			code := group.OK
			if err != nil {
				code = group.Internal
				errors.As(err, &code)
			}
			if code != tt.code {
				t.Fatalf("%v, want %v", code, tt.code)
			}
			if err != nil {
				return
			}
			if c.NextGroup.PolicyRev != tt.rev {
				t.Errorf("policy rev %d, want %d", c.NextGroup.PolicyRev, tt.rev)
			}
			w.record(c)
			// [GRP-6.8-3]
			if d, _ := w.Device(pump); !c.NextGroup.Deleted && !same(d, before) {
				t.Errorf("the member became %+v", d)
			}
		})
	}
}

// [GRP-3.1-1]
func TestNumbersAreNeverGivenAgain(t *testing.T) {
	w := newWorld(group.Limits{})
	if err := w.edit(0, noon, func(g *group.Group) { g.Name, g.ID = "lamps", group.ID{15: 9} }); err != nil {
		t.Fatal(err)
	}
	deleteGroup(t, w, 5)
	again := group.NewState(group.Limits{})
	g, _ := w.Group(5)
	again.LoadGroup(g, 5)
	for name, s := range map[string]*group.State{"at once": w.State, "after a restart": again} {
		c, err := s.DecideGroup(group.OpCreate, group.Group{Name: "lamps"}, "root", noon)
		if err != nil || c.NextGroup.Number != 6 {
			t.Errorf("%s: %+v, %v", name, c.NextGroup, err)
		}
	}
	// One that was not recorded leaves its number unused.
	c, _ := w.DecideGroup(group.OpCreate, group.Group{Name: "lamps"}, "root", noon)
	w.Stage(c)
	w.Drop(c)
	if c, _ := w.DecideGroup(group.OpCreate, group.Group{Name: "lamps"}, "root", noon); c.NextGroup.Number != 7 {
		t.Errorf("the number %d", c.NextGroup.Number)
	}
}

func TestGroupsInPages(t *testing.T) {
	w := newWorld(group.Limits{})
	deleteGroup(t, w, south)
	var got []group.Number
	for after := group.Number(0); ; after = got[len(got)-1] {
		page := w.Groups(after, 2)
		for _, g := range page {
			got = append(got, g.Number)
		}
		if len(page) < 2 {
			break
		}
	}
	if len(got) != 3 || got[1] != east {
		t.Errorf("the groups are %v", got)
	}
	if page := w.Groups(^group.Number(0), 2); len(page) != 0 {
		t.Errorf("after the last number: %v", page)
	}
}

func TestDecideAccount(t *testing.T) {
	w := newWorld(group.Limits{})
	tests := []struct {
		name           string
		account        group.Account
		create, remove bool
		code           group.Code
		want           string // the accounts afterwards
	}{
		{"an unknown one", group.Account{Name: "ann"}, false, false, group.NoSuchAccount, ""},
		{"add", group.Account{Name: "Ann"}, true, false, 0, "Ann"},
		{"add again, in another case", group.Account{Name: "ann"}, true, false, group.NameTaken, "Ann"},
		{"update keeps the name", group.Account{Name: "ANN", Findable: true}, false, false, 0, "Ann"},
		{"add another", group.Account{Name: "bob"}, true, false, 0, "Ann bob"},
		{"mark as removed", group.Account{Name: "ann", Removed: true}, false, false, 0, "bob"},
		{"add one that is being removed", group.Account{Name: "ann"}, true, false, group.NameTaken, "bob"},
		{"remove", group.Account{Name: "ann"}, false, true, 0, "bob"},
		{"add anew", group.Account{Name: "ann"}, true, false, 0, "ann bob"},
	}
	for _, tt := range tests {
		c, err := w.DecideAccount(tt.account, tt.create, tt.remove, "root", noon)
		code := group.OK
		if err != nil {
			code = group.Internal
			errors.As(err, &code)
		} else {
			w.record(c)
		}
		names := ""
		for _, a := range w.Accounts("", 10) {
			if names != "" {
				names += " "
			}
			names += a.Name
		}
		if code != tt.code || names != tt.want {
			t.Errorf("%s: %v and %q, want %v and %q", tt.name, code, names, tt.code, tt.want)
		}
	}
	if page := w.Accounts("ann", 1); len(page) != 1 || page[0].Name != "bob" {
		t.Errorf("the page after ann is %v", page)
	}
	if page := w.Accounts("", 0); len(page) != 0 {
		t.Errorf("an empty page holds %v", page)
	}
}
