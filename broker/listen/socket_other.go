//go:build !unix

package listen

import "net"

func newSocket(nc net.Conn) socket { return slowSocket{nc} }
