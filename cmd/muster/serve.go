package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/store"
	"github.com/muster-mqtt/muster/store/badger"
)

const serveLong = `Serve MQTT until SIGTERM or SIGINT; then end within 5 seconds with exit status 0.
SIGHUP has certificates and keys read again.

It needs no configuration: the data is in ./muster-data, MQTT is on 127.0.0.1:1883,
where devices need no account, and operators use the socket in the data directory.

A flag stands over the environment (MUSTER_DATA, MUSTER_LISTEN, MUSTER_ANONYMOUS,
MUSTER_READY, MUSTER_LOG, MUSTER_CONFIG), the environment over the file of --config.
The file has further keys: configs/muster.yaml holds them all.`

const serveExample = `  muster serve
  muster serve --data /var/lib/muster --listen 127.0.0.1:1883 --listen '[::1]:1883'
  muster serve --config /etc/muster/muster.yaml --log json`

func (c *cli) serveCommand() *cobra.Command {
	d := defaults()
	var path string
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the server", Long: serveLong, Example: serveExample,
		GroupID: groupServer, Args: words(), ValidArgsFunction: noFiles,
	}
	f := cmd.Flags()
	f.StringVar(&path, "config", "", "configuration `FILE`")
	f.String("data", d.Data, "`DIR` of the data; made if it is not there")
	f.StringArray("listen", d.Listen, "`ADDRESS` for MQTT, HOST:PORT or unix:PATH; may be\nrepeated")
	f.Bool("anonymous", d.Anonymous, "let devices connect without a user, on loopback only")
	f.String("ready", "", "`FILE` that gets one address a line once the server can be\nreached")
	f.String("log", d.Log.Format, "`FORMAT` of the log: text or json")
	completeWords(cmd, "log", "text", "json")
	completeWords(cmd, "listen")
	if err := cmd.MarkFlagDirname("data"); err != nil {
		panic(err)
	}
	cmd.RunE = act(func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadConfig(path, c.env, given(cmd.Flags()))
		if err == nil {
			err = checkEnviron(os.Environ())
		}
		if err != nil {
			return err
		}
		return c.serve(cmd.Context(), cfg)
	})
	return cmd
}

// given returns the flags that were given, by name.
func given(f *pflag.FlagSet) map[string][]string {
	values := map[string][]string{}
	f.Visit(func(f *pflag.Flag) {
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values[f.Name] = list.GetSlice()
			return
		}
		values[f.Name] = []string{f.Value.String()}
	})
	return values
}

// serve runs the server until ctx ends. An error says what to change, or what
// could not be ended in order.
func (c *cli) serve(ctx context.Context, cfg config) (err error) {
	log := slog.New(c.logHandler(cfg))
	db, err := badger.Open(cfg.Data, badger.Options{Logger: log})
	if err != nil {
		return storeError(cfg.Data, err)
	}
	defer func() {
		if closeErr := db.Close(); closeErr != nil && err == nil {
			err = fmt.Errorf("close store %s: %w", cfg.Data, closeErr)
		}
	}()
	if cfg.Ready != "" {
		// What an earlier server wrote would be taken for ours.
		if err := os.Remove(cfg.Ready); err != nil && !errors.Is(err, os.ErrNotExist) {
			return readyError(err)
		}
		defer os.Remove(cfg.Ready)
	}
	s, err := broker.Open(ctx, brokerConfig(cfg, db, log))
	if err != nil {
		return err
	}
	if cfg.Ready != "" {
		if err := writeReady(cfg.Ready, s.Addrs()); err != nil {
			// Run is what releases the listeners, also when it ends at once.
			ended, cancel := context.WithCancel(ctx)
			cancel()
			return errors.Join(readyError(err), s.Run(ended))
		}
	}
	reloads := make(chan os.Signal, 1)
	signal.Notify(reloads, syscall.SIGHUP)
	defer signal.Stop(reloads)
	var reloading sync.WaitGroup
	defer reloading.Wait()
	ended, stop := context.WithCancel(ctx)
	defer stop()
	reloading.Go(func() { reloadOn(ended, reloads, s, log) })
	return s.Run(ctx)
}

