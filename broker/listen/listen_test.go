package listen_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-mqtt/muster/broker/listen"
	"github.com/muster-mqtt/muster/broker/listen/listentest"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// open listens until the test ends.
func open(t *testing.T, cfg listen.Config) *listen.Listener {
	t.Helper()
	l, err := listen.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// hostPort returns where a Listener is.
func hostPort(l *listen.Listener) (network, addr string) {
	u := l.URL()
	if path, ok := strings.CutPrefix(u, "unix:"); ok {
		return "unix", path
	}
	_, u, _ = strings.Cut(u, "://")
	u, _, _ = strings.Cut(u, "/")
	return "tcp", u
}

func dial(t *testing.T, l *listen.Listener) net.Conn {
	t.Helper()
	nc, err := net.Dial(hostPort(l))
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { nc.Close() })
	return nc
}

// accepted is a connection that has come in, and how its handshake went.
type accepted struct {
	*listen.Conn
	err error
}

// accept takes the next connection and makes its handshake.
func accept(t *testing.T, l *listen.Listener) <-chan accepted {
	t.Helper()
	done := make(chan accepted, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- accepted{nil, err}
			return
		}
		c.SetReadDeadline(time.Now().Add(patience))
		err = c.Handshake(time.Now().Add(patience))
		if err != nil {
			c.CloseWrite()
			c.Close()
		}
		done <- accepted{c, err}
	}()
	return done
}

// pair connects by dial and returns both ends.
func pair(t *testing.T, l *listen.Listener, dial func() (net.Conn, error)) (*listen.Conn, net.Conn) {
	t.Helper()
	done := accept(t, l)
	nc, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	a := <-done
	if a.err != nil {
		t.Fatal(a.err)
	}
	t.Cleanup(func() { a.Close() })
	return a.Conn, nc
}

// A kind is a way in, and how a client takes it.
type kind struct {
	name string
	cfg  listen.Config
	dial func(l *listen.Listener) (net.Conn, error)
}

// kinds returns all of them, with a new authority.
func kinds(t *testing.T) []kind {
	t.Helper()
	ca := listentest.NewCA(t, "devices")
	dir := t.TempDir()
	cert, key := listentest.WriteCertificate(t, dir, "server", ca.Server(nil))
	secure := &listen.TLS{Cert: cert, Key: key}
	plain := func(l *listen.Listener) (net.Conn, error) { return net.Dial(hostPort(l)) }
	conf := &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}
	overTLS := func(l *listen.Listener) (net.Conn, error) {
		network, addr := hostPort(l)
		return tls.Dial(network, addr, conf)
	}
	web := func(l *listen.Listener) (net.Conn, error) { return dialWebSocket(l, conf, "/mqtt", nil) }
	at := "127.0.0.1:0"
	return []kind{
		{"tcp", listen.Config{Address: at}, plain},
		{"tls", listen.Config{Address: at, TLS: secure}, overTLS},
		{"ws", listen.Config{Address: at, WebSocket: &listen.WebSocket{}}, web},
		{"wss", listen.Config{Address: at, TLS: secure, WebSocket: &listen.WebSocket{}}, web},
		{"unix", listen.Config{Address: "unix:" + filepath.Join(dir, "s")}, plain},
		{"operator", listen.Config{Address: "unix:" + filepath.Join(dir, "o"), Operator: true}, plain},
		{"tls over unix", listen.Config{Address: "unix:" + filepath.Join(dir, "t"), TLS: secure}, overTLS},
	}
}

// Each way in carries the same bytes both ways, says who the peer is, and ends in
// order.
func TestKinds(t *testing.T) {
	urls := map[string]string{"tcp": "mqtt://127.0.0.1:", "tls": "mqtts://127.0.0.1:", "ws": "ws://127.0.0.1:", "wss": "wss://127.0.0.1:"}
	for _, k := range kinds(t) {
		t.Run(k.name, func(t *testing.T) {
			l := open(t, k.cfg)
			if want := urls[k.name]; !strings.HasPrefix(l.URL(), want) || want == "" && l.URL() != k.cfg.Address {
				t.Errorf("its URL is %s", l.URL())
			}
			c, nc := pair(t, l, func() (net.Conn, error) { return k.dial(l) })
			network, _ := hostPort(l)
			if want := map[string]string{"tcp": "127.0.0.1", "unix": "unix"}[network]; c.Peer != want {
				t.Errorf("the peer is %q, want %q", c.Peer, want)
			}
			if c.Loopback != (network == "tcp") || c.Operator != k.cfg.Operator || c.Account != "" {
				t.Errorf("loopback %v, operator %v, account %q", c.Loopback, c.Operator, c.Account)
			}
			in := bytes.Repeat([]byte("0123456789abcdef"), 20<<10) // more than any buffer, in odd pieces
			go func() {
				for rest := in; len(rest) > 0; {
					n := min(len(rest), 7777)
					nc.Write(rest[:n])
					rest = rest[n:]
				}
			}()
			got := make([]byte, len(in))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, in) {
				t.Fatalf("what comes in is not what was sent: %v", err)
			}
			go func() {
				c.Write(in)
				c.CloseWrite()
				c.Discard()
				c.Close()
			}()
			got, err := io.ReadAll(nc)
			if err != nil || !bytes.Equal(got, in) {
				t.Fatalf("what goes out, %d bytes, is not what was written: %v", len(got), err)
			}
		})
	}
}

