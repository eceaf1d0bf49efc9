package fanout

import "github.com/muster-mqtt/muster/broker/wire"

// aliases are the Topic Aliases that one connection was sent (MQTT 5.0,
// 3.3.2.3.4). One is given when a packet is encoded and never before, so that a
// message that is dropped takes no alias with it, and all end with the
// connection. Only the connection's writer uses them.
type aliases struct {
	max   int // most that the client takes
	at    map[string]uint16
	slots []aliasSlot // that of alias n at n-1
	hand  int         // the slot that is asked next whether it may be given anew
}

type aliasSlot struct {
	topic string
	used  bool // since the hand was last here
}

// newAliases returns nil, which gives none, if the client takes none.
func newAliases(max int) *aliases {
	if max <= 0 {
		return nil
	}
	return &aliases{max: min(max, 65535), at: map[string]uint16{}}
}

// aliasCost is how many bytes a Topic Alias takes in a packet.
const aliasCost = 3

// apply has the message sent with an alias where that is of use, and with the
// alias alone if the client knows it. maxSize is the client's Maximum Packet
// Size; 0 is none.
func (a *aliases) apply(f *wire.Shared, o *wire.SendOptions, maxSize int) {
	topic := f.Topic()
	if a == nil || len(topic) <= aliasCost {
		return
	}
	if n, ok := a.at[topic]; ok {
		a.slots[n-1].used = true
		o.Alias, o.AliasOnly = n, true
		return
	}
	n := a.free()
	if n == 0 {
		return
	}
	o.Alias = n
	if maxSize > 0 && f.Size(*o) > maxSize {
		o.Alias = 0 // with the definition it would not fit
		return
	}
	if int(n) > len(a.slots) {
		a.slots = append(a.slots, aliasSlot{})
	}
	delete(a.at, a.slots[n-1].topic)
	a.slots[n-1] = aliasSlot{topic: topic}
	a.at[topic] = n
}

// free returns an alias for a topic that has none, or 0 if it is not to have
// one: an alias that was used since the hand last passed stays, so that a topic
// published once displaces no busy one.
func (a *aliases) free() uint16 {
	if len(a.slots) < a.max {
		return uint16(len(a.slots) + 1)
	}
	i := a.hand
	a.hand = (a.hand + 1) % len(a.slots)
	if a.slots[i].used {
		a.slots[i].used = false
		return 0
	}
	return uint16(i + 1)
}
