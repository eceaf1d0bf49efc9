package listen_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker/listen"
	"github.com/muster-mqtt/muster/broker/listen/listentest"
)

// A mutual is a Listener that wants certificates, and who may make them.
type mutual struct {
	t          *testing.T
	dir        string
	server, ca *listentest.CA
	tls        listen.TLS
}

func newMutual(t *testing.T) *mutual {
	t.Helper()
	m := &mutual{t: t, dir: t.TempDir(), server: listentest.NewCA(t, "servers"), ca: listentest.NewCA(t, "devices")}
	m.tls.Cert, m.tls.Key = listentest.WriteCertificate(t, m.dir, "server", m.server.Server(nil))
	m.tls.ClientCA = listentest.Write(t, m.dir, "ca.pem", m.ca.PEM())
	return m
}

func (m *mutual) open(log *slog.Logger) *listen.Listener {
	m.t.Helper()
	return open(m.t, listen.Config{Address: "127.0.0.1:0", TLS: &m.tls, Logger: log})
}

// present connects with the certificates, and returns the server's end.
func (m *mutual) present(l *listen.Listener, certs ...tls.Certificate) accepted {
	m.t.Helper()
	done := accept(m.t, l)
	nc := tls.Client(dial(m.t, l), &tls.Config{RootCAs: m.server.Pool(), ServerName: "localhost", Certificates: certs})
	go func() {
		nc.Handshake()
		io.Copy(io.Discard, nc)
	}()
	a := <-done
	if a.err == nil {
		m.t.Cleanup(func() { a.Close() })
	}
	return a
}

// TLS 1.2 and 1.3 are spoken, and nothing older.
func TestTLSVersions(t *testing.T) {
	m := newMutual(t)
	m.tls.ClientCA = ""
	l := m.open(nil)
	for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		done := accept(t, l)
		conf := &tls.Config{RootCAs: m.server.Pool(), ServerName: "localhost", MinVersion: version, MaxVersion: version}
		err := tls.Client(dial(t, l), conf).Handshake()
		if a := <-done; (a.err == nil) != ok || (err == nil) != ok {
			t.Errorf("%s: %v, the server: %v", tls.VersionName(version), err, a.err)
		}
	}
}

// A client must have a good certificate of the right authority, and the account is
// the name in it that the configuration says.
func TestAccountByCertificate(t *testing.T) {
	m := newMutual(t)
	uri := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	names := func(c *x509.Certificate) {
		c.DNSNames, c.EmailAddresses, c.URIs = []string{"pump-8"}, []string{"pump-9@example.com"}, []*url.URL{uri("spiffe://example.com/pump-10")}
	}
	stranger := listentest.NewCA(t, "devices")
	tests := []struct {
		name    string
		account string
		cert    tls.Certificate
		want    string
		err     string
	}{
		{"CN by default", "", m.ca.Client("pump-7", names), "pump-7", ""},
		{"CN", "cn", m.ca.Client("pump-7", names), "pump-7", ""},
		{"DNS", "dns", m.ca.Client("pump-7", names), "pump-8", ""},
		{"email", "email", m.ca.Client("pump-7", names), "pump-9", ""},
		{"URI", "uri", m.ca.Client("pump-7", names), "pump-10", ""},
		{"URN", "uri", m.ca.Client("", func(c *x509.Certificate) { c.URIs = []*url.URL{uri("urn:dev:pump-7")} }), "pump-7", ""},
		{"password", "password", m.ca.Client("pump-7", names), "", ""},
		{"no name", "cn", m.ca.Client("", names), "", "no name of the kind cn"},
		{"no name of the kind", "dns", m.ca.Client("pump-7", nil), "", "no name of the kind dns"},
		{"two names", "dns", m.ca.Client("pump-7", func(c *x509.Certificate) { c.DNSNames = []string{"a", "b"} }), "", "2 names"},
		{"no certificate", "password", tls.Certificate{}, "", "didn't provide a certificate"},
		{"another authority of the same name", "cn", stranger.Client("pump-7", nil), "", "certificate"},
		{"run out", "cn", m.ca.Client("pump-7", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}), "", "expired"},
		{"a server's certificate", "cn", m.ca.Server(nil), "", "incompatible key usage"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m.tls.Account = tt.account
			l := m.open(nil)
			var certs []tls.Certificate
			if tt.cert.Leaf != nil {
				certs = append(certs, tt.cert)
			}
			a := m.present(l, certs...)
			switch {
			case tt.err != "" && (a.err == nil || !strings.Contains(a.err.Error(), tt.err)):
				t.Errorf("%v, want %q in it", a.err, tt.err)
			case tt.err == "" && (a.err != nil || a.Account != tt.want):
				t.Errorf("account %q, %v, want %q", a.Account, a.err, tt.want)
			}
		})
	}
}

