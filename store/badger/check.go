package badger

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
)

// Badger takes its files on trust: it ends the process at a damaged table,
// skips what it cannot read, refuses the empty file that a crash left before
// anything was in it, and deletes the tables that a damaged manifest does not
// name. So they are looked at before Badger opens them.

// prepare looks through Badger's files in the directory, and removes those that
// a crash left empty. The error says which is missing or damaged; then nothing
// is lost that was there.
func prepare(dir string, isNew bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	files := map[string]int{} // by extension, without the empty ones
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		switch ext {
		case ".sst", ".mem", ".vlog":
			info, err := e.Info()
			if err != nil {
				return err
			}
			if info.Size() == 0 && ext != ".sst" {
				if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
					return err
				}
				continue
			}
			files[ext]++
		}
	}
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		if len(files) > 0 {
			return fmt.Errorf("it holds data but no file %s: a part of it is missing", badger.ManifestFilename)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if isNew {
		return fmt.Errorf("it holds data but no file %s: it is not a store of muster, or a part of it is missing", schemaFile)
	}
	manifest, end, err := badger.ReplayManifestFile(f, 0, badger.Options{})
	if err != nil {
		return fmt.Errorf("file %s: %w", badger.ManifestFilename, err)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	// A crash may cut the end of the manifest. What the end was about is then
	// still in a log (.mem).
	if end < info.Size() && files[".mem"] == 0 {
		return fmt.Errorf("file %s ends at byte %d of %d", badger.ManifestFilename, end, info.Size())
	}
	for id := range manifest.Tables {
		name := fmt.Sprintf("%06d.sst", id)
		if err := checkTable(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("table %s is damaged: %w", name, err)
		}
	}
	return nil
}

// checkTable reads a table through and compares its checksums. A table is
// blocks, an index of them, its length (4 bytes), its checksum, and the length
// of that (4 bytes).
func checkTable(name string) (err error) {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	defer func() {
		if r := recover(); r != nil { // the index is of the engine's making
			err = fmt.Errorf("its index cannot be read: %v", r)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	tail := tailReader{f, info.Size()}
	sum, err := tail.checksum()
	if err != nil {
		return err
	}
	b, err := tail.sized()
	if err != nil {
		return err
	}
	if crc32.Checksum(b, castagnoli) != sum {
		return errors.New("the checksum of its index is wrong")
	}
	index := fb.GetRootAsTableIndex(b, 0)
	blocks := bufio.NewReaderSize(io.NewSectionReader(f, 0, tail.end), 256<<10)
	at := int64(0)
	for i := range index.OffsetsLength() {
		var o fb.BlockOffset
		if !index.Offsets(&o, i) || int64(o.Offset()) != at || int64(o.Len()) > tail.end-at {
			return fmt.Errorf("its index is wrong at block %d", i)
		}
		block := make([]byte, o.Len())
		if _, err := io.ReadFull(blocks, block); err != nil {
			return err
		}
		if !blockOK(block) {
			return fmt.Errorf("the checksum of the block at byte %d is wrong", at)
		}
		at += int64(o.Len())
	}
	if at != tail.end {
		return errors.New("its index names too few blocks")
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blockOK reports whether the block has the checksum with which it ends.
func blockOK(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	end := len(b) - 4
	n := binary.BigEndian.Uint32(b[end:])
	if int64(n) > int64(end) {
		return false
	}
	sum, ok := parseChecksum(b[end-int(n) : end])
	return ok && crc32.Checksum(b[:end-int(n)], castagnoli) == sum
}

// A tailReader reads a file's parts from its end.
type tailReader struct {
	f   *os.File
	end int64
}

// take returns the n bytes before the end, which is then before them.
func (t *tailReader) take(n int64) ([]byte, error) {
	if n > t.end {
		return nil, errors.New("it is cut short")
	}
	b := make([]byte, n)
	t.end -= n
	_, err := t.f.ReadAt(b, t.end)
	return b, err
}

// sized returns the bytes whose length stands behind them.
func (t *tailReader) sized() ([]byte, error) {
	b, err := t.take(4)
	if err != nil {
		return nil, err
	}
	return t.take(int64(binary.BigEndian.Uint32(b)))
}

func (t *tailReader) checksum() (uint32, error) {
	b, err := t.sized()
	if err != nil {
		return 0, err
	}
	sum, ok := parseChecksum(b)
	if !ok {
		return 0, errors.New("it does not end as a table does")
	}
	return sum, nil
}

// parseChecksum reads a checksum, a protocol buffer: field 2 is the sum, and
// field 1, which is absent, would name another algorithm than CRC-32C.
func parseChecksum(b []byte) (uint32, bool) {
	if len(b) == 0 {
		return 0, true // a sum of 0
	}
	sum, n := binary.Uvarint(b[1:])
	return uint32(sum), b[0] == 2<<3 && n == len(b)-1 && sum <= 1<<32-1
}
