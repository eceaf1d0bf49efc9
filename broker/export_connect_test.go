package broker

import (
	"net"

	"github.com/muster-mqtt/muster/broker/listen"
)

// ServeConn serves a connection as if it had come in at a listener of the
// address.
func (s *Server) ServeConn(nc net.Conn, at net.Addr) {
	c := newConn(s, listen.New(nc, at))
	if !s.enterConn(c, true) {
		nc.Close()
		return
	}
	s.wg.Go(c.run)
}

// ConnDone returns a channel that is closed when the connection from the peer's
// address is gone, with all that its end brings about.
func (s *Server) ConnDone(peer net.Addr) <-chan struct{} {
	for _, c := range s.allConns() {
		if c.net.RemoteAddr().String() == peer.String() {
			return c.done
		}
	}
	done := make(chan struct{})
	close(done)
	return done
}
