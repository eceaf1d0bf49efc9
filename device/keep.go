package device

import (
	"context"
	"math/rand/v2"
	"time"
)

// firstWait bounds the wait before the first attempt to reconnect.
const firstWait = time.Second

// sleep waits, or returns early with ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// up makes the link the one that is used, unless it is lost already.
func (d *Device) up(l *link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !l.gone {
		d.cur = l
		close(d.ready)
	}
}

// down takes the link out of use.
func (d *Device) down(l *link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.gone = true
	if d.cur == l {
		d.cur, d.ready = nil, make(chan struct{})
	}
}

// live returns the connection, and waits for one.
func (d *Device) live(ctx context.Context) (*link, error) {
	for {
		d.mu.Lock()
		l, ready := d.cur, d.ready
		d.mu.Unlock()
		switch {
		case d.ctx.Err() != nil:
			return nil, ErrClosed
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case l != nil:
			return l, nil
		}
		select {
		case <-ready:
		case <-ctx.Done():
		case <-d.ctx.Done():
		}
	}
}

// keepConnected makes a new connection whenever the one is lost, until Close.
func (d *Device) keepConnected(l *link) {
	tries := 0
	for {
		since := time.Now()
		select {
		case <-l.guard.dead:
		case <-d.ctx.Done():
			d.finish(l)
			return
		}
		l.close()
		d.log.Warn("connection lost", "client", d.clientID, "server", d.server, "err", l.guard.cause())
		if time.Since(since) > d.o.MaxReconnect {
			tries = 0 // it was a good one: two devices with one identifier get no such
		}
		if l, tries = d.reconnect(tries); l == nil {
			return
		}
		d.log.Info("connected", "client", d.clientID, "server", d.server)
	}
}

// finish ends the last connection, when the last message is acknowledged or
// cannot be.
func (d *Device) finish(l *link) {
	pumped := make(chan struct{})
	go func() { d.pump.Wait(); close(pumped) }()
	select {
	case <-pumped:
	case <-time.After(quiesce * time.Millisecond):
	}
	l.close()
	<-pumped
}

// reconnect tries until there is a connection. It returns nil after Close, and
// how often it has waited.
func (d *Device) reconnect(tries int) (*link, int) {
	for {
		if d.sleep(d.ctx, backOff(tries, d.o.MaxReconnect)) != nil {
			return nil, tries
		}
		tries++
		l, err := d.connect(d.ctx)
		switch {
		case err == nil:
			d.up(l)
			return l, tries
		case d.ctx.Err() != nil:
			return nil, tries
		}
		d.log.Warn("cannot connect", "client", d.clientID, "err", err)
	}
}

// backOff returns how long to wait before the next attempt: a random time
// between the half and the whole of what doubles with each, so that devices
// that were cut off together do not return together.
func backOff(tries int, most time.Duration) time.Duration {
	whole := most
	if tries < 30 {
		whole = min(most, firstWait<<tries)
	}
	return whole/2 + rand.N(whole/2+1)
}

// askDetails has keepDetails ask for the whole state.
func (d *Device) askDetails() {
	select {
	case d.details <- struct{}{}:
	default:
	}
}

// keepDetails asks for the state when a change has told less than all of it. If
// that fails the connection is ended: a new one begins with the state.
func (d *Device) keepDetails() {
	for {
		select {
		case <-d.details:
		case <-d.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(d.ctx, 3*d.o.RequestTimeout)
		err := d.refresh(ctx)
		cancel()
		if err == nil || d.ctx.Err() != nil {
			continue
		}
		d.log.Warn("the server does not tell the state", "client", d.clientID, "err", err)
		d.mu.Lock()
		l := d.cur
		d.mu.Unlock()
		if l != nil {
			l.guard.fail(err)
		}
	}
}
