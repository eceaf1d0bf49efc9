package listen

import (
	"net"
	"net/netip"
)

// Over returns a Listener over one of package net's.
func Over(ln net.Listener, cfg Config) (*Listener, error) { return newListener(ln, cfg, nil) }

// ParseProxy reads the header of a proxy at the beginning of b.
func ParseProxy(b []byte) (peer netip.AddrPort, n int, err error) { return parseProxy(b) }

// Waiting returns how many bytes wait to be handed to the kernel.
func (c *Conn) Waiting() int { return c.out.size() }
