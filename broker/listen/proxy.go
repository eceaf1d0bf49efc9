package listen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol, versions 1 and 2, as the specification of HAProxy has it
// (2.1 and 2.2).
const (
	maxV1 = 107     // bytes of a version 1 header
	maxV2 = 2 << 10 // bytes of a version 2 header behind its first 16
)

var (
	v1Start     = []byte("PROXY ")
	v2Signature = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

var (
	errNoHeader   = errors.New("the connection does not begin with a header")
	errBadHeader  = errors.New("the header is not well formed")
	errLongHeader = errors.New("the header is too long")
)

// proxied reads the header of the proxy, and takes the peer's address from it.
func (c *Conn) proxied() error {
	t, ok := c.raw.RemoteAddr().(*net.TCPAddr)
	if !ok || !listed(t.AddrPort().Addr().Unmap(), c.l.cfg.Proxy) {
		return fmt.Errorf("connections from %s are not for this address: it is no proxy that is listed", c.Peer)
	}
	peer, rest, err := readProxy(c.raw)
	if err != nil {
		return err
	}
	c.rest = rest
	if peer.IsValid() {
		c.from(net.TCPAddrFromAddrPort(peer))
	}
	return nil
}

func listed(a netip.Addr, in []netip.Prefix) bool {
	for _, p := range in {
		if p.Contains(a.WithZone("")) {
			return true
		}
	}
	return false
}

// readProxy reads a header. peer is not valid if the proxy speaks for itself, or
// of somebody without an address. rest is what was read behind the header.
func readProxy(r io.Reader) (peer netip.AddrPort, rest []byte, err error) {
	b := make([]byte, 0, 256)
	for {
		var n int
		peer, n, err = parseProxy(b)
		if err != nil {
			return netip.AddrPort{}, nil, err
		}
		if n > 0 {
			return peer, b[n:], nil
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		m, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+m]
		if err != nil && m == 0 {
			return netip.AddrPort{}, nil, err
		}
	}
}

// parseProxy reads the header at the beginning of b. n is its length, or 0 if
// more bytes are needed.
func parseProxy(b []byte) (peer netip.AddrPort, n int, err error) {
	switch {
	case bytes.HasPrefix(b, v1Start):
		return parseV1(b)
	case bytes.HasPrefix(b, v2Signature):
		return parseV2(b)
	case !bytes.HasPrefix(v1Start, b) && !bytes.HasPrefix(v2Signature, b):
		err = errNoHeader
	}
	return netip.AddrPort{}, 0, err
}

// parseV1 reads "PROXY TCP4 192.0.2.1 198.51.100.2 49152 1883\r\n".
func parseV1(b []byte) (peer netip.AddrPort, n int, err error) {
	end := bytes.Index(b[:min(len(b), maxV1)], []byte("\r\n"))
	if end < 0 {
		if len(b) >= maxV1 {
			err = errLongHeader
		}
		return peer, 0, err
	}
	n = end + 2
	f := strings.Split(string(b[:end]), " ")
	if f[1] == "UNKNOWN" {
		return peer, n, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return peer, 0, errBadHeader
	}
	from, err1 := netip.ParseAddr(f[2])
	to, err2 := netip.ParseAddr(f[3])
	port, ok1 := portOf(f[4])
	_, ok2 := portOf(f[5])
	four := f[1] == "TCP4"
	if err1 != nil || err2 != nil || !ok1 || !ok2 || from.Is4() != four || to.Is4() != four || from.Zone() != "" || to.Zone() != "" {
		return peer, 0, errBadHeader
	}
	return netip.AddrPortFrom(from.Unmap(), port), n, nil
}

func portOf(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && strconv.FormatUint(n, 10) == s
}

// parseV2 reads the binary form.
func parseV2(b []byte) (peer netip.AddrPort, n int, err error) {
	if len(b) < 16 {
		return peer, 0, nil
	}
	command, family := b[12], b[13]
	length := int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case command != 0x20 && command != 0x21:
		return peer, 0, errBadHeader
	case length > maxV2:
		return peer, 0, errLongHeader
	case len(b) < 16+length:
		return peer, 0, nil
	}
	n = 16 + length
	body := b[16:n]
	size := 0 // of the addresses
	switch family {
	case 0x00: // unspecified: what follows is to be skipped
		return peer, n, nil
	case 0x11: // TCP over IPv4
		size = 12
	case 0x21: // TCP over IPv6
		size = 36
	case 0x31: // a stream over a unix socket
		size = 216
	default:
		if command == 0x20 {
			return peer, n, nil
		}
		return peer, 0, fmt.Errorf("%w: family 0x%02x is no stream", errBadHeader, family)
	}
	if command == 0x20 { // the proxy itself, as for a check of health
		return peer, n, nil
	}
	if len(body) < size || !goodTLVs(b[:n], 16+size) {
		return peer, 0, errBadHeader
	}
	switch family {
	case 0x11:
		peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body)), binary.BigEndian.Uint16(body[8:]))
	case 0x21:
		peer = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body)).Unmap(), binary.BigEndian.Uint16(body[32:]))
	}
	return peer, n, nil
}

// goodTLVs checks the form of what follows the addresses at the offset, and the
// checksum of the header if it has one.
func goodTLVs(header []byte, at int) bool {
	const checksum = 0x03
	for at < len(header) {
		if len(header)-at < 3 {
			return false
		}
		kind, size := header[at], int(binary.BigEndian.Uint16(header[at+1:]))
		at += 3
		if size > len(header)-at {
			return false
		}
		if kind == checksum {
			if size != 4 {
				return false
			}
			zeroed := bytes.Clone(header)
			clear(zeroed[at : at+4])
			if crc32.Checksum(zeroed, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(header[at:]) {
				return false
			}
		}
		at += size
	}
	return true
}
