//go:build soak

package broker_test

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store/badger"
)

// The sizes of the soak.
const (
	soakDevices = 1000
	soakReaders = 50 // that stop reading for a while
	soakBroken  = 50 // that send what is no MQTT, or nothing
	soakGroups  = 20
)

// A soak is one run: devices that join, leave, switch, publish, are cut off and
// return, operators who move and remove them, readers that stop, and clients that
// send anything.
type soak struct {
	t       *testing.T
	s       *testServer
	stop    chan struct{}
	devices []*soakDevice
	steps   atomic.Int64
	broken  atomic.Int64 // connections of broken clients
	cut     atomic.Int64 // stalled readers that were disconnected
}

// A soakDevice is one device, and what it was told of its memberships.
type soakDevice struct {
	id    string
	moved bool // operators move it, too: it is not told of all
	rng   *rand.Rand
	c     *soakClient
	in    map[group.Number]bool
}

// TestSoak runs for SOAKTIME, by default 10 minutes. After the first minute, or the
// first tenth, goroutines, descriptors and memory stay as they are, and in the end
// roster, record, delivery and what devices were told agree.
func TestSoak(t *testing.T) {
	lasts := 10 * time.Minute
	if v := os.Getenv("SOAKTIME"); v != "" {
		var err error
		if lasts, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	z := &soak{t: t, stop: make(chan struct{})}
	st, err := badger.Open(filepath.Join(t.TempDir(), "data"), badger.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	z.s = serve(t, func(c *broker.Config) {
		c.Store, c.JournalKeep = st, 10*time.Minute
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil)) // the harness would keep all of it
		c.Limits.ConnectTimeout, c.Limits.SessionExpiryMax = 2*time.Second, 5*time.Second
	})
	op := z.s.operator()
	for i := range soakGroups {
		op.must("create", fmt.Sprintf(`{"name":"g%d"}`, i+1))
	}
	var wg sync.WaitGroup
	for i := range soakDevices {
		d := &soakDevice{
			id: fmt.Sprintf("device-%d", i), moved: i%10 == 0, rng: rand.New(rand.NewPCG(1, uint64(i))), in: map[group.Number]bool{},
		}
		z.devices = append(z.devices, d)
		wg.Go(func() { z.run(d) })
	}
	for i := range soakReaders {
		wg.Go(func() { z.stallAndReturn(i) })
	}
	for i := range soakBroken {
		wg.Go(func() { z.beBroken(rand.New(rand.NewPCG(2, uint64(i)))) })
	}
	for i := range 2 {
		wg.Go(func() { z.operate(i, rand.New(rand.NewPCG(3, uint64(i)))) })
	}
	z.measure(lasts)
	close(z.stop)
	wg.Wait()
	t.Logf("%d steps, %d broken connections, %d stalled readers disconnected", z.steps.Load(), z.broken.Load(), z.cut.Load())
	if z.steps.Load() == 0 || z.broken.Load() == 0 {
		t.Error("nothing was done")
	}
	if !t.Failed() {
		z.compare(z.s.operatorAs("muster~compare")) // the first one has been silent for too long
	}
}

// wait waits, and reports whether the soak goes on.
func (z *soak) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !z.t.Failed()
	case <-z.stop:
		return false
	}
}

// A usage is what the process holds.
type usage struct{ goroutines, files, heap int }

func (z *soak) usage() usage {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		files = nil // this system does not say
	}
	return usage{runtime.NumGoroutine(), len(files), int(heap())}
}

// measure compares what the process holds at the end with what it held after the
// first minute.
func (z *soak) measure(lasts time.Duration) {
	warm := min(time.Minute, lasts/5)
	if !z.wait(warm) {
		return
	}
	var all []usage
	const samples = 12
	for range samples {
		if !z.wait((lasts - warm) / samples) {
			return
		}
		u := z.usage()
		conns, sessions, addrs, kinds := z.s.srv.Counts()
		z.t.Logf("%d goroutines, %d descriptors, heap %d KiB, %d connections, %d Sessions, %d addresses, %d kinds of log lines, %d KiB wait, %d steps",
			u.goroutines, u.files, u.heap>>10, conns, sessions, addrs, kinds, z.s.srv.Budget().Used()>>10, z.steps.Load())
		all = append(all, u)
	}
	// What stands still goes up and down by chance: the means of two thirds.
	for _, m := range []struct {
		what  string
		of    func(usage) int
		slack int
	}{
		{"goroutines", func(u usage) int { return u.goroutines }, 200},
		{"descriptors", func(u usage) int { return u.files }, 200},
		{"bytes of heap", func(u usage) int { return u.heap }, 24 << 20},
	} {
		mean := func(us []usage) (sum int) {
			for _, u := range us {
				sum += m.of(u)
			}
			return sum / len(us)
		}
		first, last := mean(all[:samples/3]), mean(all[samples-samples/3:])
		if last > first+first/10+m.slack {
			z.t.Errorf("%s grow: %d, then %d", m.what, first, last)
		}
	}
}

// run is a device's life.
func (z *soak) run(d *soakDevice) {
	defer func() {
		if d.c != nil {
			d.c.nc.Close()
		}
	}()
	for z.wait(time.Duration(d.rng.IntN(2000)) * time.Millisecond) {
		if err := z.step(d); err != nil {
			z.t.Errorf("%s: %v", d.id, err)
			return
		}
		z.steps.Add(1)
	}
}