// A certificate on the authority's list is refused; without a valid list of the
// authority everyone is.
func TestRevocation(t *testing.T) {
	m := newMutual(t)
	good, bad := m.ca.Client("good", nil), m.ca.Client("bad", nil)
	hour := time.Now().Add(time.Hour)
	second := listentest.NewCA(t, "more devices")
	ofSecond := second.Client("second", nil)
	both := listentest.Write(t, m.dir, "both.pem", append(m.ca.PEM(), second.PEM()...))
	cat := func(lists ...[]byte) []byte { return bytes.Join(lists, nil) }
	tests := []struct {
		name, ca  string
		list      []byte
		good, bad string // why it is refused; empty: it is not
		second    string
	}{
		{"nobody listed", "", m.ca.CRL(1, hour), "", "", "didn't provide a certificate"},
		{"listed", "", m.ca.CRL(1, hour, bad), "", "was revoked", "didn't provide a certificate"},
		{"run out", "", m.ca.CRL(1, time.Now().Add(-time.Minute), bad), "has run out", "was revoked", "didn't provide a certificate"},
		{"the newer counts", "", cat(m.ca.CRL(2, hour, bad), m.ca.CRL(1, hour, good)), "", "was revoked", "didn't provide a certificate"},
		{"no list of the second authority", both, m.ca.CRL(1, hour, bad), "", "was revoked", "no list of revoked certificates"},
		{"lists of both", both, cat(m.ca.CRL(1, hour, bad), second.CRL(1, hour, ofSecond)), "", "was revoked", "was revoked"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := *m
			if tt.ca != "" {
				m.tls.ClientCA = tt.ca
			}
			m.tls.CRL = listentest.Write(t, m.dir, "crl.pem", tt.list)
			l := m.open(nil)
			for _, c := range []struct {
				cert tls.Certificate
				want string
			}{{good, tt.good}, {bad, tt.bad}, {ofSecond, tt.second}} {
				a := m.present(l, c.cert)
				if (a.err == nil) != (c.want == "") || a.err != nil && !strings.Contains(a.err.Error(), c.want) {
					t.Errorf("%s: %v, want %q", c.cert.Leaf.Subject.CommonName, a.err, c.want)
				}
			}
		})
	}
}

// What is read anew counts for new connections, and Check tells of old ones. What
// does not load changes nothing.
func TestReload(t *testing.T) {
	m := newMutual(t)
	hour := time.Now().Add(time.Hour)
	m.tls.CRL = listentest.Write(t, m.dir, "crl.pem", m.ca.CRL(1, hour))
	l := m.open(nil)
	pump := m.ca.Client("pump-7", nil)
	old := m.present(l, pump)
	if old.err != nil || old.Check() != nil {
		t.Fatal(old.err, old.Check())
	}

	listentest.Write(t, m.dir, "crl.pem", []byte("half a file"))
	if err := l.Reload(); err == nil || !strings.Contains(err.Error(), "crl") {
		t.Errorf("a file that is none was loaded: %v", err)
	}
	if a := m.present(l, pump); a.err != nil || old.Check() != nil {
		t.Errorf("a file that does not load changed something: %v, %v", a.err, old.Check())
	}

	listentest.Write(t, m.dir, "crl.pem", m.ca.CRL(2, hour, pump))
	if err := l.Reload(); err != nil {
		t.Fatal(err)
	}
	if a := m.present(l, pump); a.err == nil {
		t.Error("a revoked certificate is let in after Reload")
	}
	if err := old.Check(); err == nil || !strings.Contains(err.Error(), "was revoked") {
		t.Errorf("Check of the old connection: %v", err)
	}

	// Another server certificate, and other authorities for clients.
	m.server = listentest.NewCA(t, "new servers")
	listentest.Write(t, m.dir, "crl.pem", m.ca.CRL(3, hour))
	listentest.WriteCertificate(t, m.dir, "server", m.server.Server(nil))
	if err := l.Reload(); err != nil {
		t.Fatal(err)
	}
	if a := m.present(l, pump); a.err != nil || old.Check() != nil {
		t.Errorf("with the new certificate: %v; no longer revoked: %v", a.err, old.Check())
	}
	listentest.Write(t, m.dir, "ca.pem", listentest.NewCA(t, "others").PEM())
	if err := l.Reload(); err == nil {
		t.Error("a list of an authority that is gone was loaded")
	}
}

