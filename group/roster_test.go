package group

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// check compares a roster with the sorted slice that it stands for.
func (r *roster) check(t *testing.T, want []ClientID) {
	t.Helper()
	var all []ClientID
	r.all(func(c ClientID) { all = append(all, c) })
	if !slices.Equal(all, want) || r.n != len(want) {
		t.Fatalf("the roster has %d members, counted %d, want %d", len(all), r.n, len(want))
	}
	for i, chunk := range r.chunks {
		if len(chunk) == 0 || len(chunk) > chunkMax {
			t.Fatalf("chunk %d has %d members", i, len(chunk))
		}
	}
}

func TestRosterIsASortedSet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var r roster
	var want []ClientID
	for step := range 20_000 {
		c := ClientID(fmt.Sprintf("pump-%d", rnd.IntN(3000)))
		at, in := slices.BinarySearch(want, c)
		// Phases of growing and of shrinking, so that chunks split and vanish.
		if grow := step/5000%2 == 0; rnd.IntN(4) > 0 == grow {
			r.add(c)
			if !in {
				want = slices.Insert(want, at, c)
			}
		} else {
			r.remove(c)
			if in {
				want = slices.Delete(want, at, at+1)
			}
		}
	}
	r.check(t, want)
	for _, c := range slices.Clone(want) {
		r.remove(c)
	}
	r.check(t, nil)
	r.remove("pump-1")
	r.add("pump-1")
	r.check(t, []ClientID{"pump-1"})
}

func TestRosterPages(t *testing.T) {
	var r roster
	var want []ClientID
	for i := range 3000 {
		c := ClientID(fmt.Sprintf("%05d", 2*i))
		want = append(want, c)
		r.add(c)
	}
	tests := []struct {
		name  string
		after ClientID
		limit int
		want  []ClientID
	}{
		{"the first", "", 2, want[:2]},
		{"across chunks", want[chunkMax-3], 9, want[chunkMax-2 : chunkMax+7]},
		{"after one that is not there", "00001", 1, want[1:2]},
		{"before all", " ", 1, want[:1]},
		{"all", "", 5000, want},
		{"the last", want[2998], 10, want[2999:]},
		{"after the last", want[2999], 10, nil},
		{"none", "", 0, nil},
		{"fewer than none", "", -1, nil},
	}
	for _, tt := range tests {
		if got := r.page(tt.after, tt.limit); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %d members, want %d", tt.name, len(got), len(tt.want))
		}
	}
	if got := (&roster{}).page("", 10); got != nil {
		t.Errorf("the empty roster has a page: %v", got)
	}
}

func BenchmarkRoster(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var r roster
			for i := range n {
				r.add(ClientID(fmt.Sprintf("pump-%06d", i)))
			}
			c := ClientID(fmt.Sprintf("pump-%06d", n/2))
			for b.Loop() {
				r.remove(c)
				r.add(c)
			}
		})
	}
}
