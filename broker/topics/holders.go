package topics

import (
	"slices"
	"sync/atomic"
)

// few is how many holders are searched one by one.
const few = 16

// holders are the Sessions that have one filter.
type holders struct {
	keys []Key
	at   map[Key]int   // where each stands in keys; nil while they are few
	turn atomic.Uint64 // matches so far, of a shared filter
}

// find returns where k stands in keys, or -1.
func (h *holders) find(k Key) int {
	if h.at == nil {
		return slices.Index(h.keys, k)
	}
	if i, ok := h.at[k]; ok {
		return i
	}
	return -1
}

// add reports whether k is new.
func (h *holders) add(k Key) bool {
	if h.find(k) >= 0 {
		return false
	}
	h.keys = append(h.keys, k)
	switch {
	case h.at != nil:
		h.at[k] = len(h.keys) - 1
	case len(h.keys) > few:
		h.at = make(map[Key]int, len(h.keys))
		for i, k := range h.keys {
			h.at[k] = i
		}
	}
	return true
}

// remove puts the last in the place of k, and reports whether k was there.
func (h *holders) remove(k Key) bool {
	i := h.find(k)
	if i < 0 {
		return false
	}
	last := len(h.keys) - 1
	h.keys[i] = h.keys[last]
	h.keys = h.keys[:last]
	if h.at != nil {
		if i < last {
			h.at[h.keys[i]] = i
		}
		delete(h.at, k)
		if last <= few/2 {
			h.at = nil
		}
	}
	if cap(h.keys) > 4*few && last < cap(h.keys)/4 {
		h.keys = slices.Clone(h.keys)
	}
	return true
}

// next returns where the next match of a shared filter begins. There is at least
// one holder.
func (h *holders) next() int { return int(h.turn.Add(1) % uint64(len(h.keys))) }
