package wire

import "encoding/binary"

// A Connack is what a CONNACK says. Zero fields are left out, and then mean
// what MQTT 5.0 gives as their default (3.2.2.3). The zero Connack is a plain
// success.
type Connack struct {
	SessionPresent    bool // sent only with Success
	Reason            Reason
	SessionExpiry     *uint32 // seconds, if not as the Client asked
	ReceiveMaximum    uint16  // 0 and 65,535 are the default
	MaximumPacketSize uint32  // bytes; 0 is no limit
	AssignedClientID  string
	ReasonString      string
	ResponseInfo      string
	TopicAliasMaximum uint16
	ServerKeepAlive   *uint16 // seconds, if not as the Client asked
	User              []UserProperty
}

// AppendConnack appends a CONNACK. For a version below 5 it is that of MQTT
// 3.1.1, which has a return code alone; for a reason that has none it appends
// nothing, and the connection is to be closed (MQTT 3.1.1, 3.2.2.3).
func AppendConnack(dst []byte, version byte, c Connack) []byte {
	c.SessionPresent = c.SessionPresent && c.Reason == Success
	if version < 5 {
		code, ok := returnCode(c.Reason)
		if !ok {
			return dst
		}
		return AppendConnack311(dst, c.SessionPresent, code)
	}
	var present byte
	if c.SessionPresent {
		present = 1
	}
	size := c.size()
	dst = appendHeader(dst, byte(CONNACK)<<4, 2+sized(size))
	dst = append(dst, present, byte(c.Reason))
	dst = appendVarint(dst, uint32(size))
	return c.appendProperties(dst)
}

// AppendConnack311 appends a CONNACK of MQTT 3.1.1 with the return code.
func AppendConnack311(dst []byte, sessionPresent bool, code byte) []byte {
	var present byte
	if sessionPresent {
		present = 1
	}
	return append(dst, byte(CONNACK)<<4, 2, present, code)
}

// returnCode returns the Connect Return code of MQTT 3.1.1 that says most of a
// reason. ok is false if there is none.
func returnCode(r Reason) (code byte, ok bool) {
	switch r {
	case Success:
		return 0, true
	case UnsupportedProtocolVersion:
		return 1, true
	case ClientIdentifierNotValid:
		return 2, true
	case UnspecifiedError, ImplementationSpecificError, ServerUnavailable, ServerBusy, ServerShuttingDown,
		QuotaExceeded, UseAnotherServer, ServerMoved, ConnectionRateExceeded:
		return 3, true
	case BadUserNameOrPassword, BadAuthenticationMethod:
		return 4, true
	case NotAuthorized, Banned, TopicNameInvalid: // the last is said of a Will
		return 5, true
	}
	return 0, false
}

func (c *Connack) limitsReceive() bool { return c.ReceiveMaximum != 0 && c.ReceiveMaximum != 65_535 }

// size returns the bytes that appendProperties appends.
func (c *Connack) size() int {
	n := reasonStringLen(c.ReasonString) + userLen(c.User)
	if c.SessionExpiry != nil {
		n += 5
	}
	if c.limitsReceive() {
		n += 3
	}
	if c.MaximumPacketSize != 0 {
		n += 5
	}
	if c.AssignedClientID != "" {
		n += 3 + len(cut(c.AssignedClientID))
	}
	if c.TopicAliasMaximum != 0 {
		n += 3
	}
	if c.ServerKeepAlive != nil {
		n += 3
	}
	if c.ResponseInfo != "" {
		n += 3 + len(cut(c.ResponseInfo))
	}
	return n
}

func (c *Connack) appendProperties(dst []byte) []byte {
	be := binary.BigEndian
	if c.SessionExpiry != nil {
		dst = be.AppendUint32(append(dst, propSessionExpiry), *c.SessionExpiry)
	}
	if c.limitsReceive() {
		dst = be.AppendUint16(append(dst, propReceiveMaximum), c.ReceiveMaximum)
	}
	if c.MaximumPacketSize != 0 {
		dst = be.AppendUint32(append(dst, propMaxPacketSize), c.MaximumPacketSize)
	}
	if c.AssignedClientID != "" {
		dst = appendString(append(dst, propAssignedID), c.AssignedClientID)
	}
	if c.TopicAliasMaximum != 0 {
		dst = be.AppendUint16(append(dst, propAliasMaximum), c.TopicAliasMaximum)
	}
	if c.ServerKeepAlive != nil {
		dst = be.AppendUint16(append(dst, propServerKeepAlive), *c.ServerKeepAlive)
	}
	if c.ResponseInfo != "" {
		dst = appendString(append(dst, propResponseInfo), c.ResponseInfo)
	}
	dst = appendReasonString(dst, c.ReasonString)
	return appendUser(dst, c.User)
}
