// Muster is an MQTT broker whose device groups cannot drift, and the command by
// which an operator works with it.
//
// `muster serve` is the server. Every other command is an MQTT client of one
// that runs (docs/operations.md). The exit status is 0 if it was done, 1 if it
// was refused or failed, 2 if the command was misused; what went wrong is one
// line on standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set when a release is built.
var version = ""

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
}

// The exit statuses.
const (
	done    = 0
	failed  = 1 // refused by the server, or failed
	misused = 2 // the command line cannot be understood
)

// run does what args say, and returns the exit status. When ctx ends, a server
// stops in an orderly way and a command gives up.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) (string, bool)) int {
	c := &cli{stdin: stdin, stdout: stdout, stderr: stderr, env: env}
	root := c.root()
	root.SetArgs(append([]string{}, args...)) // never nil: cobra would take the process's own
	err := root.ExecuteContext(ctx)
	var f *failure
	switch {
	case err == nil:
		return done
	case errors.Is(err, errShown):
		return misused
	case errors.As(err, &f):
		fmt.Fprintf(stderr, "muster: %s\n", oneLine(describe(f.err)))
		return failed
	}
	fmt.Fprintf(stderr, "muster: %s\n", oneLine(err.Error()))
	return misused
}

// buildVersion returns the version of this program: the one it was released
// under, else the revision it was built from.
func buildVersion() string {
	if version != "" {
		return version
	}
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "devel"
}
