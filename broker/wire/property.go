package wire

// The properties of MQTT 5.0 (2.2.2.2).
const (
	propPayloadFormat   = 0x01
	propMessageExpiry   = 0x02
	propContentType     = 0x03
	propResponseTopic   = 0x08
	propCorrelationData = 0x09
	propSubID           = 0x0B
	propSessionExpiry   = 0x11
	propAssignedID      = 0x12
	propServerKeepAlive = 0x13
	propAuthMethod      = 0x15
	propAuthData        = 0x16
	propProblemInfo     = 0x17
	propWillDelay       = 0x18
	propResponseRequest = 0x19
	propResponseInfo    = 0x1A
	propServerReference = 0x1C
	propReasonString    = 0x1F
	propReceiveMaximum  = 0x21
	propAliasMaximum    = 0x22
	propAlias           = 0x23
	propUser            = 0x26
	propMaxPacketSize   = 0x27
)

// A place is where properties stand: the type of a packet, or the Will's.
type place = Type

const will place = 0

// in says where a property from a Client may stand: bit 1<<place. Properties
// that only a Server sends stand nowhere.
var in = [43]uint16{
	propPayloadFormat:   1<<PUBLISH | 1<<will,
	propMessageExpiry:   1<<PUBLISH | 1<<will,
	propContentType:     1<<PUBLISH | 1<<will,
	propResponseTopic:   1<<PUBLISH | 1<<will,
	propCorrelationData: 1<<PUBLISH | 1<<will,
	propSubID:           1<<PUBLISH | 1<<SUBSCRIBE,
	propSessionExpiry:   1<<CONNECT | 1<<DISCONNECT,
	propAuthMethod:      1<<CONNECT | 1<<AUTH,
	propAuthData:        1<<CONNECT | 1<<AUTH,
	propProblemInfo:     1 << CONNECT,
	propWillDelay:       1 << will,
	propResponseRequest: 1 << CONNECT,
	propServerReference: 1 << DISCONNECT,
	propReasonString:    1<<PUBACK | 1<<PUBREC | 1<<PUBREL | 1<<PUBCOMP | 1<<DISCONNECT | 1<<AUTH,
	propReceiveMaximum:  1 << CONNECT,
	propAliasMaximum:    1 << CONNECT,
	propAlias:           1 << PUBLISH,
	propUser: 1<<CONNECT | 1<<PUBLISH | 1<<PUBACK | 1<<PUBREC | 1<<PUBREL | 1<<PUBCOMP |
		1<<SUBSCRIBE | 1<<UNSUBSCRIBE | 1<<DISCONNECT | 1<<AUTH | 1<<will,
	propMaxPacketSize: 1 << CONNECT,
}

// forwarded are the properties that a receiver of a message is to get unchanged
// (3.3.2.3), as bits 1<<id.
const forwarded uint64 = 1<<propPayloadFormat | 1<<propContentType | 1<<propResponseTopic |
	1<<propCorrelationData | 1<<propUser

// properties is what the properties of one place say. Slices alias the packet.
type properties struct {
	seen uint64 // bits 1<<id

	payloadFormat   byte
	problemInfo     byte
	responseRequest byte
	receiveMaximum  uint16
	aliasMaximum    uint16
	alias           uint16
	messageExpiry   uint32
	sessionExpiry   uint32
	willDelay       uint32
	subID           uint32
	maxPacketSize   uint32
	contentType     []byte
	responseTopic   []byte
	correlationData []byte
	authMethod      []byte
	secret          []byte // of the last user property "secret"
	recv            []byte // of the last user property "recv"
	// forward are the forwarded properties, in order. It aliases the packet
	// unless others stand between them.
	forward []byte
}

func (p *properties) has(id byte) bool { return p.seen&(1<<id) != 0 }

