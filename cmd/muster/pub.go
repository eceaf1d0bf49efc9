package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

func (c *cli) pubCommand() *cobra.Command {
	return &cobra.Command{
		Use: "pub REF TOPIC MESSAGE", Short: "Publish a message to all members of a group", GroupID: groupMessage,
		Args: words("REF", "TOPIC", "MESSAGE"), ValidArgsFunction: noFiles,
		Long: "Publish a message to all members and observers of a group, with QoS 1. An operator's\n" +
			"is received as g/<n>/all/muster/TOPIC; over MQTT a member publishes as itself.",
		Example: "  muster pub lamps hello good-morning\n  muster pub lamps cmd/power '{\"on\":true}'",
		RunE:    act(c.pub),
	}
}

func (c *cli) pub(cmd *cobra.Command, args []string) error {
	r := control.Request{Op: control.OpShow}
	if err := refs(cmd, args[:1], &r.G); err != nil {
		return err
	}
	if strings.ContainsAny(args[1], "+#\x00") {
		return usagef(cmd, "%s is not a Topic Name: it holds a wildcard", quote(args[1]))
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	d, operator, err := c.connect(ctx, cmd, administer, ignore)
	if err != nil {
		return err
	}
	defer d.Close()
	a, err := c.do(ctx, d, r)
	if err != nil {
		return err
	}
	// What a stranger to the group publishes is acknowledged like any other
	// message: MQTT 3.1.1 has no other answer.
	answer := control.Answer{N: a.N, Name: a.Name}
	if _, in := d.Member(a.N); !in && !operator {
		answer.Code = group.NotMember
	} else if err := d.Publish(ctx, a.N, args[1], []byte(args[2]), 1); err != nil {
		return c.explain(ctx, err)
	}
	if c.json {
		if err := c.printJSON(answer); err != nil {
			return err
		}
	}
	if answer.Code != group.OK {
		return answer.Code
	}
	return nil
}
