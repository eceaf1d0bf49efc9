//go:build crash

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A crashServer is a process of the real command, built with crash points, on a
// data directory that outlives it.
type crashServer struct {
	bin, dir string
	addr     string // HOST:PORT of MQTT
	socket   string // path of the operator socket
	cmd      *exec.Cmd
	gone     chan error // gets what Wait returned
}

func buildCrashServer(t *testing.T) *crashServer {
	t.Helper()
	s := &crashServer{dir: t.TempDir()}
	s.bin = filepath.Join(s.dir, "muster")
	if out, err := exec.Command("go", "build", "-tags", "crash", "-o", s.bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	s.socket = filepath.Join(s.dir, "data", "muster.sock")
	t.Cleanup(func() {
		if s.cmd != nil {
			s.cmd.Process.Kill()
			<-s.gone
		}
		if t.Failed() {
			t.Logf("the end of the server's log:\n%s", s.log(4<<10))
		}
	})
	return s
}

// start starts the server, which kills itself at the point, NAME:N, if it is not
// empty, and returns when it can be reached.
func (s *crashServer) start(t *testing.T, point string) {
	t.Helper()
	s.launch(t, point)
	tick, late := time.NewTicker(time.Millisecond), time.After(crashPatience)
	defer tick.Stop()
	for {
		if b, err := os.ReadFile(s.ready()); err == nil {
			first, _, _ := strings.Cut(string(b), "\n")
			s.addr = strings.TrimPrefix(first, "mqtt://")
			return
		}
		select {
		case <-tick.C:
		case err := <-s.gone:
			s.cmd = nil
			t.Fatalf("the server does not start: %v", err)
		case <-late:
			t.Fatal("the server does not come up")
		}
	}
}

// startAndKill starts the server and kills it a moment later, which may be
// before it has read its data.
func (s *crashServer) startAndKill(t *testing.T, after time.Duration) {
	t.Helper()
	s.launch(t, "")
	<-time.After(after)
	s.kill()
	s.wait(t)
}

func (s *crashServer) ready() string { return filepath.Join(s.dir, "ready") }

func (s *crashServer) launch(t *testing.T, point string) {
	t.Helper()
	if err := os.Remove(s.ready()); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(s.bin, "serve", "--data", filepath.Join(s.dir, "data"), "--listen", "127.0.0.1:0", "--ready", s.ready())
	cmd.Env = append(os.Environ(), "MUSTER_CRASH_POINT="+point, "MUSTER_LIMITS_CHANGES_PER_MINUTE=0")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.cmd, s.gone = cmd, make(chan error, 1)
	go func() { s.gone <- cmd.Wait() }()
}

// kill kills the process from outside.
func (s *crashServer) kill() { s.cmd.Process.Kill() }

// wait returns when the process has ended, and fails the test unless it was
// killed.
func (s *crashServer) wait(t *testing.T) {
	t.Helper()
	<-s.gone
	state := s.cmd.ProcessState
	s.cmd = nil
	if ws, ok := state.Sys().(syscall.WaitStatus); !ok || !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
		t.Fatalf("the server was not killed, it ended by itself: %v", state)
	}
}

// stop stops the server in order.
func (s *crashServer) stop(t *testing.T) {
	t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	err := <-s.gone
	s.cmd = nil
	if err != nil {
		t.Fatalf("the server was told to stop: %v", err)
	}
}

// stopAndKill tells the server to stop, and kills it a moment later, which may be
// while it closes its data or after its end.
func (s *crashServer) stopAndKill(t *testing.T, after time.Duration) {
	t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	process := s.cmd.Process
	kill := time.AfterFunc(after, func() { process.Kill() })
	defer kill.Stop()
	err := <-s.gone
	state := s.cmd.ProcessState
	s.cmd = nil
	if ws, ok := state.Sys().(syscall.WaitStatus); err != nil && (!ok || !ws.Signaled() || ws.Signal() != syscall.SIGKILL) {
		t.Fatalf("the server was told to stop, and then killed: %v", err)
	}
}

// log returns the last n bytes of what the server has logged.
func (s *crashServer) log(n int) string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-n):])
}
