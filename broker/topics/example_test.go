package topics_test

import (
	"fmt"
	"time"

	"github.com/muster-mqtt/muster/broker/topics"
	"github.com/muster-mqtt/muster/broker/wire"
)

// A Session subscribes, then takes what is retained; later messages find it.
func ExampleTree() {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	tree := topics.New(topics.Limits{Retained: 100, RetainedBytes: 1 << 20})
	state := wire.NewShared(wire.Message{Topic: "pump/7/state", Payload: []byte("on"), Retain: true})
	if err := tree.Retain(state, now); err != nil {
		fmt.Println(err)
	}

	const session topics.Key = 1
	tree.Subscribe(session, "pump/+/state")
	tree.Retained("pump/+/state", now, func(m *wire.Shared) { fmt.Printf("%s: %s\n", m.Topic(), m.Payload()) })
	tree.Subscribers("pump/8/state", func(k topics.Key) { fmt.Println("Session", k) })
	// Output:
	// pump/7/state: on
	// Session 1
}
