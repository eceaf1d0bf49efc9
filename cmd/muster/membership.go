package main

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// memberFlags are the flags of the commands that ask for a change of one device.
type memberFlags struct {
	as, grantFile, pinFile string
	qos                    uint8
	filter                 []string
	noRecv                 bool
}

func (m *memberFlags) addAs(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.as, "as", "", "`DEVICE` on whose behalf to ask; for operators, and needed\nthrough the operator socket")
	completeWords(cmd, "as")
}

func (m *memberFlags) addGrant(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.grantFile, "grant-file", "", "`FILE` with a grant for this change, or - for standard input")
}

func (m *memberFlags) addPIN(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.pinFile, "pin-file", "", "`FILE` with the group's PIN, or - for standard input")
}

// addOptions adds the options of a membership.
func (m *memberFlags) addOptions(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Uint8Var(&m.qos, "qos", 1, "highest `QOS` of delivery, 0 or 1")
	f.StringArrayVar(&m.filter, "filter", nil, "Topic `FILTER`: of the messages to all receive only what\nit matches; may be repeated")
	f.BoolVar(&m.noRecv, "no-recv", false, "publish only: receive nothing")
	completeWords(cmd, "qos", "0", "1")
	completeWords(cmd, "filter")
}

// fill writes what was given into the request.
func (m *memberFlags) fill(c *cli, cmd *cobra.Command, r *control.Request) error {
	if m.qos > 1 {
		return usagef(cmd, "--qos: %d is neither 0 nor 1", m.qos)
	}
	r.Device = group.ClientID(m.as)
	r.QoS = changed(cmd, "qos", &m.qos)
	r.Filter = m.filter
	if cmd.Flags().Changed("no-recv") {
		recv := !m.noRecv
		r.Recv = &recv
	}
	var err error
	if r.Secret, err = c.secretFile(cmd, "pin-file", m.pinFile); err != nil {
		return err
	}
	grant, err := c.secretFile(cmd, "grant-file", m.grantFile)
	if err != nil || grant == "" {
		return err
	}
	if r.Grant, err = base64.RawURLEncoding.DecodeString(grant); err != nil {
		return fmt.Errorf("%w: --grant-file: not base64url without padding", group.GrantUnknown)
	}
	return nil
}

const asNote = "\n\nThrough the operator socket --as names the device. Over MQTT it is the device of\n--client-id, by default that with the name of --user."

func (c *cli) joinCommand() *cobra.Command {
	var m memberFlags
	cmd := &cobra.Command{
		Use: "join REF", Short: "Make a device a member of a group", GroupID: groupDevice,
		Args: words("[REF]"), ValidArgsFunction: noFiles,
		Long: "Make a device a member of a group. Options that are not given are the defaults of a new\n" +
			"membership, and of a standing one stay as they are." + asNote,
		Example: "  muster join lamps --as lamp-7\n" +
			"  muster join lamps --as lamp-7 --qos 0 --filter 'cmd/#'\n" +
			"  muster join --grant-file grant --as lamp-7\n" +
			"  muster --server mqtt://127.0.0.1:1883 --user lamp-7 join ovens --pin-file pin.txt",
	}
	m.addAs(cmd)
	m.addGrant(cmd)
	m.addPIN(cmd)
	m.addOptions(cmd)
	cmd.RunE = act(func(cmd *cobra.Command, args []string) error {
		r := control.Request{Op: control.OpJoin}
		return c.change(cmd, &m, &r, args, &r.G)
	})
	return cmd
}

func (c *cli) leaveCommand() *cobra.Command {
	var m memberFlags
	cmd := &cobra.Command{
		Use: "leave REF", Short: "End a device's membership of a group", GroupID: groupDevice,
		Args: words("[REF]"), ValidArgsFunction: noFiles,
		Long:    "End a device's membership of a group." + asNote,
		Example: "  muster leave lamps --as lamp-7",
	}
	m.addAs(cmd)
	m.addGrant(cmd)
	cmd.RunE = act(func(cmd *cobra.Command, args []string) error {
		r := control.Request{Op: control.OpLeave}
		return c.change(cmd, &m, &r, args, &r.G)
	})
	return cmd
}

