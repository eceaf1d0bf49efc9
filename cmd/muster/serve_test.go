package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker"
)

// The broker is told every value of the configuration. Where the configuration
// says 0 for no limit, it is told -1: to the broker 0 is a default.
func TestBrokerConfig(t *testing.T) {
	cfg := defaults()
	cfg.Socket, cfg.Limits.KeepAliveMax = "muster.sock", time.Minute // by default there is none
	log := slog.New(slog.DiscardHandler)
	set := func(b broker.Config, what string) {
		t.Helper()
		for name, v := range map[string]reflect.Value{
			"Limits": reflect.ValueOf(b.Limits), "Authority": reflect.ValueOf(b.Authority), "Argon2": reflect.ValueOf(b.Authority.Argon2),
		} {
			for i := range v.NumField() {
				f := v.Type().Field(i)
				if v.Field(i).IsZero() && f.Type.Kind() != reflect.Func {
					t.Errorf("%s: %s.%s is not set", what, name, f.Name)
				}
			}
		}
	}
	b := brokerConfig(cfg, nil, log)
	set(b, "defaults")
	if b.Logger != log || len(b.Listen) != 1 || b.Socket != "muster.sock" || !b.Anonymous || b.GrantTTL == 0 || b.JournalKeep == 0 || b.Version == "" {
		t.Errorf("%+v", b)
	}
	none := &cfg.Limits
	none.ChangesPerMinute, none.Connections, none.Sessions, none.SessionsPerAccount, none.PublishRate = 0, 0, 0, 0, 0
	none.ConnectionsPerAddress, none.Connecting, none.ConnectingPerAddress, none.QueueBytesTotal, none.TopicAliases, none.RetainedPerAccount = 0, 0, 0, 0, 0, 0
	b = brokerConfig(cfg, nil, log)
	set(b, "no limits")
	l := b.Limits
	for i, n := range []int{
		l.ChangesPerMinute, l.Connections, l.Sessions, l.SessionsPerAccount, l.PublishRate, l.ConnectionsPerAddress, l.Connecting,
		l.ConnectingPerAddress, l.QueueBytesTotal, l.TopicAliases, l.RetainedPerAccount,
	} {
		if n != -1 {
			t.Errorf("no limit is %d, the %d. of them", n, i+1)
		}
	}
}

// The file of --ready appears whole, takes the place of an older one, and leaves
// nothing beside it.
func TestWriteReady(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ready")
	for _, addrs := range [][]string{{"mqtt://127.0.0.1:1883", "unix:muster.sock"}, {"unix:muster.sock"}} {
		if err := writeReady(path, addrs); err != nil {
			t.Fatal(err)
		}
		want := ""
		for _, a := range addrs {
			want += a + "\n"
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%q, %v", b, err)
		}
	}
	busy := filepath.Join(dir, "busy")
	if err := os.MkdirAll(filepath.Join(busy, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeReady(busy, nil); err == nil {
		t.Error("a directory was replaced")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}
