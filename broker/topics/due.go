package topics

import "container/heap"

// due holds the nodes whose messages expire, the next one first. A node knows
// where it stands.
type due []*node

// add enters n if its message expires.
func (d *due) add(n *node) {
	if !n.m.Expires().IsZero() {
		heap.Push(d, n)
	}
}

// remove takes n out if it is there.
func (d *due) remove(n *node) {
	if n.due >= 0 {
		heap.Remove(d, n.due)
	}
}

// Len is for package heap, as are the methods below.
func (d due) Len() int { return len(d) }

// Less puts what expires earlier first.
func (d due) Less(i, j int) bool { return d[i].m.Expires().Before(d[j].m.Expires()) }

// Swap keeps the nodes' own places true.
func (d due) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].due, d[j].due = i, j
}

// Push appends a node.
func (d *due) Push(n any) {
	n.(*node).due = len(*d)
	*d = append(*d, n.(*node))
}

// Pop takes the last node off.
func (d *due) Pop() any {
	last := len(*d) - 1
	n := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	n.due = -1
	return n
}
