//go:build crash

package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// crashPoints are the places at which the server kills itself, and at which of
// the first so many times that it passes them: those of package internal/crash in
// ledger and store/badger.
var crashPoints = []struct {
	name  string
	times int
}{
	{"change decided", 40}, {"change submitted", 40}, {"change committed", 40}, {"change settled", 40}, {"change applied", 40},
	{"record decided", 12}, {"record committed", 12}, {"record settled", 12}, {"record applied", 12},
	// What does not wait for the disk is found at the first of these.
	{"batch made", 40}, {"batch made", 40}, {"batch made", 40}, {"batch synced", 40},
	{"bind decided", 3}, {"bind committed", 3}, {"purge begun", 2}, {"purge ending", 2}, {"tidy decided", 4}, {"tidy committed", 4},
}

// TestCrashKill kills the server under load again and again, by SIGKILL from
// outside at a random instant or by itself at a named point, starts it anew on
// the same directory, and compares what it says with what it had answered.
//
// MUSTER_CRASH_ROUNDS is how often, 5 if it is not set; MUSTER_CRASH_SEED
// repeats the load and the points of a run, though not the instant at which the
// processes of the machine see a signal.
func TestCrashKill(t *testing.T) {
	rounds := crashNumber(t, "MUSTER_CRASH_ROUNDS", 5)
	seed := crashNumber(t, "MUSTER_CRASH_SEED", rand.Uint64()>>1)
	t.Logf("MUSTER_CRASH_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := buildCrashServer(t)
	w := newCrashWorld(t, s)
	points := rng.Perm(len(crashPoints))
	var sum crashTally
	for round := range int(rounds) {
		point, kill := "", int64(0)
		if round%2 == 0 {
			p := crashPoints[points[round/2%len(points)]]
			point = fmt.Sprintf("%s:%d", p.name, 1+rng.IntN(p.times))
		} else {
			kill = 1 + rng.Int64N(120)
		}
		name := fmt.Sprintf("%d: %s", round, cmp.Or(point, fmt.Sprintf("after %d answers", kill)))
		ok := t.Run(name, func(t *testing.T) {
			l := crashUnderLoad(t, s, w, round+1, point, kill, rng)
			if rng.IntN(3) == 0 {
				s.startAndKill(t, time.Duration(rng.Int64N(int64(100*time.Millisecond))))
			}
			s.start(t, "")
			k := newCrashCheck(t, s, w, l)
			k.all()
			sum.add(k.tally)
			switch rng.IntN(3) {
			case 0:
				s.stop(t)
			case 1:
				s.stopAndKill(t, time.Duration(rng.Int64N(int64(40*time.Millisecond))))
			case 2: // at rest
				s.kill()
				s.wait(t)
			}
		})
		if !ok {
			return // what follows would only repeat it
		}
	}
	t.Logf("%d rounds: %+v", rounds, sum)
}

func crashNumber(t *testing.T, name string, without uint64) uint64 {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok || text == "" {
		return without
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// newCrashWorld makes groups, accounts and devices on a server that it starts
// and stops.
func newCrashWorld(t *testing.T, s *crashServer) *crashWorld {
	t.Helper()
	w := &crashWorld{ids: map[group.Number]group.ID{}, passwords: map[string]string{}}
	s.start(t, "")
	o := s.teller(t)
	for i := range 6 {
		a := o.must(group.OK, control.OpCreate, crashBody{"name": fmt.Sprintf("first-%d", i)})
		if fault := w.newGroup(a.N, a.G); fault != "" {
			t.Fatal(fault)
		}
	}
	for i := range 8 {
		d := &crashDevice{id: group.ClientID(fmt.Sprintf("dev-%d", i)), ghost: i >= 5, keeper: i < 2}
		if i%2 == 1 && !d.ghost {
			d.user = fmt.Sprintf("owner-%d", i)
			d.password = o.must(group.OK, control.OpAccount, crashBody{"op": "add", "user": d.user}).Secret
		}
		c, code, err := dialCrash("tcp", s.addr, string(d.id), d.user, d.password)
		if err != nil || code != 0 {
			t.Fatalf("%s cannot connect: %d, %v", d.id, code, err)
		}
		c.close()
		o.must(group.OK, control.OpJoin, crashBody{"device": d.id, "g": 1 + i%6})
		w.devices = append(w.devices, d)
	}
	w.settle(o.record())
	o.c.close()
	s.stop(t)
	return w
}

// settle takes over the record as the state from which the next round begins.
func (w *crashWorld) settle(r crashRecord) {
	w.record, w.live = r, nil
	for n := range r.groups {
		w.live = append(w.live, n)
	}
	slices.Sort(w.live)
}

// crashUnderLoad starts the server, puts load on it and sees it die.
func crashUnderLoad(t *testing.T, s *crashServer, w *crashWorld, round int, point string, kill int64, rng *rand.Rand) *crashLoad {
	t.Helper()
	s.start(t, point)
	l := &crashLoad{w: w, round: round, view: map[group.ClientID][]group.Number{}, quiet: map[group.ClientID]bool{}, onAnswer: func(int64) {}}
	for _, d := range w.devices {
		l.view[d.id] = w.record.devices[d.id].groups
	}
	process := s.cmd.Process
	late := time.AfterFunc(crashPatience, func() {
		t.Errorf("the server was to die (%s), and lives after %d answers", t.Name(), l.answers.Load())
		process.Kill()
	})
	defer late.Stop()
	if kill > 0 {
		wait := time.Duration(rng.Int64N(int64(3 * time.Millisecond)))
		l.onAnswer = func(total int64) {
			if total == kill {
				time.AfterFunc(wait, func() { process.Kill() })
			}
		}
	}
	l.run(s, rng.Uint64())
	s.wait(t)
	for _, f := range l.faults {
		t.Error(f)
	}
	return l
}
