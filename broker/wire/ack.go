package wire

// ParseAck reads a whole PUBACK, PUBREC, PUBREL or PUBCOMP from a Client. The
// reason of MQTT 3.1.1 is Success. The error is that of [Validate].
func ParseAck(frame []byte, version byte) (id uint16, reason Reason, err error) {
	t := FrameType(frame)
	switch t {
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
	default:
		return 0, 0, &Error{MalformedPacket, "this packet acknowledges no PUBLISH (2.1.2)"}
	}
	r, err := open(frame, version, Limits{})
	if err != nil {
		return 0, 0, err
	}
	id, reason = readAck(&r, t, version)
	if r.end(); r.err != nil {
		return 0, 0, r.err
	}
	return id, reason, nil
}

func readAck(r *reader, t Type, version byte) (id uint16, reason Reason) {
	id = r.packetID()
	if version < 5 || !r.more() {
		return id, Success
	}
	reason = Reason(r.u8())
	if !ackReason(t, reason) {
		r.protocol("a Client does not send this Reason Code in this packet (3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1)")
	}
	if r.more() {
		var p properties
		p.read(r, t)
	}
	return id, reason
}

// ackReason reports whether a Client may send the reason.
func ackReason(t Type, r Reason) bool {
	if t == PUBREL || t == PUBCOMP {
		return r == Success || r == PacketIDNotFound
	}
	switch r {
	case Success, UnspecifiedError, ImplementationSpecificError, NotAuthorized, TopicNameInvalid,
		PacketIDInUse, QuotaExceeded, PayloadFormatInvalid:
		return true
	}
	return false
}

// A Disconnect is a DISCONNECT packet from a Client. That of MQTT 3.1.1 says
// nothing.
type Disconnect struct {
	Reason           Reason // Success: the Will is not to be published
	SessionExpiry    uint32 // seconds; 0xFFFFFFFF is for ever
	HasSessionExpiry bool   // if not, that of CONNECT holds
}

// ParseDisconnect reads a whole DISCONNECT from a Client. The error is that of
// [Validate].
func ParseDisconnect(frame []byte, version byte) (Disconnect, error) {
	r, err := openAs(frame, DISCONNECT, version)
	if err != nil {
		return Disconnect{}, err
	}
	var d Disconnect
	d.read(&r, version)
	if r.end(); r.err != nil {
		return Disconnect{}, r.err
	}
	return d, nil
}

func (d *Disconnect) read(r *reader, version byte) {
	if version < 5 || !r.more() {
		return
	}
	d.Reason = Reason(r.u8())
	if !disconnectReason(d.Reason) {
		r.protocol("a Client does not send this Reason Code in DISCONNECT (3.14.2.1)")
	}
	if r.more() {
		var p properties
		p.read(r, DISCONNECT)
		d.SessionExpiry, d.HasSessionExpiry = p.sessionExpiry, p.has(propSessionExpiry)
	}
}

// disconnectReason reports whether a Client may send the reason.
func disconnectReason(r Reason) bool {
	switch r {
	case Success, DisconnectWithWill, UnspecifiedError, MalformedPacket, ProtocolError,
		ImplementationSpecificError, TopicNameInvalid, ReceiveMaximumExceeded, TopicAliasInvalid,
		PacketTooLarge, MessageRateTooHigh, QuotaExceeded, AdministrativeAction, PayloadFormatInvalid:
		return true
	}
	return false
}

// readAuth reads an AUTH from a Client.
func readAuth(r *reader, version byte) {
	if version < 5 {
		r.protocol("AUTH is not a packet of MQTT 3.1.1 (2.1.2)")
		return
	}
	var reason Reason // left out, it is Success, which only a Server sends
	var p properties
	if r.more() {
		reason = Reason(r.u8())
		p.read(r, AUTH)
	}
	switch {
	case reason != ContinueAuthentication && reason != ReAuthenticate:
		r.protocol("a Client does not send this Reason Code in AUTH (3.15.2.1)")
	case !p.has(propAuthMethod):
		r.protocol("an AUTH has no Authentication Method (3.15.2.2.2)")
	}
}
