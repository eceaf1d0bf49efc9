package badger

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

// Badger's keys begin with a byte that says what is under them.
const (
	recordByte = 'r' // then the store.Key: the rev, 8 bytes, and the record or hint
	noteByte   = 'j' // then the rev, 8 bytes: the note

	// Of the store itself: numbers of 8 bytes.
	stateKey = "srev"  // the rev of the newest write, and the sum of the revs of all records
	trimKey  = "strim" // the rev with which the journal begins
)

// revSize is the size of a rev in a key or before a record.
const revSize = 8

func recordKey(k store.Key) []byte {
	b := make([]byte, 0, 1+len(k))
	return append(append(b, recordByte), k...)
}

func noteKey(rev group.Rev) []byte {
	return binary.BigEndian.AppendUint64([]byte{noteByte}, uint64(rev))
}

func recordValue(rev group.Rev, v []byte) []byte {
	b := make([]byte, 0, revSize+len(v))
	return append(binary.BigEndian.AppendUint64(b, uint64(rev)), v...)
}

// splitRecord is the reverse of recordValue. It copies nothing.
func splitRecord(key, b []byte) (group.Rev, []byte, error) {
	if len(b) < revSize {
		return 0, nil, fmt.Errorf("the record %q is damaged: it has %d bytes", key[1:], len(b))
	}
	return group.Rev(binary.BigEndian.Uint64(b)), b[revSize:], nil
}

// readRev returns the rev of the record under k, or 0 if there is none.
func readRev(txn *badger.Txn, key []byte) (rev group.Rev, err error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return 0, nil
	}
	if err == nil {
		err = item.Value(func(b []byte) (err error) {
			rev, _, err = splitRecord(key, b)
			return err
		})
	}
	return rev, err
}

// sumRevs returns the sum of the revs of all records. Hints, of rev 0, add
// nothing to it.
func sumRevs(txn *badger.Txn) (sum uint64, err error) {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{recordByte}})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		err := it.Item().Value(func(b []byte) error {
			rev, _, err := splitRecord(it.Item().Key(), b)
			sum += uint64(rev)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// readNumbers returns the numbers under one of the store's own keys, or zeros
// if they have never been written.
func readNumbers(txn *badger.Txn, key string, n int) ([]uint64, error) {
	numbers := make([]uint64, n)
	item, err := txn.Get([]byte(key))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return numbers, nil
	}
	if err != nil {
		return nil, err
	}
	return numbers, item.Value(func(b []byte) error {
		if len(b) != n*revSize {
			return fmt.Errorf("%s has %d bytes", key, len(b))
		}
		for i := range numbers {
			numbers[i] = binary.BigEndian.Uint64(b[i*revSize:])
		}
		return nil
	})
}

func putNumbers(txn *badger.Txn, key string, numbers ...uint64) error {
	var b []byte
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return txn.Set([]byte(key), b)
}
