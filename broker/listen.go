package broker

import (
	"errors"
	"fmt"
	"time"

	"github.com/muster-mqtt/muster/broker/listen"
)

// reloadEvery is how often files of TLS are looked at.
const reloadEvery = 5 * time.Second

// listen opens all listeners.
func (s *Server) listen() error {
	open := func(cfg listen.Config, what string) error {
		cfg.Logger = s.log
		l, err := listen.Open(cfg)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", what, err)
		}
		s.listeners = append(s.listeners, l)
		return nil
	}
	for _, a := range s.cfg.Listen {
		if err := open(listen.Config{Address: a}, a+" (--listen)"); err != nil {
			return err
		}
	}
	for i, cfg := range s.cfg.Listeners {
		if err := open(cfg, fmt.Sprintf("%s (listeners, entry %d)", cfg.Address, i+1)); err != nil {
			return err
		}
	}
	if s.cfg.Socket == "" {
		return nil
	}
	return open(listen.Config{Address: "unix:" + s.cfg.Socket, Operator: true}, fmt.Sprintf("the operator socket %s (socket)", s.cfg.Socket))
}

func (s *Server) closeListeners() {
	for _, l := range s.listeners {
		l.Close()
	}
}

// accept serves one listener until it is closed.
func (s *Server) accept(l *listen.Listener) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		c := newConn(s, nc)
		if !s.enterConn(c, !l.Proxied()) {
			nc.Close()
			continue
		}
		s.wg.Go(c.run)
	}
}

// Reload reads the certificates, keys, authorities and lists of revoked
// certificates of all listeners again. New connections go by them, and
// connections whose certificate is no longer good end. What does not load is in
// the error, and stays as it was. The files are looked at every few seconds
// without it.
func (s *Server) Reload() error {
	var errs []error
	for _, l := range s.listeners {
		if err := l.Reload(); err != nil {
			errs = append(errs, fmt.Errorf("reload %s: %w", l.URL(), err))
		}
	}
	s.checkCertificates()
	return errors.Join(errs...)
}

// checkCertificates ends the connections whose certificate is no longer good.
func (s *Server) checkCertificates() {
	for _, c := range s.allConns() {
		if err := c.net.Check(); err != nil {
			s.log.Info("refused", "op", "stay", "by", c.net.Account, "addr", c.net.Peer, "err", err)
			c.stop(goodbyeRights)
		}
	}
}

// enterConn counts a new connection, if there is room for one. known says that
// its peer's address is.
func (s *Server) enterConn(c *conn, known bool) bool {
	evicted, refused := s.admission.enter(c, known)
	if evicted != nil {
		evicted.stop(goodbyeCrowded)
	}
	if refused != "" {
		s.log.Info("refused", "op", "accept", "listener", c.net.URL, "addr", c.net.Peer, "reason", refused)
		return false
	}
	s.mu.Lock()
	stopping := s.stopping
	if !stopping {
		s.conns[c] = struct{}{}
	}
	s.mu.Unlock()
	if stopping {
		s.admission.leave(c)
	}
	return !stopping
}

func (s *Server) leaveConn(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.admission.leave(c)
}
