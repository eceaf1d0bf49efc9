package fanout_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
)

// aliased is a device of MQTT 5.0 that takes so many Topic Aliases.
func aliased(t *testing.T, aliases, maxSize int) *device {
	t.Helper()
	d := newDevice(t, fanout.Limits{})
	d.version = 5
	d.reattach(aliases, maxSize)
	return d
}

func (d *device) reattach(aliases, maxSize int) {
	d.sink = &sink{}
	d.Attach(fanout.Connection{Sink: d.sink, Version: d.version, MaxSize: maxSize, Aliases: aliases, First: []byte{0x20, 3, 0, 0, 0}}, nil, 1)
}

// topics writes all that is queued, as "topic=alias", with no topic where the
// alias stands alone and no alias where there is none.
func (d *device) topics() []string {
	d.t.Helper()
	out := []string{}
	for more := true; more; more = d.Wrote(d.sink) {
		b := d.Take(d.sink, nil, 1<<20, d.now)
		for len(b) > 0 {
			n, err := wire.Frame(b, 1<<20)
			if n == 0 || err != nil && wire.FrameType(b) != wire.CONNACK {
				d.t.Fatalf("no whole packet: % x (%v)", b, err)
			}
			if wire.FrameType(b) == wire.PUBLISH {
				p, err := wire.ParsePublish(b[:n], d.version)
				if err != nil {
					d.t.Fatal(err)
				}
				s := string(p.Topic)
				if p.Alias != 0 {
					s += fmt.Sprint("=", p.Alias)
				}
				out = append(out, s)
			}
			b = b[n:]
		}
	}
	return out
}

func (d *device) expectTopics(want ...string) {
	d.t.Helper()
	if got := d.topics(); !slices.Equal(got, want) {
		d.t.Errorf("written %q, want %q", got, want)
	}
}

func (d *device) publish(topics ...string) {
	for _, topic := range topics {
		d.ordinary(topic, 0)
	}
}

func TestAliases(t *testing.T) {
	d := aliased(t, 2, 0)
	d.publish("room/1", "room/1", "room/2", "room/1", "a/b", "room/2")
	d.expectTopics("room/1=1", "=1", "room/2=2", "=1", "a/b", "=2") // three bytes are not worth an alias

	// A new topic does not displace what was used since, and what was not used
	// gives way.
	d.publish("room/3", "room/3", "room/3", "room/1")
	d.expectTopics("room/3", "room/3", "room/3=1", "room/1=2")
	d.publish("room/1", "room/3")
	d.expectTopics("=2", "=1")
}

func TestNoAliasesUnlessAskedFor(t *testing.T) {
	d := aliased(t, 0, 0)
	d.publish("room/1", "room/1")
	d.expectTopics("room/1", "room/1")
	old := newDevice(t, fanout.Limits{})
	old.reattach(16, 0) // MQTT 3.1.1 has none
	old.publish("room/1", "room/1")
	old.expectTopics("room/1", "room/1")
}

// An alias is of one connection: what is in flight is sent again with its Topic
// Name.
func TestAliasesEndWithTheConnection(t *testing.T) {
	d := aliased(t, 4, 0)
	d.ordinary("room/1", 1)
	d.ordinary("room/1", 1)
	d.expectTopics("room/1=1", "=1")
	d.Detach(d.sink)
	d.reattach(4, 0)
	d.expectTopics("room/1=1", "=1")
	d.Detach(d.sink)
	d.reattach(0, 0)
	d.expectTopics("room/1", "room/1")
}

// A message that is dropped defines no alias: the next one does.
func TestDroppedMessageDefinesNoAlias(t *testing.T) {
	expiring := func(d *device) {
		d.Enqueue(fanout.Delivery{Frame: wire.NewShared(wire.Message{Topic: "room/1", Expires: d.now.Add(time.Second)})})
	}
	d := aliased(t, 4, 0)
	expiring(d)
	d.publish("room/1")
	d.now = d.now.Add(time.Second)
	d.expectTopics("room/1=1")

	// What does not fit with the definition is sent without it: the fixed header
	// and the lengths take 5 bytes, the topic 6, a definition 3.
	d = aliased(t, 4, 13)
	d.publish("room/2", "room/2")
	d.expectTopics("room/2", "room/2")
	d = aliased(t, 4, 14)
	d.publish("room/2", "room/2")
	d.expectTopics("room/2=1", "=1")
}

// With many topics and few aliases a client still learns each Topic Name.
func TestAliasesResolve(t *testing.T) {
	d := aliased(t, 3, 0)
	known := map[string]string{}
	for i := range 2000 {
		want := fmt.Sprint("room/", i*i%7+i%3)
		d.publish(want)
		got, alias, _ := strings.Cut(d.topics()[0], "=")
		switch {
		case got != "" && alias != "":
			known[alias] = got
		case got == "":
			got = known[alias]
		}
		if got != want {
			t.Fatalf("message %d: %q, want %q", i, got, want)
		}
		if len(known) > 3 {
			t.Fatalf("%d aliases, and the client takes 3", len(known))
		}
	}
}
