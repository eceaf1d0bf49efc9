package broker_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/store"
	"github.com/muster-mqtt/muster/store/storetest"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// A testServer is a real Server on 127.0.0.1 with its operator socket, over a
// store in memory that outlives it.
type testServer struct {
	t      *testing.T
	cfg    broker.Config
	addr   string // HOST:PORT of the first listener
	socket string
	srv    *broker.Server
	stop   func()
	log    *syncBuffer
	// over opens a Network Connection for dial; nil: one to addr.
	over func() net.Conn
}

// serve starts a Server; change, if not nil, alters its configuration.
func serve(t *testing.T, change func(*broker.Config)) *testServer {
	t.Helper()
	s := &testServer{t: t, log: &syncBuffer{}, socket: filepath.Join(t.TempDir(), "op.sock")}
	s.cfg = broker.Config{
		Store: storetest.NewMemory(), Logger: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelInfo})),
		Listen: []string{"127.0.0.1:0"}, Socket: s.socket, Anonymous: true,
		Authority: authz.Config{Argon2: authz.Params{Memory: 64 << 10, Time: 1, Threads: 1, Runs: 2}},
		Limits:    broker.Limits{ChangesPerMinute: -1},
	}
	if os.Getenv("MUSTER_TEST_LOOPS") == "-1" {
		s.cfg.Loops = -1
	}
	if change != nil {
		change(&s.cfg)
	}
	s.start()
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("server log:\n%s", tailOf(s.log.String(), 2<<10))
		}
	})
	return s
}

func tailOf(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func (s *testServer) start() {
	s.t.Helper()
	srv, err := broker.Open(context.Background(), s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	s.srv, s.addr = srv, strings.TrimPrefix(srv.Addrs()[0], "mqtt://")
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("the server ended with: %v", err)
		}
	})
}

// restart stops the Server and starts another one on the same store and address.
func (s *testServer) restart() {
	s.t.Helper()
	s.stop()
	if m, ok := s.cfg.Store.(interface{ Reopen() store.Store }); ok {
		s.cfg.Store = m.Reopen()
	}
	s.cfg.Listen = []string{s.addr}
	s.start()
}

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
