package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

func (c *cli) accountCommand() *cobra.Command {
	cmd := parent(&cobra.Command{
		Use: "account", Short: "Add, list, show, update and remove accounts", GroupID: groupOperator,
		Example: "  muster account add lamp-7\n  muster account list",
	})
	cmd.AddCommand(c.accountAddCommand(), c.accountListCommand(), c.accountShowCommand(), c.accountUpdateCommand(), c.accountPasswdCommand(), c.accountRemoveCommand())
	return cmd
}

// accountFlags are the flags by which an account's record is written.
type accountFlags struct {
	role     string
	findable bool
	groups   []string
	topics   []string
	noTopics bool
	disable  bool
	enable   bool
	secret   string
}

func (a *accountFlags) addRecord(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.role, "role", "", "`ROLE`: device (acts for its own devices; the default of\na new account), observer (reads groups without being in\nthem) or operator (administers)")
	f.BoolVar(&a.findable, "findable", false, "whether @NAME stands for the group in which its devices are")
	f.StringSliceVar(&a.groups, "groups", nil, "`REF,...` of the groups that an observer may read; empty\nmeans all")
	f.StringArrayVar(&a.topics, "topic", nil, "`RULE` for ordinary topics, such as\n'allow publish sensors/%c/#': allow or deny; publish,\nsubscribe or both; a Topic Filter, in which %c is the\nClient Identifier and %u the account. May be repeated;\nthe rules given replace all that there are")
	f.BoolVar(&a.noTopics, "no-topics", false, "take all rules for ordinary topics away")
	f.BoolVar(&a.disable, "disable", false, "let nobody log in to it until it is enabled")
	completeWords(cmd, "role", "device", "observer", "operator")
	completeWords(cmd, "topic")
	completeWords(cmd, "groups")
}

func (a *accountFlags) addSecret(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.secret, "password-file", "", "`FILE` with the account's password, or - for standard\ninput; without it one is generated and printed")
}

// passwordNote says which password is which.
const passwordNote = "\n\nThe password of the login, if there is one, is MUSTER_PASSWORD or a --password-file\nbefore the word account."

// fill writes what was given into the request.
func (a *accountFlags) fill(cmd *cobra.Command, r *control.Request) error {
	if err := oneOf(cmd, "role", a.role, "device", "observer", "operator"); err != nil {
		return err
	}
	r.Role = a.role
	r.Findable = changed(cmd, "findable", &a.findable)
	switch {
	case a.noTopics && len(a.topics) > 0:
		return usagef(cmd, "--topic and --no-topics exclude each other")
	case a.disable && a.enable:
		return usagef(cmd, "--disable and --enable exclude each other")
	case a.disable || a.enable:
		r.Disabled = &a.disable
	}
	r.SetTopics = a.noTopics || len(a.topics) > 0
	for _, s := range a.topics {
		rule, err := group.ParseTopicRule(s)
		if err != nil {
			return usagef(cmd, "--topic %s: %v", show(s), err)
		}
		r.Topics = append(r.Topics, rule)
	}
	if len(r.Topics) > group.MaxTopicRules {
		return usagef(cmd, "%d rules are more than %d", len(r.Topics), group.MaxTopicRules)
	}
	r.SetGroups = cmd.Flags().Changed("groups")
	if r.SetGroups {
		r.Groups = []group.Ref{}
	}
	for _, s := range a.groups {
		g, err := ref(cmd, strings.TrimSpace(s))
		if err != nil {
			return err
		}
		r.Groups = append(r.Groups, g)
	}
	return nil
}

func (c *cli) accountAddCommand() *cobra.Command {
	var a accountFlags
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add an account", Args: words("NAME"), ValidArgsFunction: noFiles,
		Long: "Add an account. A password that is not given is generated and printed, this once." + passwordNote,
		Example: "  muster account add lamp-7\n" +
			"  muster account add lamp-8 --topic 'allow publish sensors/%c/#' --topic 'allow subscribe time'\n" +
			"  muster account add ann --role observer --groups lamps,ovens\n" +
			"  muster account add eve --role operator --password-file - < password.txt",
	}
	a.addRecord(cmd)
	a.addSecret(cmd)
	cmd.RunE = act(func(cmd *cobra.Command, args []string) error {
		r := control.Request{Op: control.OpAccount, Sub: "add", User: args[0]}
		if err := a.fill(cmd, &r); err != nil {
			return err
		}
		var err error
		if r.Secret, err = c.secretFile(cmd, "password-file", a.secret); err != nil {
			return err
		}
		return c.askAndPrint(cmd, r, func(a control.Answer) error {
			if _, err := fmt.Fprintf(c.stdout, "added account %s, %s\n", cell(a.User), cell(a.Role)); err != nil {
				return err
			}
			return c.printPassword(a)
		})
	})
	return cmd
}

