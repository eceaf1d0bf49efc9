package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"

	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

// keys returns the keys that a scan finds.
func (s *suite) keys(prefix, from store.Key) []string {
	s.Helper()
	var keys []string
	err := s.Scan(context.Background(), prefix, from, func(k store.Key, _ group.Rev, _ []byte) error {
		keys = append(keys, string(k))
		return nil
	})
	if err != nil {
		s.Errorf("scan %q from %q: %v", prefix, from, err)
	}
	return keys
}

func (s *suite) scan() {
	for _, k := range []store.Key{"mb", "ma", "m", "ma\x00", "ma\xff", "m\xff\xff", "n", "l\xff", "mab", "a"} {
		s.must(store.Write{Key: k, Value: []byte("v")})
	}
	gone := s.must(store.Write{Key: "mac", Value: []byte("v")})
	s.must(store.Write{Key: "mac", Expect: gone})
	tests := []struct {
		name         string
		prefix, from store.Key
		want         []string
	}{
		{"all", "", "", []string{"a", "l\xff", "m", "ma", "ma\x00", "mab", "ma\xff", "mb", "m\xff\xff", "n"}},
		{"all from a key", "", "mb", []string{"mb", "m\xff\xff", "n"}},
		{"prefix", "ma", "", []string{"ma", "ma\x00", "mab", "ma\xff"}},
		{"prefix of one's own", "m\xff", "", []string{"m\xff\xff"}},
		{"from the middle", "ma", "maa", []string{"mab", "ma\xff"}},
		{"from a key that is there", "ma", "mab", []string{"mab", "ma\xff"}},
		{"from before the prefix", "ma", "b", []string{"ma", "ma\x00", "mab", "ma\xff"}},
		{"from after the prefix", "ma", "mb", nil},
		{"a prefix that nothing has", "q", "", nil},
	}
	for range 2 {
		for _, test := range tests {
			if got := s.keys(test.prefix, test.from); !slices.Equal(got, test.want) {
				s.Errorf("%s: %q, want %q", test.name, got, test.want)
			}
		}
		s.again()
	}
}

func (s *suite) moment() {
	for i := range 200 {
		s.must(store.Write{Key: store.GroupKey(group.Number(i + 1)), Value: []byte("old")})
	}
	n := 0
	err := s.Scan(context.Background(), store.GroupPrefix, "", func(k store.Key, rev group.Rev, v []byte) error {
		if n == 0 {
			// What changes now, this scan does not show.
			var writes []store.Write
			for i := range 200 {
				writes = append(writes, store.Write{Key: store.GroupKey(group.Number(i + 1)), Expect: group.Rev(i + 1), Value: []byte("new")})
			}
			writes[150].Value = nil
			writes = append(writes, store.Write{Key: store.GroupKey(1000), Value: []byte("new")})
			for i, r := range s.all(writes) {
				if r.err != nil {
					s.Errorf("write %d: %v", i, r.err)
				}
			}
		}
		n++
		if want := group.Rev(n); k != store.GroupKey(group.Number(n)) || rev != want || string(v) != "old" {
			return fmt.Errorf("record %d is %q, rev %d, %q", n, k, rev, v)
		}
		return nil
	})
	if err != nil || n != 200 {
		s.Errorf("scan: %d records, error %v", n, err)
	}
	if got := len(s.keys(store.GroupPrefix, "")); got != 200 {
		s.Errorf("afterwards there are %d records, want 200", got)
	}
}

func (s *suite) scanEnds() {
	for i := range 3 {
		s.must(store.Write{Key: store.GroupKey(group.Number(i)), Value: []byte("v"), Note: []byte("n")})
	}
	enough := errors.New("enough")
	walks := []struct {
		name string
		walk func(ctx context.Context, f func() error) error
	}{
		{"scan", func(ctx context.Context, f func() error) error {
			return s.Scan(ctx, "", "", func(store.Key, group.Rev, []byte) error { return f() })
		}},
		{"journal", func(ctx context.Context, f func() error) error {
			return s.Journal(ctx, 0, func(group.Rev, []byte) error { return f() })
		}},
	}
	for _, w := range walks {
		n := 0
		if err := w.walk(context.Background(), func() error { n++; return enough }); err != enough || n != 1 {
			s.Errorf("%s returns %v after %d, want the error of f after 1", w.name, err, n)
		}
		ctx, cancel := context.WithCancel(context.Background())
		n = 0
		if err := w.walk(ctx, func() error { n++; cancel(); return nil }); !errors.Is(err, context.Canceled) || n != 1 {
			s.Errorf("%s returns %v after %d, want that of the context after 1", w.name, err, n)
		}
		cancel()
	}
}