func (c *cli) switchCommand() *cobra.Command {
	var m memberFlags
	cmd := &cobra.Command{
		Use: "switch [FROM] TO", Short: "Change a device from one group to another, in one step", GroupID: groupDevice,
		Args: words("[FROM]", "[TO]"), ValidArgsFunction: noFiles,
		Long: "Change a device from one group to another: one change, or none. A device that is in\n" +
			"one group only may leave out FROM." + asNote,
		Example: "  muster switch lamps lamps-east --as lamp-7\n  muster switch lamps-east --as lamp-7",
	}
	m.addAs(cmd)
	m.addGrant(cmd)
	m.addPIN(cmd)
	m.addOptions(cmd)
	cmd.RunE = act(func(cmd *cobra.Command, args []string) error {
		r := control.Request{Op: control.OpSwitch}
		if len(args) == 1 {
			return c.change(cmd, &m, &r, args, &r.To)
		}
		return c.change(cmd, &m, &r, args, &r.From, &r.To)
	})
	return cmd
}

// change asks for a change of one device, and prints what came of it. The
// references are read from args; a grant stands in for missing ones.
func (c *cli) change(cmd *cobra.Command, m *memberFlags, r *control.Request, args []string, to ...*group.Ref) error {
	if len(args) == 0 && m.grantFile == "" {
		return usagef(cmd, "REF is missing")
	}
	if err := refs(cmd, args, to...); err != nil {
		return err
	}
	if err := m.fill(c, cmd, r); err != nil {
		return err
	}
	return c.askAsDevice(cmd, m.as, *r, c.printChange)
}

func (c *cli) grantCommand() *cobra.Command {
	var m memberFlags
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "grant join|leave|switch REF", Short: "Ask for a grant: the permission for one change, to be used later", GroupID: groupDevice,
		Args: words("OP", "REF", "[TO]"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []string{"join", "leave", "switch"}, cobra.ShellCompDirectiveNoFileComp
		},
		Long: "Ask for a grant: the permission for one change of one device. It is printed as one\n" +
			"line, is good for one use by that device, and dies with any other change of it." + asNote,
		Example: "  muster grant join lamps --as lamp-7 > grant\n" +
			"  muster join --grant-file grant --as lamp-7\n" +
			"  muster grant switch lamps lamps-east --as lamp-7 --ttl 1h",
	}
	m.addAs(cmd)
	m.addPIN(cmd)
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "`TIME` for which it is good: 1s to 24h (default: what the\nserver says, 60s)")
	completeWords(cmd, "ttl")
	cmd.RunE = act(func(cmd *cobra.Command, args []string) error {
		r := control.Request{Op: control.OpGrant, Sub: args[0], TTL: int(ttl / time.Second)}
		if ttl%time.Second != 0 || cmd.Flags().Changed("ttl") && (ttl < time.Second || ttl > 24*time.Hour) {
			return usagef(cmd, "--ttl: %s is not a number of seconds between 1s and 24h", ttl)
		}
		var to []*group.Ref
		switch refs := args[1:]; {
		case r.Sub == "switch" && len(refs) == 2:
			to = []*group.Ref{&r.From, &r.To}
		case r.Sub == "switch":
			to = []*group.Ref{&r.To}
		case r.Sub != "join" && r.Sub != "leave":
			return usagef(cmd, "%s is not one of join, leave, switch", quote(r.Sub))
		case len(refs) == 2:
			return usagef(cmd, "too many arguments: %s", quote(refs[1]))
		default:
			to = []*group.Ref{&r.G}
		}
		if err := refs(cmd, args[1:], to...); err != nil {
			return err
		}
		if err := m.fill(c, cmd, &r); err != nil {
			return err
		}
		return c.askAsDevice(cmd, m.as, r, c.printGrant)
	})
	return cmd
}

// printGrant prints the grant alone, so that the output can be kept as a file,
// and beside it what a person wants to know.
func (c *cli) printGrant(a control.Answer) error {
	if _, err := fmt.Fprintln(c.stdout, base64.RawURLEncoding.EncodeToString(a.Grant)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.stderr, "good until %s\n", clock(a.Exp))
	return err
}

