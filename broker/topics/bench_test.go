package topics

import (
	"fmt"
	"testing"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker/wire"
)

func benchmarkMatch(b *testing.B, tree *Tree, topic string, want int) {
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		tree.Subscribers(topic, func(Key) { n++ })
		tree.Shared(topic, func(_ string, members []Key) { n += len(members) })
		if n != want {
			b.Fatalf("found %d, want %d", n, want)
		}
	}
}

func BenchmarkMatch1(b *testing.B) {
	tree := New(Limits{})
	tree.Subscribe(1, "plant/7/temperature")
	benchmarkMatch(b, tree, "plant/7/temperature", 1)
}

// One of 10,000 filters matches.
func BenchmarkMatch1Of10000(b *testing.B) {
	tree := New(Limits{})
	for i := range 10_000 {
		tree.Subscribe(Key(i), fmt.Sprintf("plant/%d/temperature", i))
	}
	benchmarkMatch(b, tree, "plant/7/temperature", 1)
}

// 10,000 Sessions have the filter that matches.
func BenchmarkMatch10000(b *testing.B) {
	tree := New(Limits{})
	for i := range 10_000 {
		tree.Subscribe(Key(i), "plant/+/temperature")
	}
	benchmarkMatch(b, tree, "plant/7/temperature", 10_000)
}

// One of them has another filter that matches too.
func BenchmarkMatch10000Twice(b *testing.B) {
	tree := New(Limits{})
	for i := range 10_000 {
		tree.Subscribe(Key(i), "plant/+/temperature")
	}
	tree.Subscribe(1, "#")
	benchmarkMatch(b, tree, "plant/7/temperature", 10_000)
}

func BenchmarkMatchShared(b *testing.B) {
	tree := New(Limits{})
	for i := range 10 {
		tree.Subscribe(Key(i), "$share/s/plant/#")
	}
	benchmarkMatch(b, tree, "plant/7/temperature", 10)
}

func BenchmarkRetained10000(b *testing.B) {
	tree := New(Limits{Retained: 10_000, RetainedBytes: 1 << 30})
	for i := range 10_000 {
		if err := tree.Retain(message(fmt.Sprintf("plant/%d/state", i), "on"), noon); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		tree.Retained("#", noon, func(*wire.Shared) { n++ })
		if n != 10_000 {
			b.Fatalf("found %d", n)
		}
	}
}

// What the package comment says of mochi's index as a store of such messages.
func BenchmarkRetained10000Mochi(b *testing.B) {
	index := mqtt.NewTopicsIndex()
	for i := range 10_000 {
		index.RetainMessage(packets.Packet{TopicName: fmt.Sprintf("plant/%d/state", i), Payload: []byte("on")})
	}
	b.ReportAllocs()
	for b.Loop() {
		if n := len(index.Messages("#")); n != 10_000 {
			b.Fatalf("found %d", n)
		}
	}
}
