package badger

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

// At each release its data directory is kept: go test ./store/badger -run
// TestKeptDirectories -keep v0.1 makes it, once; afterwards it is never changed.
var keep = flag.String("keep", "", "make the directories testdata/`VERSION` of what this release writes")

// A keptRecord is one record of a kept directory, or a deleted one if its value
// is nil.
type keptRecord struct {
	key   store.Key
	value any // a group, a device, an account, or bytes
	note  *store.Note
}

// kept holds what was written to the directories, one write after the other. What
// a later release has added to a type is zero in the older ones.
var kept = map[string][]keptRecord{"v0.1": keptV01}

// The secrets of testdata/v0.1, and what stands there in their place.
const (
	keptPIN       = "4711"
	keptPINHash   = "$argon2id$v=19$m=19456,t=2,p=1$oILhOmHpK3x1ZdytmIFTOg$PPgAVjDmks7LHjolrK0arX/gbW70LEQD6eeU0AquuGI"
	keptChosen    = "correct horse"
	keptHash      = "$argon2id$v=19$m=19456,t=2,p=1$8JMwReZ67HwGry85bUTclA$6mwLYXJjR9YAx+n+DsqXpyhl9ktCTpS5ugUrHxn/98U"
	keptGenerated = "u5zo5yvnrvuoc3a2vlkcsw53uuzwxedt"
	keptDigest    = "sha256:2a3d9b72883888be6b9e498a8ee04c3b1ef959f00c8f4937fd63db3f616d07a2"
	keptKeys      = "82018183011a692481005820f70ed79f5bf24e8bbd7f89c9074ea4690f8cf63ce8e9630c931b0f8a73bdb444"
)

func keptAt(seconds int64) time.Time { return time.Unix(1764000000+seconds, 0).UTC() }

func keptID(n byte) group.ID { return group.NewID(keptAt(int64(n)), [10]byte{n, 9: 0xff}) }

var keptV01 = []keptRecord{
	{store.MetaKey("grant-keys"), mustHex(keptKeys), nil},
	{store.GroupKey(1), group.Group{
		Number: 1, ID: keptID(1), Name: "lamps", Aliases: []group.Alias{{Name: "Lämpchen", Until: keptAt(2592000)}},
		Visible: group.VisibleAll, PINInTopic: true, MembersTo: true, PolicyRev: 1, Created: keptAt(1),
	}, &store.Note{At: keptAt(1), Account: group.Local, Op: "create", To: 1, By: group.Local, Rule: "operator"}},
	{store.GroupKey(2), group.Group{
		Number: 2, ID: keptID(2), Name: "öfen", Policy: group.PolicyPIN, PIN: keptPINHash, MembersEvents: true, PolicyRev: 7, Created: keptAt(2),
	}, &store.Note{At: keptAt(2), Account: group.Local, ReqID: []byte("a2"), Body: [16]byte{1, 15: 2}, Op: "create", To: 2, By: group.Local, Rule: "operator"}},
	{store.GroupKey(3), group.Group{Number: 3, ID: keptID(3), Name: "gone", PolicyRev: 2, Created: keptAt(3), Deleted: true}, nil},
	{store.GroupKey(4294967295), group.Group{Number: 4294967295, ID: keptID(4), Name: "last", Visible: group.VisibleAll, PolicyRev: 1, Created: keptAt(4)}, nil},
	{store.AccountKey("ann"), group.Account{Name: "Ann", Role: group.RoleOperator, Secret: keptHash, Findable: true, Created: keptAt(5)}, nil},
	{store.AccountKey("bob"), group.Account{Name: "bob", Secret: keptDigest, Created: keptAt(6)}, nil},
	{store.AccountKey("eye"), group.Account{Name: "eye", Role: group.RoleObserver, Secret: keptDigest, Groups: []group.Number{1, 2}, Created: keptAt(7)}, nil},
	{store.AccountKey("old"), group.Account{Name: "old", Created: keptAt(8), Removed: true}, nil},
	{store.DeviceKey("lamp-7"), group.Device{
		ClientID: "lamp-7", Account: "bob", Epoch: 12, Groups: []group.Membership{
			{Number: 1, Since: 4, At: keptAt(9), QoS: 1, Recv: true, By: "bob"},
			{Number: 2, At: keptAt(10), Filter: []string{"cmd/#", "+/on"}, By: "Ann"}, // Since: the record's rev
			{Number: 3, Since: 5, At: keptAt(9), QoS: 1, Recv: true, By: "bob"},       // void
		},
		Ends: []group.End{{From: 4294967295, To: 2, Epoch: 11}, {From: 1, Epoch: 9}},
		Last: group.Last{Op: group.OpMove, From: 4294967295, To: 2, Epoch: 12},
	}, &store.Note{
		At: keptAt(10), Account: "Ann", Device: "lamp-7", Op: "move", From: 4294967295, To: 2, Epoch: 12, By: "Ann", Rule: "operator", Addr: "192.0.2.1",
	}},
	{store.DeviceKey("auto-1"), group.Device{
		ClientID: "auto-1", Account: group.Anonymous, Epoch: 3, Assigned: true,
		Groups: []group.Membership{{Number: 1, At: keptAt(11), QoS: 1, Recv: true, Exit: group.ExitSession, By: group.Anonymous}},
		Last:   group.Last{Op: group.OpJoin, To: 1, Epoch: 3, Own: true},
	}, &store.Note{
		At: keptAt(11), Account: group.Anonymous, Device: "auto-1", ReqID: []byte{0, 0xff}, Body: [16]byte{3}, Op: "join", To: 1, Code: group.OK,
		Epoch: 3, By: group.Anonymous, Rule: "open", Addr: "127.0.0.1",
	}},
	{store.DeviceKey("a key / with # anything \x00\xff"), group.Device{ClientID: "a key / with # anything \x00\xff", Account: "bob", Epoch: 1}, nil},
	{store.DeviceKey("forgotten"), group.Device{ClientID: "forgotten", Account: "bob", Epoch: 1}, nil},
	{store.DeviceKey("forgotten"), nil, &store.Note{At: keptAt(12), Account: group.Local, Device: "forgotten", Op: "forget", By: group.Local}},
}

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// keptTrim is the rev before which the journal of a kept directory is trimmed,
// keptHint a hint in it.
const keptTrim = 3