// A reader that waits is woken by a deadline, and the deadline can be told from
// an end.
func TestReadDeadline(t *testing.T) {
	for _, k := range kinds(t) {
		t.Run(k.name, func(t *testing.T) {
			l := open(t, k.cfg)
			c, nc := pair(t, l, func() (net.Conn, error) { return k.dial(l) })
			c.SetReadDeadline(time.Unix(1, 0))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after the deadline: %v", err)
			}
			go nc.Close()
			c.SetReadDeadline(time.Now().Add(patience))
			c.Discard() // it is over when the peer has closed
		})
	}
}

// A peer that does not read makes Try take less, never wait; Cut leaves nothing
// that could still go out.
func TestTryDoesNotWait(t *testing.T) {
	for _, k := range kinds(t) {
		t.Run(k.name, func(t *testing.T) {
			l := open(t, k.cfg)
			c, nc := pair(t, l, func() (net.Conn, error) { return k.dial(l) })
			b := bytes.Repeat([]byte("x"), 1<<20)
			taken, full := 0, false
			for !full {
				n, err := c.Try(b)
				if err != nil {
					t.Fatal(err)
				}
				taken += n
				full = n < len(b)
				if taken > 1<<30 {
					t.Fatal("a gigabyte fits nowhere")
				}
			}
			c.Cut()
			if k.cfg.TLS != nil || k.cfg.WebSocket != nil {
				if n := c.Waiting(); n != 0 {
					t.Errorf("%d bytes wait after Cut", n)
				}
				if n, err := c.Try(b); n != 0 || err == nil {
					t.Errorf("Try after Cut: %d, %v", n, err)
				}
			}
			c.CloseWrite()
			got, _ := io.ReadAll(nc) // of TLS it is cut off in the middle of a record
			if len(got) < taken || len(got) >= taken+16<<10 {
				t.Errorf("%d bytes came, %d were counted", len(got), taken)
			}
		})
	}
}

