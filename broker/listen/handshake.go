package listen

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
)

// Handshake does what comes before MQTT: it finds out whether the peer may
// connect at all, reads a proxy's header, and makes the handshakes of TLS and
// WebSocket. It gives up at the deadline, or sooner if the read deadline, which
// it leaves alone, passes. After an error the Conn is to be closed; CloseWrite
// and Discard let the peer read why.
func (c *Conn) Handshake(deadline time.Time) error {
	l := c.l
	if l == nil {
		return nil
	}
	if l.cfg.Operator {
		if !trusted(c.raw) {
			return errors.New("the peer is neither the server's user nor root")
		}
		c.Operator = true
	}
	if len(l.cfg.Proxy) == 0 && c.out == nil {
		return nil
	}
	if err := c.raw.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if len(l.cfg.Proxy) > 0 {
		if err := c.proxied(); err != nil {
			return fmt.Errorf("PROXY: %w", err)
		}
	}
	if l.cfg.TLS != nil {
		if err := c.encrypt(deadline); err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
	}
	if l.cfg.WebSocket != nil {
		if err := c.upgrade(); err != nil {
			return fmt.Errorf("WebSocket: %w", err)
		}
	}
	if c.out != nil {
		c.out.direct = false
	}
	return c.raw.SetWriteDeadline(time.Time{})
}

// gate bounds how many handshakes of TLS compute at once, of all Listeners.
var gate = make(chan struct{}, 2*runtime.GOMAXPROCS(0))

// A gated layer holds a place in the gate from one read to the next, which is
// while the handshake computes: a peer that stalls holds none.
type gated struct {
	layer
	deadline time.Time
	inside   bool
	done     bool // the handshake is over
}

func (g *gated) Read(b []byte) (int, error) {
	if g.done {
		return g.layer.Read(b)
	}
	g.leave()
	n, err := g.layer.Read(b)
	if err != nil {
		return n, err
	}
	timer := time.NewTimer(time.Until(g.deadline))
	defer timer.Stop()
	select {
	case gate <- struct{}{}:
		g.inside = true
		return n, nil
	case <-timer.C:
		return n, os.ErrDeadlineExceeded
	}
}

func (g *gated) leave() {
	if g.inside {
		<-gate
		g.inside = false
	}
}

// encrypt makes the handshake of TLS, and takes the account from the peer's
// certificate.
func (c *Conn) encrypt(deadline time.Time) error {
	m := c.l.secure.Load()
	g := &gated{layer: layer{c}, deadline: deadline}
	c.tls = tls.Server(g, m.conf)
	c.in = c.tls
	err := c.tls.Handshake()
	g.leave()
	g.done = true
	if err != nil {
		return err
	}
	peers := c.tls.ConnectionState().PeerCertificates
	if len(peers) == 0 {
		return nil
	}
	if c.Account, err = m.account(peers[0]); err != nil {
		return err
	}
	c.chain.Store(&peers)
	return c.Check() // what the handshake went by may have been replaced meanwhile
}

// Check reports whether the peer's certificate is still good by what the
// Listener goes by now, after [Listener.Reload] or as time has gone by. It may be
// called by any goroutine.
func (c *Conn) Check() error {
	chain := c.chain.Load()
	if chain == nil {
		return nil
	}
	return c.l.secure.Load().verify(*chain)
}
