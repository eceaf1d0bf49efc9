package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/device"
	"github.com/muster-mqtt/muster/group"
)

// tool is the device part of the Client Identifier under which an operator's
// command connects: it is never a member and never bound to an account.
const tool = "muster"

// askAndPrint asks the server, and gives the answer to print, or prints it as
// JSON. A list is fetched whole.
func (c *cli) askAndPrint(cmd *cobra.Command, r control.Request, print func(control.Answer) error) error {
	return c.ask(cmd, administer, r, print)
}

// askAsDevice does the same for a request of one device: of the one called as,
// or of oneself.
func (c *cli) askAsDevice(cmd *cobra.Command, as string, r control.Request, print func(control.Answer) error) error {
	if as == "" && cmd.Flags().Changed("as") {
		return usagef(cmd, "--as: want a Client Identifier")
	}
	if as != "" {
		return c.ask(cmd, administer, r, print)
	}
	return c.ask(cmd, ownDevice, r, print)
}

func (c *cli) ask(cmd *cobra.Command, p purpose, r control.Request, print func(control.Answer) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	d, _, err := c.connect(ctx, cmd, p, ignore)
	if err != nil {
		return err
	}
	defer d.Close()
	a, err := c.do(ctx, d, r)
	switch {
	case err != nil:
		return err
	case c.json:
		return c.printJSON(a)
	}
	return print(a)
}

// printJSON prints an answer as the protocol writes it, in one line.
func (c *cli) printJSON(a control.Answer) error {
	_, err := fmt.Fprintf(c.stdout, "%s\n", control.EncodeAnswer(a, control.JSON))
	return err
}

// ignore takes messages that nobody asked for.
func ignore(device.Message) {}

// do asks once, or for a list as often as it has pages. With --json a refusal is
// printed.
func (c *cli) do(ctx context.Context, d *device.Device, r control.Request) (control.Answer, error) {
	if err := checkRequest(&r); err != nil && !c.json {
		return control.Answer{}, err
	}
	if r.Op == control.OpList || r.Op == control.OpMembers || r.Op == control.OpMine || r.Op == control.OpAccount && r.Sub == "list" {
		r.Limit = maxPage
	}
	all, err := d.Do(ctx, r)
	for next := all.Next; err == nil && next != ""; {
		r.Next = next
		var page control.Answer
		page, err = d.Do(ctx, r)
		all.List = append(all.List, page.List...)
		next = page.Next
		if err != nil {
			all = page // what was refused, and not half a list
		}
	}
	all.Next = ""
	if c.json && !all.Code.Success() {
		if printErr := c.printJSON(all); printErr != nil {
			return all, printErr
		}
	}
	return all, c.explain(ctx, err)
}

// maxPage is how many entries of a list are asked for at once.
const maxPage = 1000

// explain says of an error what a person can do about it.
func (c *cli) explain(ctx context.Context, err error) error {
	var refused *device.Error
	if err != nil && !errors.As(err, &refused) && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer from %s within %s (--timeout)", show(c.server), showDuration(c.timeout))
	}
	return err
}

// maxTimeout is the longest --timeout.
const maxTimeout = 10 * time.Minute

// A purpose is what a command needs its connection for.
type purpose int

const (
	administer purpose = iota // ask as an operator, if one is
	ownDevice                 // ask as a device, which is oneself
	receive                   // receive what an operator or observer may
)

// connect connects to the server: as the tool of an operator, or as oneself. It
// reports whether it is the tool.
func (c *cli) connect(ctx context.Context, cmd *cobra.Command, p purpose, messages func(device.Message)) (d *device.Device, operator bool, err error) {
	ids, err := c.identities(cmd, p)
	if err != nil {
		return nil, false, err
	}
	conf, err := c.tlsConfig(cmd)
	if err != nil {
		return nil, false, err
	}
	// It is ctx that ends the waiting: the device's own limits come after it.
	later := c.timeout + time.Second
	o := device.Options{
		User: c.user, TLS: conf, CleanSession: true, NoRetry: true, ConnectTimeout: later, RequestTimeout: later,
		Messages: messages, Changes: func(device.Change) {},
	}
	if c.user != "" {
		if o.Password, err = c.loginPassword(cmd); err != nil {
			return nil, false, err
		}
	}
	for _, id := range ids {
		o.ClientID = id
		if d, err = device.Dial(ctx, c.server, o); err == nil {
			return d, strings.HasPrefix(id, tool+"~"), nil
		}
		if !errors.Is(err, device.ErrClientID) {
			break
		} // else no operator: as oneself, then
	}
	return nil, false, c.explainDial(ctx, err)
}

