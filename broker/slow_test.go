package broker_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/group"
)

// heap returns the bytes that are reachable.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func topicRule(t *testing.T, text string) group.TopicRule {
	t.Helper()
	r, err := group.ParseTopicRule(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Readers that have stopped cost what their queues may hold and little else, delay
// nobody, and are told of nothing they could not read.
func TestStalledReaders(t *testing.T) {
	const stalled, messages, size = 40, 400, 64 << 10
	for _, way := range []string{"tcp", "tls"} {
		s := serveOver(t, way, func(c *broker.Config) {
			c.Limits.QueueBytes = 1 << 20
			c.AnonymousTopics = []group.TopicRule{topicRule(t, "allow both #")}
		})
		op := s.operator()
		healthy := s.operatorAs("muster~healthy")
		healthy.subscribe("x")
		var readers []*client
		for i := range stalled {
			c := s.dial(fmt.Sprint("stalled-", i))
			if code := c.subscribeWith(atQoS(0), "x").ReasonCodes[0]; code != 0 {
				t.Fatalf("SUBACK 0x%02x", code)
			}
			defer c.stall()()
			readers = append(readers, c)
		}
		before := heap()
		payload := strings.Repeat("x", size)
		for i := range messages {
			op.put("x", payload, 1)
			pk, _ := healthy.await(isType(packets.Publish))
			if len(pk.Payload) != size {
				t.Fatalf("%s: the %d. message has %d bytes", way, i, len(pk.Payload))
			}
		}
		// All hold the same 16 messages, and each what it was writing.
		if grown := heap() - before; grown > 32<<20 {
			t.Errorf("%s: %d stalled readers cost %d KiB", way, stalled, grown>>10)
		}
		// One of them is taken over, while nothing can be written to it.
		again := s.dial("stalled-1")
		again.flushed()
		op.must("list", "")
		for _, c := range readers {
			c.nc.Close()
		}
	}
}

// A device that takes nothing loses QoS 0 and lives; when it cannot take QoS 1 it is
// disconnected, and what waits with QoS 1 is there at its return.
func TestDeviceThatTakesNothing(t *testing.T) {
	inDialects(t, func(d dialect) {
		s := serve(t, func(c *broker.Config) { c.Limits.QueueMessages, c.Limits.Inflight = 20, 10 })
		op := s.operator()
		c := s.operatorAs("muster~slow", d.plus(persistent, withoutAcks)...)
		c.subscribe("x")
		put := func(from, to int, qos byte) {
			for i := from; i < to; i++ {
				op.put("x", fmt.Sprint(i), qos)
			}
		}
		put(0, 10, 1) // fills its window
		c.flushed()
		put(10, 25, 1) // waits
		put(25, 30, 0)
		put(30, 100, 0)
		c.flushed() // it lives
		put(100, 106, 1)
		c.expectEnd("a queue that is full", 0x97)
		op.flushed()
		c = s.operatorAs("muster~slow", d.plus(persistent)...)
		if !c.connack.SessionPresent {
			t.Fatal("its Session has ended")
		}
		for i := 0; i < 30; i++ {
			pk, _ := c.await(isType(packets.Publish))
			want := i
			if i >= 25 {
				want = 75 + i // 100 to 104
			}
			if string(pk.Payload) != fmt.Sprint(want) {
				t.Fatalf("the %d. is %s, want %d", i, pk.Payload, want)
			}
		}
		op.put("x", "last", 1)
		if got := c.messages(); len(got) != 1 || got[0] != "x last" {
			t.Errorf("received %q", got)
		}
	})
}
