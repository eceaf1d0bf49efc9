package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The first transcript of README.md does what it says: its lines are run as they
// stand, by a shell with the stock client, and print what their comments say, in
// that order.
func TestReadmeTranscript(t *testing.T) {
	needTool(t, "mosquitto_sub")
	needTool(t, "bash")
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(b), "```sh\n")
	script, _, closed := strings.Cut(after, "```")
	if !ok || !closed {
		t.Fatal("README.md has no transcript")
	}
	dir := t.TempDir()
	addr := serveIn(t, dir)
	_, port, _ := strings.Cut(addr, ":")
	// The reader's port is 1883; here it is whichever was free.
	stock, err := exec.LookPath("mosquitto_sub")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "path", "mosquitto_sub"), fmt.Sprintf("#!/bin/sh\nexec %s -p %s \"$@\"\n", stock, port))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "path")+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState.ExitCode() < 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	rest := strings.Join(strings.Fields(string(out)), " ")
	prints := regexp.MustCompile(`(?m)# prints: (.*)$`).FindAllStringSubmatch(script, -1)
	if len(prints) < 3 {
		t.Fatalf("the transcript promises %d lines of output", len(prints))
	}
	for _, p := range prints {
		_, after, ok := strings.Cut(rest, p[1])
		if !ok {
			t.Fatalf("the transcript does not print %q; it printed:\n%s", p[1], out)
		}
		rest = after
	}
	if strings.Contains(string(out), "nobody") {
		t.Errorf("the device received what was published to its old group:\n%s", out)
	}
}

// needTool skips the test where a tool is missing, and fails it in CI.
func needTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("MUSTER_CI") == "1" {
		t.Fatalf("%s is missing, and in CI nothing may be skipped", name)
	}
	t.Skipf("SKIPPED: %s is not installed (Debian: mosquitto-clients)", name)
}

// serveIn builds the command into dir/bin and starts a server there, with its
// data in dir/muster-data. It returns the address for MQTT.
func serveIn(t *testing.T, dir string) string {
	t.Helper()
	bin := filepath.Join(dir, "bin", "muster")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ready := filepath.Join(dir, "ready")
	server := exec.Command(bin, "serve", "--listen", "127.0.0.1:0", "--ready", ready)
	server.Dir = dir
	log := &strings.Builder{}
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- server.Wait() }()
	t.Cleanup(func() {
		server.Process.Signal(os.Interrupt)
		if err := <-exited; err != nil || t.Failed() {
			t.Logf("the server ended with %v:\n%s", err, log)
		}
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("the server did not start: %v\n%s", err, log)
		case <-tick.C:
			if b, err := os.ReadFile(ready); err == nil {
				first, _, _ := strings.Cut(string(b), "\n")
				return strings.TrimPrefix(first, "mqtt://")
			}
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}
