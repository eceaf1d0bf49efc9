package authz

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/group"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// tiny is as cheap as argon2id gets.
var tiny = Params{Memory: 8 << 10, Time: 1, Threads: 1}

// A bench is an Authority with a clock that the test sets, and a record of what
// its runs of argon2id cost.
type bench struct {
	*Authority
	mu   sync.Mutex
	now  time.Time
	runs []string // the costs of each run
}

func newBench(t testing.TB, c Config) *bench {
	t.Helper()
	b := &bench{now: noon}
	c.Now = func() time.Time { b.mu.Lock(); defer b.mu.Unlock(); return b.now }
	if c.Argon2 == (Params{}) {
		c.Argon2 = tiny
	}
	b.Authority = New(c)
	real := b.derive
	b.derive = func(secret, salt []byte, passes, kib uint32, threads uint8, size uint32) []byte {
		b.mu.Lock()
		b.runs = append(b.runs, fmt.Sprintf("m=%d,t=%d,p=%d,salt %d,sum %d", kib, passes, threads, len(salt), size))
		b.mu.Unlock()
		return real(secret, salt, passes, kib, threads, size)
	}
	return b
}

func (b *bench) pass(d time.Duration) { b.mu.Lock(); b.now = b.now.Add(d); b.mu.Unlock() }

// took returns the costs of the runs since it was last called.
func (b *bench) took() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	runs := slices.Clone(b.runs)
	b.runs = nil
	return runs
}

// hashed returns the hash of a secret, and does not count the run.
func (b *bench) hashed(t testing.TB, secret string) string {
	t.Helper()
	h, err := b.HashSecret(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	b.took()
	return h
}

// judge returns the verdict and whether Quick gave it.
func (b *bench) judge(t testing.TB, q Ask) (group.Verdict, bool) {
	t.Helper()
	if v, ok := b.Quick(q); ok {
		return v, true
	}
	v, err := b.Judge(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return v, false
}

// Zero fields have the defaults of configs/muster.yaml; what is out of range has
// the end of the range.
func TestDefaults(t *testing.T) {
	tests := []struct {
		name     string
		in, want Params
	}{
		{"zero", Params{}, Params{19 << 20, 2, 1, 2}},
		{"negative", Params{-1, -1, -1, -1}, Params{19 << 20, 2, 1, 2}},
		{"too much", Params{math.MaxInt, math.MaxInt, math.MaxInt, math.MaxInt}, Params{1 << 30, 100, 64, 1024}},
		{"too little memory for the threads", Params{1, 1, 4, 1}, Params{32 << 10, 1, 4, 1}},
		{"not whole KiB", Params{8<<20 + 1, 1, 1, 1}, Params{8 << 20, 1, 1, 1}},
	}
	for _, tt := range tests {
		if got := tt.in.complete(); got != tt.want {
			t.Errorf("%s: %+v becomes %+v, want %+v", tt.name, tt.in, got, tt.want)
		}
	}
	l := New(Config{}).limits
	if l.device.limit != 5 || l.account.limit != 50 || l.address.limit != 100 || l.window != 10*time.Minute {
		t.Errorf("limits are %d, %d, %d in %v", l.device.limit, l.account.limit, l.address.limit, l.window)
	}
}
