package badger

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

// BenchmarkSubmit has each of several writers replace the records of its own
// devices, one write under way at a time.
func BenchmarkSubmit(b *testing.B) {
	for _, writers := range []int{1, 64, 512} {
		b.Run(fmt.Sprint("writers=", writers), func(b *testing.B) {
			s, err := Open(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			value, note := make([]byte, 80), make([]byte, 90)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for i := range writers {
				wg.Go(func() {
					const devices = 100
					var revs [devices]group.Rev
					done := make(chan error, 1)
					for n := i; n < b.N; n += writers {
						d := n / writers % devices
						key := store.DeviceKey(group.ClientID(fmt.Sprintf("device-%d-%d", i, d)))
						s.Submit(store.Write{Key: key, Expect: revs[d], Value: value, Note: note}, func(rev group.Rev, err error) {
							revs[d] = rev
							done <- err
						})
						if err := <-done; err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}

// BenchmarkSync is what one sync of a file costs on this disk, to compare one
// writer with.
func BenchmarkSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "file"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 200)
	for i := range b.N {
		if _, err := f.WriteAt(block, int64(i%50000)*int64(len(block))); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "syncs/s")
}

// BenchmarkOpen opens a store with 100,000 records and notes, and reads the
// records.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 100_000 {
		wg.Add(1)
		w := store.Write{Key: store.DeviceKey(group.ClientID(fmt.Sprint("device-", i))), Value: make([]byte, 80), Note: make([]byte, 90)}
		s.Submit(w, func(_ group.Rev, err error) {
			if err != nil {
				b.Error(err)
			}
			wg.Done()
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		if err := s.Scan(b.Context(), store.DevicePrefix, "", func(store.Key, group.Rev, []byte) error { n++; return nil }); err != nil || n != 100_000 {
			b.Fatal(n, err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
