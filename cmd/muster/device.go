package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

func (c *cli) deviceCommand() *cobra.Command {
	cmd := parent(&cobra.Command{
		Use: "device", Short: "List, show and forget devices", GroupID: groupOperator,
		Example: "  muster device list\n  muster device show lamp-7",
	})
	cmd.AddCommand(c.deviceListCommand(), c.deviceShowCommand(), c.deviceForgetCommand())
	return cmd
}

func (c *cli) deviceListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the devices", Args: words(), ValidArgsFunction: noFiles,
		Long:    "List the Client Identifiers that belong to an account: whose they are, in which\ngroups they are, and whether they are connected.",
		Example: "  muster device list\n  muster device list --json",
		RunE: act(func(cmd *cobra.Command, _ []string) error {
			return c.askAndPrint(cmd, control.Request{Op: control.OpList, Kind: "device"}, c.printDevices)
		}),
	}
}

func (c *cli) deviceShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show DEVICE", Short: "Show a device and its groups", Args: words("DEVICE"), ValidArgsFunction: noFiles,
		Example: "  muster device show lamp-7",
		RunE: act(func(cmd *cobra.Command, args []string) error {
			return c.askAndPrint(cmd, control.Request{Op: control.OpShow, Device: group.ClientID(args[0])}, c.printDevice)
		}),
	}
}

func (c *cli) deviceForgetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "forget DEVICE", Short: "End all that a device holds, and free its Client Identifier", Args: words("DEVICE"), ValidArgsFunction: noFiles,
		Long:    "Forget a device: its memberships, its connection and its Session end, and any account\nmay use its Client Identifier.",
		Example: "  muster device forget lamp-7",
		RunE: act(func(cmd *cobra.Command, args []string) error {
			r := control.Request{Op: control.OpForget, Device: group.ClientID(args[0])}
			return c.askAndPrint(cmd, r, func(control.Answer) error {
				_, err := fmt.Fprintf(c.stdout, "forgot device %s\n", cell(args[0]))
				return err
			})
		}),
	}
}
