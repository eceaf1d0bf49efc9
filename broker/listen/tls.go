package listen

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
)

// A TLS says how connections are encrypted: TLS 1.2 or 1.3. The files are PEM,
// and are read again by [Listener.Reload].
type TLS struct {
	// Cert is the file of the server's certificate, followed by those of the
	// authorities between it and the root; Key that of its private key.
	Cert, Key string
	// ClientCA is the file of the authorities whose certificates clients must
	// have; empty: clients need none.
	ClientCA string
	// CRL is the file of the authorities' lists of certificates that are no longer
	// good, PEM or DER. It needs ClientCA. With a CRL file each client's authority
	// must have a list in it that has not run out.
	CRL string
	// Account is which name in a client's certificate is that of its account:
	// "cn", "dns", "email" (what stands before the @) or "uri" (what stands behind
	// the last / or :); "password" if the account is not named by the
	// certificate. Empty means "cn". It needs ClientCA.
	Account string
}

// Accounts are the words for [TLS.Account].
var Accounts = []string{"cn", "dns", "email", "uri", "password"}

// A material is what a Listener goes by at one time.
type material struct {
	conf    *tls.Config
	stamps  []stamp
	expires time.Time      // of the server's certificate
	roots   *x509.CertPool // nil if clients need no certificate
	lists   revocations    // nil if there is no file of them
	names   string         // TLS.Account
}

// load reads the files. http has the protocol of WebSocket negotiated.
func load(t *TLS, http bool) (*material, error) {
	if t.ClientCA == "" && (t.CRL != "" || t.Account != "") {
		return nil, errors.New("crl and account need client_ca")
	}
	m := &material{stamps: t.stamp(), names: t.Account}
	if m.names == "" {
		m.names = "cn"
	}
	cert, err := loadCertificate(t.Cert, t.Key)
	if err != nil {
		return nil, err
	}
	m.expires = cert.Leaf.NotAfter
	m.conf = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if http {
		m.conf.NextProtos = []string{"http/1.1"}
	}
	if t.ClientCA == "" {
		return m, nil
	}
	authorities, err := loadAuthorities(t.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("client_ca: %w", err)
	}
	m.roots = x509.NewCertPool()
	for _, ca := range authorities {
		m.roots.AddCert(ca)
	}
	if t.CRL != "" {
		b, err := readFile(t.CRL)
		if err != nil {
			return nil, fmt.Errorf("crl: %w", err)
		}
		if m.lists, err = parseCRL(b, authorities); err != nil {
			return nil, fmt.Errorf("crl: %s: %w", t.CRL, err)
		}
	}
	m.conf.ClientAuth, m.conf.ClientCAs = tls.RequireAndVerifyClientCert, m.roots
	// A resumed connection would be let in by what was true when it was new.
	m.conf.SessionTicketsDisabled = true
	m.conf.VerifyConnection = func(s tls.ConnectionState) error { return m.revoked(s.VerifiedChains) }
	return m, nil
}

func loadCertificate(certFile, keyFile string) (tls.Certificate, error) {
	if certFile == "" || keyFile == "" {
		return tls.Certificate{}, errors.New("cert and key are needed")
	}
	certPEM, err := readFile(certFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cert: %w", err)
	}
	keyPEM, err := readFile(keyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("key: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cert %s, key %s: %s", certFile, keyFile, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return cert, nil
}

// maxFile is the size in bytes of the largest file that is read: 16 MiB of a
// revocation list are about 400,000 certificates.
const maxFile = 16 << 20

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than 16 MiB", path)
	}
	return b, err
}

func loadAuthorities(path string) ([]*x509.Certificate, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return all, nil
}

// account returns the name of the account in a client's certificate; none if it
// is not to be taken from there.
func (m *material) account(c *x509.Certificate) (string, error) {
	var names []string
	switch m.names {
	case "cn":
		names = []string{c.Subject.CommonName}
	case "dns":
		names = c.DNSNames
	case "email":
		for _, a := range c.EmailAddresses {
			name, _, _ := strings.Cut(a, "@")
			names = append(names, name)
		}
	case "uri":
		for _, u := range c.URIs {
			s := u.String()
			names = append(names, s[strings.LastIndexAny(s, "/:")+1:])
		}
	default:
		return "", nil
	}
	switch {
	case len(names) > 1:
		return "", fmt.Errorf("the client's certificate has %d names of the kind %s, and must have one", len(names), m.names)
	case len(names) == 0 || names[0] == "":
		return "", fmt.Errorf("the client's certificate has no name of the kind %s", m.names)
	}
	return names[0], nil
}

// verify reports whether a client's certificate, the first of those that it has
// sent, is good.
func (m *material) verify(peers []*x509.Certificate) error {
	if m.roots == nil {
		return nil
	}
	o := x509.VerifyOptions{
		Roots: m.roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range peers[1:] {
		o.Intermediates.AddCert(c)
	}
	chains, err := peers[0].Verify(o)
	if err != nil {
		return err
	}
	return m.revoked(chains)
}

// warn tells of what an operator should look into.
func (m *material) warn(log *slog.Logger, url string) {
	now := time.Now()
	if !m.expires.After(now) {
		log.Warn("the server's certificate has run out", "listener", url, "since", m.expires)
	}
	for _, l := range m.lists {
		if l.over(now) {
			log.Warn("a list of revoked certificates has run out: clients of its authority are refused",
				"listener", url, "authority", l.Issuer.String(), "since", l.NextUpdate)
		}
	}
}

// Reload reads the certificate, the key and the other files of TLS again; new
// connections go by them. After an error, which names the file, everything is as
// it was.
func (l *Listener) Reload() error {
	if l.cfg.TLS == nil {
		return nil
	}
	l.loading.Lock()
	defer l.loading.Unlock()
	m, err := load(l.cfg.TLS, l.cfg.WebSocket != nil)
	if err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	l.secure.Store(m)
	m.warn(l.log, l.url)
	return nil
}

// Watch looks every so often whether a file of TLS has changed, until ctx ends.
// Then it reloads, and calls reloaded if that went well; if not, it logs why,
// once, and tries again at the next look. It returns at once without TLS.
func (l *Listener) Watch(ctx context.Context, every time.Duration, reloaded func()) {
	if l.cfg.TLS == nil {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if l.secure.Load().fresh(l.cfg.TLS) {
			last = ""
			continue
		}
		if err := l.Reload(); err == nil {
			l.log.Info("reloaded", "listener", l.url)
			reloaded()
		} else if err.Error() != last {
			last = err.Error()
			l.log.Error("not reloaded: what was read before stays in use", "listener", l.url, "err", err)
		}
	}
}

// A stamp tells whether a file has changed.
type stamp struct {
	at   time.Time
	size int64
}

func (t *TLS) stamp() []stamp {
	var all []stamp
	for _, path := range []string{t.Cert, t.Key, t.ClientCA, t.CRL} {
		var s stamp
		if fi, err := os.Stat(path); path != "" && err == nil {
			s = stamp{fi.ModTime(), fi.Size()}
		}
		all = append(all, s)
	}
	return all
}

// fresh reports whether the files are as they were when they were read.
func (m *material) fresh(t *TLS) bool {
	for i, s := range t.stamp() {
		if !s.at.Equal(m.stamps[i].at) || s.size != m.stamps[i].size {
			return false
		}
	}
	return true
}