// notes returns the revs of the journal's notes from the given one on.
func (s *suite) notes(from group.Rev) []group.Rev {
	s.Helper()
	var revs []group.Rev
	err := s.Journal(context.Background(), from, func(rev group.Rev, note []byte) error {
		if want := fmt.Sprint("note ", rev); string(note) != want {
			s.Errorf("journal: %q, want %q", note, want)
		}
		revs = append(revs, rev)
		return nil
	})
	if err != nil {
		s.Errorf("journal from %d: %v", from, err)
	}
	return revs
}

// noted makes n writes, of which every third has no note.
func (s *suite) noted(n int) {
	s.Helper()
	rev := s.Rev()
	var writes []store.Write
	for range n {
		rev++
		w := store.Write{Key: store.MetaKey(fmt.Sprint(rev)), Value: []byte("v")}
		if rev%3 != 0 {
			w.Note = fmt.Append(nil, "note ", rev)
		}
		writes = append(writes, w)
	}
	for i, r := range s.all(writes) {
		if r.err != nil {
			s.Fatalf("write %d: %v", i, r.err)
		}
	}
}

// between returns the revs from a up to b whose writes have notes.
func between(a, b group.Rev) []group.Rev {
	var revs []group.Rev
	for ; a <= b; a++ {
		if a%3 != 0 {
			revs = append(revs, a)
		}
	}
	return revs
}

func (s *suite) journal() {
	if got := s.notes(0); got != nil {
		s.Errorf("the journal of an empty store has %d", got)
	}
	s.noted(600)
	for range 2 {
		for _, from := range []group.Rev{0, 1, 2, 3, 4, 255, 256, 257, 300, 599, 600, 601, 1 << 40} {
			if got, want := s.notes(from), between(max(from, 1), 600); !slices.Equal(got, want) {
				s.Errorf("from %d: %d, want %d", from, got, want)
			}
		}
		s.again()
	}
}

func (s *suite) trim() {
	s.noted(3000)
	before := s.content().records
	for _, rev := range []group.Rev{0, 1, 2, 4, 1500, 100, 2998, 2999} {
		if err := s.Trim(rev); err != nil {
			s.Fatalf("trim %d: %v", rev, err)
		}
		begin := max(rev, 1)
		if rev == 100 {
			begin = 1500 // what is forgotten does not come back
		}
		for range 2 {
			if got, want := s.notes(0), between(begin, 3000); !slices.Equal(got, want) {
				s.Errorf("trim %d: %d notes, want %d", rev, len(got), len(want))
			}
			if rev >= 1500 {
				s.again()
			}
		}
	}
	// All of it, and beyond: what comes later is kept.
	if err := s.Trim(1 << 40); err != nil {
		s.Fatal(err)
	}
	s.compare("trimmed", content{before, nil, 3000})
	s.noted(2)
	if got := s.notes(0); !slices.Equal(got, []group.Rev{3001, 3002}) {
		s.Errorf("after all is forgotten: %d", got)
	}
}

func (s *suite) trimBeside() {
	s.noted(2500)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if err := s.Trim(group.Rev(2000 + i*100)); err != nil {
				s.Errorf("trim: %v", err)
			}
		})
	}
	s.noted(1000)
	wg.Wait()
	if got, want := s.notes(0), between(2200, 3500); !slices.Equal(got, want) {
		s.Errorf("%d notes, want %d", len(got), len(want))
	}
}

func (s *suite) hints() {
	k, l := store.HintKey("cursor", "pump-7"), store.HintKey("cursor", "pump-8")
	record := s.must(store.Write{Key: store.MetaKey("cursor"), Value: []byte("v")})
	value := []byte("0")
	for i := range 10 {
		value[0] = '0' + byte(i)
		s.Hint(k, value)
	}
	value[0] = 'x' // the store does not keep the caller's bytes
	s.Hint(l, []byte("l"))
	s.Hint(store.HintKey("gone"), []byte("x"))
	s.Hint(store.HintKey("gone"), nil)
	s.Hint(store.MetaKey("cursor"), []byte("x"))
	s.Hint("", []byte("x"))
	s.Hint(store.HintKey("large"), make([]byte, store.MaxRecord+1))
	s.again()
	want := content{
		records: map[store.Key]string{k: `0 "9"`, l: `0 "l"`, store.MetaKey("cursor"): `1 "v"`}, rev: record,
	}
	s.compare("after a restart", want)
	s.Hint(k, []byte("new"))
	s.Hint(l, nil)
	s.again()
	delete(want.records, l)
	want.records[k] = `0 "new"`
	s.compare("after another restart", want)
	for i := range 3000 {
		s.Hint(store.HintKey("many", strconv.Itoa(i)), []byte("v"))
	}
	s.again()
	if got := len(s.keys(store.HintKey("many"), "")); got != 3000 {
		s.Errorf("%d of 3000 hints are kept", got)
	}
}

