package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

func (s *suite) order() {
	var writes []store.Write
	var want []result
	rev := group.Rev(0)
	for i := range 3000 {
		w := store.Write{Key: store.MetaKey(strconv.Itoa(i)), Value: []byte{1}, Note: []byte{2}}
		switch i % 7 {
		case 3:
			w.Expect = 99999
			want = append(want, result{0, store.ErrConflict})
		case 5:
			w.Key = "hint"
			want = append(want, result{0, store.ErrKey})
		default:
			rev++
			want = append(want, result{rev, nil})
		}
		writes = append(writes, w)
	}
	for i, got := range s.all(writes) {
		if got.rev != want[i].rev || !errors.Is(got.err, want[i].err) {
			s.Fatalf("write %d: %v, want %v", i, got, want[i])
		}
	}
	if s.Rev() != rev {
		s.Errorf("the store is at rev %d, want %d", s.Rev(), rev)
	}
}

func (s *suite) expect() {
	k := store.DeviceKey("pump-7")
	s.want("replace what is not there", store.Write{Key: k, Expect: 1, Value: []byte("x")}, store.ErrConflict)
	one := s.must(store.Write{Key: k, Value: []byte("a")})
	s.must(store.Write{Key: store.DeviceKey("pump-8"), Value: []byte("a")})
	s.want("make what is there", store.Write{Key: k, Value: []byte("x")}, store.ErrConflict)
	s.want("replace a later one", store.Write{Key: k, Expect: one + 1, Value: []byte("x")}, store.ErrConflict)
	three := s.must(store.Write{Key: k, Expect: one, Value: []byte("b")})
	s.want("replace an earlier one", store.Write{Key: k, Expect: one, Value: []byte("x")}, store.ErrConflict)
	s.want("delete an earlier one", store.Write{Key: k, Expect: one}, store.ErrConflict)
	four := s.must(store.Write{Key: k, Expect: three})
	s.want("replace a deleted one", store.Write{Key: k, Expect: four, Value: []byte("x")}, store.ErrConflict)
	five := s.must(store.Write{Key: k, Value: []byte("c")})
	if one != 1 || three != 3 || four != 4 || five != 5 {
		s.Errorf("the revs are %d %d %d %d, want 1 3 4 5", one, three, four, five)
	}
	s.compare("in the end", content{
		records: map[store.Key]string{k: `5 "c"`, store.DeviceKey("pump-8"): `2 "a"`},
		rev:     5,
	})
}

// Writes that wait together are each decided on the result of those before.
func (s *suite) chain() {
	k := store.DeviceKey("pump-7")
	results := s.all([]store.Write{
		{Key: k, Value: []byte("a")},
		{Key: k, Value: []byte("x")}, // a conflict
		{Key: k, Expect: 1, Value: []byte("b")},
		{Key: k, Expect: 1, Value: []byte("x")}, // a conflict
		{Key: k, Expect: 2},
		{Key: k, Expect: 2, Value: []byte("x")}, // a conflict
		{Key: k, Value: []byte("c")},
		{Key: k, Expect: 4, Value: []byte("d"), Note: []byte("n")},
	})
	got := ""
	for _, r := range results {
		if r.err != nil && !errors.Is(r.err, store.ErrConflict) {
			s.Errorf("error %v", r.err)
		}
		got += fmt.Sprint(r.rev)
	}
	if got != "10203045" {
		s.Errorf("the revs are %s, want 10203045", got)
	}
	s.compare("in the end", content{
		records: map[store.Key]string{k: `5 "d"`}, notes: map[group.Rev]string{5: "n"}, rev: 5,
	})
}

func (s *suite) both() {
	k := store.GroupKey(7)
	s.must(store.Write{Key: k, Value: []byte("a"), Note: []byte("one")})
	s.want("a conflict", store.Write{Key: k, Value: []byte("x"), Note: []byte("x")}, store.ErrConflict)
	s.must(store.Write{Key: k, Expect: 1, Value: []byte("b")})
	s.must(store.Write{Key: k, Expect: 2, Note: []byte("three")})
	want := content{notes: map[group.Rev]string{1: "one", 3: "three"}, rev: 3}
	s.compare("before a restart", want)
	s.again()
	s.compare("after a restart", want)
}

func (s *suite) nothing() {
	k := store.MetaKey("empty")
	s.must(store.Write{Key: k, Value: []byte{}, Note: []byte{}})
	want := content{records: map[store.Key]string{k: `1 ""`}, notes: map[group.Rev]string{1: ""}, rev: 1}
	s.compare("empty", want)
	s.again()
	s.compare("empty, after a restart", want)
	s.must(store.Write{Key: k, Expect: 1, Value: nil})
	s.must(store.Write{Key: k, Value: nil}) // nothing to delete takes a rev too
	s.compare("deleted", content{notes: map[group.Rev]string{1: ""}, rev: 3})
}

