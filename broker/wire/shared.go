package wire

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"
)

// A Message is an Application Message as it is to be delivered.
type Message struct {
	Topic   string // a Topic Name
	Payload []byte
	QoS     byte // as published
	Retain  bool // as published
	// Props are properties of MQTT 5.0 to forward, without their length: those of
	// [Publish].Props. MQTT 3.1.1 leaves them out.
	Props []byte
	// Expires is when the message is no longer to be delivered; zero is never.
	Expires time.Time
}

// A Shared is one message for many receivers. What receivers of one kind have in
// common is encoded once. It does not change, and is safe for concurrent use.
type Shared struct {
	m     Message
	forms [4]atomic.Pointer[form]
}

// A form is all of a PUBLISH up to the payload, as one kind of receiver gets it.
type form struct {
	head   []byte
	id     int // where the Packet Identifier stands in head; 0 is nowhere
	expiry int // where the Message Expiry Interval stands; 0 is nowhere
}

// NewShared returns a Shared of m, whose Payload and Props belong to it from now
// on. Topic has at most 65,535 bytes, and Topic, Props and Payload together at
// most 255 MiB.
func NewShared(m Message) *Shared { return &Shared{m: m} }

// Topic returns the Topic Name.
func (s *Shared) Topic() string { return s.m.Topic }

// Payload returns the payload, which must not be changed.
func (s *Shared) Payload() []byte { return s.m.Payload }

// QoS returns the QoS with which the message was published.
func (s *Shared) QoS() byte { return s.m.QoS }

// Retain returns whether the message was published with RETAIN = 1.
func (s *Shared) Retain() bool { return s.m.Retain }

// Expires returns when the message expires; zero is never.
func (s *Shared) Expires() time.Time { return s.m.Expires }

// Expired reports whether the message is no longer to be delivered at now (MQTT
// 5.0, 3.3.2.3.3).
func (s *Shared) Expired(now time.Time) bool {
	return !s.m.Expires.IsZero() && !now.Before(s.m.Expires)
}

// SendOptions are what differs between the receivers of one message.
type SendOptions struct {
	Version byte   // 4 or 5
	QoS     byte   // of this delivery: 0, 1 or 2
	ID      uint16 // Packet Identifier; not sent with QoS 0
	Dup     bool   // not sent with QoS 0
	Retain  bool
	SubIDs  []uint32 // Subscription Identifiers, 1 to 268,435,455; not sent to 3.1.1
	// Alias is a Topic Alias to send; 0 is none, as for 3.1.1. AliasOnly leaves
	// the Topic Name out, which the receiver must have been sent with the Alias.
	Alias     uint16
	AliasOnly bool
	// Now gives a message that expires the seconds that are left to it. It does
	// not matter to Size.
	Now time.Time
}

// own reports whether the receiver gets a form of its own.
func (o *SendOptions) own() bool { return o.Version >= 5 && (len(o.SubIDs) > 0 || o.Alias != 0) }

// topic returns the Topic Name as it is sent.
func (s *Shared) topic(o SendOptions) string {
	if o.AliasOnly && o.Alias != 0 && o.Version >= 5 {
		return ""
	}
	return cut(s.m.Topic)
}

// Size returns how many bytes Append would append.
func (s *Shared) Size(o SendOptions) int {
	if o.own() {
		rest := s.restLen(o, s.propsLen(o))
		return 1 + sized(rest)
	}
	return len(s.form(o).head) + len(s.m.Payload)
}

// Append appends the PUBLISH for one receiver. It allocates nothing if dst has
// room, but for the first receiver of its kind.
func (s *Shared) Append(dst []byte, o SendOptions) []byte {
	start := len(dst)
	var f form
	if o.own() {
		dst, f = s.appendHead(dst, o)
	} else {
		f = *s.form(o)
		dst = append(dst, f.head...)
	}
	head := dst[start:]
	head[0] = first(o)
	if f.id > 0 {
		binary.BigEndian.PutUint16(head[f.id:], o.ID)
	}
	if f.expiry > 0 {
		binary.BigEndian.PutUint32(head[f.expiry:], s.left(o.Now))
	}
	return append(dst, s.m.Payload...)
}

// form returns the form for a receiver without Subscription Identifiers and
// Topic Alias. Two goroutines may make it at once; both are the same.
func (s *Shared) form(o SendOptions) *form {
	i := 0
	if o.Version >= 5 {
		i = 2
	}
	if o.QoS > 0 {
		i++
	}
	if f := s.forms[i].Load(); f != nil {
		return f
	}
	o.SubIDs, o.Alias = nil, 0
	head, f := s.appendHead(nil, o)
	f.head = head
	s.forms[i].Store(&f)
	return &f
}

// appendHead appends all up to the payload.
func (s *Shared) appendHead(dst []byte, o SendOptions) ([]byte, form) {
	var f form
	start := len(dst)
	props := s.propsLen(o)
	dst = appendHeader(dst, first(o), s.restLen(o, props))
	dst = appendString(dst, s.topic(o))
	if o.QoS > 0 {
		f.id = len(dst) - start
		dst = binary.BigEndian.AppendUint16(dst, o.ID)
	}
	if o.Version >= 5 {
		dst = appendVarint(dst, uint32(props))
		if !s.m.Expires.IsZero() {
			dst = append(dst, propMessageExpiry)
			f.expiry = len(dst) - start
			dst = binary.BigEndian.AppendUint32(dst, s.left(o.Now))
		}
		if o.Alias != 0 {
			dst = binary.BigEndian.AppendUint16(append(dst, propAlias), o.Alias)
		}
		for _, id := range o.SubIDs {
			dst = appendVarint(append(dst, propSubID), id)
		}
		dst = append(dst, s.m.Props...)
	}
	return dst, f
}

// restLen returns the Remaining Length, given the length of the properties.
func (s *Shared) restLen(o SendOptions, props int) int {
	n := 2 + len(s.topic(o)) + len(s.m.Payload)
	if o.QoS > 0 {
		n += 2
	}
	if o.Version >= 5 {
		n += sized(props)
	}
	return n
}

// propsLen returns the length of the properties for MQTT 5.0.
func (s *Shared) propsLen(o SendOptions) int {
	n := len(s.m.Props)
	if !s.m.Expires.IsZero() {
		n += 5
	}
	if o.Alias != 0 {
		n += 3
	}
	for _, id := range o.SubIDs {
		n += 1 + varintLen(id)
	}
	return n
}

// first returns the first byte of a PUBLISH.
func first(o SendOptions) byte {
	b := byte(PUBLISH)<<4 | o.QoS<<1
	if o.Dup && o.QoS > 0 {
		b |= 0x08
	}
	if o.Retain {
		b |= 0x01
	}
	return b
}

// left returns the seconds until the message expires: those it was given, less
// the whole ones that have passed.
func (s *Shared) left(now time.Time) uint32 {
	d := s.m.Expires.Sub(now)
	if d <= 0 {
		return 0
	}
	sec := (int64(d)-1)/int64(time.Second) + 1
	return uint32(min(sec, math.MaxUint32))
}