// Try goes on where it stopped, byte for byte, when the peer reads again.
func TestTryGoesOn(t *testing.T) {
	for _, k := range kinds(t) {
		t.Run(k.name, func(t *testing.T) {
			l := open(t, k.cfg)
			c, nc := pair(t, l, func() (net.Conn, error) { return k.dial(l) })
			want := make([]byte, 24<<20)
			for i := range want {
				want[i] = byte(i >> 8 * i)
			}
			rest, slow := want, make(chan struct{})
			done := make(chan []byte, 1)
			go func() {
				<-slow
				got, _ := io.ReadAll(io.LimitReader(nc, int64(len(want))))
				done <- got
			}()
			for once := sync.OnceFunc(func() { close(slow) }); len(rest) > 0; {
				piece := rest[:min(len(rest), 50_000)]
				n, err := c.Try(piece)
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
				if n < len(piece) {
					once()
					if err := c.Wait(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if !bytes.Equal(<-done, want) {
				t.Error("what came is not what was written")
			}
		})
	}
}

// What is wrong is said at the start, by the name that it has.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := listentest.Write(t, dir, "file", []byte("x"))
	busy := open(t, listen.Config{Address: "unix:" + filepath.Join(dir, "busy")})
	_, taken := hostPort(open(t, listen.Config{Address: "127.0.0.1:0"}))
	ca := listentest.NewCA(t, "ca")
	cert, key := listentest.WriteCertificate(t, dir, "server", ca.Server(nil))
	_, other := listentest.WriteCertificate(t, dir, "other", ca.Server(nil))
	caFile := listentest.Write(t, dir, "ca.pem", ca.PEM())
	foreign := listentest.Write(t, dir, "crl.pem", listentest.NewCA(t, "ca").CRL(1, time.Now().Add(time.Hour)))
	at := "127.0.0.1:0"
	tests := []struct {
		name string
		cfg  listen.Config
		want string
	}{
		{"taken port", listen.Config{Address: taken}, "address already in use"},
		{"socket in use", listen.Config{Address: busy.URL()}, "address already in use"},
		{"file in the way", listen.Config{Address: "unix:" + file}, "no socket"},
		{"no certificate", listen.Config{Address: at, TLS: &listen.TLS{}}, "tls: cert and key are needed"},
		{"no such file", listen.Config{Address: at, TLS: &listen.TLS{Cert: cert, Key: dir + "/none"}}, "tls: key: "},
		{"another key", listen.Config{Address: at, TLS: &listen.TLS{Cert: cert, Key: other}}, "private key does not match"},
		{"no PEM", listen.Config{Address: at, TLS: &listen.TLS{Cert: cert, Key: key, ClientCA: file}}, "tls: client_ca: "},
		{"CRL alone", listen.Config{Address: at, TLS: &listen.TLS{Cert: cert, Key: key, CRL: foreign}}, "need client_ca"},
		{"no CRL", listen.Config{Address: at, TLS: &listen.TLS{Cert: cert, Key: key, ClientCA: caFile, CRL: file}}, "tls: crl: "},
		{"CRL of somebody else", listen.Config{Address: at, TLS: &listen.TLS{Cert: cert, Key: key, ClientCA: caFile, CRL: foreign}}, "signed by no authority"},
		{"path", listen.Config{Address: at, WebSocket: &listen.WebSocket{Path: "mqtt"}}, "websocket: path: "},
		{"origin", listen.Config{Address: at, WebSocket: &listen.WebSocket{Origins: []string{"example.com"}}}, "websocket: origins: "},
		{"operator over TCP", listen.Config{Address: at, Operator: true}, "plain unix socket"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := listen.Open(tt.cfg)
			if err == nil {
				l.Close()
				t.Fatal("it was accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q in it", err, tt.want)
			}
		})
	}
}

// A socket that a server left behind is replaced, and the operator's is for its
// owner alone.
func TestUnixSocketMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, operator := range []bool{false, true, false} {
		l := open(t, listen.Config{Address: "unix:" + path, Operator: operator})
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		want := os.FileMode(0o666)
		if operator {
			want = 0o600
		}
		if fi.Mode().Perm() != want {
			t.Errorf("operator %v: mode %v, want %v", operator, fi.Mode().Perm(), want)
		}
		l.Close()
		// As kill -9 leaves it: there, and nobody listens.
		left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		left.SetUnlinkOnClose(false)
		left.Close()
	}
}

// A fullTable is a listener at which accept goes wrong some times.
type fullTable struct {
	net.Listener
	mu    sync.Mutex
	tries int
	left  int // how often it goes wrong; negative: always
}

func (f *fullTable) Accept() (net.Conn, error) {
	f.mu.Lock()
	f.tries++
	bad := f.left != 0
	if f.left > 0 {
		f.left--
	}
	f.mu.Unlock()
	if bad {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	mine, _ := net.Pipe()
	return mine, nil
}

func (f *fullTable) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1883} }
func (f *fullTable) Close() error   { return nil }

// A full table of descriptors neither ends a Listener nor has it spin, nor fill
// the log; when there is room again it goes on, and it can be closed meanwhile.
func TestAcceptErrorsAreWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := &fullTable{left: -1}
		l, err := listen.Over(f, listen.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := l.Accept()
			done <- err
		}()
		<-time.After(time.Minute)
		synctest.Wait()
		if f.tries < 50 || f.tries > 80 {
			t.Errorf("%d tries in a minute", f.tries)
		}
		if n := strings.Count(log.String(), "too many open files"); n < 1 || n > 60 {
			t.Errorf("%d lines in the log", n)
		}
		l.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed, Accept returns %v", err)
		}
		f.left = 3
		again, err := listen.Over(f, listen.Config{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := again.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}

// Watch without TLS has nothing to do.
func TestWatchWithoutTLS(t *testing.T) {
	l := open(t, listen.Config{Address: "127.0.0.1:0"})
	l.Watch(context.Background(), time.Hour, nil)
	if err := l.Reload(); err != nil {
		t.Error(err)
	}
}
