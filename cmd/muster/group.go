package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/muster-mqtt/muster/control"
)

func (c *cli) groupCommand() *cobra.Command {
	cmd := parent(&cobra.Command{
		Use: "group", Short: "Create, list, show, update and delete groups", GroupID: groupOperator,
		Example: "  muster group create lamps\n  muster group list",
	})
	cmd.AddCommand(c.groupCreateCommand(), c.groupListCommand(), c.groupShowCommand(), c.groupUpdateCommand(), c.groupDeleteCommand())
	return cmd
}

// groupFlags are the flags by which a group's record is written.
type groupFlags struct {
	policy, visible, pinFile            string
	pinInTopic, membersTo, memberEvents bool
}

func (g *groupFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&g.policy, "policy", "", "`POLICY`, who may join: open (everyone) or pin (who knows\nthe PIN)")
	f.StringVar(&g.pinFile, "pin-file", "", "`FILE` with the PIN, or - for standard input: 4 to 64 of\nletters, digits, - _ .")
	f.StringVar(&g.visible, "visible", "", "`WHO` may see that it is there: all or members\n(default all for an open group, else members)")
	f.BoolVar(&g.pinInTopic, "pin-in-topic", true, "whether the PIN may be the last level of $join/REF/PIN")
	f.BoolVar(&g.membersTo, "members-to", false, "whether members may publish to a single member")
	f.BoolVar(&g.memberEvents, "members-events", false, "whether members may receive the roster events")
	completeWords(cmd, "policy", "open", "pin")
	completeWords(cmd, "visible", "all", "members")
}

// fill writes what was given into the request.
func (g *groupFlags) fill(c *cli, cmd *cobra.Command, r *control.Request) error {
	if err := oneOf(cmd, "policy", g.policy, "open", "pin"); err != nil {
		return err
	}
	if err := oneOf(cmd, "visible", g.visible, "all", "members"); err != nil {
		return err
	}
	if g.policy == "open" && g.pinFile != "" {
		return usagef(cmd, "--pin-file is for --policy pin")
	}
	r.Policy, r.Visible = g.policy, g.visible
	r.PINInTopic = changed(cmd, "pin-in-topic", &g.pinInTopic)
	r.MembersTo = changed(cmd, "members-to", &g.membersTo)
	r.MembersEvents = changed(cmd, "members-events", &g.memberEvents)
	var err error
	r.PIN, err = c.secretFile(cmd, "pin-file", g.pinFile)
	return err
}

func (c *cli) groupCreateCommand() *cobra.Command {
	var g groupFlags
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a group", Args: words("NAME"), ValidArgsFunction: noFiles,
		Long: "Create a group. A PIN that is not given is generated and printed, this once.",
		Example: "  muster group create lamps\n" +
			"  muster group create ovens --policy pin\n" +
			"  muster group create safes --policy pin --pin-file pin.txt",
	}
	g.add(cmd)
	cmd.RunE = act(func(cmd *cobra.Command, args []string) error {
		r := control.Request{Op: control.OpCreate, Name: args[0]}
		if err := g.fill(c, cmd, &r); err != nil {
			return err
		}
		return c.askAndPrint(cmd, r, c.printGroups)
	})
	return cmd
}

func (c *cli) groupListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the groups", Args: words(), ValidArgsFunction: noFiles,
		Long:    "List the groups: all for an operator, those that it observes for an observer.",
		Example: "  muster group list\n  muster group list --json",
		RunE: act(func(cmd *cobra.Command, _ []string) error {
			return c.askAndPrint(cmd, control.Request{Op: control.OpList, Kind: "group"}, c.printGroups)
		}),
	}
}

func (c *cli) groupShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show REF", Short: "Show a group", Args: words("REF"), ValidArgsFunction: noFiles,
		Example: "  muster group show lamps\n  muster group show 1 --json",
		RunE: act(func(cmd *cobra.Command, args []string) error {
			r := control.Request{Op: control.OpShow}
			if err := refs(cmd, args, &r.G); err != nil {
				return err
			}
			return c.askAndPrint(cmd, r, c.printGroup)
		}),
	}
}

func (c *cli) groupUpdateCommand() *cobra.Command {
	var g groupFlags
	var name string
	cmd := &cobra.Command{
		Use: "update REF", Short: "Change a group", Args: words("REF"), ValidArgsFunction: noFiles,
		Long: "Change a group. What is not given stays as it is, and so do its members. After a\n" +
			"rename the old name leads to the group for 30 days.",
		Example: "  muster group update lamps --name street-lamps\n" +
			"  muster group update lamps --policy pin\n" +
			"  muster group update 1 --pin-file - < pin.txt",
	}
	g.add(cmd)
	cmd.Flags().StringVar(&name, "name", "", "new `NAME`")
	completeWords(cmd, "name")
	cmd.RunE = act(func(cmd *cobra.Command, args []string) error {
		r := control.Request{Op: control.OpUpdate, Name: name}
		if err := refs(cmd, args, &r.G); err != nil {
			return err
		}
		if name == "" && cmd.Flags().Changed("name") {
			return usagef(cmd, "--name: must not be empty")
		}
		if !anyChanged(cmd, "name", "policy", "pin-file", "visible", "pin-in-topic", "members-to", "members-events") {
			return usagef(cmd, "nothing to change: give a flag")
		}
		if err := g.fill(c, cmd, &r); err != nil {
			return err
		}
		return c.askAndPrint(cmd, r, c.printGroups)
	})
	return cmd
}

// anyChanged reports whether one of the flags was given.
func anyChanged(cmd *cobra.Command, flags ...string) bool {
	for _, f := range flags {
		if cmd.Flags().Changed(f) {
			return true
		}
	}
	return false
}

func (c *cli) groupDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete REF", Short: "Delete a group and end its memberships", Args: words("REF"), ValidArgsFunction: noFiles,
		Long: "Delete a group. All its memberships end in the same change; its number and ID are\n" +
			"never given again.",
		Example: "  muster group delete lamps",
		RunE: act(func(cmd *cobra.Command, args []string) error {
			r := control.Request{Op: control.OpDelete}
			if err := refs(cmd, args, &r.G); err != nil {
				return err
			}
			return c.askAndPrint(cmd, r, func(a control.Answer) error {
				_, err := fmt.Fprintf(c.stdout, "deleted group %s %s\n", a.N, cell(a.Name))
				return err
			})
		}),
	}
}