func (z *soak) step(d *soakDevice) (err error) {
	if d.c == nil || d.rng.IntN(20) == 0 {
		old := d.c
		if old != nil && d.rng.IntN(3) > 0 { // else it is taken over
			old.nc.Close()
		}
		d.c, err = soakDial("tcp", z.s.addr, d.id, d.rng.IntN(2) == 0)
		if old != nil {
			old.nc.Close()
		}
		return err
	}
	g := group.Number(1 + d.rng.IntN(soakGroups))
	switch d.rng.IntN(4) {
	case 0:
		return d.c.publish(fmt.Sprintf("g/%d/all/%s/x", g, d.id), "hello", byte(d.rng.IntN(2)))
	case 1:
		return d.change("leave", g, 0)
	case 2:
		for from := range d.in {
			return d.change("switch", from, g)
		}
	}
	return d.change("join", g, 0)
}

// change asks for a change, and keeps what the device is told of it.
func (d *soakDevice) change(op string, a, b group.Number) error {
	body := a.String()
	if b != 0 {
		body += " " + b.String()
	}
	answer, err := d.c.ask(op, body)
	if err != nil {
		return err
	}
	if answer.Code != group.OK {
		return nil
	}
	switch op {
	case "join":
		d.in[a] = true
	case "leave":
		delete(d.in, a)
	case "switch":
		delete(d.in, a)
		d.in[b] = true
	}
	return nil
}

// operate moves and removes devices.
func (z *soak) operate(i int, rng *rand.Rand) {
	c, err := soakDial("unix", z.s.socket, fmt.Sprint("muster~operator-", i), true)
	if err != nil {
		z.t.Error(err)
		return
	}
	defer c.nc.Close()
	for z.wait(20 * time.Millisecond) {
		d := fmt.Sprintf("device-%d", 10*rng.IntN(soakDevices/10))
		a, b := 1+rng.IntN(soakGroups), 1+rng.IntN(soakGroups)
		switch rng.IntN(3) {
		case 0:
			_, err = c.ask("move", fmt.Sprintf("%s %d %d", d, a, b))
		case 1:
			_, err = c.ask("remove", fmt.Sprintf(`{"device":%q,"g":"%d"}`, d, a))
		default:
			err = c.publish(fmt.Sprintf("g/%d/all/muster/x", a), "from an operator", byte(rng.IntN(2)))
		}
		if err != nil {
			z.t.Errorf("operator: %v", err)
			return
		}
	}
}

// stallAndReturn receives all there is, stops to read for a while, and goes on or is
// disconnected.
func (z *soak) stallAndReturn(i int) {
	rng := rand.New(rand.NewPCG(4, uint64(i)))
	for z.wait(100 * time.Millisecond) {
		c, err := soakDial("unix", z.s.socket, fmt.Sprint("muster~reader-", i), true)
		if err != nil {
			z.t.Errorf("reader: %v", err)
			return
		}
		if raw, ok := c.nc.(*net.UnixConn); ok {
			raw.SetReadBuffer(4 << 10)
		}
		err = c.subscribe("g/#", byte(i%2))
		for err == nil && z.wait(time.Duration(rng.IntN(10_000))*time.Millisecond) {
			err = c.flush()
		}
		c.nc.Close()
		if err != nil {
			z.cut.Add(1)
		}
	}
}

// beBroken connects again and again, and sends packets with something wrong, or
// nothing.
func (z *soak) beBroken(rng *rand.Rand) {
	seeds := fuzzSeeds()
	for z.wait(time.Duration(rng.IntN(200)) * time.Millisecond) {
		nc, err := net.Dial("tcp", z.s.addr)
		if err != nil {
			z.t.Errorf("broken client: %v", err)
			return
		}
		z.broken.Add(1)
		if rng.IntN(3) > 0 {
			nc.Write(bareConnect(fmt.Sprint("broken-", rng.IntN(100))))
		}
		for range rng.IntN(4) {
			b := append([]byte(nil), seeds[rng.IntN(len(seeds))]...)
			for range rng.IntN(3) {
				b[rng.IntN(len(b))] = byte(rng.Uint32()) // no seed is empty
			}
			nc.Write(b)
		}
		if rng.IntN(10) == 0 {
			z.wait(3 * time.Second) // longer than it may be silent
		}
		nc.Close()
	}
}

// compare looks for drift: each device's memberships as recorded, in the rosters, in
// delivery, and as it was told.
func (z *soak) compare(op *client) {
	rosters := map[group.ClientID][]group.Number{}
	for n := group.Number(1); n <= soakGroups; n++ {
		for id := range rosterOf(op, n) {
			rosters[id] = append(rosters[id], n)
		}
	}
	for _, d := range z.devices {
		c, err := soakDial("tcp", z.s.addr, d.id, false)
		if err != nil {
			z.t.Fatal(err)
		}
		d.c = c
		if err := c.flush(); err != nil {
			z.t.Errorf("%s: %v", d.id, err)
		}
	}
	delivered := z.s.srv.Delivered()
	for _, d := range z.devices {
		id := group.ClientID(d.id)
		a, err := d.c.ask("mine", "")
		if err != nil {
			z.t.Fatal(err)
		}
		var mine, told []group.Number
		for _, e := range a.List {
			mine = append(mine, e.N)
		}
		for n := range d.in {
			told = append(told, n)
		}
		slices.Sort(told)
		_, recorded := epochOf(op, d.id)
		if !slices.Equal(recorded, mine) || !slices.Equal(recorded, rosters[id]) || !slices.Equal(recorded, delivered[id]) ||
			!d.moved && !slices.Equal(recorded, told) {
			z.t.Errorf("%s: recorded %v, on the rosters of %v, delivered %v, asks for %v, was told %v", d.id, recorded, rosters[id], delivered[id], mine, told)
		}
		d.c.nc.Close()
	}
}
