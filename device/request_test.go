package device_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/device"
	"github.com/muster-mqtt/muster/group"
)

func TestJoinSwitchLeave(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 4)

	joined := later(func() (device.Membership, error) {
		return d.Join(t.Context(), "Lamps", device.WithSecret("4711"), device.WithQoS(0), device.WithFilter("cmd/#"),
			device.WithRecv(false), device.WithEpoch(4))
	})
	r, body := p.request()
	if r.Op != control.OpJoin || r.G.Name != "lamps" || r.Secret != "4711" || *r.QoS != 0 || r.Filter[0] != "cmd/#" || *r.Recv ||
		*r.Epoch != 4 || len(r.ID) == 0 || len(r.ID) > 16 {
		t.Errorf("request %s", body)
	}
	p.answer(control.Answer{Op: r.Op, ID: r.ID, N: 1, To: 1, State: "member", Epoch: 5, Rev: 41})
	r, _ = p.request() // how the membership is in full
	qos, recv := byte(0), false
	p.answer(control.Answer{Op: r.Op, ID: r.ID, Epoch: 5, HasList: true, List: []control.Entry{
		{N: 1, Name: "lamps", State: "member", Since: 41, At: 1763990000, QoS: &qos, Recv: &recv, Filter: []string{"cmd/#"}},
	}})
	m, err := get(t, joined)
	want := device.Membership{Number: 1, Name: "lamps", Filter: []string{"cmd/#"}, Since: 41, At: time.Unix(1763990000, 0).UTC()}
	if err != nil || !reflect.DeepEqual(m, want) {
		t.Errorf("joined %+v, %v\nwant %+v", m, err, want)
	}

	switched := later(func() (device.Membership, error) { return d.Switch(t.Context(), "1", "lamps-east") })
	if r, body = p.request(); r.Op != control.OpSwitch || r.From.Number != 1 || r.To.Name != "lamps-east" {
		t.Errorf("request %s", body)
	}
	p.answer(control.Answer{Op: r.Op, ID: r.ID, N: 2, From: 1, To: 2, State: "member", Epoch: 6, Rev: 50})
	p.mine(6, 2)
	if m, err := get(t, switched); err != nil || m.Number != 2 || m.Name != "lamps-2" {
		t.Errorf("switched %+v, %v", m, err)
	}
	if got := numbers(d); !reflect.DeepEqual(got, []group.Number{2}) || d.Epoch() != 6 {
		t.Errorf("groups %v, epoch %d", got, d.Epoch())
	}

	left := later(func() (struct{}, error) { return struct{}{}, d.Leave(t.Context(), "2") })
	if r, body = p.request(); r.Op != control.OpLeave || r.G.Number != 2 {
		t.Errorf("request %s", body)
	}
	p.answer(control.Answer{Op: r.Op, ID: r.ID, N: 2, From: 2, State: "out", Epoch: 7})
	if _, err := get(t, left); err != nil || len(d.Groups()) != 0 || d.Epoch() != 7 {
		t.Errorf("left: %v, groups %v, epoch %d", err, numbers(d), d.Epoch())
	}
	for _, kind := range []device.Kind{device.Joined, device.Switched, device.Left} {
		if c := next(t, d.Changes()); c.Kind != kind || !c.Own || c.Forced || c.Missed {
			t.Errorf("change %+v, want %s", c, kind)
		}
	}
}

// A refusal changes nothing, and has what a program needs and a person reads.
func TestRefusal(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 4, 1)
	joined := later(func() (device.Membership, error) { return d.Join(t.Context(), "vault", device.WithSecret("s3cret")) })
	r, _ := p.request()
	p.answer(control.Answer{Op: r.Op, ID: r.ID, Code: group.NotAuthorized, Epoch: 4})
	_, err := get(t, joined)
	var refusal *device.Error
	if !errors.Is(err, group.NotAuthorized) || !errors.As(err, &refusal) || refusal.Epoch != 4 {
		t.Errorf("error %v", err)
	}
	if want := `join "vault", client "lamp-7": not_authorized: not authorized, or nothing that you may know of`; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if got := numbers(d); len(got) != 1 || d.Epoch() != 4 {
		t.Errorf("groups %v, epoch %d", got, d.Epoch())
	}
	for _, name := range []string{"", "a b", "+", "99999999999"} {
		if _, err := d.Join(t.Context(), name); !errors.Is(err, group.BadRequest) {
			t.Errorf("join %q: %v", name, err)
		}
	}
	for _, op := range []control.Op{"", "a/b", "#"} {
		if _, err := d.Do(t.Context(), control.Request{Op: op}); err == nil {
			t.Errorf("op %q is asked", op)
		}
	}
	if _, err := d.Do(t.Context(), control.Request{Op: control.OpMine, ID: make([]byte, 17)}); err == nil {
		t.Error("an ID of 17 bytes is asked with")
	}
}

