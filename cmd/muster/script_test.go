package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test's own binary be the command muster, in scripts and for
// whoever finds it in PATH.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"muster": main})
}

// TestScripts runs testdata/script: what an operator types and sees, against
// real servers. Beside testscript's own commands they have
//
//	waitfile FILE           waits for a file of --ready; its first address is then
//	                        $URL, and without its scheme $ADDR
//	waitline PATTERN FILE   waits until a line of the file matches
//	certs NAME …            makes an authority, ca.pem, its list crl.pem, a server's
//	                        certificate and key, server.pem and server.key, and
//	                        the same for clients of the given names
//	revoke NAME             puts the client's certificate on crl.pem
//	status N COMMAND …      runs the command, which must end with exit status N
//
// A script that drives stock MQTT clients is skipped where there are none.
func TestScripts(t *testing.T) {
	if _, err := exec.LookPath("mosquitto_sub"); err != nil {
		if os.Getenv("MUSTER_CI") == "1" {
			t.Fatal("mosquitto_sub is missing: install mosquitto-clients")
		}
		t.Log("*** mosquitto_sub is missing: scripts that need it are SKIPPED; install mosquitto-clients ***")
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"waitfile": waitFile, "waitline": waitLine, "status": status, "certs": certs, "revoke": revoke,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// patience is how long a script waits for what must come.
const patience = 30 * time.Second

// waitUntil calls ok until it is true, and fails the script if that takes too
// long.
func waitUntil(ts *testscript.TestScript, what string, ok func() bool) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			ts.Fatalf("waited %s for %s", patience, what)
		}
	}
}

func waitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfile FILE")
	}
	var first string
	waitUntil(ts, args[0], func() bool {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		first, _, _ = strings.Cut(string(b), "\n")
		return err == nil
	})
	ts.Setenv("URL", first)
	_, addr, _ := strings.Cut(first, "://")
	ts.Setenv("ADDR", addr)
}

func waitLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitline PATTERN FILE")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var b []byte
	defer func() {
		if !re.Match(b) {
			ts.Logf("%s is:\n%s", args[1], b)
		}
	}()
	waitUntil(ts, args[0]+" in "+args[1], func() bool {
		b, _ = os.ReadFile(ts.MkAbs(args[1]))
		return re.Match(b)
	})
}

func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND ...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}
