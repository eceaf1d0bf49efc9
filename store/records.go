package store

import (
	"errors"
	"fmt"

	"github.com/muster-mqtt/muster/group"
)

// The numbers of the fields are part of what is on disk: never change one, and
// never use one again that was given up. A field left out has its zero value.

type groupRecord struct {
	Number        group.Number     `cbor:"1,keyasint,omitempty"`
	ID            []byte           `cbor:"2,keyasint,omitempty"`
	Name          string           `cbor:"3,keyasint,omitempty"`
	Aliases       []aliasRecord    `cbor:"4,keyasint,omitempty"`
	Policy        group.Policy     `cbor:"5,keyasint,omitempty"`
	Visible       group.Visibility `cbor:"6,keyasint,omitempty"`
	PIN           string           `cbor:"7,keyasint,omitempty"`
	PINInTopic    bool             `cbor:"8,keyasint,omitempty"`
	MembersTo     bool             `cbor:"9,keyasint,omitempty"`
	MembersEvents bool             `cbor:"10,keyasint,omitempty"`
	PolicyRev     uint64           `cbor:"11,keyasint,omitempty"`
	Created       seconds          `cbor:"12,keyasint,omitempty"`
	Deleted       bool             `cbor:"13,keyasint,omitempty"`
}

type aliasRecord struct {
	Name  string  `cbor:"1,keyasint,omitempty"`
	Until seconds `cbor:"2,keyasint,omitempty"`
}

// EncodeGroup returns the record of g. Times are cut to whole seconds.
func EncodeGroup(g group.Group) []byte {
	r := groupRecord{
		Number: g.Number, Name: g.Name, Policy: g.Policy, Visible: g.Visible, PIN: g.PIN, PINInTopic: g.PINInTopic,
		MembersTo: g.MembersTo, MembersEvents: g.MembersEvents, PolicyRev: g.PolicyRev, Created: toSeconds(g.Created),
		Deleted: g.Deleted,
	}
	if !g.ID.IsZero() {
		r.ID = g.ID[:]
	}
	for _, a := range g.Aliases {
		r.Aliases = append(r.Aliases, aliasRecord{a.Name, toSeconds(a.Until)})
	}
	return encode(&r)
}

// DecodeGroup returns the group whose record is b. It keeps no part of b. The
// error says what is wrong with b: it is damaged, of a later release, or not
// the record of a group.
func DecodeGroup(b []byte) (group.Group, error) {
	var r groupRecord
	if err := decode(b, &r); err != nil {
		return group.Group{}, fmt.Errorf("decode group: %w", err)
	}
	g := group.Group{
		Number: r.Number, Name: r.Name, Policy: r.Policy, Visible: r.Visible, PIN: r.PIN, PINInTopic: r.PINInTopic,
		MembersTo: r.MembersTo, MembersEvents: r.MembersEvents, PolicyRev: r.PolicyRev, Deleted: r.Deleted,
	}
	var err error
	switch {
	case r.Number == 0:
		err = errors.New("it has no number")
	case r.ID != nil && len(r.ID) != len(g.ID):
		err = fmt.Errorf("its ID has %d bytes", len(r.ID))
	case r.Policy > group.PolicyPIN:
		err = fmt.Errorf("policy %d is unknown", r.Policy)
	case r.Visible > group.VisibleAll:
		err = fmt.Errorf("visibility %d is unknown", r.Visible)
	default:
		g.Created, err = r.Created.time()
	}
	copy(g.ID[:], r.ID)
	for _, a := range r.Aliases {
		until, e := a.Until.time()
		err = errors.Join(err, e)
		g.Aliases = append(g.Aliases, group.Alias{Name: a.Name, Until: until})
	}
	if err != nil {
		return group.Group{}, fmt.Errorf("decode group: %w", err)
	}
	return g, nil
}

type deviceRecord struct {
	ClientID group.ClientID     `cbor:"1,keyasint,omitempty"`
	Account  string             `cbor:"2,keyasint,omitempty"`
	Epoch    group.Epoch        `cbor:"3,keyasint,omitempty"`
	Groups   []membershipRecord `cbor:"4,keyasint,omitempty"`
	Ends     []endRecord        `cbor:"5,keyasint,omitempty"`
	Last     lastRecord         `cbor:"6,keyasint,omitempty"`
	Assigned bool               `cbor:"7,keyasint,omitempty"`
}

type membershipRecord struct {
	Number group.Number `cbor:"1,keyasint,omitempty"`
	Since  group.Rev    `cbor:"2,keyasint,omitempty"` // 0: the rev of the record
	At     seconds      `cbor:"3,keyasint,omitempty"`
	QoS    uint8        `cbor:"4,keyasint,omitempty"`
	Mute   bool         `cbor:"5,keyasint,omitempty"` // not Recv
	Filter []string     `cbor:"6,keyasint,omitempty"`
	Exit   group.Exit   `cbor:"7,keyasint,omitempty"`
	By     string       `cbor:"8,keyasint,omitempty"`
}

type endRecord struct {
	From  group.Number `cbor:"1,keyasint,omitempty"`
	To    group.Number `cbor:"2,keyasint,omitempty"`
	Epoch group.Epoch  `cbor:"3,keyasint,omitempty"`
}