// printPassword prints a password that was generated.
func (c *cli) printPassword(a control.Answer) error {
	if a.Secret == "" {
		return nil
	}
	_, err := fmt.Fprintf(c.stdout, "PASSWORD %s\n", a.Secret)
	return err
}

func (c *cli) accountListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the accounts", Args: words(), ValidArgsFunction: noFiles,
		Example: "  muster account list\n  muster account list --json",
		RunE: act(func(cmd *cobra.Command, _ []string) error {
			return c.askAndPrint(cmd, control.Request{Op: control.OpAccount, Sub: "list"}, c.printAccounts)
		}),
	}
}

func (c *cli) accountShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show an account and its rules for ordinary topics", Args: words("NAME"), ValidArgsFunction: noFiles,
		Example: "  muster account show lamp-7",
		RunE: act(func(cmd *cobra.Command, args []string) error {
			return c.askAndPrint(cmd, control.Request{Op: control.OpAccount, Sub: "show", User: args[0]}, c.printAccount)
		}),
	}
}

func (c *cli) accountUpdateCommand() *cobra.Command {
	var a accountFlags
	cmd := &cobra.Command{
		Use: "update NAME", Short: "Change an account's role, rights or state", Args: words("NAME"), ValidArgsFunction: noFiles,
		Long: "Change an account. What is not given stays as it is. For its password see passwd.",
		Example: "  muster account update ann --findable\n  muster account update ann --groups lamps,ovens\n  muster account update ann --groups=\n" +
			"  muster account update lamp-7 --topic 'allow both sensors/#' --topic 'deny publish sensors/+/limit'\n" +
			"  muster account update lamp-7 --disable",
	}
	a.addRecord(cmd)
	cmd.Flags().BoolVar(&a.enable, "enable", false, "let its clients log in again")
	cmd.RunE = act(func(cmd *cobra.Command, args []string) error {
		if !anyChanged(cmd, "role", "findable", "groups", "topic", "no-topics", "disable", "enable") {
			return usagef(cmd, "nothing to change: give a flag")
		}
		r := control.Request{Op: control.OpAccount, Sub: "update", User: args[0]}
		if err := a.fill(cmd, &r); err != nil {
			return err
		}
		return c.askAndPrint(cmd, r, c.printUser("updated account"))
	})
	return cmd
}

// printUser prints what was done to the account of the answer.
func (c *cli) printUser(what string) func(control.Answer) error {
	return func(a control.Answer) error {
		_, err := fmt.Fprintf(c.stdout, "%s %s\n", what, cell(a.User))
		return err
	}
}

func (c *cli) accountPasswdCommand() *cobra.Command {
	var a accountFlags
	cmd := &cobra.Command{
		Use: "passwd NAME", Short: "Give an account a new password", Args: words("NAME"), ValidArgsFunction: noFiles,
		Long:    "Give an account a new password. One that is not given is generated and printed, this\nonce." + passwordNote,
		Example: "  muster account passwd ann\n  muster account passwd ann --password-file password.txt",
	}
	a.addSecret(cmd)
	cmd.RunE = act(func(cmd *cobra.Command, args []string) error {
		r := control.Request{Op: control.OpAccount, Sub: "passwd", User: args[0]}
		var err error
		if r.Secret, err = c.secretFile(cmd, "password-file", a.secret); err != nil {
			return err
		}
		return c.askAndPrint(cmd, r, func(a control.Answer) error {
			if err := c.printUser("new password for account")(a); err != nil {
				return err
			}
			return c.printPassword(a)
		})
	})
	return cmd
}

func (c *cli) accountRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Remove an account and forget its devices", Args: words("NAME"), ValidArgsFunction: noFiles,
		Long:    "Remove an account: its connections end, its devices are forgotten with their\nmemberships, and its name is free.",
		Example: "  muster account remove ann",
		RunE: act(func(cmd *cobra.Command, args []string) error {
			return c.askAndPrint(cmd, control.Request{Op: control.OpAccount, Sub: "remove", User: args[0]}, c.printUser("removed account"))
		}),
	}
}
