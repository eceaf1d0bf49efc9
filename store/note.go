package store

import (
	"fmt"
	"time"

	"github.com/muster-mqtt/muster/group"
)

// A Note is what the journal says of one write: who asked for what, and what
// became of it. Notes tell a repeated request from a new one, and serve the
// audit. The zero value of a field means that it does not apply.
type Note struct {
	At      time.Time      // when it was asked; UTC, whole seconds
	Account string         // the asker's
	Device  group.ClientID // whose membership changed
	// ReqID is the request's id, chosen by the asker; nil if it gave none.
	ReqID []byte
	// Body is a digest of what was asked, to tell a repetition from another
	// request with the same id.
	Body     [16]byte
	Op       string
	From, To group.Number
	Code     group.Code  // of the answer
	Epoch    group.Epoch // of the device's record after the write
	By       string      // the account on whose word it was done
	Rule     string      // the rule that decided
	Addr     string      // the network address that the request came from
}

type noteRecord struct {
	At      seconds        `cbor:"1,keyasint,omitempty"`
	Account string         `cbor:"2,keyasint,omitempty"`
	Device  group.ClientID `cbor:"3,keyasint,omitempty"`
	ReqID   []byte         `cbor:"4,keyasint,omitempty"`
	Body    []byte         `cbor:"5,keyasint,omitempty"`
	Op      string         `cbor:"6,keyasint,omitempty"`
	From    group.Number   `cbor:"7,keyasint,omitempty"`
	To      group.Number   `cbor:"8,keyasint,omitempty"`
	Code    group.Code     `cbor:"9,keyasint,omitempty"`
	Epoch   group.Epoch    `cbor:"10,keyasint,omitempty"`
	By      string         `cbor:"11,keyasint,omitempty"`
	Rule    string         `cbor:"12,keyasint,omitempty"`
	Addr    string         `cbor:"13,keyasint,omitempty"`
}

// EncodeNote returns the bytes of n. Times are cut to whole seconds.
func EncodeNote(n Note) []byte {
	r := noteRecord{
		At: toSeconds(n.At), Account: n.Account, Device: n.Device, ReqID: n.ReqID, Op: n.Op, From: n.From, To: n.To,
		Code: n.Code, Epoch: n.Epoch, By: n.By, Rule: n.Rule, Addr: n.Addr,
	}
	if n.Body != [16]byte{} {
		r.Body = n.Body[:]
	}
	return encode(&r)
}

// DecodeNote returns the note whose bytes are b. It keeps no part of b. The
// error says what is wrong with b: it is damaged, of a later release, or not a
// note.
func DecodeNote(b []byte) (Note, error) {
	var r noteRecord
	if err := decode(b, &r); err != nil {
		return Note{}, fmt.Errorf("decode note: %w", err)
	}
	n := Note{
		Account: r.Account, Device: r.Device, Op: r.Op, From: r.From, To: r.To, Code: r.Code, Epoch: r.Epoch,
		By: r.By, Rule: r.Rule, Addr: r.Addr,
	}
	var err error
	if n.At, err = r.At.time(); err == nil && r.Body != nil && len(r.Body) != len(n.Body) {
		err = fmt.Errorf("its digest has %d bytes", len(r.Body))
	}
	if err != nil {
		return Note{}, fmt.Errorf("decode note: %w", err)
	}
	copy(n.Body[:], r.Body)
	if len(r.ReqID) > 0 {
		n.ReqID = r.ReqID
	}
	return n, nil
}
