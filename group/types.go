package group

import (
	"slices"
	"strconv"
	"time"
)

// Number is a group's number, the form used in topics. Numbers start at 1, are
// given in order and are never reused; 0 means no group.
type Number uint32

// String returns the number in decimal.
func (n Number) String() string { return strconv.FormatUint(uint64(n), 10) }

// Rev is a position in the store's single order of commits. The first commit
// has rev 1; 0 means before all.
type Rev uint64

// Epoch is the version of a device's membership record. It grows by one with
// each commit that alters the device's groups, role, filter, recv, qos or
// pending state, and never goes back, also when the record is made anew.
type Epoch uint64

// ClientID is an MQTT Client Identifier: what a device is known by.
type ClientID string

// Op is an operation on a group or a device, by its name in the protocol.
type Op string

// The operations that package group decides.
const (
	OpJoin   Op = "join"
	OpLeave  Op = "leave"
	OpSwitch Op = "switch"
	OpMove   Op = "move"
	OpRemove Op = "remove"
	OpForget Op = "forget"
	OpBind   Op = "bind" // the first use of a Client Identifier by an account
	OpCreate Op = "create"
	OpUpdate Op = "update"
	OpDelete Op = "delete"
)

// Role is what an account may do.
type Role uint8

// The roles of accounts.
const (
	RoleDevice   Role = iota // acts for its own devices
	RoleObserver             // reads groups without being in them
	RoleOperator             // administers groups, accounts and devices
)

// String returns the role's name in the protocol.
func (r Role) String() string {
	switch r {
	case RoleObserver:
		return "observer"
	case RoleOperator:
		return "operator"
	}
	return "device"
}

// ParseRole returns the role with the given name, and whether there is one.
func ParseRole(s string) (Role, bool) {
	for _, r := range []Role{RoleDevice, RoleObserver, RoleOperator} {
		if r.String() == s {
			return r, true
		}
	}
	return RoleDevice, false
}

// Policy says who may join a group.
type Policy uint8

// The policies.
const (
	PolicyOpen Policy = iota // everyone who may connect
	PolicyPIN                // who knows the group's PIN
)

// String returns the policy's name in the protocol.
func (p Policy) String() string {
	if p == PolicyPIN {
		return "pin"
	}
	return "open"
}

// ParsePolicy returns the policy with the given name, and whether there is one.
func ParsePolicy(s string) (Policy, bool) {
	switch s {
	case "open":
		return PolicyOpen, true
	case "pin":
		return PolicyPIN, true
	}
	return PolicyOpen, false
}

// Visibility says to whom a group's existence is no secret. Operators see all
// groups, observers those they observe.
type Visibility uint8

// The visibilities.
const (
	VisibleMembers Visibility = iota // to its members
	VisibleAll                       // to everyone who may connect
)

// String returns the visibility's name in the protocol.
func (v Visibility) String() string {
	if v == VisibleAll {
		return "all"
	}
	return "members"
}

// ParseVisibility returns the visibility with the given name, and whether there
// is one.
func ParseVisibility(s string) (Visibility, bool) {
	switch s {
	case "all":
		return VisibleAll, true
	case "members":
		return VisibleMembers, true
	}
	return VisibleMembers, false
}

// Exit is what a lost device means for its membership.
type Exit uint8

// The exit rules.
const (
	ExitHold    Exit = iota // it stays a member, offline
	ExitSession             // the membership ends with the Session
)

// A Group is the record of one group. It is plain data; package store encodes
// it. A deleted group's record stays as a tombstone, so that its number is
// never given again and a membership of it is void wherever it is read.
type Group struct {
	Number  Number
	ID      ID
	Name    string // normalised and as its creator wrote it; unique under [Fold]
	Aliases []Alias
	Policy  Policy
	Visible Visibility
	// PIN is the argon2id hash of the PIN (PHC string format), empty if the
	// policy is not PolicyPIN.
	PIN string
	// PINInTopic allows the PIN as the last level of a $join filter.
	PINInTopic bool
	// MembersTo allows members to publish to a single member.
	MembersTo bool
	// MembersEvents allows members to receive the roster events.
	MembersEvents bool
	// PolicyRev counts the changes of who may be in the group: delete, ban,
	// policy, secret, quota, class. A decision made under an older one is void.
	PolicyRev uint64
	Created   time.Time // UTC, whole seconds
	Deleted   bool
}

