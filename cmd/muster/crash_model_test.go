//go:build crash

package main

import (
	"slices"
	"testing"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A crashState is what the record of a device says.
type crashState struct {
	epoch  group.Epoch
	groups []group.Number // sorted
}

func (s crashState) equal(o crashState) bool {
	return s.epoch == o.epoch && slices.Equal(s.groups, o.groups)
}

// A crashStep is one change that may have been made of a device.
type crashStep struct {
	op       control.Op
	from, to group.Number
	epoch    group.Epoch // the device's after it; 0: not told
}

// after returns what the step makes of a state, and whether it has an effect
// there. The deletion of a group has none on those that are not in it.
func (p crashStep) after(s crashState) (crashState, bool) {
	_, inFrom := slices.BinarySearch(s.groups, p.from)
	_, inTo := slices.BinarySearch(s.groups, p.to)
	switch p.op {
	case control.OpJoin:
		if inTo {
			return s, false
		}
	case control.OpLeave, control.OpRemove, control.OpDelete, control.OpSwitch, control.OpMove:
		if !inFrom {
			return s, false
		}
	}
	var next []group.Number
	for _, n := range s.groups {
		if n != p.from && n != p.to {
			next = append(next, n)
		}
	}
	if p.to != 0 {
		next = append(next, p.to)
		slices.Sort(next)
	}
	return crashState{s.epoch + 1, next}, true
}

// explains reports whether a device's record can have become what it is: by the
// answered steps in their order, and by the lost ones, whose answers never came
// and which are known to be recorded, each once and anywhere between.
func explains(before, after crashState, answered, lost []crashStep) bool {
	return explainsFrom(before, after, answered, lost, nil)
}

func explainsFrom(s, after crashState, answered, lost []crashStep, deleted []group.Number) bool {
	if s.epoch > after.epoch {
		return false
	}
	if len(answered)+len(lost) == 0 {
		return s.equal(after)
	}
	take := func(p crashStep, answered, lost []crashStep) bool {
		if slices.Contains(deleted, p.to) {
			return false
		}
		next, ok := p.after(s)
		if p.op == control.OpDelete {
			return explainsFrom(next, after, answered, lost, append(slices.Clone(deleted), p.from))
		}
		return ok && (p.epoch == 0 || p.epoch == next.epoch) && explainsFrom(next, after, answered, lost, deleted)
	}
	if len(answered) > 0 && take(answered[0], answered[1:], lost) {
		return true
	}
	for i, p := range lost {
		if take(p, answered, slices.Delete(slices.Clone(lost), i, i+1)) {
			return true
		}
	}
	return false
}

// What the model lets pass and what it finds: a checker that finds nothing
// proves nothing.
func TestCrashModel(t *testing.T) {
	in := func(epoch group.Epoch, groups ...group.Number) crashState { return crashState{epoch, groups} }
	join := func(to group.Number, e group.Epoch) crashStep { return crashStep{control.OpJoin, 0, to, e} }
	leave := func(from group.Number, e group.Epoch) crashStep { return crashStep{control.OpLeave, from, 0, e} }
	move := func(from, to group.Number, e group.Epoch) crashStep { return crashStep{control.OpMove, from, to, e} }
	deletion := func(n group.Number) crashStep { return crashStep{control.OpDelete, n, 0, 0} }
	type steps = []crashStep
	tests := []struct {
		name           string
		before, after  crashState
		answered, lost steps
		want           bool
	}{
		{"nothing happened", in(4, 1), in(4, 1), nil, nil, true},
		{"answered and there", in(4, 1), in(6, 2), steps{join(2, 5), leave(1, 6)}, nil, true},
		{"an answered join is missing", in(4, 1), in(4, 1), steps{join(2, 5)}, nil, false},
		{"half of an answered switch", in(4, 1), in(5, 1, 2), steps{move(1, 2, 5)}, nil, false},
		{"the epoch went back", in(4, 1), in(3, 1), nil, nil, false},
		{"the epoch moved by itself", in(4, 1), in(5, 1), nil, nil, false},
		{"a group came by itself", in(4, 1), in(4, 1, 2), nil, nil, false},
		{"lost and recorded", in(4, 1), in(5, 2), nil, steps{move(1, 2, 0)}, true},
		{"lost, recorded, and not there", in(4, 1), in(4, 1), nil, steps{move(1, 2, 0)}, false},
		{"lost, with half of its effect", in(4, 1), in(5), nil, steps{move(1, 2, 0)}, false},
		{"lost, twice its effect", in(4, 1), in(6, 2), nil, steps{move(1, 2, 0)}, false},
		{"lost between two that were answered", in(4, 1), in(7, 3), steps{join(3, 5), leave(2, 7)}, steps{move(1, 2, 0)}, true},
		{"answered with the epoch of another", in(4, 1), in(6, 1, 2, 3), steps{join(2, 6), join(3, 5)}, nil, false},
		{"deleted with its member", in(4, 1, 2), in(5, 2), steps{deletion(1)}, nil, true},
		{"deleted and still a member", in(4, 1, 2), in(4, 1, 2), steps{deletion(1)}, nil, false},
		{"deleted, and the epoch did not move", in(4, 1, 2), in(4, 2), steps{deletion(1)}, nil, false},
		{"deleted without the device", in(4, 2), in(4, 2), steps{deletion(1)}, steps{deletion(3)}, true},
		{"joined after its deletion", in(4), in(5, 1), steps{deletion(1), join(1, 5)}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := explains(tt.before, tt.after, tt.answered, tt.lost); got != tt.want {
				t.Errorf("explains(%v, %v, %v, %v) = %v, want %v", tt.before, tt.after, tt.answered, tt.lost, got, tt.want)
			}
		})
	}
}