func (s *suite) submitInDone() {
	done := make(chan group.Rev)
	var next func(rev group.Rev, err error)
	next = func(rev group.Rev, err error) {
		if err != nil {
			s.Errorf("rev %d: %v", rev, err)
		}
		if rev == 20 || err != nil {
			close(done)
			return
		}
		s.Submit(store.Write{Key: store.MetaKey("k"), Expect: rev, Value: []byte{byte(rev)}}, next)
	}
	next(0, nil)
	<-done
	if s.Rev() != 20 {
		s.Errorf("the store is at rev %d, want 20", s.Rev())
	}
}

func (s *suite) sizes() {
	long := store.Key("m" + strings.Repeat("k", store.MaxKey-1))
	largest := bytes.Repeat([]byte("v"), store.MaxRecord)
	s.must(store.Write{Key: long, Value: largest, Note: largest})
	s.want("key", store.Write{Key: long + "k", Value: []byte{1}}, store.ErrTooLarge)
	s.want("value", store.Write{Key: "mk", Value: append(largest, 1)}, store.ErrTooLarge)
	s.want("note", store.Write{Key: "mk", Value: []byte{1}, Note: append(largest, 1)}, store.ErrTooLarge)
	s.want("no key", store.Write{Value: []byte{1}}, store.ErrKey)
	s.want("a hint's key", store.Write{Key: store.HintKey("cursor"), Value: []byte{1}}, store.ErrKey)
	s.again()
	s.compare("in the end", content{
		records: map[store.Key]string{long: fmt.Sprintf("1 %q", largest)},
		notes:   map[group.Rev]string{1: string(largest)}, rev: 1,
	})
}

func (s *suite) many() {
	large := bytes.Repeat([]byte("v"), store.MaxRecord)
	want := content{map[store.Key]string{}, map[group.Rev]string{}, 4040}
	var writes []store.Write
	for i := range 4040 {
		w := store.Write{Key: store.DeviceKey(group.ClientID(strconv.Itoa(i))), Value: []byte("small"), Note: []byte("n")}
		if i%101 == 0 {
			w.Value, w.Note = large, large
		}
		rev := group.Rev(i + 1)
		want.records[w.Key], want.notes[rev] = fmt.Sprintf("%d %q", rev, w.Value), string(w.Note)
		writes = append(writes, w)
	}
	for i, r := range s.all(writes) {
		if r.err != nil {
			s.Fatalf("write %d: %v", i, r.err)
		}
	}
	s.compare("before a restart", want)
	s.again()
	s.compare("after a restart", want)
}

// Several writers add to the same few counters, each by reading and replacing.
func (s *suite) writers() {
	const n, adds = 8, 50
	var counters, wg sync.WaitGroup
	var mu sync.Mutex // guards sums
	sums := map[store.Key]int{}
	counters.Add(n)
	for i := range n {
		wg.Go(func() {
			counters.Done()
			counters.Wait() // begin together
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range adds {
				k := store.MetaKey(strconv.Itoa(rng.IntN(3)))
				for s.add(k) != nil {
				}
				mu.Lock()
				sums[k]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if s.Rev() != n*adds {
		s.Errorf("the store is at rev %d, want %d", s.Rev(), n*adds)
	}
	for k, sum := range sums {
		if _, got := s.read(k); got != strconv.Itoa(sum) {
			s.Errorf("counter %q is %s, want %d", k, got, sum)
		}
	}
}

// add adds one to the counter under k. The error is a conflict.
func (s *suite) add(k store.Key) error {
	rev, v := s.read(k)
	n, _ := strconv.Atoi(v) // 0 if there is none yet
	_, err := s.write(store.Write{Key: k, Expect: rev, Value: []byte(strconv.Itoa(n + 1)), Note: []byte(v)})
	if err != nil && !errors.Is(err, store.ErrConflict) {
		s.Errorf("write %q: %v", k, err)
		return nil
	}
	return err
}

// read returns the record under k, or 0 and nothing.
func (s *suite) read(k store.Key) (rev group.Rev, v string) {
	err := s.Scan(context.Background(), k, k, func(got store.Key, r group.Rev, b []byte) error {
		if got == k {
			rev, v = r, string(b)
		}
		return nil
	})
	if err != nil {
		s.Errorf("scan: %v", err)
	}
	return rev, v
}
