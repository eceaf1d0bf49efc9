//go:build unix

package listen_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker/listen"
)

// fullTableEnv makes TestFullDescriptorTable the server that it tests.
const fullTableEnv = "MUSTER_TEST_FULL_TABLE"

// A server whose table of descriptors is full serves those it has, and lets in
// others as soon as some of them are gone.
func TestFullDescriptorTable(t *testing.T) {
	if os.Getenv(fullTableEnv) != "" {
		serveFew()
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDescriptorTable$")
	cmd.Env = append(os.Environ(), fullTableEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() }) // which ends it
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the server does not say where it is")
	}
	addr := strings.TrimPrefix(lines.Text(), "mqtt://")
	served := func(nc net.Conn, wait time.Duration) bool {
		nc.SetDeadline(time.Now().Add(wait))
		io.WriteString(nc, "x")
		_, err := io.ReadFull(nc, make([]byte, 1))
		return err == nil
	}
	var all []net.Conn
	full := false
	for range 200 {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if full = !served(nc, time.Second); full {
			break
		}
		all = append(all, nc)
	}
	if !full || len(all) == 0 {
		t.Fatalf("%d connections, and the table is not full", len(all))
	}
	if !served(all[0], patience) {
		t.Error("with a full table a connection is no longer served")
	}
	for _, nc := range all[1:] {
		nc.Close()
	}
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if !served(nc, patience) {
		t.Error("when there is room again nobody is let in")
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server ended with: %v", err)
	}
}

// serveFew sends back what comes in, with few descriptors, until its input ends.
func serveFew() {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l, err := listen.Open(listen.Config{Address: "127.0.0.1:0"})
	if err != nil {
		fail(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		fail(err)
	}
	limit.Cur = 24
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		fail(err)
	}
	fmt.Println(l.URL())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				fail(err)
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}
