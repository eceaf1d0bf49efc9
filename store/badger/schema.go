package badger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

// schema is the version of how the directory is laid out. It grows when an
// older release could no longer read what a newer one writes, or would do harm.
const schema = 1

// Beside Badger's files there are some of our own, which can be read before
// Badger, which alters files, opens the directory.
const (
	schemaFile   = "SCHEMA" // the schema
	schemaFormat = "muster store %d\n"

	floorFile   = "REV" // a rev that the data has reached, from the last open or close
	floorFormat = "%d\n"

	lockFile = "muster.lock" // locked while the store is open
)

// readLine reads the number in one of our own files. A file that is not there
// has 0.
func readLine(dir, name, format string) (n uint64, err error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscanf(string(b), format, &n); err != nil || string(b) != fmt.Sprintf(format, n) {
		return 0, fmt.Errorf("its file %s is damaged", name)
	}
	return n, nil
}

// writeLine writes one of our own files, whole or not at all.
func writeLine(dir, name, format string, n uint64) error {
	f, err := os.CreateTemp(dir, name+".*.new")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, format, n)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readSchema returns the directory's schema, or 0 if it is new. The error is
// [store.ErrSchema] if the schema is newer than this release.
func readSchema(dir string) (uint64, error) {
	n, err := readLine(dir, schemaFile, schemaFormat)
	if err == nil && n > schema {
		err = fmt.Errorf("%w: it has schema %d, and this release knows up to %d", store.ErrSchema, n, schema)
	}
	return n, err
}

// lockDir makes this process the only user of the directory, until the file is
// closed.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// checkFloor returns an error if the data ends before a rev that it had
// reached, and notes the one it has reached now.
func checkFloor(dir string, rev group.Rev) error {
	floor, err := readLine(dir, floorFile, floorFormat)
	if err != nil || floor == uint64(rev) {
		return err
	}
	if floor > uint64(rev) {
		return fmt.Errorf("a part of the data is missing: it ends with rev %d, and had reached %d", rev, floor)
	}
	return writeLine(dir, floorFile, floorFormat, uint64(rev))
}
