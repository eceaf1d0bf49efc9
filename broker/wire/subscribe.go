package wire

import "strings"

// A Subscription is one Topic Filter of a SUBSCRIBE, with its options. What
// MQTT 3.1.1 does not have is zero.
type Subscription struct {
	// Filter is UTF-8 without U+0000, and not necessarily a valid Topic Filter:
	// see [ValidFilter].
	Filter            string
	QoS               byte // the highest to deliver with: 0, 1 or 2
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0, 1 or 2 (MQTT 5.0, 3.8.3.1)
}

// A Subscribe is a SUBSCRIBE packet from a Client.
type Subscribe struct {
	ID      uint16
	SubID   uint32         // Subscription Identifier; 0 is none
	Secret  string         // value of the last user property "secret"
	Filters []Subscription // at least one
}

// ParseSubscribe reads a whole SUBSCRIBE from a Client. What it returns shares
// nothing with frame. The error is that of [Validate].
func ParseSubscribe(frame []byte, version byte) (Subscribe, error) {
	r, err := openAs(frame, SUBSCRIBE, version)
	if err != nil {
		return Subscribe{}, err
	}
	var s Subscribe
	id, p := readSubscribe(&r, version, func(filter []byte, options byte) {
		s.Filters = append(s.Filters, Subscription{
			Filter:            string(filter),
			QoS:               options & 0x03,
			NoLocal:           options&0x04 != 0,
			RetainAsPublished: options&0x08 != 0,
			RetainHandling:    options >> 4 & 0x03,
		})
	})
	if r.err != nil {
		return Subscribe{}, r.err
	}
	s.ID, s.SubID, s.Secret = id, p.subID, string(p.secret)
	return s, nil
}

// readSubscribe calls keep, unless it is nil, for each filter.
func readSubscribe(r *reader, version byte, keep func(filter []byte, options byte)) (uint16, properties) {
	var p properties
	id := r.packetID()
	if version >= 5 {
		p.read(r, SUBSCRIBE)
	}
	if !r.more() {
		r.protocol("a SUBSCRIBE has no Topic Filter (3.8.3)")
	}
	for r.more() {
		filter, options := r.text(), r.u8()
		if version >= 5 {
			checkOptions(r, filter, options)
		} else if options > 2 {
			r.malformed("a Requested QoS is not 0, 1 or 2 (MQTT 3.1.1, 3.8.3)")
		}
		if r.err == nil && keep != nil {
			keep(filter, options)
		}
	}
	return id, p
}

// checkOptions checks the Subscription Options (3.8.3.1).
func checkOptions(r *reader, filter []byte, options byte) {
	switch {
	case options&0xC0 != 0:
		r.malformed("reserved bits of the Subscription Options are set (3.8.3.1)")
	case options&0x03 == 0x03:
		r.protocol("a Maximum QoS is 3 (3.8.3.1)")
	case options&0x30 == 0x30:
		r.protocol("a Retain Handling is 3 (3.8.3.1)")
	case options&0x04 != 0 && strings.HasPrefix(string(filter), sharePrefix):
		r.protocol("a Shared Subscription has No Local (3.8.3.1)")
	}
}

// An Unsubscribe is an UNSUBSCRIBE packet from a Client. Its filters are what
// those of a [Subscription] are.
type Unsubscribe struct {
	ID      uint16
	Filters []string // at least one
}

// ParseUnsubscribe reads a whole UNSUBSCRIBE from a Client. What it returns
// shares nothing with frame. The error is that of [Validate].
func ParseUnsubscribe(frame []byte, version byte) (Unsubscribe, error) {
	r, err := openAs(frame, UNSUBSCRIBE, version)
	if err != nil {
		return Unsubscribe{}, err
	}
	var u Unsubscribe
	u.ID = readUnsubscribe(&r, version, func(filter []byte) {
		u.Filters = append(u.Filters, string(filter))
	})
	if r.err != nil {
		return Unsubscribe{}, r.err
	}
	return u, nil
}

// readUnsubscribe calls keep, unless it is nil, for each filter.
func readUnsubscribe(r *reader, version byte, keep func(filter []byte)) uint16 {
	id := r.packetID()
	if version >= 5 {
		var p properties
		p.read(r, UNSUBSCRIBE)
	}
	if !r.more() {
		r.protocol("an UNSUBSCRIBE has no Topic Filter (3.10.3)")
	}
	for r.more() {
		filter := r.text()
		if r.err == nil && keep != nil {
			keep(filter)
		}
	}
	return id
}
