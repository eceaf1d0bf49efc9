package device

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

const requestPrefix = "$CONTROL/group/v1/"

// leastRetry is how long is waited before a request is asked again to whose
// refusal the server gave no time.
const leastRetry = time.Second

// A waiter is a request that waits for its answer.
type waiter struct {
	op control.Op
	// whole is true if the answer tells the whole state of the device.
	whole bool
	// fetches is true if who waits asks for the details of the change itself.
	fetches bool
	answer  chan control.Answer // has room for one
}

// Do makes any request of the control protocol and returns its answer. A request
// without ID gets a random one. It waits for a connection; an answer that does
// not come within Options.RequestTimeout, or is lost with the connection, is
// asked for again with the same ID until ctx ends. 16 requests can be under way,
// further ones wait.
//
// The answer to a repeat has Why "repeat" and does not tell a generated PIN or
// password again.
//
// The error is an [*Error] if the server refused; codes that can be tried again
// are, after the time that the server names, unless ctx ends before that or
// Options.NoRetry is set. [ErrClosed] or ctx's error mean that the answer did
// not come: the request may have had its effect.
func (d *Device) Do(ctx context.Context, r control.Request) (control.Answer, error) {
	return d.ask(ctx, r, false)
}

func (d *Device) ask(ctx context.Context, r control.Request, fetches bool) (control.Answer, error) {
	if r.Op == "" || strings.ContainsAny(string(r.Op), "/+#\x00") {
		return control.Answer{}, fmt.Errorf("%q is no operation", r.Op)
	}
	if len(r.ID) == 0 {
		r.ID = newID()
	}
	if r.Encoding == control.Bare {
		r.Encoding = control.JSON
	}
	body, err := control.EncodeRequest(r, r.Encoding)
	if err != nil {
		return control.Answer{}, fmt.Errorf("%s: %w", r.Op, err)
	}
	if len(body) > control.MaxBody {
		return control.Answer{}, &Error{Op: string(r.Op), Client: d.self, Code: group.TooLarge}
	}
	for {
		w := &waiter{
			op: r.Op, whole: r.Op == control.OpMine && r.Next == "" && r.Device == "", fetches: fetches, answer: make(chan control.Answer, 1),
		}
		a, err := d.once(ctx, w, string(r.ID), body)
		if err != nil {
			return a, fmt.Errorf("%s: no answer: %w", r.Op, err)
		}
		if a.Code.Success() {
			return a, nil
		}
		refusal := d.refused(&r, &a)
		if !a.Code.Retryable() || d.o.NoRetry {
			return a, refusal
		}
		wait := max(refusal.Retry, leastRetry)
		wait += mathrand.N(wait/4 + 1)
		if until, ok := ctx.Deadline(); ok && time.Until(until) < wait {
			return a, refusal
		}
		if err := d.pauseFor(ctx, wait); err != nil {
			return a, fmt.Errorf("%w; asking again: %w", refusal, err)
		}
	}
}

// pauseFor waits, and returns early when ctx ends or the Device is closed.
func (d *Device) pauseFor(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.ctx, func() { cancel(ErrClosed) })()
	if d.sleep(ctx, wait) != nil {
		return context.Cause(ctx)
	}
	return nil
}

// once asks until there is an answer, always with the same bytes.
func (d *Device) once(ctx context.Context, w *waiter, id string, body []byte) (control.Answer, error) {
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return control.Answer{}, context.Cause(ctx)
	case <-d.ctx.Done():
		return control.Answer{}, ErrClosed
	}
	d.mu.Lock()
	_, taken := d.waiting[id]
	if !taken {
		d.waiting[id] = w
	}
	d.mu.Unlock()
	if taken {
		return control.Answer{}, errors.New("a request with this ID is under way")
	}
	defer func() {
		d.mu.Lock()
		if d.waiting[id] == w {
			delete(d.waiting, id)
		}
		d.mu.Unlock()
	}()
	for {
		l, err := d.live(ctx)
		if err != nil {
			return control.Answer{}, err
		}
		// QoS 0: the answer is the acknowledgement.
		l.client.Publish(requestPrefix+string(w.op), 0, false, body)
		again := time.NewTimer(d.o.RequestTimeout)
		select {
		case a := <-w.answer:
			again.Stop()
			return a, nil
		case <-l.guard.dead:
		case <-again.C:
		case <-ctx.Done():
		case <-d.ctx.Done():
		}
		again.Stop()
	}
}

// refresh asks for the whole state, which receive then makes the device's own.
func (d *Device) refresh(ctx context.Context) error {
	_, err := d.ask(ctx, control.Request{Op: control.OpMine}, true)
	return err
}

// newID returns a random identifier of a request: 16 characters.
func newID() []byte {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.AppendEncode(nil, b[:])
}
