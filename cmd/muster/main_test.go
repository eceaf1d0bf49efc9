package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// A result is what a run of the command came to.
type result struct {
	status         int
	stdout, stderr string
}

// command runs the command in this process with nothing on standard input.
func command(t *testing.T, env map[string]string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr, lookup(env))
	return result{status, stdout.String(), stderr.String()}
}

// What is typed wrong is answered in one line that says what and where, with
// status 2, before anything is asked of a server.
func TestMisuse(t *testing.T) {
	tests := []struct {
		name, args, want string
	}{
		{"no such command", "gruop", `unknown command "gruop" (did you mean "group"?)`},
		{"nothing like it", "frobnicate", `unknown command "frobnicate" (see: muster --help)`},
		{"no such command below another", "group craete x", `unknown command "group craete" (did you mean "create"?)`},
		{"no such flag", "group list --jsno", "unknown flag: --jsno"},
		{"no such flag before the command", "--jsno group list", "unknown flag: --jsno"},
		{"a flag without its value", "group list --server", "flag needs an argument: --server"},
		{"a flag with a wrong value", "mine --as a --timeout soon", `invalid argument "soon" for "--timeout" flag: time: invalid duration "soon"`},
		{"a word missing", "move lamp-7 lamps", "move: TO is missing (see: muster move --help)"},
		{"a word too many", "group show lamps ovens", `group show: too many arguments: "ovens" (see: muster group show --help)`},
		{"a word for a command without any", "group list x", `group list: too many arguments: "x" (see: muster group list --help)`},
		{"no reference", "members a/b", `members: "a/b" points at no group: want a number, an ID, a name or @USER (see: muster members --help)`},
		{"group 0", "group show 0", `group show: "0" points at no group: want a number, an ID, a name or @USER (see: muster group show --help)`},
		{"a terminal is spared", "members \x1b[2J", `members: "\x1b[2J" points at no group: want a number, an ID, a name or @USER (see: muster members --help)`},
		{"a policy that is none", "group create x --policy closed", "group create: --policy: closed is not one of open, pin (see: muster group create --help)"},
		{"a PIN for an open group", "group create x --policy open --pin-file -", "group create: --pin-file is for --policy pin (see: muster group create --help)"},
		{"nothing to update", "group update lamps", "group update: nothing to change: give a flag (see: muster group update --help)"},
		{"an empty new name", "group update lamps --name=", "group update: --name: must not be empty (see: muster group update --help)"},
		{"an account without a change", "account update ann", "account update: nothing to change: give a flag (see: muster account update --help)"},
		{"a role that is none", "account add ann --role root", "account add: --role: root is not one of device, observer, operator (see: muster account add --help)"},
		{"a rule that is none", "account add ann --topic allow", "account add: --topic allow: a rule is such as \"allow publish sensors/%c/#\" (see: muster account add --help)"},
		{"rules and none", "account update ann --topic x --no-topics", "account update: --topic and --no-topics exclude each other (see: muster account update --help)"},
		{"both states", "account update ann --disable --enable", "account update: --disable and --enable exclude each other (see: muster account update --help)"},
		{"groups that are none", "account add ann --groups lamps,a/b", `account add: "a/b" points at no group: want a number, an ID, a name or @USER (see: muster account add --help)`},
		{"through the socket without a device", "join lamps", "join: name the device with --as (see: muster join --help)"},
		{"an empty device", "join lamps --as=", "join: --as: want a Client Identifier (see: muster join --help)"},
		{"a client id through the socket", "join lamps --client-id lamp-7", "join: --client-id is for MQTT: through the operator socket name the device with --as (see: muster join --help)"},
		{"neither group nor grant", "join --as lamp-7", "join: REF is missing (see: muster join --help)"},
		{"QoS 2", "join lamps --as lamp-7 --qos 2", "join: --qos: 2 is neither 0 nor 1 (see: muster join --help)"},
		{"a grant for what has none", "grant delete lamps --as lamp-7", `grant: "delete" is not one of join, leave, switch (see: muster grant --help)`},
		{"a grant to leave two", "grant leave a b --as lamp-7", `grant: too many arguments: "b" (see: muster grant --help)`},
		{"a grant of two days", "grant join a --as lamp-7 --ttl 48h", "grant: --ttl: 48h0m0s is not a number of seconds between 1s and 24h (see: muster grant --help)"},
		{"a grant of half a second", "grant join a --as lamp-7 --ttl 500ms", "grant: --ttl: 500ms is not a number of seconds between 1s and 24h (see: muster grant --help)"},
		{"a wildcard to publish to", "pub lamps a/# x", `pub: "a/#" is not a Topic Name: it holds a wildcard (see: muster pub --help)`},
		{"a server of another kind", "group list --server http://a", "group list: --server: http://a is not unix:PATH, mqtt://HOST:PORT, mqtts://HOST:PORT, ws://HOST:PORT or wss://HOST:PORT (see: muster group list --help)"},
		{"a certificate without TLS", "group list --server mqtt://127.0.0.1:1 --user ann --ca a.pem", "group list: --ca, --cert and --key are for mqtts:// and wss://, and not for mqtt://127.0.0.1:1 (see: muster group list --help)"},
		{"a certificate without its key", "group list --server wss://127.0.0.1:1 --user ann --cert a.pem", "group list: --cert and --key go together (see: muster group list --help)"},
		{"nobody over MQTT", "group list --server mqtt://127.0.0.1:1", "group list: --server mqtt://127.0.0.1:1 needs --user, or --client-id for a device without an account (see: muster group list --help)"},
		{"a password for nobody", "group list --password-file x", "group list: --password-file needs --user (see: muster group list --help)"},
		{"no file for a PIN", "join lamps --as a --pin-file=", "join: --pin-file: want the name of a file, or - for standard input (see: muster join --help)"},
		{"no time to wait", "group list --timeout 0s", "group list: --timeout: 0s is not between 1ms and 10m (see: muster group list --help)"},
		{"serve has no words", "serve now", `serve: too many arguments: "now" (see: muster serve --help)`},
		{"a format of the log", "serve --anonymous=perhaps", `invalid argument "perhaps" for "--anonymous" flag: strconv.ParseBool: parsing "perhaps": invalid syntax`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := command(t, nil, strings.Fields(tt.args)...)
			if want := (result{misused, "", "muster: " + tt.want + "\n"}); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// A secret can be given in a file or on standard input, and in no other way: no
// flag takes one as its value.
func TestNoFlagTakesASecret(t *testing.T) {
	each(t, func(t *testing.T, cmd *cobra.Command) {
		for _, name := range []string{"password", "secret", "pin", "grant"} {
			if cmd.Flags().Lookup(name) != nil || cmd.InheritedFlags().Lookup(name) != nil {
				t.Errorf("it has a flag --%s", name)
			}
		}
	})
}

// each runs f for every command that somebody can type.
func each(t *testing.T, f func(*testing.T, *cobra.Command)) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		t.Run(cmd.CommandPath(), func(t *testing.T) { f(t, cmd) })
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit((&cli{env: lookup(nil)}).root())
}

// Each command has a help that says what it does, with an example that its own
// flags accept, and fits a terminal.
func TestHelp(t *testing.T) {
	each(t, func(t *testing.T, cmd *cobra.Command) {
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		got := command(t, nil, args...)
		if got.status != done || got.stderr != "" {
			t.Fatalf("muster %s: %+v", strings.Join(args, " "), got)
		}
		for _, part := range []string{"Usage:", "Examples:", cmd.CommandPath()} {
			if !strings.Contains(got.stdout, part) {
				t.Errorf("the help has no %q", part)
			}
		}
		for line := range strings.Lines(got.stdout) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 100 {
				t.Errorf("a line of %d characters: %s", n, line)
			}
		}
		if cmd.HasParent() && cmd.Parent() == cmd.Root() && cmd.GroupID == "" {
			t.Error("it stands in no part of the help")
		}
		for line := range strings.Lines(cmd.Example) {
			checkExample(t, strings.TrimSpace(line))
		}
	})
}

// shellWords splits a line as a shell does, where quotes are single and stand
// round whole words.
func shellWords(line string) []string {
	var words []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}

// checkExample finds the command of an example, and parses its flags.
func checkExample(t *testing.T, line string) {
	t.Helper()
	line, _, _ = strings.Cut(line, " < ")
	line, _, _ = strings.Cut(line, " > ")
	words := shellWords(strings.TrimSuffix(line, " &"))
	if len(words) > 0 && strings.Contains(words[0], "=") {
		words = words[1:] // a variable
	}
	if len(words) == 0 || words[0] != "muster" {
		if !strings.HasPrefix(line, "#") && line != "" {
			t.Errorf("example %q is no command", line)
		}
		return
	}
	root := (&cli{env: lookup(nil)}).root()
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Traverse(words[1:])
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil && cmd.Args != nil {
		err = cmd.Args(cmd, cmd.Flags().Args())
	}
	if err != nil || cmd == root {
		t.Errorf("example %q: %v", line, err)
	}
}

// A command that only holds others shows its help where errors go, and is
// misused.
func TestWithoutACommand(t *testing.T) {
	for _, args := range [][]string{nil, {"group"}, {"account", "--json"}, {"--json", "device"}} {
		got := command(t, nil, args...)
		if got.status != misused || got.stdout != "" || !strings.Contains(got.stderr, "Available Commands:") && !strings.Contains(got.stderr, "For operators:") {
			t.Errorf("muster %q: %+v", args, got)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, args := range []string{"version", "--version"} {
		if got := command(t, nil, args); got.status != done || !strings.HasPrefix(got.stdout, "muster "+buildVersion()) || got.stderr != "" {
			t.Errorf("muster %s: %+v", args, got)
		}
	}
	for _, args := range [][]string{{"version", "--json"}, {"--json", "version"}} {
		if got := command(t, nil, args...); got.status != done || !strings.HasPrefix(got.stdout, `{"go":"go1.`) {
			t.Errorf("muster %q: %+v", args, got)
		}
	}
}

// The shell is offered the fixed words, and no names of files where none belong.
func TestCompletion(t *testing.T) {
	tests := []struct{ args, want string }{
		{"group create x --policy ", "open\npin\n:4"},
		{"group update x --visible ", "all\nmembers\n:4"},
		{"account add x --role ", "device\nobserver\noperator\n:4"},
		{"account --json update x --role ", "device\nobserver\noperator\n:4"},
		{"grant ", "join\nleave\nswitch\n:4"},
		{"join x --qos ", "0\n1\n:4"},
		{"serve --log ", "text\njson\n:4"},
		{"members ", ":4"},
		{"group sh", "show\tShow a group\n:4"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			args := strings.Split(tt.args, " ")
			got := command(t, nil, append([]string{"__complete"}, args...)...)
			if got.status != done || strings.TrimSpace(got.stdout) != tt.want {
				t.Errorf("got %+v\nwant %q", got, tt.want)
			}
		})
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := command(t, nil, "completion", shell); got.status != done || !strings.Contains(got.stdout, "muster") {
			t.Errorf("completion %s: status %d, %q", shell, got.status, got.stderr)
		}
	}
}

// Where nobody listens, a command says so in one line, and what to do.
func TestUnreachableServer(t *testing.T) {
	t.Chdir(t.TempDir())
	left, err := net.Listen("unix", "left.sock")
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := closed.Addr().String()
	closed.Close()
	tests := []struct {
		name, want string
		env        map[string]string
		args       []string
	}{
		{"no socket", "no server at muster-data/muster.sock: start one with 'muster serve', or name its socket or address with --server", nil, []string{"group", "list"}},
		{"a socket that was left", "no server listens at left.sock any more: start one with 'muster serve', or use another --server", nil, []string{"--server", "unix:left.sock", "watch", "1"}},
		{"named by the environment", "no server at x/y.sock: start one with 'muster serve', or name its socket or address with --server", map[string]string{"MUSTER_SERVER": "unix:x/y.sock"}, []string{"pub", "1", "a", "b"}},
		{"the flag stands over it", "no server at z.sock: start one with 'muster serve', or name its socket or address with --server", map[string]string{"MUSTER_SERVER": "unix:x/y.sock"}, []string{"mine", "--as", "a", "--server", "unix:z.sock"}},
		{"a closed port", "no server listens at mqtt://" + addr + ": see --server", nil, []string{"members", "1", "--user", "ann", "--server", "mqtt://" + addr}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, want := command(t, tt.env, tt.args...), (result{failed, "", "muster: " + tt.want + "\n"}); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// A command that is interrupted while it waits says so and fails.
func TestInterrupted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	accepted := make(chan net.Conn, 1)
	go func() {
		defer close(accepted)
		if c, err := l.Accept(); err == nil {
			accepted <- c
			cancel()
		}
	}()
	var stdout, stderr bytes.Buffer
	args := []string{"group", "list", "--server", "mqtt://" + l.Addr().String(), "--user", "ann"}
	if got := run(ctx, args, strings.NewReader(""), &stdout, &stderr, lookup(nil)); got != failed || stderr.String() != "muster: interrupted\n" {
		t.Errorf("status %d, %q", got, stderr.String())
	}
	l.Close()
	if c, ok := <-accepted; ok {
		c.Close()
	}
}

// A server that says nothing is waited for as long as --timeout says.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	server := "mqtt://" + l.Addr().String()
	want := result{failed, "", "muster: no answer from " + server + " within 50ms (--timeout)\n"}
	if got := command(t, nil, "group", "list", "--server", server, "--user", "ann", "--timeout", "50ms"); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// A secret is one line of a file or of standard input, without its line break.
func TestSecretFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	tests := []struct {
		name, content string
		want, err     string
	}{
		{"a line", "4711\n", "4711", ""},
		{"without a line break", "4711", "4711", ""},
		{"from Windows", "4711\r\n", "4711", ""},
		{"spaces belong to it", " 47 11 \n", " 47 11 ", ""},
		{"nothing", "", "", "empty"},
		{"an empty line", "\n", "", "empty"},
		{"two lines", "4711\n4712\n", "", "more than one line"},
		{"too long", strings.Repeat("x", maxSecret+1), "", "longer than 4096 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, from := range []string{path, "-"} {
				c := &cli{stdin: strings.NewReader(tt.content), env: lookup(nil)}
				got, err := c.secretFile(c.root(), "pin-file", from)
				text := ""
				if err != nil {
					text = err.Error()
				}
				want := tt.err
				if want != "" {
					want = "--pin-file: " + from + ": " + want
				}
				if got != tt.want || text != want {
					t.Errorf("%s: got %q, %q, want %q, %q", from, got, text, tt.want, want)
				}
			}
		})
	}
	t.Run("standard input twice", func(t *testing.T) {
		c := &cli{stdin: strings.NewReader("a\n"), env: lookup(nil)}
		root := c.root()
		if _, err := c.secretFile(root, "pin-file", "-"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.secretFile(root, "password-file", "-"); err == nil || err.Error() != "--password-file: standard input was read for another flag" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no such file", func(t *testing.T) {
		got := command(t, nil, "join", "1", "--as", "a", "--pin-file", filepath.Join(dir, "none"))
		if got.status != failed || got.stderr != "muster: --pin-file: open "+filepath.Join(dir, "none")+": no such file or directory\n" {
			t.Errorf("got %+v", got)
		}
	})
}

// A password in the file of a new account is not that of the login: the place of
// the flag says which is meant.
func TestPasswordFilesAreTold(t *testing.T) {
	c := &cli{env: lookup(nil)}
	root := c.root()
	cmd, rest, err := root.Traverse([]string{"--user", "eve", "--password-file", "login", "account", "add", "ann", "--password-file", "new"})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Fatal(err)
	}
	if got := cmd.Flags().Lookup("password-file").Value.String(); got != "new" || c.passwordFile != "login" || c.user != "eve" {
		t.Errorf("the account's %q, the login's %q of %q", got, c.passwordFile, c.user)
	}
}