func (c *cli) mineCommand() *cobra.Command {
	var m memberFlags
	cmd := &cobra.Command{
		Use: "mine", Short: "List the groups that a device is in", GroupID: groupDevice, Args: words(), ValidArgsFunction: noFiles,
		Long:    "List the groups that a device is in, and how it receives their messages." + asNote,
		Example: "  muster mine --as lamp-7",
	}
	m.addAs(cmd)
	cmd.RunE = act(func(cmd *cobra.Command, _ []string) error {
		return c.askAsDevice(cmd, m.as, control.Request{Op: control.OpMine, Device: group.ClientID(m.as)}, c.printMemberships)
	})
	return cmd
}

func (c *cli) membersCommand() *cobra.Command {
	return &cobra.Command{
		Use: "members REF", Short: "List the members of a group", GroupID: groupDevice, Args: words("REF"), ValidArgsFunction: noFiles,
		Long:    "List the members of a group: for operators, for observers of the group, and for its\nmembers.",
		Example: "  muster members lamps\n  muster members lamps --json",
		RunE: act(func(cmd *cobra.Command, args []string) error {
			r := control.Request{Op: control.OpMembers}
			if err := refs(cmd, args, &r.G); err != nil {
				return err
			}
			return c.askAndPrint(cmd, r, c.printMembers)
		}),
	}
}

func (c *cli) moveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "move DEVICE FROM TO", Short: "Move a device from one group to another", GroupID: groupOperator,
		Args: words("DEVICE", "FROM", "TO"), ValidArgsFunction: noFiles,
		Long:    "Move a device, connected or not, from one group to another in one change. A PIN is not\nneeded, and the device's own subscriptions do not undo it.",
		Example: "  muster move lamp-7 lamps lamps-east",
		RunE: act(func(cmd *cobra.Command, args []string) error {
			r := control.Request{Op: control.OpMove, Device: group.ClientID(args[0])}
			if err := refs(cmd, args[1:], &r.From, &r.To); err != nil {
				return err
			}
			return c.askAndPrint(cmd, r, c.printChange)
		}),
	}
}

func (c *cli) removeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove DEVICE REF", Short: "Remove a device from a group", GroupID: groupOperator,
		Args: words("DEVICE", "REF"), ValidArgsFunction: noFiles,
		Long:    "Remove a device, connected or not, from a group. It does not come back by subscribing\nagain as before.",
		Example: "  muster remove lamp-7 lamps",
		RunE: act(func(cmd *cobra.Command, args []string) error {
			r := control.Request{Op: control.OpRemove, Device: group.ClientID(args[0])}
			if err := refs(cmd, args[1:], &r.G); err != nil {
				return err
			}
			return c.askAndPrint(cmd, r, c.printChange)
		}),
	}
}

// printChange says what became of one device's groups.
func (c *cli) printChange(a control.Answer) error {
	if a.Code == group.Unchanged {
		_, err := fmt.Fprintln(c.stdout, a.Code.Error()+": "+a.Code.Text())
		return err
	}
	var b strings.Builder
	if a.Device != "" {
		b.WriteString(cell(string(a.Device)) + " ")
	}
	switch {
	case a.From != 0 && a.To != 0 && a.Op == control.OpMove:
		fmt.Fprintf(&b, "moved from group %s to group %s", a.From, a.To)
	case a.From != 0 && a.To != 0:
		fmt.Fprintf(&b, "switched from group %s to group %s", a.From, a.To)
	case a.Op == control.OpRemove:
		fmt.Fprintf(&b, "removed from group %s", a.N)
	case a.State == "out":
		fmt.Fprintf(&b, "left group %s", a.N)
	default:
		fmt.Fprintf(&b, "joined group %s", a.N)
	}
	fmt.Fprintf(&b, ", epoch %d", a.Epoch)
	if a.Dropped > 0 {
		fmt.Fprintf(&b, ", %d waiting messages dropped", a.Dropped)
	}
	_, err := fmt.Fprintln(c.stdout, b.String())
	return err
}
