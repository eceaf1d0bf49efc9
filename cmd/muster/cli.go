package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/device"
	"github.com/muster-mqtt/muster/group"
)

// A cli is what the commands share: the world around the process, and the flags
// that each has.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) (string, bool)

	server       string
	user         string
	passwordFile string
	clientID     string
	caFile       string
	certFile     string
	keyFile      string
	json         bool
	timeout      time.Duration

	stdinTaken bool // a flag with - has read standard input
}

// defaultServer is the operator socket of a server that was told nothing.
const defaultServer = "unix:muster-data/muster.sock"

// The parts of the help.
const (
	groupServer   = "server"
	groupOperator = "operator"
	groupDevice   = "device"
	groupMessage  = "message"
)

const rootLong = `muster is an MQTT broker whose device groups cannot drift: who is in a group, who
receives its messages and what each device was told are one thing.

'muster serve' is the server. The other commands talk to one that runs: through
its operator socket, with every right, or over MQTT as the user who logs in.

REF points at a group by its number, its ID, its name or, as @USER, by a user
who is in it. DEVICE is a Client Identifier.`

const rootExample = `  muster serve &
  muster group create lamps
  muster join lamps --as lamp-7
  muster members lamps
  muster pub lamps hello good-morning

  # over MQTT, as a user; the password is never an argument
  MUSTER_PASSWORD=... muster --server mqtt://127.0.0.1:1883 --user ann group list`

// root returns the whole command line.
func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:     "muster",
		Short:   "An MQTT broker whose device groups cannot drift",
		Long:    rootLong,
		Example: rootExample,
		Version: buildVersion(),

		SilenceErrors: true,
		SilenceUsage:  true,
		// A flag before a command is the command's above: so --password-file can
		// be the login's in one place and a new account's in the other.
		TraverseChildren: true,
	}
	parent(root)
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.SetVersionTemplate("muster {{.Version}}\n")
	root.SetHelpCommandGroupID(groupServer)
	root.SetCompletionCommandGroupID(groupServer)
	root.AddGroup(
		&cobra.Group{ID: groupServer, Title: "Server:"},
		&cobra.Group{ID: groupOperator, Title: "For operators:"},
		&cobra.Group{ID: groupDevice, Title: "For a device:"},
		&cobra.Group{ID: groupMessage, Title: "Messages and events:"},
	)

	server := defaultServer
	if s, ok := c.env("MUSTER_SERVER"); ok && s != "" {
		server = s
	}
	f := root.PersistentFlags()
	f.StringVar(&c.server, "server", server, "`ADDRESS` of the server: unix:PATH, or HOST:PORT behind\nmqtt://, mqtts://, ws:// or wss:// (MUSTER_SERVER)\n")
	f.StringVar(&c.user, "user", "", "`NAME` of the user to log in as, over MQTT")
	f.StringVar(&c.passwordFile, "password-file", "", "`FILE` with the password of --user, or - for standard\ninput (otherwise MUSTER_PASSWORD)")
	f.StringVar(&c.clientID, "client-id", "", "`DEVICE` to act as over MQTT (default: the name of --user)")
	f.StringVar(&c.caFile, "ca", "", "`FILE` of the authorities whose servers are trusted, for\nmqtts:// and wss:// (default: the system's)")
	f.StringVar(&c.certFile, "cert", "", "`FILE` of the certificate to show the server")
	f.StringVar(&c.keyFile, "key", "", "`FILE` of the private key of --cert")
	f.BoolVar(&c.json, "json", false, "print the server's answer as JSON")
	f.DurationVar(&c.timeout, "timeout", 10*time.Second, "`TIME` to wait for the server: 1ms to 10m")

	root.AddCommand(
		c.serveCommand(), c.versionCommand(),
		c.groupCommand(), c.accountCommand(), c.deviceCommand(), c.moveCommand(), c.removeCommand(),
		c.joinCommand(), c.leaveCommand(), c.switchCommand(), c.grantCommand(), c.mineCommand(), c.membersCommand(),
		c.pubCommand(), c.watchCommand(),
	)
	prepare(root)
	return root
}

