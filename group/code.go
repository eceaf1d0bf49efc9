package group

// Code is a result code of the control protocol (docs/protocol.md, result
// codes). It is the same number in JSON, CBOR and on the command line, and it
// is an error, so errors.Is(err, group.NotAuthorized) asks for it.
type Code uint8

// The result codes. OK, Unchanged and Pending are successes.
const (
	OK                   Code = 0
	Unchanged            Code = 1 // the wanted effect is there already
	Pending              Code = 2 // accepted, waits for an approval
	BadRequest           Code = 10
	UnknownOp            Code = 11
	UnsupportedVersion   Code = 12
	TooLarge             Code = 13
	NoSuchGroup          Code = 20
	AmbiguousRef         Code = 21
	GroupDeleted         Code = 22
	NoSuchDevice         Code = 23
	NoSuchAccount        Code = 24
	NotAuthorized        Code = 30
	BadSecret            Code = 31
	Banned               Code = 32
	InviteRequired       Code = 33
	ApprovalDenied       Code = 34
	MembershipTerminated Code = 35
	NotMember            Code = 36
	NotOwner             Code = 37
	GrantUnknown         Code = 40
	GrantExpired         Code = 41
	GrantUsed            Code = 42
	GrantMismatch        Code = 43
	GrantRevoked         Code = 44
	StaleEpoch           Code = 50
	IDReused             Code = 51
	ExclusiveConflict    Code = 52
	NameTaken            Code = 53
	GroupFull            Code = 60
	TooManyGroups        Code = 61
	RateLimited          Code = 62
	Unavailable          Code = 80
	NoQuorum             Code = 81
	Internal             Code = 99
)

// codes names each code, with the sentence a person reads.
var codes = map[Code]struct{ name, text string }{
	OK:                   {"ok", "done"},
	Unchanged:            {"unchanged", "nothing to change: it is so already"},
	Pending:              {"pending", "waiting for approval"},
	BadRequest:           {"bad_request", "the request cannot be read"},
	UnknownOp:            {"unknown_op", "there is no such operation"},
	UnsupportedVersion:   {"unsupported_version", "this server speaks version 1 of the control protocol"},
	TooLarge:             {"too_large", "the request is larger than the server accepts"},
	NoSuchGroup:          {"no_such_group", "there is no such group"},
	AmbiguousRef:         {"ambiguous_ref", "the reference fits several groups: name one by number"},
	GroupDeleted:         {"group_deleted", "the group has been deleted"},
	NoSuchDevice:         {"no_such_device", "there is no such device"},
	NoSuchAccount:        {"no_such_account", "there is no such account"},
	NotAuthorized:        {"not_authorized", "not authorized, or nothing that you may know of"},
	BadSecret:            {"bad_secret", "the PIN is missing or wrong"},
	Banned:               {"banned", "banned from the group"},
	InviteRequired:       {"invite_required", "the group is by invitation"},
	ApprovalDenied:       {"approval_denied", "the approval was denied"},
	MembershipTerminated: {"membership_terminated", "the membership was ended by somebody else: join anew to return"},
	NotMember:            {"not_member", "the device is not a member"},
	NotOwner:             {"not_owner", "not an owner of the group"},
	GrantUnknown:         {"grant_unknown", "the grant is not one of this server's"},
	GrantExpired:         {"grant_expired", "the grant has expired: ask for a new one"},
	GrantUsed:            {"grant_used", "the grant has been used or overtaken by another change: ask for a new one"},
	GrantMismatch:        {"grant_mismatch", "the grant is for another device, operation or group"},
	GrantRevoked:         {"grant_revoked", "the grant was revoked"},
	StaleEpoch:           {"stale_epoch", "the membership has changed since that epoch"},
	IDReused:             {"id_reused", "the request id was used for another request"},
	ExclusiveConflict:    {"exclusive_conflict", "the membership conflicts with another"},
	NameTaken:            {"name_taken", "the name is taken"},
	GroupFull:            {"group_full", "the group is full"},
	TooManyGroups:        {"too_many_groups", "the device is in as many groups as it may be"},
	RateLimited:          {"rate_limited", "too many requests: wait and try again"},
	Unavailable:          {"unavailable", "the server cannot do this now: try again"},
	NoQuorum:             {"no_quorum", "the servers cannot agree now: try again"},
	Internal:             {"internal", "internal error: see the server's log"},
}

// Error returns the code's name in the protocol, such as "not_authorized".
func (c Code) Error() string {
	if e, ok := codes[c]; ok {
		return e.name
	}
	return "internal"
}

// String returns the same as [Code.Error].
func (c Code) String() string { return c.Error() }

// Text returns one sentence for a person. It holds no detail of the request, so
// it tells a stranger nothing.
func (c Code) Text() string {
	if e, ok := codes[c]; ok {
		return e.text
	}
	return codes[Internal].text
}

// Success reports whether the request has, or will have, its effect.
func (c Code) Success() bool { return c <= Pending }

// Retryable reports whether the same request may succeed later.
func (c Code) Retryable() bool { return c == RateLimited || c >= 80 && c <= 89 }

// ParseCode returns the code with the given name, and whether there is one.
func ParseCode(name string) (Code, bool) {
	for c, e := range codes {
		if e.name == name {
			return c, true
		}
	}
	return Internal, false
}

// Codes returns every code, in ascending order.
func Codes() []Code {
	all := make([]Code, 0, len(codes))
	for c := 0; c < 256; c++ {
		if _, ok := codes[Code(c)]; ok {
			all = append(all, Code(c))
		}
	}
	return all
}

// An Error is a refusal with what a program needs to choose and an operator
// needs to act. The device is sent the Code alone.
type Error struct {
	Op     Op
	Client ClientID
	Group  Number // 0 if none
	Code   Code
	Err    error // the detail, for the operator's log; may be nil
}

// Error prints operation, subject, code and cause.
func (e *Error) Error() string {
	s := string(e.Op)
	if e.Group != 0 {
		s += " group " + e.Group.String()
	}
	if e.Client != "" {
		s += ", client " + quote(string(e.Client))
	}
	s += ": " + e.Code.Error()
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap lets errors.Is find the Code and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Code}
	}
	return []error{e.Code, e.Err}
}
