package badger

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

// contents returns the directory's files, without the locks.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if e.Name() == "LOCK" || e.Name() == lockFile {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = b
	}
	return files
}

// fill makes a new directory of the files.
func fill(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// used returns the length of b without the zeros with which a mapped file ends.
func used(b []byte) int { return len(bytes.TrimRight(b, "\x00")) }

// refused opens a directory of the files. It must be refused with the text, and
// its records must not be touched.
func refused(t *testing.T, files map[string][]byte, want error, text string) {
	t.Helper()
	dir := fill(t, files)
	s, err := Open(dir, Options{})
	if err == nil {
		closeT(t, s)
		t.Error("it opens")
		return
	}
	if want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), dir) {
		t.Errorf("it is refused with %v, want %v, %q", err, want, text)
	}
	for name, b := range contents(t, dir) {
		if filepath.Ext(name) == ".sst" && !bytes.Equal(b, files[name]) {
			t.Errorf("the refused directory's file %s is altered", name)
		}
	}
}

// filled returns the files of a store that was closed, with one table.
func filled(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	s := openT(t, dir)
	wait(t, submit(s, 0, 300), nil)
	closeT(t, s)
	return contents(t, dir)
}

func TestDamage(t *testing.T) {
	const table = "000001.sst"
	half := func(b []byte) []byte { return b[:len(b)/2] }
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			b[(at+len(b))%len(b)] ^= 0x55
			return b
		}
	}
	text := func(s string) func([]byte) []byte { return func([]byte) []byte { return []byte(s) } }
	remove := func([]byte) []byte { return nil }
	tests := []struct {
		name string
		file string
		f    func([]byte) []byte // what becomes of the file
		err  error
		want string
	}{
		{"a newer schema", schemaFile, text("muster store 2\n"), store.ErrSchema, "it has schema 2, and this release knows up to 1"},
		{"another schema file", schemaFile, text("something else\n"), nil, "SCHEMA is damaged"},
		{"more than a schema", schemaFile, text("muster store 1\nmuster"), nil, "SCHEMA is damaged"},
		{"no schema", schemaFile, remove, nil, "no file SCHEMA"},
		{"no manifest", "MANIFEST", remove, nil, "no file MANIFEST"},
		{"an empty manifest", "MANIFEST", text(""), nil, "MANIFEST"},
		{"a manifest cut short", "MANIFEST", half, nil, "MANIFEST ends at byte"},
		{"a manifest without its last change", "MANIFEST", func(b []byte) []byte { return b[:16] }, nil, ""},
		{"a manifest with a bit flipped", "MANIFEST", flip(-2), nil, "MANIFEST"},
		{"no table", table, remove, nil, "table " + table},
		{"an empty table", table, text(""), nil, "cut short"},
		{"a table of few bytes", table, text("abcd"), nil, "cut short"},
		{"half a table", table, half, nil, "table " + table + " is damaged"},
		{"a table of zeros", table, func(b []byte) []byte { return make([]byte, len(b)) }, nil, "table " + table + " is damaged"},
		{"a table's first byte", table, flip(0), nil, "block at byte 0"},
		{"a table's last byte", table, flip(-1), nil, "table " + table + " is damaged"},
		{"a key registry of garbage", "KEYREGISTRY", text(strings.Repeat("garbage", 9)), nil, ""},
		{"another floor", floorFile, text("x"), nil, "REV is damaged"},
		{"less than there was", floorFile, text("301\n"), nil, "it ends with rev 300, and had reached 301"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files := filled(t)
			if files[test.file] == nil {
				t.Fatalf("there is no file %s", test.file)
			}
			if b := test.f(files[test.file]); b != nil {
				files[test.file] = b
			} else {
				delete(files, test.file)
			}
			refused(t, files, test.err, test.want)
		})
	}
}

