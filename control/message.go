package control

import (
	"github.com/muster-mqtt/muster/group"
)

// An Encoding is how a request is written; the answer is written the same way,
// except that a bare word is answered in JSON.
type Encoding uint8

// The encodings of a request.
const (
	JSON Encoding = iota
	CBOR
	Bare
)

// An Op is an operation by its name in a request topic.
type Op string

// The operations of version 1.
const (
	OpJoin    Op = "join"
	OpLeave   Op = "leave"
	OpSwitch  Op = "switch"
	OpGrant   Op = "grant"
	OpMine    Op = "mine"
	OpMembers Op = "members"
	OpCreate  Op = "create"
	OpUpdate  Op = "update"
	OpDelete  Op = "delete"
	OpShow    Op = "show"
	OpList    Op = "list"
	OpMove    Op = "move"
	OpRemove  Op = "remove"
	OpForget  Op = "forget"
	OpAccount Op = "account"
)

// A Request is one request, from whichever way it came. A field that the
// request did not hold is at its zero value; the pointers tell absence from
// zero.
type Request struct {
	Op       Op
	Encoding Encoding
	// ID is the asker's own identifier of the request, at most 16 bytes: a
	// request that is repeated with it has its effect once.
	ID []byte
	// G is the group of join, leave, members, create …; From and To those of
	// switch, move and grant.
	G, From, To group.Ref
	Secret      string // the PIN presented; or an account's new password
	// SecretInTopic is true if Secret was the last level of a verb.
	SecretInTopic bool
	PIN           string         // the PIN a group is to have
	Epoch         *group.Epoch   // compare-and-set
	TTL           int            // seconds; 0: the default
	Grant         []byte         // COSE_Mac0 bytes
	Filter        []string       // nil: leave as it is
	Recv          *bool          // nil: leave as it is
	QoS           *byte          // nil: leave as it is
	Device        group.ClientID // on whose behalf, or which one is meant
	Name          string         // normalised; of a group to create or rename
	Policy        string         // "", "open", "pin"
	Visible       string         // "", "all", "members"
	PINInTopic    *bool
	MembersTo     *bool
	// MembersEvents is the key "members_events".
	MembersEvents *bool
	User          string // an account's name, normalised
	Role          string // "", "device", "observer", "operator"
	Findable      *bool
	Groups        []group.Ref // an observer's groups; nil: leave as they are
	SetGroups     bool        // the request held the key, also with an empty list
	Topics        []group.TopicRule
	SetTopics     bool // the request held the key, also with an empty list
	Disabled      *bool
	Sub           string // key "op": of account (add, list, show, update, passwd, remove) and grant (join, leave, switch)
	Kind          string // of list and show: "", "group", "device"
	Next          string // where a page starts: the last page's Next
	Limit         int    // entries a page; 0: the server's default
	// Body is the digest of operation and body, by which a repeat is known.
	Body [16]byte
}

// An Answer is what a request is answered. Zero fields are left out, except
// Code.
type Answer struct {
	Code    group.Code
	ID      []byte // the request's
	Op      Op
	N       group.Number
	G       group.ID
	Name    string
	From    group.Number
	To      group.Number
	Prev    group.Number // where the device was, of a verb that came too late
	State   string       // "out", "member", "pending", "invited", "banned"; CBOR: 0-4
	Epoch   group.Epoch
	Rev     group.Rev
	Device  group.ClientID
	User    string
	Role    string
	Grant   []byte
	Exp     int64  // seconds since 1970
	Secret  string // generated: shown once
	PIN     string // generated: shown once
	Dropped int    // messages of the old group that were held back and are not sent
	Retry   int    // seconds
	Why     string // id of the rule that decided
	Kind    string
	List    []Entry
	HasList bool   // List is written even when it is empty
	Next    string // the next page starts here; empty: this is the last
	// QoS is that of the membership of group N, which a SUBACK tells. It is not
	// written.
	QoS byte
}

// An Entry is one row of a list: a group of mine, a member, a group, a device
// or an account. Zero fields are left out.
type Entry struct {
	N             group.Number
	G             group.ID // key "id" in an entry
	Name          string
	State         string
	Since         group.Rev
	At            int64 // seconds since 1970
	Role          string
	Device        group.ClientID
	User          string
	Online        *bool
	Policy        string
	Visible       string
	PINInTopic    *bool
	MembersTo     *bool
	MembersEvents *bool
	Members       *int // how many
	Findable      *bool
	Groups        []group.Number
	Epoch         group.Epoch
	Filter        []string
	Recv          *bool
	QoS           *byte
	Aliases       []string
	Topics        []string // rules of an account, as text
	Disabled      *bool
}

// A Notice is what a device is told on $CONTROL/group/v1/me of a change that it
// did not ask for on that connection, and its state when it starts to listen.
type Notice struct {
	Code    group.Code
	Kind    string // "state", "join", "leave", "switch", "move", "remove", "delete", "forget", "refused"
	From    group.Number
	To      group.Number
	Epoch   group.Epoch
	Why     string
	By      string
	Topic   string // of a refused publish
	Count   int    // refused publishes since the last notice
	List    []Entry
	HasList bool
	Dropped int
}

// An Event is a change of a group's roster, told on g/<n>/evt. A snapshot has
// Part, Last and List; a delta has Prev and Kind.
type Event struct {
	Seq    uint64 // the group's own count of events
	Prev   uint64 // Seq of the event before; 0 in a snapshot
	Boot   string // changes with each start of the server
	Rev    group.Rev
	Kind   string // "snapshot", "join", "leave", "switch", "remove", "online", "offline", "update", "delete"
	Device group.ClientID
	State  string // "member" or "out": the device in the group, where that has changed
	User   string
	By     string
	At     int64
	Part   int // from 1; 0 in a delta
	Last   bool
	List   []Entry
}
