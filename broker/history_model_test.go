package broker_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A membershipState is what a device's record holds, as far as answers show it:
// one bit for each group, and how often it has changed.
type membershipState struct {
	in    uint32
	epoch group.Epoch
}

// check says whether the calls about each device are linearizable.
func (l *callLog) check(t *testing.T) {
	byDevice := map[string][]porcupine.Operation{}
	first := map[string]group.Epoch{} // the lowest epoch that was answered
	for i, c := range l.calls {
		byDevice[c.device] = append(byDevice[c.device], porcupine.Operation{ClientId: i % 64, Input: c, Call: c.began, Output: c, Return: c.end})
		if c.answer == nil || c.answer.Epoch == 0 {
			continue
		}
		before := c.answer.Epoch
		if c.answer.Code == group.OK && c.op != "mine" {
			before--
		}
		if e, ok := first[c.device]; !ok || before < e {
			first[c.device] = before
		}
	}
	for device, ops := range byDevice {
		// Epochs of a call without answer are below those of any answer.
		model := membershipModel(first[device], len(ops))
		if res := porcupine.CheckOperationsTimeout(model, ops, time.Minute); res != porcupine.Ok {
			t.Errorf("%s: its %d calls are not a linearizable history: %v", device, len(ops), res)
		}
	}
}

// membershipModel is a device's record: what each call does to it, and what it
// must have been answered.
func membershipModel(first group.Epoch, calls int) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any {
			// Calls without an answer may have changed it before the first answer.
			var all []any
			for e := first; ; e-- {
				all = append(all, membershipState{epoch: e})
				if e == 0 || first-e >= group.Epoch(min(calls, 4)) {
					return all
				}
			}
		},
		Step: func(state, input, _ any) []any {
			s := state.(membershipState)
			var next []any
			for _, r := range outcomes(s, input.(*membershipCall)) {
				next = append(next, r)
			}
			return next
		},
		Equal: func(a, b any) bool { return a == b },
		DescribeOperation: func(input, _ any) string {
			c := input.(*membershipCall)
			return fmt.Sprintf("%s %d %d: %v", c.op, c.from, c.to, c.answer)
		},
	}
	return m.ToModel()
}

// outcomes returns the states in which the call may leave the record, given what
// it was answered.
func outcomes(s membershipState, c *membershipCall) []membershipState {
	bit := func(n group.Number) uint32 { return 1 << n }
	inFrom, inTo := s.in&bit(c.from) != 0, s.in&bit(c.to) != 0
	changed, next := false, s
	switch c.op {
	case "join", "verb":
		changed = !inTo
		next.in |= bit(c.to)
	case "leave", "remove":
		changed = inFrom
		next.in &^= bit(c.from)
	case "switch", "move":
		changed = inFrom && c.from != c.to
		if changed {
			next.in = next.in&^bit(c.from) | bit(c.to)
		}
	}
	if changed {
		next.epoch++
	}
	a := c.answer
	switch {
	case a == nil:
		return slices.Compact([]membershipState{s, next})
	case c.op == "mine":
		var in uint32
		for _, e := range a.List {
			in |= bit(e.N)
		}
		if in != s.in || a.Epoch != s.epoch {
			return nil
		}
		return []membershipState{s}
	case a.Code == group.OK && changed && a.Epoch == next.epoch:
		return []membershipState{next}
	case a.Code == group.Unchanged && !changed && a.Epoch == s.epoch:
		if c.op == "switch" || c.op == "move" {
			if !inTo {
				return nil
			}
		}
		return []membershipState{s}
	case a.Code == group.NotMember && !inFrom && c.op != "join":
		if (c.op == "switch" || c.op == "move") && inTo {
			return nil
		}
		return []membershipState{s}
	}
	return nil
}

// callLog keeps the calls of each device and their results.
type callLog struct {
	mu    sync.Mutex
	calls []*membershipCall
}

// A membershipCall is one request about one device's memberships.
type membershipCall struct {
	device     string
	op         string
	from, to   group.Number
	began, end int64
	answer     *control.Answer // nil: not known
}

func (l *callLog) begin(device, op string, from, to group.Number) *membershipCall {
	c := &membershipCall{device: device, op: op, from: from, to: to, began: time.Now().UnixNano()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, c)
	return c
}

func (l *callLog) end(c *membershipCall, a *control.Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.end, c.answer = time.Now().UnixNano(), a
}

// unknown ends a call of which the result is not known: by now it has had its
// effect, or never will.
func (l *callLog) unknown(c *membershipCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.end = time.Now().UnixNano()
}

func (l *callLog) len() int { return len(l.calls) }