func (s *suite) close() {
	const n = 2500
	results := make(chan result, n+3)
	keep := func(rev group.Rev, err error) { results <- result{rev, err} }
	for i := range n {
		s.Submit(store.Write{Key: store.MetaKey(strconv.Itoa(i)), Value: []byte("v")}, keep)
	}
	if err := s.Close(); err != nil {
		s.Fatal(err)
	}
	if len(results) != n {
		s.Errorf("Close returns when %d of %d writes are answered", len(results), n)
	}
	for range 3 {
		s.Submit(store.Write{Key: "m", Value: []byte("v")}, keep)
	}
	for i := range n + 3 {
		r := <-results
		if i < n && (r.err != nil || r.rev != group.Rev(i+1)) || i >= n && (!errors.Is(r.err, store.ErrClosed) || r.rev != 0) {
			s.Fatalf("write %d: %v", i, r)
		}
	}
	s.Hint(store.HintKey("late"), []byte("v"))
	ctx := context.Background()
	fail := func() error { return errors.New("called") }
	tests := []struct {
		name string
		err  error
	}{
		{"Scan", s.Scan(ctx, "", "", func(store.Key, group.Rev, []byte) error { return fail() })},
		{"Journal", s.Journal(ctx, 0, func(group.Rev, []byte) error { return fail() })},
		{"Trim", s.Trim(1)},
	}
	for _, test := range tests {
		if !errors.Is(test.err, store.ErrClosed) {
			s.Errorf("%s after Close: %v, want %v", test.name, test.err, store.ErrClosed)
		}
	}
	if s.Rev() != n {
		s.Errorf("Rev after Close: %d, want %d", s.Rev(), n)
	}
	s.again() // Close a second time is harmless
	if got := s.keys(store.HintPrefix, ""); got != nil {
		s.Errorf("a hint after Close is kept: %q", got)
	}
}

func (s *suite) reopen() {
	s.compare("new", content{})
	s.again()
	s.compare("new, after a restart", content{})
	one := s.must(store.Write{Key: "ma", Value: []byte("a"), Note: []byte("n1")})
	two := s.must(store.Write{Key: "mb", Value: []byte("b"), Note: []byte("n2")})
	three := s.must(store.Write{Key: "ma", Expect: one, Value: []byte("a2")})
	want := content{
		records: map[store.Key]string{"ma": `3 "a2"`, "mb": `2 "b"`},
		notes:   map[group.Rev]string{one: "n1", two: "n2"}, rev: three,
	}
	s.again()
	s.compare("a newest write without a note", want)
	want.rev = s.must(store.Write{Key: "mb", Expect: two})
	delete(want.records, "mb")
	s.again()
	s.compare("a newest write that deletes", want)
	s.again()
	s.compare("a second time", want)
	s.want("a rev from before the restart", store.Write{Key: "ma", Expect: one, Value: []byte("x")}, store.ErrConflict)
	if rev := s.must(store.Write{Key: "ma", Expect: three, Value: []byte("a3")}); rev != 5 {
		s.Errorf("the next rev is %d, want 5", rev)
	}
}

// Random writes, in bunches of random size, with restarts and trims between
// them, have the effect that they have on a map.
func (s *suite) model() {
	rng := rand.New(rand.NewPCG(7, 11))
	revs := map[store.Key]group.Rev{}
	want := content{map[store.Key]string{}, map[group.Rev]string{}, 0}
	for round := range 60 {
		var writes []store.Write
		var results []result
		for range rng.IntN(60) {
			k := store.MetaKey(strconv.Itoa(rng.IntN(12)))
			w := store.Write{Key: k, Expect: revs[k]}
			if rng.IntN(5) == 0 {
				w.Expect = group.Rev(rng.Uint64N(uint64(want.rev) + 3))
			}
			if rng.IntN(3) > 0 {
				w.Value = fmt.Append([]byte{}, rng.Uint32())
			}
			if rng.IntN(3) > 0 {
				w.Note = fmt.Append([]byte{}, rng.Uint32())
			}
			writes = append(writes, w)
			if w.Expect != revs[k] {
				results = append(results, result{0, store.ErrConflict})
				continue
			}
			want.rev++
			results = append(results, result{want.rev, nil})
			revs[k], want.records[k] = want.rev, fmt.Sprintf("%d %q", want.rev, w.Value)
			if w.Value == nil {
				delete(revs, k)
				delete(want.records, k)
			}
			if w.Note != nil {
				want.notes[want.rev] = string(w.Note)
			}
		}
		for i, got := range s.all(writes) {
			if got.rev != results[i].rev || !errors.Is(got.err, results[i].err) {
				s.Fatalf("round %d, write %d: %v, want %v", round, i, got, results[i])
			}
		}
		switch rng.IntN(12) {
		case 0:
			s.again()
		case 1:
			before := group.Rev(rng.Uint64N(uint64(want.rev) + 2))
			if err := s.Trim(before); err != nil {
				s.Fatalf("trim: %v", err)
			}
			for rev := range want.notes {
				if rev < before {
					delete(want.notes, rev)
				}
			}
		}
		s.compare(fmt.Sprint("round ", round), want)
	}
}