var keptHint, keptHinted = store.HintKey("kept", "since"), []byte("v0.1")

// A data directory that any release has left, by a stop or by a crash, opens
// today and reads as it was written.
func TestKeptDirectories(t *testing.T) {
	if *keep != "" {
		makeKept(t, *keep)
	}
	for version, records := range kept {
		for _, left := range []string{"stopped", "killed"} {
			t.Run(version+" "+left, func(t *testing.T) {
				dir := fill(t, contents(t, filepath.Join("testdata", version, left)))
				s := openT(t, dir)
				compareKept(t, s, records)
				wait(t, submit(s, 0, 300), nil)
				closeT(t, s)
				s = openT(t, dir)
				if want := group.Rev(len(records) + 300); s.Rev() != want {
					t.Errorf("after 300 writes it is at rev %d, want %d", s.Rev(), want)
				}
			})
		}
	}
}

// compareKept compares all that is in the store with what was written to it.
func compareKept(t *testing.T, s *Store, records []keptRecord) {
	t.Helper()
	want, notes := map[store.Key]string{keptHint: fmt.Sprintf("0 %q", keptHinted)}, map[group.Rev]store.Note{}
	for i, r := range records {
		rev := group.Rev(i + 1)
		if r.note != nil && rev >= keptTrim {
			notes[rev] = *r.note
		}
		if d, ok := r.value.(group.Device); ok {
			d.Groups = append([]group.Membership(nil), d.Groups...)
			for i := range d.Groups {
				if d.Groups[i].Since == 0 {
					d.Groups[i].Since = rev
				}
			}
			r.value = d
		}
		if delete(want, r.key); r.value != nil {
			want[r.key] = fmt.Sprintf("%d %+v", rev, r.value)
		}
	}
	got := map[store.Key]string{}
	err := s.Scan(t.Context(), "", "", func(k store.Key, rev group.Rev, b []byte) error {
		v, err := decodeKept(k, rev, b)
		got[k] = fmt.Sprintf("%d %+v", rev, v)
		if k.IsHint() {
			got[k] = fmt.Sprintf("%d %q", rev, b)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%q is\n%s, want\n%s", string(k), got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("there are %d records, want %d", len(got), len(want))
	}
	gotNotes := map[group.Rev]store.Note{}
	err = s.Journal(t.Context(), 0, func(rev group.Rev, b []byte) (err error) {
		gotNotes[rev], err = store.DecodeNote(b)
		return err
	})
	if err != nil || !reflect.DeepEqual(gotNotes, notes) {
		t.Errorf("the journal is %+v, want %+v: %v", gotNotes, notes, err)
	}
	if s.Rev() != group.Rev(len(records)) {
		t.Errorf("it is at rev %d, want %d", s.Rev(), len(records))
	}
}

func decodeKept(k store.Key, rev group.Rev, b []byte) (any, error) {
	switch k[:1] {
	case store.GroupPrefix:
		return store.DecodeGroup(b)
	case store.AccountPrefix:
		return store.DecodeAccount(b)
	case store.DevicePrefix:
		return store.DecodeDevice(rev, b)
	}
	return bytes.Clone(b), nil
}

// Secrets that a release has recorded are right today.
func TestKeptSecrets(t *testing.T) {
	a := authz.New(authz.Config{})
	for _, test := range []struct{ recorded, password string }{{keptHash, keptChosen}, {keptDigest, keptGenerated}} {
		acc := &group.Account{Name: "ann", Secret: test.recorded}
		if err := a.Login(t.Context(), acc, []byte(test.password), "192.0.2.1"); err != nil {
			t.Errorf("the password of %s: %v", test.recorded, err)
		}
		if err := a.Login(t.Context(), acc, []byte(test.password+"x"), "192.0.2.1"); err == nil {
			t.Errorf("a wrong password is that of %s", test.recorded)
		}
	}
	g := &group.Group{Number: 2, Policy: group.PolicyPIN, PIN: keptPINHash}
	for pin, want := range map[string]group.Code{keptPIN: group.OK, "4712": group.BadSecret} {
		v, err := a.Judge(t.Context(), authz.Ask{Op: group.OpJoin, Client: "lamp-7", Account: "bob", To: g, Visible: true, Secret: pin})
		if err != nil || v.Code != want {
			t.Errorf("PIN %s: %v, %v, want %v", pin, v.Code, err, want)
		}
	}
	if _, err := authz.DecodeKeys(mustHex(keptKeys)); err != nil {
		t.Errorf("the keys of grants: %v", err)
	}
}

// makeKept writes the two directories of a version. Files that hold nothing but
// zeros are left out, and the zeros at the end of others: Badger makes its files
// larger than what is in them.
func makeKept(t *testing.T, version string) {
	t.Helper()
	to := filepath.Join("testdata", version)
	if _, err := os.Stat(to); err == nil || strings.ContainsAny(version, "/\\") {
		t.Fatalf("%s: is there already, or no version", to)
	}
	dir := t.TempDir()
	s := openT(t, dir)
	s.Hint(keptHint, keptHinted)
	for _, r := range kept[version] {
		w := store.Write{Key: r.key}
		err := s.Scan(t.Context(), r.key, r.key, func(k store.Key, rev group.Rev, _ []byte) error {
			if k == r.key {
				w.Expect = rev
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		switch v := r.value.(type) {
		case group.Group:
			w.Value = store.EncodeGroup(v)
		case group.Device:
			w.Value = store.EncodeDevice(v)
		case group.Account:
			w.Value = store.EncodeAccount(v)
		case []byte:
			w.Value = v
		}
		if r.note != nil {
			w.Note = store.EncodeNote(*r.note)
		}
		done := make(chan error, 1)
		s.Submit(w, func(_ group.Rev, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Trim(keptTrim); err != nil {
		t.Fatal(err)
	}
	s.writeHints() // now, and not within a second
	wait(t, submitNone(s), store.ErrKey)
	killed := contents(t, dir)
	closeT(t, s)
	for left, files := range map[string]map[string][]byte{"stopped": contents(t, dir), "killed": killed} {
		if err := os.MkdirAll(filepath.Join(to, left), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, b := range files {
			if used(b) == 0 {
				continue
			}
			if ext := filepath.Ext(name); ext == ".mem" || ext == ".vlog" {
				b = b[:used(b)]
			}
			if err := os.WriteFile(filepath.Join(to, left, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// submitNone queues a write that is refused: when it is answered, the hints that
// were due are written.
func submitNone(s *Store) chan error {
	results := make(chan error, 1)
	s.Submit(store.Write{}, func(_ group.Rev, err error) { results <- err })
	return results
}
