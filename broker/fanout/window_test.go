package fanout

import (
	"math/rand/v2"
	"testing"
)

// However flights come and go, those that are there stay in their order, no
// identifier is in use twice or 0, and the array does not grow with the number of all
// that ever were.
func TestWindowKeepsOrderAndIdentifiers(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, most := range []int{1, 2, 5, 64} {
		var w window
		w.last = 65_000 // the identifiers begin anew soon
		var want []uint16
		stuck := uint16(0) // is never acknowledged, while they go round twice
		for range 200_000 {
			switch {
			case len(want) < most && (len(want) == 0 || rng.IntN(2) == 0):
				id := w.next()
				if id == 0 || w.find(id) >= 0 {
					t.Fatalf("identifier %d is given twice, or 0", id)
				}
				w.add(flight{item: item{id: id, size: 3}})
				want = append(want, id)
				if stuck == 0 && most > 1 {
					stuck = id
				}
			default:
				i := rng.IntN(len(want))
				if rng.IntN(3) > 0 {
					i = 0
				}
				if want[i] == stuck {
					if len(want) == 1 {
						continue
					}
					i = 1
				}
				w.remove(w.find(want[i]))
				want = append(want[:i], want[i+1:]...)
			}
			if len(w.flights) != len(want) || w.bytes != 3*len(want) {
				t.Fatalf("%d flights of %d bytes, want %d", len(w.flights), w.bytes, len(want))
			}
			for i := range want {
				if w.flights[i].id != want[i] {
					t.Fatalf("flight %d is %d, want %d", i, w.flights[i].id, want[i])
				}
			}
		}
		if cap(w.base) > 8*most {
			t.Errorf("an array of %d flights for %d", cap(w.base), most)
		}
	}
}
