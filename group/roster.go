package group

import (
	"slices"
	"strings"
)

// chunkMax is how many members a chunk of a roster holds before it is split:
// small enough that an insertion moves little, large enough that a roster of
// 100,000 has a few hundred chunks.
const chunkMax = 512

// A roster is the sorted set of a group's members. Insertion and removal cost
// about the same in a group of 10 and of 100,000.
type roster struct {
	chunks [][]ClientID // each sorted and not empty, in order
	n      int
}

// find returns the chunk in which c is or belongs.
func (r *roster) find(c ClientID) int {
	i, ok := slices.BinarySearchFunc(r.chunks, c, func(chunk []ClientID, c ClientID) int {
		return strings.Compare(string(chunk[0]), string(c))
	})
	if !ok && i > 0 {
		i--
	}
	return i
}

func (r *roster) add(c ClientID) {
	if len(r.chunks) == 0 {
		r.chunks, r.n = [][]ClientID{{c}}, 1
		return
	}
	i := r.find(c)
	at, ok := slices.BinarySearch(r.chunks[i], c)
	if ok {
		return
	}
	r.chunks[i] = slices.Insert(r.chunks[i], at, c)
	r.n++
	if len(r.chunks[i]) > chunkMax {
		half := len(r.chunks[i]) / 2
		right := slices.Clone(r.chunks[i][half:])
		r.chunks[i] = slices.Delete(r.chunks[i], half, len(r.chunks[i]))
		r.chunks = slices.Insert(r.chunks, i+1, right)
	}
}

func (r *roster) remove(c ClientID) {
	if len(r.chunks) == 0 {
		return
	}
	i := r.find(c)
	at, ok := slices.BinarySearch(r.chunks[i], c)
	if !ok {
		return
	}
	r.chunks[i] = slices.Delete(r.chunks[i], at, at+1)
	r.n--
	if len(r.chunks[i]) == 0 {
		r.chunks = slices.Delete(r.chunks, i, i+1)
	}
}

// page returns up to limit members after the given one, in order.
func (r *roster) page(after ClientID, limit int) []ClientID {
	var out []ClientID
	if len(r.chunks) == 0 {
		return nil
	}
	for i := r.find(after); i < len(r.chunks) && len(out) < limit; i++ {
		chunk := r.chunks[i]
		from, ok := slices.BinarySearch(chunk, after)
		if ok {
			from++
		}
		out = append(out, chunk[from:min(len(chunk), from+limit-len(out))]...)
	}
	return out
}

// all calls f for each member in order.
func (r *roster) all(f func(ClientID)) {
	for _, chunk := range r.chunks {
		for _, c := range chunk {
			f(c)
		}
	}
}
