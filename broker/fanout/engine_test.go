package fanout_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/group"
)

// A message goes to those in the room, once each, and to no other.
func TestEnginePublish(t *testing.T) {
	var e fanout.Engine
	const n = 3000 // several shards
	devices := make([]*device, n)
	for i := range devices {
		devices[i] = newDevice(t, fanout.Limits{})
		in := group.Number(1 + i%2)
		e.Enter(devices[i].Member, in, in)
		devices[i].attach(0, 1, in)
		devices[i].expect("CONNACK")
	}
	check := func(name string, in func(i int) bool) {
		t.Helper()
		e.Publish(post(1, name, 0))
		for i, d := range devices {
			var want []string
			if in(i) {
				want = []string{"g/1/" + name}
			}
			d.expect(want...)
		}
	}
	check("all", func(i int) bool { return i%2 == 0 })
	for i := range devices {
		if i%3 == 0 {
			devices[i].set(2)
			devices[i].expect("answer")
			e.Exit(devices[i].Member, 1)
			e.Exit(devices[i].Member, 1)
		}
	}
	check("after a third has left", func(i int) bool { return i%2 == 0 && i%3 != 0 })
	for i := range devices {
		if i%3 == 0 {
			e.Enter(devices[i].Member, 1)
			devices[i].set(3, 1)
			devices[i].expect("answer")
		}
	}
	check("after it has come back", func(i int) bool { return i%2 == 0 || i%3 == 0 })
	for _, d := range devices {
		e.Remove(d.Member)
	}
	check("after all have gone", func(int) bool { return false })
}

// The room is only a list of whom to ask: the Member decides.
func TestEngineAsksTheMember(t *testing.T) {
	var e fanout.Engine
	d := connected(t, fanout.Limits{}, 0)
	e.Enter(d.Member, 1)
	e.Publish(post(1, "before the switch point", 0))
	d.set(2, 1)
	e.Publish(post(1, "in", 0))
	d.set(3)
	e.Publish(post(1, "after the switch point", 0))
	d.expect("answer", "g/1/in", "answer")
}

// Watchers are asked for messages of every group, once, also those they are in.
func TestEngineWatchers(t *testing.T) {
	var e fanout.Engine
	d := &device{t: t, version: 4, now: noon, Member: fanout.NewMember("dash", fanout.Limits{}, func(n group.Number) bool { return n < 3 })}
	e.Watch(d.Member)
	e.Enter(d.Member, 1)
	d.attach(0, 1, 1)
	d.expect("CONNACK")
	d.SetOwn([]fanout.Filter{{Filter: "g/#"}}, d.sink)
	for n := range group.Number(4) {
		e.Publish(post(n, "x", 0))
	}
	up := post(2, "x", 0)
	up.Part = fanout.Up
	e.Publish(up)
	d.expect("g/0/x", "g/1/x", "g/2/x", "g/2/x")
	e.Exit(d.Member, 1)
	e.Remove(d.Member)
	e.Publish(post(1, "x", 0))
	d.expect()
	other := newDevice(t, fanout.Limits{})
	e.Watch(other.Member) // observes nothing
	e.Remove(other.Member)
}

// Members come and go while messages are published: nobody who stays misses one
// or gets one twice, and who has left gets none.
func TestEngineConcurrency(t *testing.T) {
	var e fanout.Engine
	const stay, move, messages, publishers = 40, 24, 300, 2
	staying := make([]*device, stay)
	for i := range staying {
		staying[i] = newDevice(t, fanout.Limits{Messages: 1 << 20, Bytes: 1 << 30})
		e.Enter(staying[i].Member, 1)
		staying[i].attach(0, 1, 1)
	}
	var published [publishers]atomic.Int64
	var sending, moving sync.WaitGroup
	for p := range publishers {
		sending.Go(func() {
			for i := range messages {
				e.Publish(post(1, fmt.Sprintf("%d-%d", p, i), 0))
				published[p].Add(1)
			}
		})
	}
	for i := range move {
		moving.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			d := newDevice(t, fanout.Limits{Messages: 1 << 20, Bytes: 1 << 30})
			d.attach(0, 1)
			d.take(1)
			d.Wrote(d.sink)
			for range 100 {
				e.Enter(d.Member, 1)
				before := published[0].Load()
				d.set(2, 1)
				for rng.IntN(4) > 0 {
					e.Publish(post(2, "x", 0))
				}
				d.set(3)
				e.Exit(d.Member, 1)
				after := published[0].Load()
				got := 0
				answers := 0
				for more := true; more; more = d.Wrote(d.sink) {
					for _, s := range d.take(1 << 20) {
						switch {
						case s == "answer":
							answers++
						case answers != 1:
							t.Errorf("%q outside of the membership", s)
						case s[4] == '0':
							got++
						}
					}
				}
				// One more may be under way than is counted.
				if most := int(after-before) + 1; got > most {
					t.Errorf("%d messages while at most %d were sent", got, most)
				}
			}
			e.Remove(d.Member)
		})
	}
	sending.Wait()
	moving.Wait()
	for i, d := range staying {
		next := [publishers]int{}
		for more := true; more; more = d.Wrote(d.sink) {
			for _, s := range d.take(1 << 20) {
				if s == "CONNACK" {
					continue
				}
				var p, n int
				if _, err := fmt.Sscanf(s, "g/1/%d-%d", &p, &n); err != nil || n != next[p] {
					t.Fatalf("member %d got %q, want message %d", i, s, next[p])
				}
				next[p]++
			}
		}
		if next != [publishers]int{messages, messages} {
			t.Fatalf("member %d got %v messages", i, next)
		}
	}
}

// room1000 is a group of 1,000 connected members.
func room1000(t testing.TB) (*fanout.Engine, []*fanout.Member, *sink) {
	t.Helper()
	e, s := &fanout.Engine{}, &sink{}
	all := make([]*fanout.Member, 1000)
	for i := range all {
		all[i] = fanout.NewMember(group.ClientID(fmt.Sprint("pump-", i)), fanout.Limits{}, nil)
		e.Enter(all[i], 1)
		all[i].Attach(fanout.Connection{Sink: s, Version: 4, First: answer}, members(1), 1)
	}
	return e, all, s
}

// Publishing to 1,000 members allocates for the message, and nothing for each
// member.
func TestPublishAllocatesNothingForAMember(t *testing.T) {
	e, all, s := room1000(t)
	buf := make([]byte, 0, 1<<16)
	round := func() {
		e.Publish(post(1, "x", 0))
		for _, m := range all {
			m.Take(s, buf, 1<<16, noon)
			m.Wrote(s)
		}
	}
	round()
	if n := testing.AllocsPerRun(20, round); n > 20 {
		t.Errorf("%v allocations for a message with QoS 0 to 1,000 members", n)
	}
}

// BenchmarkPublish1000 queues a message for 1,000 members and takes it out of
// each queue, as a writer does. One operation is 1,000 deliveries.
func BenchmarkPublish1000(b *testing.B) {
	for qos := range byte(2) {
		b.Run(fmt.Sprintf("qos=%d", qos), func(b *testing.B) {
			e, all, s := room1000(b)
			buf := make([]byte, 0, 1<<16)
			p := post(1, "x", qos)
			b.ReportAllocs()
			id := uint16(0)
			for b.Loop() {
				e.Publish(p)
				if id++; id == 0 {
					id = 1
				}
				for _, m := range all {
					m.Take(s, buf, 1<<16, noon)
					m.Wrote(s)
					if qos > 0 {
						m.Ack(id)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/delivery")
		})
	}
}
