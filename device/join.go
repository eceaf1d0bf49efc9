package device

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A JoinOption says more about a change than the groups.
type JoinOption func(*control.Request)

// WithSecret presents the group's PIN.
func WithSecret(pin string) JoinOption { return func(r *control.Request) { r.Secret = pin } }

// WithQoS sets the highest QoS at which the group's messages are delivered: 0
// or 1.
func WithQoS(qos byte) JoinOption { return func(r *control.Request) { r.QoS = &qos } }

// WithFilter delivers of the group's messages to all only those whose rest
// matches one of the filters. No filters: all of them, as at first.
func WithFilter(filters ...string) JoinOption {
	if len(filters) == 0 {
		filters = []string{"#"}
	}
	return func(r *control.Request) { r.Filter = slices.Clone(filters) }
}

// WithRecv says whether the device receives the group's messages; a device that
// does not may still publish.
func WithRecv(recv bool) JoinOption { return func(r *control.Request) { r.Recv = &recv } }

// WithGrant presents a grant in place of the group's PIN and policy.
func WithGrant(grant []byte) JoinOption {
	return func(r *control.Request) { r.Grant = slices.Clone(grant) }
}

// WithEpoch has the change made only if the device's epoch still is e; else it
// is refused with [group.StaleEpoch].
func WithEpoch(e group.Epoch) JoinOption { return func(r *control.Request) { r.Epoch = &e } }

// maxTTL is the longest life of a grant.
const maxTTL = 24 * time.Hour

// WithTTL sets how long a grant that is asked for is to live: 1 second to 24
// hours in whole seconds; 60 seconds without it.
func WithTTL(ttl time.Duration) JoinOption {
	seconds := int(ttl / time.Second)
	if ttl <= 0 || ttl > maxTTL || ttl%time.Second != 0 {
		seconds = -1 // Grant says so
	}
	return func(r *control.Request) { r.TTL = seconds }
}

// Join makes the device a member of the group, given by number, ID, name or
// @user. What options do not say stays as it is, for a member that joins again.
// From its return on the device receives the group's messages, after each
// reconnect too.
//
// The error is an [*Error] if the server refused: then nothing has changed.
// With any other it is not known, see [Device.Do]; to join again is harmless.
func (d *Device) Join(ctx context.Context, group string, opts ...JoinOption) (Membership, error) {
	r := control.Request{Op: control.OpJoin}
	if err := ref(&r.G, group, "join"); err != nil {
		return Membership{}, err
	}
	return d.enter(ctx, r, opts)
}

// Leave ends the device's membership of the group. No message of the group
// arrives after its answer. Errors are as with [Device.Join].
func (d *Device) Leave(ctx context.Context, group string, opts ...JoinOption) error {
	r := control.Request{Op: control.OpLeave}
	if err := ref(&r.G, group, "leave"); err != nil {
		return err
	}
	_, err := d.ask(ctx, with(r, opts), false)
	return err
}

// Switch makes the device leave the one group and join the other in one change:
// it is in both or in neither at no instant, and after an [*Error] still in
// from. An empty from means the device's only group.
func (d *Device) Switch(ctx context.Context, from, to string, opts ...JoinOption) (Membership, error) {
	r := control.Request{Op: control.OpSwitch}
	if from != "" {
		if err := ref(&r.From, from, "switch"); err != nil {
			return Membership{}, err
		}
	}
	if err := ref(&r.To, to, "switch"); err != nil {
		return Membership{}, err
	}
	return d.enter(ctx, r, opts)
}

// A Grant is the permission for one change of this device, to be redeemed once.
type Grant struct {
	Op       control.Op // OpJoin, OpLeave or OpSwitch
	Bytes    []byte     // at most 64; a secret
	From, To group.Number
	Expires  time.Time // first instant at which it is refused
}

// Grant asks for the permission for a change, op being join, leave or switch,
// with the groups that op takes; the other is empty. It changes nothing. Any
// change of the device before it is redeemed makes the grant void.
func (d *Device) Grant(ctx context.Context, op control.Op, from, to string, opts ...JoinOption) (Grant, error) {
	r := control.Request{Op: control.OpGrant, Sub: string(op)}
	var err error
	switch op {
	case control.OpJoin:
		if from != "" {
			return Grant{}, errors.New("grant: a join has no group to leave")
		}
		err = ref(&r.To, to, "grant")
	case control.OpLeave:
		if to != "" {
			return Grant{}, errors.New("grant: a leave has no group to join")
		}
		err = ref(&r.From, from, "grant")
	case control.OpSwitch:
		if from != "" {
			err = ref(&r.From, from, "grant")
		}
		err = errors.Join(err, ref(&r.To, to, "grant"))
	default:
		return Grant{}, fmt.Errorf("grant: %q is not join, leave or switch", op)
	}
	if err != nil {
		return Grant{}, err
	}
	if r = with(r, opts); r.TTL < 0 {
		return Grant{}, errors.New("grant: the time to live is not 1 second to 24 hours in whole seconds")
	}
	a, err := d.ask(ctx, r, false)
	if err != nil {
		return Grant{}, err
	}
	return Grant{Op: op, Bytes: a.Grant, From: a.From, To: a.To, Expires: time.Unix(a.Exp, 0).UTC()}, nil
}

// Redeem makes the change that a grant permits, also one that was got elsewhere
// than from [Device.Grant]; op is what it is for. It returns the membership that
// a join or a switch has made. The error has code 40 to 43 if the grant is not
// good.
func (d *Device) Redeem(ctx context.Context, op control.Op, grant []byte) (Membership, error) {
	r := control.Request{Op: op, Grant: slices.Clone(grant)}
	switch {
	case len(grant) == 0:
		return Membership{}, errors.New("redeem: there is no grant")
	case op == control.OpJoin || op == control.OpSwitch:
		return d.enter(ctx, r, nil)
	case op == control.OpLeave:
		_, err := d.ask(ctx, r, false)
		return Membership{}, err
	}
	return Membership{}, fmt.Errorf("redeem: %q is not join, leave or switch", op)
}

// enter makes a change after which the device is in a group, and returns the
// membership with its details.
func (d *Device) enter(ctx context.Context, r control.Request, opts []JoinOption) (Membership, error) {
	a, err := d.ask(ctx, with(r, opts), true)
	if err != nil {
		return Membership{}, err
	}
	m, ok := d.Member(a.N)
	if !ok || a.Code == group.OK || m.Name == "" {
		if d.refresh(ctx) != nil {
			d.askDetails() // the change is made all the same
		}
		m, ok = d.Member(a.N)
	}
	if !ok && d.ctx.Err() == nil {
		return Membership{}, &Error{
			Op: string(r.Op), Client: d.self, Group: a.N.String(), Code: group.MembershipTerminated, Epoch: a.Epoch,
			Err: errors.New("it was done, and the membership has ended since"),
		}
	}
	return m, nil
}

func with(r control.Request, opts []JoinOption) control.Request {
	for _, o := range opts {
		o(&r)
	}
	return r
}

// ref reads a reference to a group as a person writes it.
func ref(into *group.Ref, text, op string) error {
	r, err := control.ParseRef(text)
	if err != nil {
		return fmt.Errorf("%s: %q is no number, ID, name or @user: %w", op, text, err)
	}
	*into = r
	return nil
}