// Whichever bit of a table is flipped, the store does not open.
func TestTableBitFlips(t *testing.T) {
	files := filled(t)
	name := filepath.Join(t.TempDir(), "table")
	rng := rand.New(rand.NewPCG(3, 5))
	b := files["000001.sst"]
	check := func() error {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return checkTable(name)
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		at, bit := rng.IntN(len(b)), byte(1)<<rng.IntN(8)
		if i < 300 {
			at = len(b) - 1 - i
		}
		b[at] ^= bit
		if check() == nil {
			t.Errorf("the flip of bit %#x at byte %d of %d is not seen", bit, at, len(b))
		}
		b[at] ^= bit
	}
	for range 100 {
		b = files["000001.sst"][:rng.IntN(len(files["000001.sst"]))]
		if check() == nil {
			t.Errorf("a table cut to %d bytes is not seen", len(b))
		}
	}
}

// A crash cuts the log anywhere. What is left is the writes up to one of them,
// and the store goes on from there.
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	s := openT(t, dir)
	const n = 40
	for i := range n {
		wait(t, submit(s, i, 1), nil)
	}
	crashed := contents(t, dir)
	const log = "00001.mem"
	full := crashed[log]
	reached := map[group.Rev]bool{}
	for cut := used(full); cut > 0; cut -= 149 {
		files := map[string][]byte{}
		for name, b := range crashed {
			files[name] = b
		}
		files[log] = append(slices.Clone(full[:cut]), make([]byte, 4096)...)
		s := openT(t, fill(t, files))
		rev := s.Rev()
		reached[rev] = true
		records, notes := count(t, s)
		if records != int(rev) || notes != int(rev) {
			t.Errorf("cut at byte %d: rev %d, %d records, %d notes", cut, rev, records, notes)
		}
		for i := range int(rev) {
			k := store.MetaKey(strconv.Itoa(i))
			err := s.Scan(t.Context(), k, k, func(_ store.Key, r group.Rev, b []byte) error {
				if r != group.Rev(i+1) || string(b) != strconv.Itoa(i) {
					return fmt.Errorf("record %d has rev %d, %q", i, r, b)
				}
				return nil
			})
			if err != nil {
				t.Errorf("cut at byte %d: %v", cut, err)
			}
		}
		wait(t, submit(s, 1000, 1), nil)
		if s.Rev() != rev+1 {
			t.Errorf("cut at byte %d: rev %d is followed by %d", cut, rev, s.Rev())
		}
		closeT(t, s)
	}
	if !reached[n] || len(reached) < n/2 {
		t.Errorf("the cuts leave only %d of %d revs", len(reached), n)
	}
}

// A crash may leave a log that was just made: it has a name and no size yet.
func TestEmptyLog(t *testing.T) {
	files := filled(t)
	files["00009.mem"], files["000009.vlog"] = []byte{}, []byte{}
	s := openT(t, fill(t, files))
	if records, notes := count(t, s); records != 300 || notes != 300 {
		t.Errorf("there are %d records and %d notes, want 300", records, notes)
	}
	wait(t, submit(s, 1000, 1), nil)
}

// A table that is missing together with its mention is noticed: the records
// that are left do not add up.
func TestMissingRecords(t *testing.T) {
	dir := t.TempDir()
	s := openT(t, dir)
	wait(t, submit(s, 0, 300), nil)
	closeT(t, s)
	s = openT(t, dir)
	wait(t, submit(s, 300, 300), nil)
	files := contents(t, dir) // as after a crash: a table, and a log
	s2 := openT(t, fill(t, files))
	if records, _ := count(t, s2); records != 600 {
		t.Fatalf("there are %d records, want 600", records)
	}
	files["MANIFEST"] = files["MANIFEST"][:20]
	s3, err := Open(fill(t, files), Options{})
	if err == nil {
		closeT(t, s3)
	}
	if err == nil || !strings.Contains(err.Error(), "some records are missing") {
		t.Errorf("without its first table the store opens with %v", err)
	}
}