// reloadOn has certificates read again at each signal until ctx ends.
func reloadOn(ctx context.Context, signals <-chan os.Signal, s *broker.Server, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			if err := s.Reload(); err != nil {
				log.Error("not reloaded: what was read before stays in use", "err", err)
				continue
			}
			log.Info("reloaded", "addresses", s.Addrs())
		}
	}
}

func (c *cli) logHandler(cfg config) slog.Handler {
	o := &slog.HandlerOptions{Level: cfg.Log.Level}
	if cfg.Log.Format == "json" {
		return slog.NewJSONHandler(c.stderr, o)
	}
	return slog.NewTextHandler(c.stderr, o)
}

// brokerConfig returns what the broker is told. Where the configuration says 0
// for no limit, the broker wants -1.
func brokerConfig(cfg config, db store.Store, log *slog.Logger) broker.Config {
	l := cfg.Limits
	return broker.Config{
		Store: db, Logger: log, Listen: cfg.Listen, Listeners: cfg.Listeners, Socket: cfg.Socket, Anonymous: cfg.Anonymous, AnonymousTopics: cfg.AnonymousTopics, RefuseFilters: cfg.RefuseFilters,
		Loops: cfg.Loops,
		Limits: broker.Limits{
			PacketSize: l.PacketSize, TopicLevels: l.TopicLevels, UserProperties: l.UserProperties, Inflight: l.Inflight,
			QueueMessages: l.QueueMessages, QueueBytes: l.QueueBytes, QueueBytesTotal: cmp.Or(l.QueueBytesTotal, -1), Filters: l.Filters,
			MembersPerGroup: l.MembersPerGroup, GroupsPerDevice: l.GroupsPerDevice,
			ChangesPerMinute: cmp.Or(l.ChangesPerMinute, -1), Connections: cmp.Or(l.Connections, -1), Sessions: cmp.Or(l.Sessions, -1),
			ConnectionsPerAddress: cmp.Or(l.ConnectionsPerAddress, -1), Connecting: cmp.Or(l.Connecting, -1),
			ConnectingPerAddress: cmp.Or(l.ConnectingPerAddress, -1), SessionsPerAccount: cmp.Or(l.SessionsPerAccount, -1),
			PublishRate: cmp.Or(l.PublishRate, -1), RetainedBytes: l.RetainedBytes, RetainedPerAccount: cmp.Or(l.RetainedPerAccount, -1), RetainedMessages: l.RetainedMessages, TopicAliases: cmp.Or(l.TopicAliases, -1),
			ConnectTimeout: l.ConnectTimeout, SessionExpiryMax: l.SessionExpiryMax, KeepAliveMax: l.KeepAliveMax,
		},
		Authority: authz.Config{
			Argon2: authz.Params{
				Memory: cfg.Argon2.Memory, Time: cfg.Argon2.Time, Threads: cfg.Argon2.Threads, Runs: cfg.Argon2.Runs,
			},
			PINGuesses: cfg.PIN.Guesses, PINGuessesAddress: cfg.PIN.GuessesAddress, PINWindow: cfg.PIN.Window,
		},
		GrantTTL: cfg.Grant.TTL, JournalKeep: cfg.Journal.Keep, Version: buildVersion(),
	}
}

// storeError says what to do about a data directory that does not open.
func storeError(dir string, err error) error {
	switch {
	case errors.Is(err, store.ErrInUse):
		return fmt.Errorf("data directory %s is in use by another server: stop that one or use another --data", show(dir))
	case errors.Is(err, store.ErrSchema):
		return fmt.Errorf("data directory %s was written by a newer release: install that or use another --data", show(dir))
	}
	return fmt.Errorf("data directory %s (--data): %w", show(dir), err)
}

func readyError(err error) error { return fmt.Errorf("--ready: %w", err) }

// writeReady writes one address a line. The file appears whole, under its name
// at once.
func writeReady(path string, addrs []string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".muster-ready-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.WriteString(strings.Join(addrs, "\n") + "\n")
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
