package ledger_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/ledger"
)

// An input is one request of a history; who asked is not part of what it does.
type input struct {
	device   group.ClientID
	op       control.Op
	from, to group.Number
	forced   bool
}

// A seen is what a request was answered: the code and, of mine, the groups.
type seen struct {
	code group.Code
	in   [2]bool // groups 1 and 2
}

// record is the model's state of one device: where it is, and what it left last
// by itself.
type record struct {
	in   [2]bool
	left group.Number
}

// history is the naive model of one device, one request at a time.
var history = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		by := map[group.ClientID][]porcupine.Operation{}
		for _, o := range all {
			c := o.Input.(input).device
			by[c] = append(by[c], o)
		}
		var parts [][]porcupine.Operation
		for _, p := range by {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() any { return record{} },
	Step: func(state, in, out any) (bool, any) {
		r, i, o := state.(record), in.(input), out.(seen)
		if i.op == control.OpMine {
			return o.in == r.in, r
		}
		want := group.OK
		switch i.op {
		case control.OpJoin:
			if r.in[i.to-1] {
				want = group.Unchanged
				break
			}
			r = record{in: r.in}
			r.in[i.to-1] = true
		case control.OpLeave, control.OpRemove:
			switch {
			case r.in[i.from-1]:
				r = record{in: r.in}
				if r.in[i.from-1] = false; !i.forced {
					r.left = i.from
				}
			case r.left == i.from:
				want = group.Unchanged
			default:
				want = group.NotMember
			}
		default:
			switch {
			case r.in[i.to-1] && !r.in[i.from-1]:
				want = group.Unchanged
			case !r.in[i.from-1]:
				want = group.NotMember
			default:
				r = record{in: r.in}
				r.in[i.from-1], r.in[i.to-1] = false, true
			}
		}
		return o.code == want, r
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

// Devices, their side connections and operators ask at the same time. Whatever
// the order in which they are answered, there is one in which the requests could
// have been made one after the other.
func TestHistoryIsLinearizable(t *testing.T) {
	h := newHouse(t)
	devices := []group.ClientID{"a", "b", "c"}
	var mu sync.Mutex
	var all []porcupine.Operation
	began := time.Now()
	var wg sync.WaitGroup
	for client := range 9 {
		wg.Go(func() {
			for n := range 40 {
				i := input{device: devices[(client+n/20)%3], from: group.Number(1 + (n+client)%2)}
				i.to, i.forced = 3-i.from, client%3 == 2
				i.op = []control.Op{control.OpJoin, control.OpSwitch, control.OpMine, control.OpLeave, control.OpSwitch}[(n*7+client)%5]
				who, r := device(i.device), control.Request{Op: i.op, From: number(i.from), To: number(i.to)}
				switch i.op {
				case control.OpJoin:
					r.From = group.Ref{}
				case control.OpLeave:
					r.To = group.Ref{}
				}
				if i.forced {
					who, r.Device = operator, i.device
				}
				call := time.Since(began)
				done := make(chan control.Answer, 1)
				h.Do(who, []control.Request{digest(r)}, h.now, ledger.ReplyFunc(func(as []control.Answer) { done <- as[0] }))
				a := <-done
				o := seen{code: a.Code}
				for _, e := range a.List {
					o.in[e.N-1] = true
				}
				mu.Lock()
				all = append(all, porcupine.Operation{ClientId: client, Input: i, Call: int64(call), Output: o, Return: int64(time.Since(began))})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if result := porcupine.CheckOperationsTimeout(history, all, 20*time.Second); result != porcupine.Ok {
		t.Errorf("the history of %d requests is %s", len(all), result)
	}
}