// A changed file is noticed; one that does not load is told of once, until it
// does.
func TestWatch(t *testing.T) {
	m := newMutual(t)
	var log lockedBuffer
	l := m.open(slog.New(slog.NewTextHandler(&log, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	reloaded, ended := make(chan struct{}), make(chan struct{})
	go func() {
		l.Watch(ctx, time.Millisecond, func() { reloaded <- struct{}{} })
		close(ended)
	}()
	pump := m.ca.Client("pump-7", nil)
	m.server = listentest.NewCA(t, "new servers")
	_, key := listentest.WriteCertificate(t, m.dir, "server", m.server.Server(nil))
	<-reloaded // maybe between certificate and key, which is then told of
	for {
		if a := m.present(l, pump); a.err == nil {
			break
		}
		<-reloaded
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); !strings.Contains(log.String(), "no such file"); {
		if time.Now().After(end) {
			t.Fatal("a missing key is not told of")
		}
	}
	if a := m.present(l, pump); a.err != nil {
		t.Errorf("without a key to load: %v", a.err)
	}
	listentest.WriteCertificate(t, m.dir, "server", m.server.Server(nil))
	<-reloaded
	cancel()
	<-ended
	if n := strings.Count(log.String(), "no such file"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
}

// A lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A certificate that has run out is told of, and used: clients judge it.
func TestExpiredIsToldOf(t *testing.T) {
	m := newMutual(t)
	var log lockedBuffer
	m.tls.Cert, m.tls.Key = listentest.WriteCertificate(t, m.dir, "old", m.server.Server(func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "old"}
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}))
	m.tls.CRL = listentest.Write(t, m.dir, "crl.pem", m.ca.CRL(1, time.Now().Add(-time.Minute)))
	m.open(slog.New(slog.NewTextHandler(&log, nil)))
	for _, want := range []string{"the server's certificate has run out", "a list of revoked certificates has run out"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, log.String())
		}
	}
}

// Peers that stall in the middle of the handshake keep nobody else from making
// theirs, however many they are.
func TestStalledHandshakes(t *testing.T) {
	m := newMutual(t)
	m.tls.ClientCA = ""
	l := m.open(nil)
	conns := make(chan *listen.Conn, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetReadDeadline(time.Now().Add(patience))
			conns <- c
		}
	}()
	stalled := make(chan error, 100)
	for i := range cap(stalled) {
		nc := dial(t, l)
		c := <-conns
		t.Cleanup(func() { c.Close() })
		if i%2 == 0 { // half a record; the others say nothing at all
			nc.Write([]byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01})
		}
		go func() { stalled <- c.Handshake(time.Now().Add(patience)) }()
	}
	good := make(chan error, 1)
	client := tls.Client(dial(t, l), &tls.Config{RootCAs: m.server.Pool(), ServerName: "localhost"})
	c := <-conns
	t.Cleanup(func() { c.Close() })
	go func() { good <- c.Handshake(time.Now().Add(patience)) }()
	if err := errors.Join(client.Handshake(), <-good); err != nil {
		t.Errorf("behind the others: %v", err)
	}
	if len(stalled) > 0 {
		t.Errorf("a stalled handshake ended: %v", <-stalled)
	}
}

// A peer that stalls is given up at the deadline, and one that speaks MQTT before
// its handshake at once, without a word of what it said.
func TestHandshakeDeadline(t *testing.T) {
	for _, k := range kinds(t) {
		if k.cfg.TLS == nil && k.cfg.WebSocket == nil {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			l := open(t, k.cfg)
			end := make(chan error, 2)
			handshake := func(deadline time.Time) {
				c, err := l.Accept()
				if err != nil {
					end <- err
					return
				}
				defer c.Close()
				c.SetReadDeadline(deadline)
				end <- c.Handshake(deadline)
			}
			go handshake(time.Now().Add(50 * time.Millisecond))
			dial(t, l)
			if err := <-end; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a silent peer: %v", err)
			}
			go handshake(time.Now().Add(patience))
			nc := dial(t, l)
			io.WriteString(nc, "\x10\x1b\x00\x04MQTT\x04\xc2\x00\x3c\x00\x00\x00\x03ann\x00\x06s3cret\r\n\r\n")
			if err := <-end; err == nil || errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("MQTT without the handshake: %v", err)
			}
		})
	}
}

// A connection that TLS cannot be made of, since a proxy's header comes first.
func TestTLSBehindProxy(t *testing.T) {
	m := newMutual(t)
	l := open(t, listen.Config{Address: "127.0.0.1:0", TLS: &m.tls, Proxy: loopbackProxies, WebSocket: &listen.WebSocket{Path: "/x"}})
	conf := &tls.Config{RootCAs: m.server.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{m.ca.Client("pump-7", nil)}}
	done := accept(t, l)
	nc := dial(t, l)
	io.WriteString(nc, "PROXY TCP4 192.0.2.7 192.0.2.1 49152 8883\r\n")
	secure := tls.Client(nc, conf)
	io.WriteString(secure, strings.ReplaceAll(strings.Replace(goodRequest, "/mqtt", "/x", 1), "\n", "\r\n"))
	a := <-done
	if a.err != nil {
		t.Fatal(a.err)
	}
	defer a.Close()
	if a.Peer != "192.0.2.7" || a.RemoteAddr().String() != "192.0.2.7:49152" || a.Loopback || a.Account != "pump-7" {
		t.Errorf("peer %s, %s, loopback %v, account %q", a.Peer, a.RemoteAddr(), a.Loopback, a.Account)
	}
	if _, ok := a.LocalAddr().(*net.TCPAddr); !ok {
		t.Errorf("local address %v", a.LocalAddr())
	}
}
