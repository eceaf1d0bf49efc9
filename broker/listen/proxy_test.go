package listen_test

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/muster-mqtt/muster/broker/listen"
)

var loopbackProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// v2 makes a header of version 2.
func v2(command, family byte, body string) string {
	return "\r\n\r\n\x00\r\nQUIT\n" + string([]byte{command, family, byte(len(body) >> 8), byte(len(body))}) + body
}

const (
	four = "\xc0\x00\x02\x07\xc0\x00\x02\x01\xc0\x00\x07\x5b" // 192.0.2.7:49152 to 192.0.2.1:1883
	six  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xc0\x00\x07\x5b"
)

// sum completes a header that ends with a checksum of zeroes.
func sum(header string) string {
	b := []byte(header)
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return string(b)
}

var proxyHeaders = []struct {
	name, header string
	peer         string // empty: nobody is named; "-": it is refused
}{
	{"1 IPv4", "PROXY TCP4 192.0.2.7 192.0.2.1 49152 1883\r\n", "192.0.2.7:49152"},
	{"1 IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 49152 1883\r\n", "[2001:db8::7]:49152"},
	{"1 IPv4 within IPv6", "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 49152 1883\r\n", "192.0.2.7:49152"},
	{"1 unknown", "PROXY UNKNOWN\r\n", ""},
	{"1 unknown with addresses", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""},
	{"1 longest", "PROXY UNKNOWN " + strings.Repeat("f", 91) + "\r\n", ""},
	{"1 too long", "PROXY UNKNOWN " + strings.Repeat("f", 92) + "\r\n", "-"},
	{"1 without an end", "PROXY TCP4 " + strings.Repeat("1", 200), "-"},
	{"1 another protocol", "PROXY UDP4 192.0.2.7 192.0.2.1 49152 1883\r\n", "-"},
	{"1 addresses of the other kind", "PROXY TCP4 2001:db8::7 2001:db8::1 49152 1883\r\n", "-"},
	{"1 an address that is none", "PROXY TCP4 192.0.2 192.0.2.1 49152 1883\r\n", "-"},
	{"1 an address with a zone", "PROXY TCP6 fe80::1%eth0 fe80::2 49152 1883\r\n", "-"},
	{"1 a port that is none", "PROXY TCP4 192.0.2.7 192.0.2.1 65536 1883\r\n", "-"},
	{"1 a port with a zero before it", "PROXY TCP4 192.0.2.7 192.0.2.1 01 1883\r\n", "-"},
	{"1 two spaces", "PROXY  TCP4 192.0.2.7 192.0.2.1 49152 1883\r\n", "-"},
	{"1 a part too few", "PROXY TCP4 192.0.2.7 192.0.2.1 49152\r\n", "-"},
	{"1 nothing", "PROXY \r\n", "-"},
	{"2 IPv4", v2(0x21, 0x11, four), "192.0.2.7:49152"},
	{"2 IPv6", v2(0x21, 0x21, six), "[2001:db8::7]:49152"},
	{"2 unix", v2(0x21, 0x31, strings.Repeat("\x00", 216)), ""},
	{"2 unspecified", v2(0x21, 0x00, "whatever"), ""},
	{"2 the proxy itself", v2(0x20, 0x11, four), ""},
	{"2 the proxy itself, without addresses", v2(0x20, 0x00, ""), ""},
	{"2 more behind the addresses", v2(0x21, 0x11, four+"\x04\x00\x02xx\x01\x00\x00"), "192.0.2.7:49152"},
	{"2 checksum", sum(v2(0x21, 0x11, four+"\x03\x00\x04\x00\x00\x00\x00")), "192.0.2.7:49152"},
	{"2 wrong checksum", v2(0x21, 0x11, four+"\x03\x00\x04\x00\x00\x00\x01"), "-"},
	{"2 short checksum", v2(0x21, 0x11, four+"\x03\x00\x01\x00"), "-"},
	{"2 half a TLV", v2(0x21, 0x11, four+"\x04\x00"), "-"},
	{"2 a TLV that is longer than the header", v2(0x21, 0x11, four+"\x04\x00\x09x"), "-"},
	{"2 too short for its addresses", v2(0x21, 0x11, four[:11]), "-"},
	{"2 IPv6 with the addresses of IPv4", v2(0x21, 0x21, four), "-"},
	{"2 UDP", v2(0x21, 0x12, four), "-"},
	{"2 another version", v2(0x11, 0x11, four), "-"},
	{"2 another command", v2(0x22, 0x11, four), "-"},
	{"2 too long", v2(0x21, 0x11, four+strings.Repeat("\x04\x00\x00", 700)), "-"},
	{"2 signature with a slip", "\r\n\r\n\x00\r\nQUIT\r" + "\x21\x11\x00\x0c" + four, "-"},
	{"MQTT", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", "-"},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "-"},
}

// Each header is read for what it says, whole or not at all, and nothing of what
// follows it.
func TestProxyHeaders(t *testing.T) {
	for _, tt := range proxyHeaders {
		t.Run(tt.name, func(t *testing.T) {
			const behind = "\x10\x0c"
			peer, n, err := listen.ParseProxy([]byte(tt.header + behind))
			switch {
			case tt.peer == "-":
				if err == nil {
					t.Errorf("it was taken: %v, %d bytes", peer, n)
				}
				return
			case err != nil || n != len(tt.header):
				t.Fatalf("%d bytes, %v; it has %d", n, err, len(tt.header))
			case tt.peer == "" && peer.IsValid() || tt.peer != "" && peer.String() != tt.peer:
				t.Errorf("it names %v, want %q", peer, tt.peer)
			}
			for i := range len(tt.header) {
				if _, n, err := listen.ParseProxy([]byte(tt.header[:i])); n != 0 || err != nil {
					t.Errorf("the first %d bytes: %d, %v", i, n, err)
				}
			}
		})
	}
}

// What a proxy says of the peer counts, and what it does not say leaves the
// proxy. None is loopback. MQTT follows at once, in whichever pieces.
func TestProxy(t *testing.T) {
	l := open(t, listen.Config{Address: "127.0.0.1:0", Proxy: loopbackProxies})
	for _, tt := range proxyHeaders {
		t.Run(tt.name, func(t *testing.T) {
			done := accept(t, l)
			nc := dial(t, l)
			go func() {
				for _, b := range []byte(tt.header) { // a stream has no pieces
					if _, err := nc.Write([]byte{b}); err != nil {
						return
					}
				}
				io.WriteString(nc, "MQTT")
			}()
			a := <-done
			if tt.peer == "-" {
				if a.err == nil {
					t.Errorf("it was let in as %s", a.Peer)
				}
				return
			}
			if a.err != nil {
				t.Fatal(a.err)
			}
			defer a.Close()
			want := "127.0.0.1"
			if tt.peer != "" {
				want = netip.MustParseAddrPort(tt.peer).Addr().String()
			}
			if a.Peer != want || a.Loopback {
				t.Errorf("peer %s, loopback %v, want %s", a.Peer, a.Loopback, want)
			}
			b := make([]byte, 4)
			if _, err := io.ReadFull(a, b); err != nil || string(b) != "MQTT" {
				t.Errorf("then comes %q: %v", b, err)
			}
		})
	}
}

// Who is not listed is refused, with whatever header.
func TestProxyNotListed(t *testing.T) {
	l := open(t, listen.Config{Address: "127.0.0.1:0", Proxy: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::/0")}})
	done := accept(t, l)
	nc := dial(t, l)
	io.WriteString(nc, "PROXY TCP4 192.0.2.7 192.0.2.1 49152 1883\r\n")
	if a := <-done; a.err == nil || !strings.Contains(a.err.Error(), "no proxy that is listed") {
		t.Errorf("the handshake: %v", a.err)
	}
}

// The parser never takes more than there is, never wants more than it may, and
// says the same of a prefix as of the whole.
func FuzzProxy(f *testing.F) {
	for _, tt := range proxyHeaders {
		f.Add([]byte(tt.header))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		peer, n, err := listen.ParseProxy(b)
		switch {
		case n < 0 || n > len(b) || err != nil && n != 0:
			t.Fatalf("%d of %d bytes, %v", n, len(b), err)
		case n == 0 && err == nil && len(b) >= 16+2<<10:
			t.Fatal("more than the longest header is not enough")
		case n > 0:
			if again, m, err := listen.ParseProxy(b[:n]); again != peer || m != n || err != nil {
				t.Fatalf("%v, %d without what follows; %v, %d with it", again, m, peer, n)
			}
			if peer.IsValid() && peer.Addr().Is4In6() {
				t.Fatalf("%v is another address of IPv4", peer)
			}
		}
	})
}