// A request whose answer is lost with the connection is asked again with the
// same bytes, and the change is told once.
func TestLostAnswer(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 4, 1)
	left := later(func() (struct{}, error) { return struct{}{}, d.Leave(t.Context(), "1") })
	_, first := p.request()
	_ = p.conn.Close() // after it had its effect
	p = f.accept()
	p.welcome(5)
	r, again := p.request()
	if again != first || len(r.ID) == 0 {
		t.Errorf("asked %s, then %s", first, again)
	}
	p.answer(control.Answer{Op: r.Op, ID: r.ID, N: 1, State: "out", Epoch: 5, Why: "repeat"})
	if _, err := get(t, left); err != nil {
		t.Error(err)
	}
	if c := next(t, d.Changes()); c.Kind != device.Left || !c.Missed || c.Epoch != 5 {
		t.Errorf("change %+v", c)
	}
	p.message("g/1/all/lamp-8/x", "marker")
	next(t, d.Messages())
	select {
	case c := <-d.Changes():
		t.Errorf("one change is told twice: %+v", c)
	default:
	}
}

// A server that does not answer in time is asked again with the same bytes; an
// answer to somebody else's request, or of another op, is none.
func TestAnswerInTime(t *testing.T) {
	f := listen(t)
	o := options()
	o.RequestTimeout = 300 * time.Millisecond
	d, p := connected(t, f, o, 4, 1)
	asked := later(func() (control.Answer, error) {
		return d.Do(t.Context(), control.Request{Op: control.OpMembers, G: group.Ref{Number: 1}})
	})
	r, first := p.request()
	p.answer(control.Answer{Op: r.Op, ID: []byte("another"), Name: "wrong"})
	p.answer(control.Answer{Op: control.OpShow, ID: r.ID, Name: "wrong"})
	if _, again := p.request(); again != first {
		t.Errorf("asked %s, then %s", first, again)
	}
	p.answer(control.Answer{Op: r.Op, ID: r.ID, Name: "right"})
	p.answer(control.Answer{Op: r.Op, ID: r.ID, Name: "late"})
	if a, err := get(t, asked); err != nil || a.Name != "right" {
		t.Errorf("answer %+v, %v", a, err)
	}
}

func TestRetry(t *testing.T) {
	f := listen(t)
	waits := make(chan time.Duration, 4)
	dialed := later(func() (*device.Device, error) {
		return device.DialWaiting(t.Context(), f.url(), options(), func(ctx context.Context, d time.Duration) error {
			waits <- d
			return ctx.Err()
		})
	})
	p := f.accept()
	p.welcome(4, 1)
	d, err := get(t, dialed)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()

	asked := later(func() (struct{}, error) { return struct{}{}, d.Leave(t.Context(), "1") })
	r, first := p.request()
	p.answer(control.Answer{Op: r.Op, ID: r.ID, Code: group.RateLimited, Retry: 30})
	if w := next(t, waits); w < 30*time.Second || w > 38*time.Second {
		t.Errorf("waits %v, want 30 s and some", w)
	}
	if _, again := p.request(); again != first {
		t.Errorf("asked %s, then %s", first, again)
	}
	p.answer(control.Answer{Op: r.Op, ID: r.ID, Code: group.Unavailable})
	if w := next(t, waits); w < time.Second {
		t.Errorf("waits %v", w)
	}
	p.request()
	p.answer(control.Answer{Op: r.Op, ID: r.ID, N: 1, From: 1, State: "out", Epoch: 5})
	if _, err := get(t, asked); err != nil {
		t.Error(err)
	}

	// There is no use in waiting for longer than the caller does.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	asked = later(func() (struct{}, error) { return struct{}{}, d.Leave(ctx, "2") })
	r, _ = p.request()
	p.answer(control.Answer{Op: r.Op, ID: r.ID, Code: group.RateLimited, Retry: 3600})
	_, err = get(t, asked)
	var refusal *device.Error
	if !errors.As(err, &refusal) || refusal.Retry != time.Hour || !errors.Is(err, group.RateLimited) {
		t.Errorf("error %v", err)
	}
}