// An Alias is an old name that still leads to the group.
type Alias struct {
	Name  string
	Until time.Time // first instant at which it no longer does
}

// A Membership is one group of a device.
type Membership struct {
	Number Number
	// Since is the rev of the commit that made the device a member. In a record
	// that is being written it is 0 and means the write's own rev.
	Since Rev
	At    time.Time // when it joined; UTC, whole seconds
	QoS   byte      // 0 or 1: the highest QoS at which messages are delivered
	// Recv is false for a member that only publishes.
	Recv bool
	// Filter holds Topic Filters over the <rest> of g/<n>/all/<sender>/<rest>;
	// empty means everything.
	Filter []string
	Exit   Exit
	By     string // the account that made it a member
}

// An End is a membership that somebody other than the device ended.
type End struct {
	From  Number
	To    Number // where the device was moved; 0 if it was removed
	Epoch Epoch  // of the record after that change
}

// MaxEnds is how many forced ends a record keeps, the newest last.
const MaxEnds = 8

// A Last describes the newest change of a device's groups.
type Last struct {
	Op       Op
	From, To Number
	Epoch    Epoch // of the record after the change
	Own      bool  // made by the device itself
}

// A Device is the record of one Client Identifier: to which account it belongs
// and in which groups it is. It is plain data; package store encodes it.
type Device struct {
	ClientID ClientID
	Account  string
	Epoch    Epoch
	Groups   []Membership // ascending by number
	Ends     []End        // at most MaxEnds
	Last     Last
	// Assigned is true if the server made the Client Identifier: the record
	// ends with the Session.
	Assigned bool
}

// In returns the membership of group n, and whether there is one.
func (d *Device) In(n Number) (Membership, bool) {
	if i, ok := d.index(n); ok {
		return d.Groups[i], true
	}
	return Membership{}, false
}

func (d *Device) index(n Number) (int, bool) {
	return slices.BinarySearchFunc(d.Groups, n, func(m Membership, n Number) int {
		return int(int64(m.Number) - int64(n))
	})
}

// An Account is who logs in. It is plain data; package store encodes it.
type Account struct {
	Name string // unique under [Fold]
	Role Role
	// Secret is the hash of the password: an argon2id PHC string for one that a
	// person chose, "sha256:<hex>" for one that the server generated.
	Secret string
	// Findable lets @name stand for the group in which this user is.
	Findable bool
	// Groups limits an observer to these groups; empty means all.
	Groups  []Number
	Created time.Time // UTC, whole seconds
	// Topics are the account's rights to ordinary topics. Without a rule an
	// operator may use all of them, and everybody else none.
	Topics []TopicRule
	// Disabled marks an account that nobody can log in to for now. What its
	// devices are in stays.
	Disabled bool
	// Removed marks an account whose devices are being forgotten; nobody can
	// log in to it.
	Removed bool
}

// A Ref points at a group in a request: by number, ID, name or user. The zero
// Ref points at nothing. Package control makes one from text.
type Ref struct {
	Number Number
	ID     ID
	Name   string // folded (see [Fold])
	User   string // folded; the group in which that user is
}

// IsZero reports whether r points at nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// A Verdict is what authz says of a request: package group decides under it.
type Verdict struct {
	// Code is OK if the request is allowed, else why it is not.
	Code Code
	// PolicyRev is that of the group to be joined when the verdict was made.
	PolicyRev uint64
	// Rule names the rule that decided, for the audit.
	Rule string
	// Retry is how many seconds to wait, with a retryable Code.
	Retry int
}

// Holder identifies who may present a grant: a digest of account and Client
// Identifier.
type Holder [8]byte

// A Grant is the permission for one change, as checked by package authz.
type Grant struct {
	Holder   Holder
	Op       Op // OpJoin, OpLeave or OpSwitch
	From, To Number
	Expires  time.Time // first instant at which it is refused; whole seconds
	// Base is the epoch of the device's record at issue, modulo 2^32.
	Base uint32
	// PolicyRev is that of the group to be joined at issue, modulo 2^32.
	PolicyRev uint32
}
