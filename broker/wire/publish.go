package wire

// A Publish is a PUBLISH packet from a Client. Its slices alias the packet and
// must not be changed; those of properties are nil if there is no such property.
type Publish struct {
	Topic   []byte // empty only if there is an Alias
	Payload []byte
	ID      uint16 // 0 if QoS is 0
	QoS     byte   // 0, 1 or 2
	Retain  bool
	Dup     bool

	// What follows is of MQTT 5.0 (3.3.2.3).

	Alias     uint16 // Topic Alias; 0 is none
	Expiry    uint32 // Message Expiry Interval in seconds
	HasExpiry bool
	// Props are the properties to forward to receivers, as they stood and in
	// their order: Payload Format Indicator, Content Type, Response Topic,
	// Correlation Data and user properties. It is a copy if Alias or Expiry stood
	// between them.
	Props            []byte
	ResponseTopic    []byte // a Topic Name
	CorrelationData  []byte
	ContentType      []byte
	PayloadFormat    byte // 1: the payload is said to be UTF-8, which is not checked
	HasPayloadFormat bool
	Secret           []byte // value of the last user property "secret"
}

// ParsePublish reads a whole PUBLISH from a Client. It does not allocate, but
// for the copy of [Publish].Props. The error is that of [Validate].
func ParsePublish(frame []byte, version byte) (Publish, error) {
	r, err := openAs(frame, PUBLISH, version)
	if err != nil {
		return Publish{}, err
	}
	var p Publish
	p.read(&r, frame[0], version)
	if r.err != nil {
		return Publish{}, r.err
	}
	return p, nil
}

func (p *Publish) read(r *reader, flags, version byte) {
	p.Retain = flags&0x01 != 0
	p.QoS = flags >> 1 & 0x03
	p.Dup = flags&0x08 != 0
	p.Topic = r.text()
	if p.QoS > 0 {
		p.ID = r.packetID()
	}
	if version >= 5 {
		var props properties
		props.read(r, PUBLISH)
		p.Alias = props.alias
		p.Expiry, p.HasExpiry = props.messageExpiry, props.has(propMessageExpiry)
		p.Props = props.forward
		p.ResponseTopic, p.CorrelationData = props.responseTopic, props.correlationData
		p.ContentType = props.contentType
		p.PayloadFormat, p.HasPayloadFormat = props.payloadFormat, props.has(propPayloadFormat)
		p.Secret = props.secret
	}
	switch {
	case r.err != nil:
		return
	case len(p.Topic) == 0 && p.Alias == 0:
		r.protocol("a PUBLISH has neither Topic Name nor Topic Alias (3.3.2.1)")
	case wild(p.Topic):
		r.protocol("a Topic Name holds a wildcard (3.3.2.1)")
	}
	p.Payload = r.take(len(r.b) - r.i)
}

// UserProperties calls f for each user property in order, until f returns false.
// k and v alias the packet.
func (p *Publish) UserProperties(f func(k, v []byte) bool) {
	r := reader{b: p.Props}
	for r.more() {
		switch r.u8() {
		case propPayloadFormat:
			r.u8()
		case propUser:
			k, v := r.data(), r.data()
			if r.err != nil || !f(k, v) {
				return
			}
		default:
			r.data()
		}
	}
}