// read reads the Property Length and the properties of a place.
func (p *properties) read(r *reader, at place) {
	n := int(r.varint())
	section := reader{b: r.take(n), users: r.users, maxUsers: r.maxUsers}
	if r.err != nil {
		return
	}
	start, end := 0, 0 // of the part of section that p.forward aliases
	for section.more() {
		from := section.i
		id := section.u8()
		if int(id) >= len(in) || in[id]&(1<<at) == 0 {
			section.malformed("a property is unknown, or not one of this packet (2.2.2.2)")
			break
		}
		if id != propUser && p.has(id) {
			section.protocol("a property stands twice (2.2.2.2)")
			break
		}
		p.seen |= 1 << id
		p.value(&section, id, at)
		if forwarded&(1<<id) == 0 || section.err != nil {
			continue
		}
		switch to := section.i; {
		case p.forward == nil:
			start, end = from, to
			p.forward = section.b[start:end:end]
		case from == end:
			end = to
			p.forward = section.b[start:end:end]
		default:
			if end >= 0 {
				end = -1 // it is a copy from here on
				p.forward = append(make([]byte, 0, n), p.forward...)
			}
			p.forward = append(p.forward, section.b[from:to]...)
		}
	}
	r.users = section.users
	if section.err != nil {
		r.fail(section.err.Reason, section.err.Rule)
	}
}

// value reads the value of one property and checks its range.
func (p *properties) value(r *reader, id byte, at place) {
	switch id {
	case propPayloadFormat:
		p.payloadFormat = r.flag("the Payload Format Indicator is neither 0 nor 1 (3.3.2.3.2)")
	case propMessageExpiry:
		p.messageExpiry = r.u32()
	case propContentType:
		p.contentType = r.text()
	case propResponseTopic:
		p.responseTopic = r.topic()
	case propCorrelationData:
		p.correlationData = r.data()
	case propSubID:
		p.subID = r.varint()
		if at == PUBLISH {
			r.protocol("a Client sends a Subscription Identifier in PUBLISH (3.3.4)")
		} else if p.subID == 0 {
			r.protocol("the Subscription Identifier is 0 (3.8.2.1.2)")
		}
	case propSessionExpiry:
		p.sessionExpiry = r.u32()
	case propAuthMethod:
		p.authMethod = r.text()
	case propAuthData:
		r.data()
	case propProblemInfo:
		p.problemInfo = r.flag("Request Problem Information is neither 0 nor 1 (3.1.2.11.7)")
	case propWillDelay:
		p.willDelay = r.u32()
	case propResponseRequest:
		p.responseRequest = r.flag("Request Response Information is neither 0 nor 1 (3.1.2.11.6)")
	case propServerReference, propReasonString:
		r.text()
	case propReceiveMaximum:
		if p.receiveMaximum = r.u16(); p.receiveMaximum == 0 {
			r.protocol("the Receive Maximum is 0 (3.1.2.11.3)")
		}
	case propAliasMaximum:
		p.aliasMaximum = r.u16()
	case propAlias:
		if p.alias = r.u16(); p.alias == 0 {
			r.fail(TopicAliasInvalid, "the Topic Alias is 0 (3.3.2.3.4)")
		}
	case propUser:
		p.user(r)
	case propMaxPacketSize:
		if p.maxPacketSize = r.u32(); p.maxPacketSize == 0 {
			r.protocol("the Maximum Packet Size is 0 (3.1.2.11.4)")
		}
	}
}

func (p *properties) user(r *reader) {
	k, v := r.text(), r.text()
	if r.users++; r.maxUsers > 0 && r.users > r.maxUsers {
		r.fail(QuotaExceeded, "there are more user properties than this server takes")
	}
	switch string(k) {
	case "secret":
		p.secret = v
	case "recv":
		p.recv = v
	}
}

// flag reads a byte that is 0 or 1.
func (r *reader) flag(rule string) byte {
	b := r.u8()
	if b > 1 {
		r.protocol(rule)
	}
	return b
}
