//go:build !linux

package listen

import "net"

// trusted relies on the mode of the socket where the system does not tell who
// the peer is.
func trusted(net.Conn) bool { return true }
