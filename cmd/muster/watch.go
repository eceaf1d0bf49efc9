package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/device"
	"github.com/muster-mqtt/muster/group"
)

func (c *cli) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use: "watch REF", Short: "Show a group's roster, and then what happens in it", GroupID: groupMessage,
		Args: words("REF"), ValidArgsFunction: noFiles,
		Long: "Show who is in a group, and then each change of its roster and each message to all and\n" +
			"from its members, until SIGINT. For operators and observers of the group. After a lost\n" +
			"connection the roster is shown again.",
		Example: "  muster watch lamps\n  muster watch lamps --json",
		RunE:    act(c.watch),
	}
}

func (c *cli) watch(cmd *cobra.Command, args []string) error {
	r := control.Request{Op: control.OpShow}
	if err := refs(cmd, args, &r.G); err != nil {
		return err
	}
	w := newWatcher(c)
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	d, _, err := c.connect(ctx, cmd, receive, w.message)
	if err != nil {
		return err
	}
	defer d.Close()
	a, err := c.do(ctx, d, r)
	if err != nil {
		return err
	}
	topic := "g/" + a.N.String()
	for _, filter := range []string{topic + "/evt", topic + "/#"} {
		if err := d.Subscribe(ctx, filter, 1); err != nil {
			return c.explain(ctx, err)
		}
	}
	return w.follow(cmd.Context(), d)
}

// follow waits for the end of the watching, and says on standard error when the
// connection is lost and when it is there again: what happened between is not
// seen.
func (w *watcher) follow(ctx context.Context, d *device.Device) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for up := true; ; {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.end:
			return err
		case <-tick.C:
		}
		switch now := d.Connected(); {
		case up && !now:
			fmt.Fprintln(w.c.stderr, "muster: the connection is lost; trying again")
			up = now
		case !up && now:
			fmt.Fprintln(w.c.stderr, "muster: connected again; what happened meanwhile is not shown")
			up = now
		}
	}
}

// A watcher prints what happens in a group. Its method message is called by one
// goroutine at a time.
type watcher struct {
	c      *cli
	end    chan error      // takes why the watching ends
	parts  []control.Entry // of a snapshot that is not whole yet
	roster map[group.ClientID]bool
}

func newWatcher(c *cli) *watcher {
	return &watcher{c: c, end: make(chan error, 1), roster: map[group.ClientID]bool{}}
}

// stop ends the watching; the first reason counts.
func (w *watcher) stop(err error) {
	select {
	case w.end <- err:
	default:
	}
}

func (w *watcher) message(m device.Message) {
	if err := w.print(m); err != nil {
		w.stop(err)
	}
}

func (w *watcher) print(m device.Message) error {
	if m.Part == control.Evt {
		return w.printEvent(m.Payload)
	}
	if !w.c.json {
		return w.line("message", cell(m.Topic)+" "+payload(m.Payload))
	}
	line := watched{Kind: "message", Topic: m.Topic, Device: m.Sender, QoS: m.QoS}
	if text := string(m.Payload); utf8.Valid(m.Payload) {
		line.Payload = &text
	} else {
		line.Base64 = m.Payload
	}
	return json.NewEncoder(w.c.stdout).Encode(line)
}

// A watched is a message as a line of JSON. Of its two payloads it has the one
// that fits: text, or base64 of what is not UTF-8.
type watched struct {
	Kind    string         `json:"kind"`
	Topic   string         `json:"topic"`
	Device  group.ClientID `json:"device,omitempty"`
	QoS     byte           `json:"qos"`
	Payload *string        `json:"payload,omitempty"`
	Base64  []byte         `json:"payload_base64,omitempty"`
}

// payload returns a message's content as it can stand on a terminal.
func payload(b []byte) string {
	for _, r := range string(b) {
		if r == unicode.ReplacementChar || !unicode.IsGraphic(r) {
			return strconv.Quote(string(b))
		}
	}
	return string(b)
}

func (w *watcher) printEvent(b []byte) error {
	e, err := control.DecodeEvent(b)
	if err != nil {
		return fmt.Errorf("the server sent an event that cannot be read: %w", err)
	}
	if w.c.json {
		var line bytes.Buffer
		if err := json.Compact(&line, b); err != nil {
			return err
		}
		line.WriteByte('\n')
		if _, err := w.c.stdout.Write(line.Bytes()); err != nil {
			return err
		}
	} else if err := w.describe(&e); err != nil {
		return err
	}
	if e.Kind == "delete" {
		return group.GroupDeleted // nothing more can come
	}
	return nil
}

// describe prints an event for people.
func (w *watcher) describe(e *control.Event) error {
	if e.Kind == "snapshot" {
		return w.snapshot(e)
	}
	text := "the group"
	if e.Device != "" {
		text = cell(string(e.Device))
	}
	switch e.Kind {
	case "join":
		w.roster[e.Device] = true
	case "leave", "remove":
		delete(w.roster, e.Device)
	case "switch": // the event does not say which way: it would name another group
		if w.roster[e.Device] {
			text += " out"
			delete(w.roster, e.Device)
		} else {
			text += " in"
			w.roster[e.Device] = true
		}
	}
	if e.By != "" && e.By != e.User {
		text += " by " + cell(e.By)
	}
	return w.line(e.Kind, text)
}

// snapshot prints the roster when its last part is there.
func (w *watcher) snapshot(e *control.Event) error {
	if e.Part <= 1 {
		w.parts = nil
	}
	w.parts = append(w.parts, e.List...)
	if !e.Last {
		return nil
	}
	list := w.parts
	w.parts, w.roster = nil, map[group.ClientID]bool{}
	if err := w.line("roster", fmt.Sprintf("%d members", len(list))); err != nil {
		return err
	}
	for i := range list {
		w.roster[list[i].Device] = true
		if err := w.line("member", cell(string(list[i].Device))+" "+connected(list[i].Online)); err != nil {
			return err
		}
	}
	return nil
}

func (w *watcher) line(kind, text string) error {
	_, err := fmt.Fprintf(w.c.stdout, "%-8s %s\n", cell(kind), text)
	return err
}
