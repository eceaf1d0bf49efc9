package device

import (
	"slices"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A Message is one message that the device has received.
type Message struct {
	Topic string // as delivered: for a group the full form, with its number
	// Group is 0, and the four fields after it are empty, for an ordinary topic.
	Group  group.Number
	Part   control.Part   // All, Up, To or Evt
	Sender group.ClientID // cannot be forged; empty for Evt
	Member group.ClientID // to whom it is, for To
	Rest   string         // the application's levels of the topic; may be empty
	// Payload is the receiver's to keep.
	Payload  []byte
	QoS      byte // 0 or 1
	Retained bool // kept by the server from earlier; never of a group
	// Dup is true if the message may have been handed over before.
	Dup bool
	// Epoch is the device's when the message arrived. One from before a change
	// has a smaller epoch than the change.
	Epoch group.Epoch
}

// A Membership is one group that the device is in, as the server tells it.
type Membership struct {
	Number group.Number
	ID     group.ID // zero until the server has told it
	Name   string   // empty until the server has told it
	QoS    byte     // 0 or 1: the highest QoS at which messages are delivered
	Recv   bool     // false: the device publishes and receives nothing
	// Filter holds Topic Filters over the rest of a topic; none: everything.
	Filter []string
	Since  group.Rev // of the change that made the device a member
	At     time.Time // when that was; zero until the server has told it
}

func (m Membership) clone() Membership {
	m.Filter = slices.Clone(m.Filter)
	return m
}

// same reports whether both deliver the same, since the same change where that
// is known of both.
func (m Membership) same(o Membership) bool {
	return m.QoS == o.QoS && m.Recv == o.Recv && slices.Equal(m.Filter, o.Filter) &&
		(m.Since == o.Since || m.Since == 0 || o.Since == 0)
}

// A Kind says what a [Change] is.
type Kind string

// The kinds of changes.
const (
	Joined   Kind = "join"
	Left     Kind = "leave"
	Switched Kind = "switch"
	Moved    Kind = "move"   // by an operator
	Removed  Kind = "remove" // by an operator
	Deleted  Kind = "delete" // the group is no more
	// Updated is a change of how the device receives: its groups are the same.
	Updated Kind = "update"
	// Refused is no change of the groups: the server has refused what the device
	// published on Topic, Count times. It is told once in 10 seconds for each
	// topic and code.
	Refused Kind = "refused"
)

// A Change is what happened to the device's own memberships.
type Change struct {
	Kind Kind
	// From is the group that the device is out of, To the one that it is in; 0
	// where there is none.
	From, To group.Number
	Epoch    group.Epoch // after the change
	// Own is true if this Device asked for it.
	Own bool
	// Forced is true if somebody else ended a membership.
	Forced bool
	// Missed is true if it happened while the device was not connected: who did
	// it and how is not known, and a switch shows as Left and Joined.
	Missed bool
	By     string     // the account that did it, if it was told
	Why    string     // the rule that decided, if it was told
	Code   group.Code // of Refused: why
	Topic  string     // of Refused
	Count  int        // of Refused
}
