package device_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/device"
	"github.com/muster-mqtt/muster/group"
)

// exampleServer starts a server with the groups lamps, 1, and lamps-east, 2, and
// returns its address and a tool of the operator's.
func exampleServer() (url string, operator *device.Device, stop func()) {
	dir, err := os.MkdirTemp("", "muster")
	if err != nil {
		log.Panic(err)
	}
	s, err := serve(dir)
	if err != nil {
		log.Panic(err)
	}
	operator, err = device.Dial(context.Background(), s.socket, device.Options{ClientID: "muster~example"})
	if err != nil {
		log.Panic(err)
	}
	for _, name := range []string{"lamps", "lamps-east"} {
		if _, err := operator.Do(context.Background(), control.Request{Op: control.OpCreate, Name: name}); err != nil {
			log.Panic(err)
		}
	}
	return s.url, operator, func() {
		_ = operator.Close()
		_ = s.stop()
		_ = os.RemoveAll(dir)
	}
}

// A device joins a group and receives what is published to it. It needs no
// subscription, and none after a reconnect.
func Example() {
	url, operator, stop := exampleServer()
	defer stop()
	ctx := context.Background()

	lamp, err := device.Dial(ctx, url, device.Options{ClientID: "lamp-7"})
	if err != nil {
		log.Panic(err)
	}
	defer func() { _ = lamp.Close() }()
	m, err := lamp.Join(ctx, "lamps")
	if err != nil {
		log.Panic(err)
	}
	fmt.Println("in group", m.Number, m.Name)

	if err := operator.Publish(ctx, m.Number, "hello", []byte("good-morning"), 1); err != nil {
		log.Panic(err)
	}
	received := <-lamp.Messages()
	fmt.Printf("%s says %s: %s\n", received.Sender, received.Rest, received.Payload)
	// Output:
	// in group 1 lamps
	// muster says hello: good-morning
}

// A switch leaves one group and joins the other in one change.
func ExampleDevice_Switch() {
	url, _, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	lamp, err := device.Dial(ctx, url, device.Options{ClientID: "lamp-7"})
	if err != nil {
		log.Panic(err)
	}
	defer func() { _ = lamp.Close() }()
	if _, err := lamp.Join(ctx, "lamps"); err != nil {
		log.Panic(err)
	}
	if _, err := lamp.Switch(ctx, "lamps", "lamps-east"); err != nil {
		log.Panic(err)
	}
	for _, m := range lamp.Groups() {
		fmt.Println(m.Number, m.Name)
	}
	// Output: 2 lamps-east
}

// An operator moves the device: it is told, and receives from there on.
func ExampleDevice_Changes() {
	url, operator, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	lamp, err := device.Dial(ctx, url, device.Options{ClientID: "lamp-7"})
	if err != nil {
		log.Panic(err)
	}
	defer func() { _ = lamp.Close() }()
	if _, err := lamp.Join(ctx, "lamps"); err != nil {
		log.Panic(err)
	}
	_, err = operator.Do(ctx, control.Request{
		Op: control.OpMove, Device: "lamp-7", From: group.Ref{Name: "lamps"}, To: group.Ref{Name: "lamps-east"},
	})
	if err != nil {
		log.Panic(err)
	}
	for range 2 {
		c := <-lamp.Changes()
		fmt.Printf("%s: %d -> %d, forced: %v\n", c.Kind, c.From, c.To, c.Forced)
	}
	// Output:
	// join: 0 -> 1, forced: false
	// move: 1 -> 2, forced: true
}

// A grant is asked for now and used later, once.
func ExampleDevice_Grant() {
	url, _, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	lamp, err := device.Dial(ctx, url, device.Options{ClientID: "lamp-7"})
	if err != nil {
		log.Panic(err)
	}
	defer func() { _ = lamp.Close() }()
	g, err := lamp.Grant(ctx, control.OpJoin, "", "lamps")
	if err != nil {
		log.Panic(err)
	}
	m, err := lamp.Redeem(ctx, g.Op, g.Bytes)
	fmt.Println(m.Name, err)
	_, err = lamp.Redeem(ctx, g.Op, g.Bytes)
	fmt.Println(errors.Is(err, group.GrantUsed))
	// Output:
	// lamps <nil>
	// true
}
