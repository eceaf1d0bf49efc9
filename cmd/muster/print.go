package main

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// table prints rows in columns below a header; each row and the header are cells
// separated by tabs.
func (c *cli) table(header string, rows []string) error {
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, header)
	for _, r := range rows {
		fmt.Fprintln(w, r)
	}
	return w.Flush()
}

// rows makes a row of each entry.
func rows(list []control.Entry, row func(e *control.Entry) []string) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = strings.Join(row(&list[i]), "\t")
	}
	return out
}

// cell returns s as it can stand in a table on a terminal.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return show(s)
}

// cells returns several texts as one cell.
func cells(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = cell(s)
	}
	return cell(strings.Join(out, ","))
}

// clock returns seconds since 1970 as a time in UTC.
func clock(at int64) string {
	if at == 0 {
		return "-"
	}
	return time.Unix(at, 0).UTC().Format(time.RFC3339)
}

func yesNo(b *bool, without string) string {
	switch {
	case b == nil:
		return without
	case *b:
		return "yes"
	}
	return "no"
}

func connected(b *bool) string {
	switch {
	case b == nil:
		return "-"
	case *b:
		return "online"
	}
	return "offline"
}

func count(n *int) string {
	if n == nil {
		return "-"
	}
	return strconv.Itoa(*n)
}

func numbers(list []group.Number, without string) string {
	if len(list) == 0 {
		return without
	}
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = n.String()
	}
	return strings.Join(out, ",")
}

// printGroups prints a line for each group, and the PIN if one was generated.
func (c *cli) printGroups(a control.Answer) error {
	err := c.table("N\tNAME\tPOLICY\tVISIBLE\tMEMBERS\tID", rows(a.List, func(e *control.Entry) []string {
		return []string{e.N.String(), cell(e.Name), cell(e.Policy), cell(e.Visible), count(e.Members), e.G.String()}
	}))
	if err != nil || a.PIN == "" {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "PIN %s\n", a.PIN)
	return err
}

// printGroup prints all that is known of one group.
func (c *cli) printGroup(a control.Answer) error {
	for i := range a.List {
		e := &a.List[i]
		err := c.table("number\t"+e.N.String(), []string{
			"id\t" + e.G.String(),
			"name\t" + cell(e.Name),
			"old names\t" + cells(e.Aliases),
			"policy\t" + cell(e.Policy),
			"visible to\t" + cell(e.Visible),
			"members\t" + count(e.Members),
			"PIN in topics\t" + yesNo(e.PINInTopic, "-"),
			"members publish to one\t" + yesNo(e.MembersTo, "-"),
			"members get events\t" + yesNo(e.MembersEvents, "-"),
			"created\t" + clock(e.At),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// printMembers prints a line for each member of a group.
func (c *cli) printMembers(a control.Answer) error {
	return c.table("DEVICE\tACCOUNT\tSTATE\tJOINED", rows(a.List, func(e *control.Entry) []string {
		return []string{cell(string(e.Device)), cell(e.User), connected(e.Online), clock(e.At)}
	}))
}

// printMemberships prints a line for each group of a device.
func (c *cli) printMemberships(a control.Answer) error {
	return c.table("N\tNAME\tQOS\tRECEIVES\tFILTER\tJOINED", rows(a.List, func(e *control.Entry) []string {
		qos := "1"
		if e.QoS != nil {
			qos = strconv.Itoa(int(*e.QoS))
		}
		filter := "#"
		if len(e.Filter) > 0 {
			filter = cells(e.Filter)
		}
		return []string{e.N.String(), cell(e.Name), qos, yesNo(e.Recv, "yes"), filter, clock(e.At)}
	}))
}

// printDevices prints a line for each device.
func (c *cli) printDevices(a control.Answer) error {
	return c.table("DEVICE\tACCOUNT\tSTATE\tEPOCH\tGROUPS", rows(a.List, func(e *control.Entry) []string {
		return []string{cell(string(e.Device)), cell(e.User), connected(e.Online), strconv.FormatUint(uint64(e.Epoch), 10), numbers(e.Groups, "-")}
	}))
}

// printDevice prints one device and below it a line for each of its groups.
func (c *cli) printDevice(a control.Answer) error {
	row := strings.Join([]string{cell(string(a.Device)), cell(a.User), cell(a.Kind), strconv.FormatUint(uint64(a.Epoch), 10)}, "\t")
	if err := c.table("DEVICE\tACCOUNT\tSTATE\tEPOCH", []string{row}); err != nil || len(a.List) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(c.stdout); err != nil {
		return err
	}
	return c.printMemberships(a)
}

// printAccounts prints a line for each account.
func (c *cli) printAccounts(a control.Answer) error {
	return c.table("ACCOUNT\tROLE\tSTATE\tFINDABLE\tGROUPS\tTOPICS\tCREATED", rows(a.List, func(e *control.Entry) []string {
		return []string{
			cell(e.User), cell(e.Role), enabled(e), yesNo(e.Findable, "no"), numbers(e.Groups, anyGroup(e)), topicRights(e), clock(e.At),
		}
	}))
}

// printAccount prints all that is known of one account.
func (c *cli) printAccount(a control.Answer) error {
	for i := range a.List {
		e := &a.List[i]
		lines := []string{
			"role\t" + cell(e.Role),
			"state\t" + enabled(e),
			"findable\t" + yesNo(e.Findable, "no"),
			"groups\t" + numbers(e.Groups, anyGroup(e)),
			"created\t" + clock(e.At),
		}
		if len(e.Topics) == 0 {
			lines = append(lines, "topics\t"+topicRights(e))
		}
		for _, r := range e.Topics {
			lines = append(lines, "topics\t"+cell(r))
		}
		if err := c.table("account\t"+cell(e.User), lines); err != nil {
			return err
		}
	}
	return nil
}

// enabled says whether an account can be logged in to.
func enabled(e *control.Entry) string {
	if e.Disabled != nil && *e.Disabled {
		return "disabled"
	}
	return "enabled"
}

// anyGroup is what an account reads that is limited to no groups.
func anyGroup(e *control.Entry) string {
	if e.Role == group.RoleObserver.String() {
		return "all"
	}
	return "-"
}

// topicRights says in one word how an account may use ordinary topics.
func topicRights(e *control.Entry) string {
	switch {
	case len(e.Topics) == 1:
		return "1 rule"
	case len(e.Topics) > 1:
		return strconv.Itoa(len(e.Topics)) + " rules"
	case e.Role == group.RoleOperator.String():
		return "all"
	}
	return "-"
}
