package device

import (
	"errors"
	"strconv"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// ErrClosed is the error of what is called on a closed Device, or is under way
// when it is closed.
var ErrClosed = errors.New("the device is closed")

// ErrNotConnected is the error of a publish with QoS 0 while there is no
// connection: nothing was sent.
var ErrNotConnected = errors.New("not connected to the server")

// ErrClientID is within the error of [Dial] if the server does not take the
// Client Identifier from this account; user name and password are right.
var ErrClientID = errors.New("the Client Identifier belongs to another account, or is not one that the server takes")

// An Error is a refusal: the server's answer to a request, or to a CONNECT. It
// holds no secret. errors.Is finds its code: errors.Is(err, group.NotAuthorized).
type Error struct {
	Op     string // "join", "switch" …, "connect" or "subscribe"
	Client group.ClientID
	Group  string // as the caller named it; may be empty
	Code   group.Code
	// Retry is how long the server asks to wait before asking again; 0 if it did
	// not say.
	Retry time.Duration
	Epoch group.Epoch // the device's, if the server told it
	Err   error       // the detail; may be nil
}

// Error prints operation, subject, code and cause.
func (e *Error) Error() string {
	s := e.Op
	if e.Group != "" {
		s += " " + strconv.Quote(e.Group)
	}
	if e.Client != "" {
		s += ", client " + strconv.Quote(string(e.Client))
	}
	s += ": " + e.Code.Error()
	if e.Err != nil {
		return s + ": " + e.Err.Error()
	}
	return s + ": " + e.Code.Text()
}

// Unwrap lets errors.Is find the Code and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Code}
	}
	return []error{e.Code, e.Err}
}

// refused returns the error for an answer that is no success.
func (d *Device) refused(r *control.Request, a *control.Answer) *Error {
	e := &Error{
		Op: string(r.Op), Client: d.self, Code: a.Code, Retry: time.Duration(a.Retry) * time.Second, Epoch: a.Epoch,
	}
	if r.Device != "" {
		e.Client = r.Device
	}
	for _, ref := range []group.Ref{r.To, r.G, r.From} {
		if e.Group = refText(ref); e.Group != "" {
			break
		}
	}
	return e
}

// refText returns a reference in the form in which a person writes it.
func refText(r group.Ref) string {
	switch {
	case r.Number != 0:
		return r.Number.String()
	case !r.ID.IsZero():
		return r.ID.String()
	case r.User != "":
		return "@" + r.User
	}
	return r.Name
}
