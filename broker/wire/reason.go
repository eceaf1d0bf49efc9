package wire

import "fmt"

// Reason is a Reason Code of MQTT 5.0 (2.4). From 0x80 up it is a failure.
type Reason byte

// The Reason Codes. Three names share 0x00: Success, Normal disconnection and
// Granted QoS 0.
const (
	Success                           Reason = 0x00
	GrantedQoS1                       Reason = 0x01
	GrantedQoS2                       Reason = 0x02
	DisconnectWithWill                Reason = 0x04
	NoMatchingSubscribers             Reason = 0x10
	NoSubscriptionExisted             Reason = 0x11
	ContinueAuthentication            Reason = 0x18
	ReAuthenticate                    Reason = 0x19
	UnspecifiedError                  Reason = 0x80
	MalformedPacket                   Reason = 0x81
	ProtocolError                     Reason = 0x82
	ImplementationSpecificError       Reason = 0x83
	UnsupportedProtocolVersion        Reason = 0x84
	ClientIdentifierNotValid          Reason = 0x85
	BadUserNameOrPassword             Reason = 0x86
	NotAuthorized                     Reason = 0x87
	ServerUnavailable                 Reason = 0x88
	ServerBusy                        Reason = 0x89
	Banned                            Reason = 0x8A
	ServerShuttingDown                Reason = 0x8B
	BadAuthenticationMethod           Reason = 0x8C
	KeepAliveTimeout                  Reason = 0x8D
	SessionTakenOver                  Reason = 0x8E
	TopicFilterInvalid                Reason = 0x8F
	TopicNameInvalid                  Reason = 0x90
	PacketIDInUse                     Reason = 0x91
	PacketIDNotFound                  Reason = 0x92
	ReceiveMaximumExceeded            Reason = 0x93
	TopicAliasInvalid                 Reason = 0x94
	PacketTooLarge                    Reason = 0x95
	MessageRateTooHigh                Reason = 0x96
	QuotaExceeded                     Reason = 0x97
	AdministrativeAction              Reason = 0x98
	PayloadFormatInvalid              Reason = 0x99
	RetainNotSupported                Reason = 0x9A
	QoSNotSupported                   Reason = 0x9B
	UseAnotherServer                  Reason = 0x9C
	ServerMoved                       Reason = 0x9D
	SharedSubscriptionsNotSupported   Reason = 0x9E
	ConnectionRateExceeded            Reason = 0x9F
	MaximumConnectTime                Reason = 0xA0
	SubscriptionIDsNotSupported       Reason = 0xA1
	WildcardSubscriptionsNotSupported Reason = 0xA2
)

var reasonNames = map[Reason]string{
	Success:                           "Success",
	GrantedQoS1:                       "Granted QoS 1",
	GrantedQoS2:                       "Granted QoS 2",
	DisconnectWithWill:                "Disconnect with Will Message",
	NoMatchingSubscribers:             "No matching subscribers",
	NoSubscriptionExisted:             "No subscription existed",
	ContinueAuthentication:            "Continue authentication",
	ReAuthenticate:                    "Re-authenticate",
	UnspecifiedError:                  "Unspecified error",
	MalformedPacket:                   "Malformed Packet",
	ProtocolError:                     "Protocol Error",
	ImplementationSpecificError:       "Implementation specific error",
	UnsupportedProtocolVersion:        "Unsupported Protocol Version",
	ClientIdentifierNotValid:          "Client Identifier not valid",
	BadUserNameOrPassword:             "Bad User Name or Password",
	NotAuthorized:                     "Not authorized",
	ServerUnavailable:                 "Server unavailable",
	ServerBusy:                        "Server busy",
	Banned:                            "Banned",
	ServerShuttingDown:                "Server shutting down",
	BadAuthenticationMethod:           "Bad authentication method",
	KeepAliveTimeout:                  "Keep Alive timeout",
	SessionTakenOver:                  "Session taken over",
	TopicFilterInvalid:                "Topic Filter invalid",
	TopicNameInvalid:                  "Topic Name invalid",
	PacketIDInUse:                     "Packet Identifier in use",
	PacketIDNotFound:                  "Packet Identifier not found",
	ReceiveMaximumExceeded:            "Receive Maximum exceeded",
	TopicAliasInvalid:                 "Topic Alias invalid",
	PacketTooLarge:                    "Packet too large",
	MessageRateTooHigh:                "Message rate too high",
	QuotaExceeded:                     "Quota exceeded",
	AdministrativeAction:              "Administrative action",
	PayloadFormatInvalid:              "Payload format invalid",
	RetainNotSupported:                "Retain not supported",
	QoSNotSupported:                   "QoS not supported",
	UseAnotherServer:                  "Use another server",
	ServerMoved:                       "Server moved",
	SharedSubscriptionsNotSupported:   "Shared Subscriptions not supported",
	ConnectionRateExceeded:            "Connection rate exceeded",
	MaximumConnectTime:                "Maximum connect time",
	SubscriptionIDsNotSupported:       "Subscription Identifiers not supported",
	WildcardSubscriptionsNotSupported: "Wildcard Subscriptions not supported",
}

// String returns the name in the specification, or the number if there is none.
func (r Reason) String() string {
	if s, ok := reasonNames[r]; ok {
		return s
	}
	return fmt.Sprintf("Reason Code 0x%02X", byte(r))
}

// An Error says why a packet cannot be accepted. It is the package's only error.
type Error struct {
	Reason Reason // for CONNACK or DISCONNECT
	Rule   string // what was broken, and the section of MQTT 5.0 that says so
}

func (e *Error) Error() string { return e.Reason.String() + ": " + e.Rule }
