package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// One filter many times in one SUBSCRIBE is one subscription: a snapshot and the
// retained messages come once, and the packet costs no more than its length.
func TestSameFilterManyTimesInOnePacket(t *testing.T) {
	s := serve(t, nil)
	op := s.operator(v5)
	op.must("create", `{"name":"lamps"}`)
	for i := range 10 {
		op.publishWith(func(pk *packets.Packet) { pk.FixedHeader.Retain = true }, fmt.Sprintf("t/%d", i), "x", 1)
	}
	filters := make([]string, 0, 120)
	for range 60 {
		filters = append(filters, "g/1/evt", "t/#")
	}
	codes := op.subscribe(filters...)
	for i, c := range codes {
		if c >= 0x80 {
			t.Fatalf("filter %d: 0x%02x", i, c)
		}
	}
	snapshots, retained := 0, 0
	for _, pk := range op.flushed() {
		switch {
		case strings.HasPrefix(pk.TopicName, "t/"):
			retained++
		case strings.Contains(string(pk.Payload), `"snapshot"`):
			snapshots++
		}
	}
	if snapshots != 1 || retained != 10 {
		t.Errorf("%d snapshots and %d retained messages, want 1 and 10", snapshots, retained)
	}
}