type lastRecord struct {
	Op    group.Op     `cbor:"1,keyasint,omitempty"`
	From  group.Number `cbor:"2,keyasint,omitempty"`
	To    group.Number `cbor:"3,keyasint,omitempty"`
	Epoch group.Epoch  `cbor:"4,keyasint,omitempty"`
	Own   bool         `cbor:"5,keyasint,omitempty"`
}

// EncodeDevice returns the record of d. A membership's Since of 0 stands for
// the rev that the write of the record will get. Times are cut to whole
// seconds.
func EncodeDevice(d group.Device) []byte {
	r := deviceRecord{
		ClientID: d.ClientID, Account: d.Account, Epoch: d.Epoch, Last: lastRecord(d.Last), Assigned: d.Assigned,
	}
	if len(d.Groups) > 0 {
		r.Groups = make([]membershipRecord, len(d.Groups))
	}
	for i, m := range d.Groups {
		r.Groups[i] = membershipRecord{
			Number: m.Number, Since: m.Since, At: toSeconds(m.At), QoS: m.QoS, Mute: !m.Recv, Filter: m.Filter,
			Exit: m.Exit, By: m.By,
		}
	}
	for _, e := range d.Ends {
		r.Ends = append(r.Ends, endRecord(e))
	}
	return encode(&r)
}

// DecodeDevice returns the device whose record is b; rev is the record's, and
// becomes the Since of memberships that began with it. It keeps no part of b.
// The error says what is wrong with b: it is damaged, of a later release, or
// not the record of a device.
func DecodeDevice(rev group.Rev, b []byte) (group.Device, error) {
	var r deviceRecord
	if err := decode(b, &r); err != nil {
		return group.Device{}, fmt.Errorf("decode device: %w", err)
	}
	if r.ClientID == "" {
		return group.Device{}, errors.New("decode device: it has no Client Identifier")
	}
	d := group.Device{
		ClientID: r.ClientID, Account: r.Account, Epoch: r.Epoch, Last: group.Last(r.Last), Assigned: r.Assigned,
	}
	if len(r.Groups) > 0 {
		d.Groups = make([]group.Membership, len(r.Groups))
	}
	before := group.Number(0)
	for i, m := range r.Groups {
		at, err := m.At.time()
		switch {
		case err != nil:
		case m.Number <= before:
			err = errors.New("its groups are not in order")
		case m.QoS > 1:
			err = fmt.Errorf("QoS %d is unknown", m.QoS)
		case m.Exit > group.ExitSession:
			err = fmt.Errorf("exit rule %d is unknown", m.Exit)
		}
		if err != nil {
			return group.Device{}, fmt.Errorf("decode device: %w", err)
		}
		before = m.Number
		if m.Since == 0 {
			m.Since = rev
		}
		d.Groups[i] = group.Membership{
			Number: m.Number, Since: m.Since, At: at, QoS: m.QoS, Recv: !m.Mute, Filter: m.Filter, Exit: m.Exit, By: m.By,
		}
	}
	for _, e := range r.Ends {
		d.Ends = append(d.Ends, group.End(e))
	}
	return d, nil
}

type accountRecord struct {
	Name     string         `cbor:"1,keyasint,omitempty"`
	Role     group.Role     `cbor:"2,keyasint,omitempty"`
	Secret   string         `cbor:"3,keyasint,omitempty"`
	Findable bool           `cbor:"4,keyasint,omitempty"`
	Groups   []group.Number `cbor:"5,keyasint,omitempty"`
	Created  seconds        `cbor:"6,keyasint,omitempty"`
	Removed  bool           `cbor:"7,keyasint,omitempty"`
	Topics   []string       `cbor:"8,keyasint,omitempty"` // rules, as text
	Disabled bool           `cbor:"9,keyasint,omitempty"`
}

// EncodeAccount returns the record of a. Times are cut to whole seconds.
func EncodeAccount(a group.Account) []byte {
	r := accountRecord{
		Name: a.Name, Role: a.Role, Secret: a.Secret, Findable: a.Findable, Groups: a.Groups,
		Created: toSeconds(a.Created), Removed: a.Removed, Disabled: a.Disabled,
	}
	for _, rule := range a.Topics {
		r.Topics = append(r.Topics, rule.String())
	}
	return encode(&r)
}

// DecodeAccount returns the account whose record is b. It keeps no part of b.
// The error says what is wrong with b: it is damaged, of a later release, or
// not the record of an account.
func DecodeAccount(b []byte) (group.Account, error) {
	var r accountRecord
	if err := decode(b, &r); err != nil {
		return group.Account{}, fmt.Errorf("decode account: %w", err)
	}
	created, err := r.Created.time()
	switch {
	case err != nil:
	case r.Name == "":
		err = errors.New("it has no name")
	case r.Role > group.RoleOperator:
		err = fmt.Errorf("role %d is unknown", r.Role)
	}
	var rules []group.TopicRule
	for _, s := range r.Topics {
		rule, e := group.ParseTopicRule(s)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("topic rule %q: %w", s, e))
		}
		rules = append(rules, rule)
	}
	if err != nil {
		return group.Account{}, fmt.Errorf("decode account: %w", err)
	}
	if len(r.Groups) == 0 {
		r.Groups = nil
	}
	return group.Account{
		Name: r.Name, Role: r.Role, Secret: r.Secret, Findable: r.Findable, Groups: r.Groups, Created: created,
		Removed: r.Removed, Topics: rules, Disabled: r.Disabled,
	}, nil
}