// identities returns the Client Identifiers to connect with, the first that the
// server accepts. As a rule they are side connections, by which nothing is
// taken over.
func (c *cli) identities(cmd *cobra.Command, p purpose) ([]string, error) {
	local := strings.HasPrefix(c.server, "unix:")
	switch {
	case !isServer(c.server):
		return nil, usagef(cmd, "--server: %s is not %s", show(c.server), serverKinds)
	case c.timeout < time.Millisecond || c.timeout > maxTimeout:
		return nil, usagef(cmd, "--timeout: %s is not between 1ms and 10m", c.timeout)
	case c.user == "" && c.passwordFile != "":
		return nil, usagef(cmd, "--password-file needs --user")
	case c.user == "" && local && c.clientID != "":
		return nil, usagef(cmd, "--client-id is for MQTT: through the operator socket name the device with --as")
	case c.user == "" && local && p == ownDevice:
		return nil, usagef(cmd, "name the device with --as")
	}
	random := strings.ToLower(rand.Text())
	operator := tool + "~" + random[:12]
	if c.user == "" && local {
		return []string{operator}, nil
	}
	self := cmp.Or(c.clientID, c.user)
	switch {
	case self == "":
		return nil, usagef(cmd, "--server %s needs --user, or --client-id for a device without an account", show(c.server))
	case control.CheckClientID(group.ClientID(self)) != nil && c.clientID != "":
		return nil, usagef(cmd, "--client-id: %s is not 1 to 64 bytes without / + # ~ and control characters", show(self))
	}
	side := self + "~cli-" + random[:12]
	if c.clientID == "" && p == receive {
		// A side connection receives no message of a group. These 1,024 names are
		// few enough to stay within what an account may have.
		side = self + "-watch-" + random[:2]
	} else if p == receive {
		side = self
	}
	if p == ownDevice || c.clientID != "" {
		return []string{side}, nil
	}
	return []string{operator, side}, nil
}

// explainDial says why there is no connection, and what to do.
func (c *cli) explainDial(ctx context.Context, err error) error {
	path, local := strings.CutPrefix(c.server, "unix:")
	switch {
	case errors.Is(err, fs.ErrNotExist) && local:
		return fmt.Errorf("no server at %s: start one with 'muster serve', or name its socket or address with --server", show(path))
	case errors.Is(err, syscall.ECONNREFUSED) && local:
		return fmt.Errorf("no server listens at %s any more: start one with 'muster serve', or use another --server", show(path))
	case errors.Is(err, fs.ErrPermission) && local:
		return fmt.Errorf("may not use the operator socket %s: only the server's own user and root may", show(path))
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no server listens at %s: see --server", show(c.server))
	}
	return c.explain(ctx, err)
}

// checkRequest says in words what the server would only answer with a code: the
// rules for names and secrets that people choose.
func checkRequest(r *control.Request) error {
	var err error
	if r.Name != "" {
		_, err = control.Name(r.Name)
	}
	if err == nil && r.PIN != "" {
		err = authz.CheckPIN(r.PIN)
	}
	if r.Op == control.OpAccount && r.Sub == "add" && err == nil {
		_, err = control.AccountName(r.User)
	}
	if r.Op == control.OpAccount && r.Secret != "" && err == nil {
		err = authz.CheckPassword(r.Secret)
	}
	if r.Op == control.OpJoin && r.Device != "" && err == nil {
		err = control.CheckClientID(r.Device)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, group.BadRequest):
		return err
	}
	return fmt.Errorf("%w: %w", group.BadRequest, err)
}