// A server that does not know an op, or cannot read a body, has no ID to answer
// with: that is a refusal all the same, and not a wait for ever.
func TestRefusalWithoutID(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 4, 1)
	other := later(func() (control.Answer, error) { return d.Do(t.Context(), control.Request{Op: control.OpList}) })
	list, _ := p.request()
	asked := later(func() (control.Answer, error) {
		return d.Do(t.Context(), control.Request{Op: control.OpCreate, Name: "lamps"})
	})
	r, _ := p.request()
	p.answer(control.Answer{Op: r.Op, Code: group.UnknownOp})
	if _, err := get(t, asked); !errors.Is(err, group.UnknownOp) {
		t.Errorf("error %v", err)
	}
	p.answer(control.Answer{Op: list.Op, ID: list.ID})
	if _, err := get(t, other); err != nil {
		t.Error(err)
	}
}

func TestNoRetry(t *testing.T) {
	f := listen(t)
	o := options()
	o.NoRetry = true
	d, p := connected(t, f, o, 4, 1)
	asked := later(func() (struct{}, error) { return struct{}{}, d.Leave(t.Context(), "1") })
	r, _ := p.request()
	p.answer(control.Answer{Op: r.Op, ID: r.ID, Code: group.RateLimited, Retry: 1})
	if _, err := get(t, asked); !errors.Is(err, group.RateLimited) {
		t.Errorf("error %v", err)
	}
}

// A request ends with its context, also while there is no connection.
func TestContextEnds(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 4, 1)
	ctx, cancel := context.WithCancel(t.Context())
	asked := later(func() (control.Answer, error) { return d.Do(ctx, control.Request{Op: control.OpMine}) })
	p.request()
	cancel()
	if _, err := get(t, asked); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "mine: no answer") {
		t.Errorf("error %v", err)
	}
	_ = p.conn.Close()
	f.accept() // a connection on which nothing is told
	if _, err := d.Do(ctx, control.Request{Op: control.OpMine}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := d.Subscribe(ctx, "x", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// 16 requests are under way at most: the others wait for their turn.
func TestOutstandingRequests(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 4, 1)
	const all = 20
	answers := make(chan error, all)
	for i := range all {
		go func() {
			a, err := d.Do(t.Context(), control.Request{Op: control.OpList, ID: fmt.Appendf(nil, "r%d", i)})
			if err == nil && string(a.ID) != fmt.Sprintf("r%d", i) {
				err = fmt.Errorf("answer %s to request r%d", a.ID, i)
			}
			answers <- err
		}()
	}
	var open [][]byte
	for range 16 {
		r, _ := p.request()
		open = append(open, r.ID)
	}
	marked := later(func() (struct{}, error) { return struct{}{}, d.PublishRaw(t.Context(), "marker", nil, 1, false) })
	m := take[*packets.PublishPacket](p)
	if m.TopicName != "marker" {
		t.Errorf("a 17th request: %s", m.Payload)
	}
	p.puback(m.MessageID)
	if _, err := get(t, marked); err != nil {
		t.Error(err)
	}
	for range all - 16 {
		p.answer(control.Answer{Op: control.OpList, ID: open[0]})
		r, _ := p.request()
		open = append(open[1:], r.ID)
	}
	for _, id := range open {
		p.answer(control.Answer{Op: control.OpList, ID: id})
	}
	for range all {
		if err := next(t, answers); err != nil {
			t.Error(err)
		}
	}
}

// Two requests with one ID are not under way together.
func TestSameID(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 4, 1)
	r := control.Request{Op: control.OpMine, ID: []byte("a1")}
	asked := later(func() (control.Answer, error) { return d.Do(t.Context(), r) })
	p.request()
	if _, err := d.Do(t.Context(), r); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("error %v", err)
	}
	p.answer(control.Answer{Op: r.Op, ID: r.ID, Epoch: 4})
	if _, err := get(t, asked); err != nil {
		t.Error(err)
	}
}