// prepare makes every flag of a command known to it before the command line is
// read: where cobra looks for the next command it must know which flags take no
// value. Help, too, is told in the program's own words.
func prepare(cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	cmd.InheritedFlags()
	if h := cmd.Flags().Lookup("help"); h != nil {
		h.Usage = "show this help"
	}
	if v := cmd.Flags().Lookup("version"); v != nil {
		v.Usage = "show the version"
	}
	for _, sub := range cmd.Commands() {
		prepare(sub)
	}
}

// A failure is an error of a command that was understood; any other error of
// the command line is a misuse.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// A misuse is what a command says of its own arguments.
type misuse struct{ text string }

func (m *misuse) Error() string { return m.text }

// usagef returns a misuse of cmd, and names its help.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	name := strings.TrimPrefix(cmd.CommandPath(), "muster ")
	return &misuse{fmt.Sprintf("%s: %s (see: %s --help)", name, fmt.Sprintf(format, args...), cmd.CommandPath())}
}

// errShown is a misuse that was answered with the help.
var errShown = errors.New("help was shown")

// act wraps what a command does, so that its errors can be told from misuse.
func act(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := f(cmd, args)
		var m *misuse
		if err == nil || errors.As(err, &m) {
			return err
		}
		return &failure{err}
	}
}

// parent makes cmd one that only holds others: used by itself it shows its help,
// and a command that it does not have is a misuse.
func parent(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			cmd.SetOut(cmd.ErrOrStderr())
			if err := cmd.Help(); err != nil {
				return err
			}
			return errShown
		}
		hint := fmt.Sprintf(" (see: %s --help)", cmd.CommandPath())
		cmd.SuggestionsMinimumDistance = 2
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf(" (did you mean %q?)", near[0])
		}
		return &misuse{fmt.Sprintf("unknown command %s%s", quote(strings.TrimPrefix(cmd.CommandPath()+" "+args[0], "muster ")), hint)}
	}
	return cmd
}

// words checks the number of arguments by their names: those in brackets, the
// last ones, may be missing.
func words(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return usagef(cmd, "too many arguments: %s", quote(args[len(names)]))
		}
		if len(args) < len(names) && !strings.HasPrefix(names[len(args)], "[") {
			return usagef(cmd, "%s is missing", names[len(args)])
		}
		return nil
	}
}

// ref reads an argument that points at a group.
func ref(cmd *cobra.Command, s string) (group.Ref, error) {
	r, err := control.ParseRef(s)
	if err != nil {
		return group.Ref{}, usagef(cmd, "%s points at no group: want a number, an ID, a name or @USER", quote(s))
	}
	return r, nil
}

// refs reads arguments that point at groups into the given places.
func refs(cmd *cobra.Command, args []string, to ...*group.Ref) error {
	for i, s := range args {
		r, err := ref(cmd, s)
		if err != nil {
			return err
		}
		*to[i] = r
	}
	return nil
}

// oneOf checks the value of a flag that is one of several words, or empty.
func oneOf(cmd *cobra.Command, flag, value string, words ...string) error {
	if value == "" && !cmd.Flags().Changed(flag) {
		return nil
	}
	for _, w := range words {
		if value == w {
			return nil
		}
	}
	return usagef(cmd, "--%s: %s is not one of %s", flag, show(value), strings.Join(words, ", "))
}

// completeWords offers fixed words for the value of a flag.
func completeWords(cmd *cobra.Command, flag string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is not there: a slip in this program
	}
}

// noFiles completes nothing: the arguments are no names of files.
var noFiles = cobra.NoFileCompletions

// changed returns the value of a flag if it was given, else nil.
func changed[T any](cmd *cobra.Command, flag string, value *T) *T {
	if cmd.Flags().Changed(flag) {
		return value
	}
	return nil
}

// describe says what went wrong, the code's name first where the server refused.
func describe(err error) string {
	var code group.Code
	var d *device.Error
	switch {
	case errors.As(err, &d) && d.Err != nil: // a CONNECT or SUBSCRIBE, with the reason
		return d.Code.Error() + ": " + d.Err.Error()
	case errors.As(err, &code):
		s := code.Error() + ": " + code.Text()
		if errors.As(err, &d) && d.Retry > 0 {
			s += fmt.Sprintf(" (in %s)", showDuration(d.Retry))
		}
		return s
	case errors.Is(err, context.Canceled):
		return "interrupted"
	}
	return err.Error()
}

// oneLine returns s without line breaks and other control characters.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, cmp.Or(s, "failed"))
}
