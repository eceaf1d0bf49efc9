package device_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/device"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
	"github.com/muster-mqtt/muster/store/storetest"
)

// A server is a real one, over a store in memory that outlives it.
type server struct {
	cfg         broker.Config
	url, socket string
	stop        func() error
}

// serve starts a server with an operator socket in dir.
func serve(dir string) (*server, error) {
	s := &server{socket: "unix:" + filepath.Join(dir, "op.sock")}
	s.cfg = broker.Config{
		Store: storetest.NewMemory(), Logger: slog.New(slog.DiscardHandler), Listen: []string{"127.0.0.1:0"}, Socket: filepath.Join(dir, "op.sock"), Anonymous: true,
		Authority: authz.Config{Argon2: authz.Params{Memory: 64 << 10, Time: 1, Threads: 1, Runs: 2}},
	}
	return s, s.start()
}

func (s *server) start() error {
	srv, err := broker.Open(context.Background(), s.cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	s.url = srv.Addrs()[0]
	s.stop = func() error { cancel(); return <-done }
	return nil
}

// restart stops the server and starts another one on the same store and address.
func (s *server) restart() error {
	if err := s.stop(); err != nil {
		return err
	}
	if m, ok := s.cfg.Store.(interface{ Reopen() store.Store }); ok {
		s.cfg.Store = m.Reopen()
	}
	s.cfg.Listen = []string{s.url[len("mqtt://"):]}
	return s.start()
}

func served(t *testing.T) (s *server, op *device.Device) {
	t.Helper()
	dir, err := os.MkdirTemp("", "muster") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if s, err = serve(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s, dialed(t, s.socket, "muster~test")
}

func dialed(t *testing.T, at, id string) *device.Device {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d, err := device.Dial(ctx, at, device.Options{ClientID: id, MaxReconnect: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func do(t *testing.T, d *device.Device, r control.Request) control.Answer {
	t.Helper()
	a, err := d.Do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func named(s string) group.Ref { return group.Ref{Name: s} }

// The library against the real server: join, receive, switch, be moved, be
// there after a restart, leave.
func TestWithServer(t *testing.T) {
	ctx := t.Context()
	s, op := served(t)
	do(t, op, control.Request{Op: control.OpCreate, Name: "lamps"})
	do(t, op, control.Request{Op: control.OpCreate, Name: "lamps-east", Policy: "pin", PIN: "4711"})
	d := dialed(t, s.url, "lamp-7")
	if d.ClientID() != "lamp-7" {
		t.Errorf("it is %q", d.ClientID())
	}
	m, err := d.Join(ctx, "lamps", device.WithQoS(1), device.WithFilter("cmd/#"))
	if err != nil || m.Number != 1 || m.Name != "lamps" || m.ID.IsZero() || m.Since == 0 || !reflect.DeepEqual(m.Filter, []string{"cmd/#"}) {
		t.Fatalf("joined %+v, %v", m, err)
	}
	expect := func(want string) {
		t.Helper()
		if got := next(t, d.Messages()); got.Topic+" "+string(got.Payload) != want {
			t.Errorf("message %s %s, want %s", got.Topic, got.Payload, want)
		}
	}
	publish := func(n group.Number, rest, payload string) {
		t.Helper()
		if err := op.Publish(ctx, n, rest, []byte(payload), 1); err != nil {
			t.Fatal(err)
		}
	}
	publish(1, "other", "filtered")
	publish(1, "cmd/on", "a")
	expect("g/1/all/muster/cmd/on a")

	if _, err := d.Switch(ctx, "lamps", "lamps-east", device.WithSecret("0000")); !errors.Is(err, group.NotAuthorized) {
		t.Errorf("a wrong PIN: %v", err)
	}
	if got := numbers(d); !reflect.DeepEqual(got, []group.Number{1}) {
		t.Errorf("groups after a refusal %v", got)
	}
	if m, err := d.Switch(ctx, "lamps", "lamps-east", device.WithSecret("4711")); err != nil || m.Number != 2 || m.Name != "lamps-east" {
		t.Fatalf("switched %+v, %v", m, err)
	}
	publish(1, "cmd/on", "old")
	publish(2, "x", "b")
	expect("g/2/all/muster/x b")

	a := do(t, op, control.Request{Op: control.OpMove, Device: "lamp-7", From: named("lamps-east"), To: named("lamps")})
	publish(1, "x", "c")
	expect("g/1/all/muster/x c")
	if got := numbers(d); !reflect.DeepEqual(got, []group.Number{1}) || d.Epoch() != a.Epoch {
		t.Errorf("groups %v, epoch %d, want %d", got, d.Epoch(), a.Epoch)
	}
	for _, want := range []device.Change{
		{Kind: device.Joined, To: 1, Own: true}, {Kind: device.Switched, From: 1, To: 2, Own: true}, {Kind: device.Moved, From: 2, To: 1, Forced: true},
	} {
		if c := next(t, d.Changes()); c.Kind != want.Kind || c.From != want.From || c.To != want.To || c.Own != want.Own || c.Forced != want.Forced {
			t.Errorf("change %+v, want %+v", c, want)
		}
	}

	if err := s.restart(); err != nil {
		t.Fatal(err)
	}
	if err := d.PublishUp(ctx, 1, "temp", []byte("21.5"), 1); err != nil { // waits for the connection
		t.Fatal(err)
	}
	publish(1, "x", "after the restart")
	expect("g/1/all/muster/x after the restart")
	g, err := d.Grant(ctx, control.OpLeave, "lamps", "")
	if err != nil || len(g.Bytes) == 0 || g.From != 1 {
		t.Fatalf("grant %+v, %v", g, err)
	}
	if _, err := d.Redeem(ctx, g.Op, g.Bytes); err != nil || len(d.Groups()) != 0 {
		t.Errorf("redeemed: %v, groups %v", err, numbers(d))
	}
	if _, err := d.Redeem(ctx, g.Op, g.Bytes); !errors.Is(err, group.GrantUsed) {
		t.Errorf("redeemed again: %v", err)
	}
	if g, err = d.Grant(ctx, control.OpJoin, "", "lamps-east", device.WithSecret("4711")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Join(ctx, "lamps", device.WithGrant(g.Bytes)); !errors.Is(err, group.GrantMismatch) {
		t.Errorf("a grant for another group: %v", err)
	}
	if m, err := d.Join(ctx, "lamps-east", device.WithGrant(g.Bytes), device.WithFilter()); err != nil || m.Number != 2 {
		t.Errorf("joined %+v, %v", m, err)
	}
	if err := d.Leave(ctx, m.ID.String()); !errors.Is(err, group.NotMember) || !strings.Contains(err.Error(), m.ID.String()) {
		t.Errorf("left a group that it is not in: %v", err)
	}
	if err := d.Leave(ctx, "lamps-east"); err != nil {
		t.Error(err)
	}
	if err := d.Leave(ctx, "@nobody"); err == nil {
		t.Error("left a group that it is not in")
	}
	if err := d.Publish(ctx, 2, "x", []byte("no member"), 1); err != nil {
		t.Error(err)
	}
	for {
		if c := next(t, d.Changes()); c.Kind == device.Refused {
			if c.Topic != "g/2/all/lamp-7/x" || c.Code != group.NotAuthorized || c.Count != 1 {
				t.Errorf("refused %+v", c)
			}
			break
		}
	}
}

// A side connection learns the device's state, and tells of what the device
// does elsewhere. [GRP-10-3]
func TestSideConnection(t *testing.T) {
	s, op := served(t)
	do(t, op, control.Request{Op: control.OpCreate, Name: "lamps"})
	d, side := dialed(t, s.url, "lamp-7"), dialed(t, s.url, "lamp-7~shell")
	if _, err := side.Join(t.Context(), "lamps"); err != nil {
		t.Fatal(err)
	}
	if c := next(t, d.Changes()); c.Kind != device.Joined || c.To != 1 || c.Own || c.Forced {
		t.Errorf("change %+v", c)
	}
	if got := numbers(d); !reflect.DeepEqual(got, []group.Number{1}) || !reflect.DeepEqual(numbers(side), got) {
		t.Errorf("groups %v and %v", got, numbers(side))
	}
	if err := side.Publish(t.Context(), 1, "x", nil, 1); err != nil {
		t.Error(err)
	}
	do(t, op, control.Request{Op: control.OpCreate, Name: "lamps-east"})
	if _, err := side.Switch(t.Context(), "lamps", "lamps-east"); err != nil {
		t.Fatal(err)
	}
	if c := next(t, d.Changes()); c.Kind != device.Switched || c.From != 1 || c.To != 2 || c.Own || c.Forced {
		t.Errorf("change %+v", c)
	}
	if err := side.Leave(t.Context(), "lamps-east"); err != nil {
		t.Fatal(err)
	}
	if c := next(t, d.Changes()); c.Kind != device.Left || c.From != 2 || c.Own || c.Forced {
		t.Errorf("change %+v", c)
	}
}

// An observer of a group reads it by a filter of its own, also after a restart
// of the server: with each SUBSCRIBE comes the roster.
func TestWatch(t *testing.T) {
	s, op := served(t)
	do(t, op, control.Request{Op: control.OpCreate, Name: "lamps"})
	for range 2 {
		if err := op.Subscribe(t.Context(), "g/1/evt", 1); err != nil {
			t.Fatal(err)
		}
		m := next(t, op.Messages())
		e, err := control.DecodeEvent(m.Payload)
		if err != nil || m.Part != control.Evt || m.Group != 1 || e.Kind != "snapshot" {
			t.Errorf("message %+v, event %+v, %v", m, e, err)
		}
	}
	if err := s.restart(); err != nil {
		t.Fatal(err)
	}
	if e, err := control.DecodeEvent(next(t, op.Messages()).Payload); err != nil || e.Kind != "snapshot" {
		t.Errorf("event %+v, %v", e, err)
	}
}

// Of two accounts only the first has the Client Identifier.
func TestIdentifierOfAnotherAccount(t *testing.T) {
	s, op := served(t)
	do(t, op, control.Request{Op: control.OpAccount, Sub: "add", User: "ann", Secret: "correct horse"})
	d := dialed(t, s.url, "lamp-7")
	do(t, op, control.Request{Op: control.OpCreate, Name: "lamps"})
	if _, err := d.Join(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ id, password, text string }{
		{"lamp-7", "correct horse", "belongs to another account"},
		{"lamp-8", "wrong", "wrong user name or password"},
	} {
		_, err := device.Dial(t.Context(), s.url, device.Options{ClientID: tt.id, User: "ann", Password: tt.password})
		var refusal *device.Error
		if !errors.As(err, &refusal) || !errors.Is(err, group.NotAuthorized) {
			t.Errorf("%s: %v", tt.id, err)
		}
	}
}