func TestGrantAndRedeem(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 4, 1)
	asked := later(func() (device.Grant, error) {
		return d.Grant(t.Context(), control.OpSwitch, "1", "2", device.WithTTL(5*time.Minute), device.WithSecret("4711"))
	})
	r, body := p.request()
	if r.Op != control.OpGrant || r.Sub != "switch" || r.From.Number != 1 || r.To.Number != 2 || r.TTL != 300 || r.Secret != "4711" {
		t.Errorf("request %s", body)
	}
	p.answer(control.Answer{Op: r.Op, ID: r.ID, From: 1, To: 2, N: 2, Grant: []byte("grant"), Exp: 1764000300, Epoch: 4})
	g, err := get(t, asked)
	want := device.Grant{Op: control.OpSwitch, Bytes: []byte("grant"), From: 1, To: 2, Expires: time.Unix(1764000300, 0).UTC()}
	if err != nil || !reflect.DeepEqual(g, want) {
		t.Errorf("grant %+v, %v", g, err)
	}
	if d.Epoch() != 4 {
		t.Error("asking for a grant has changed something")
	}

	redeemed := later(func() (device.Membership, error) { return d.Redeem(t.Context(), g.Op, g.Bytes) })
	if r, body = p.request(); r.Op != control.OpSwitch || string(r.Grant) != "grant" || !r.To.IsZero() {
		t.Errorf("request %s", body)
	}
	p.answer(control.Answer{Op: r.Op, ID: r.ID, N: 2, From: 1, To: 2, State: "member", Epoch: 5})
	p.mine(5, 2)
	if m, err := get(t, redeemed); err != nil || m.Number != 2 {
		t.Errorf("redeemed %+v, %v", m, err)
	}

	redeemed = later(func() (device.Membership, error) { return d.Redeem(t.Context(), control.OpLeave, g.Bytes) })
	r, _ = p.request()
	p.answer(control.Answer{Op: r.Op, ID: r.ID, Code: group.GrantMismatch, Epoch: 5})
	if _, err := get(t, redeemed); !errors.Is(err, group.GrantMismatch) {
		t.Errorf("error %v", err)
	}
	for name, err := range map[string]error{
		"no grant":              second(d.Redeem(t.Context(), control.OpJoin, nil)),
		"redeem of a move":      second(d.Redeem(t.Context(), control.OpMove, g.Bytes)),
		"grant of a move":       second(d.Grant(t.Context(), control.OpMove, "1", "2")),
		"join with from":        second(d.Grant(t.Context(), control.OpJoin, "1", "2")),
		"leave with to":         second(d.Grant(t.Context(), control.OpLeave, "1", "2")),
		"half a second of life": second(d.Grant(t.Context(), control.OpJoin, "", "2", device.WithTTL(500*time.Millisecond))),
		"two days of life":      second(d.Grant(t.Context(), control.OpJoin, "", "2", device.WithTTL(48*time.Hour))),
	} {
		if err == nil {
			t.Errorf("%s is asked", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// The answer to a repeated join can be about a membership that has ended since.
func TestJoinedAndEndedSince(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 4)
	joined := later(func() (device.Membership, error) { return d.Join(t.Context(), "1") })
	p.request()
	_ = p.conn.Close()
	p = f.accept()
	p.welcome(6)
	r, _ := p.request()
	p.answer(control.Answer{Op: r.Op, ID: r.ID, N: 1, State: "out", Epoch: 6, Why: "repeat"})
	p.mine(6)
	if _, err := get(t, joined); !errors.Is(err, group.MembershipTerminated) {
		t.Errorf("error %v", err)
	}
}
