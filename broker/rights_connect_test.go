package broker_test

import (
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
	"github.com/muster-mqtt/muster/store/storetest"
)

// A heldStore holds the writes of one record back.
type heldStore struct {
	store.Store
	key   store.Key
	asked chan struct{} // gets an element for each write that is held
	goOn  chan struct{} // an element lets one through
}

func (h *heldStore) Submit(w store.Write, done func(group.Rev, error)) {
	if string(w.Key) != string(h.key) {
		h.Store.Submit(w, done)
		return
	}
	go func() {
		h.asked <- struct{}{}
		<-h.goOn
		h.Store.Submit(w, done)
	}()
}

// What happens to an account between its login and its CONNACK counts as if it had
// happened before.
func TestAccountChangesDuringConnect(t *testing.T) {
	held := &heldStore{Store: storetest.NewMemory(), key: store.DeviceKey("late"), asked: make(chan struct{}), goOn: make(chan struct{})}
	s := serve(t, func(c *broker.Config) { c.Store = held })
	op := s.operator()
	removed := s.operatorAs("muster~removes")
	remove := func() {
		removed.publish("$G/account", `{"op":"remove","user":"ann"}`, 0)
	}
	tests := []struct {
		name   string
		role   string
		change func()
		code   byte // of the CONNACK
		codes  []byte
	}{
		{"nothing", "device", func() {}, 0, []byte{1, 0x87}},
		{"other rules", "device", func() { setRules(op, "ann", "allow both b") }, 0, []byte{0x87, 1}},
		{"disabled", "device", func() { setDisabled(op, "ann", true) }, 0x87, nil},
		{"removed", "device", func() { remove(); s.gone(op, "ann") }, 0x87, nil},
		{"another role", "operator", func() {
			op.must("account", `{"op":"update","user":"ann","role":"device"}`)
		}, 0, []byte{1, 0x87}},
	}
	for _, tt := range tests {
		ann := withRules(op, "ann", tt.role, "allow both a")
		came := make(chan *client)
		go func() { came <- attempt(t, "tcp", s.addr, "late", v5, ann) }()
		<-held.asked
		tt.change()
		go held.pass(2) // the binding, and later that it is forgotten
		c := <-came
		if c.connack.FixedHeader.Type != packets.Connack || c.connack.ReasonCode != tt.code {
			t.Errorf("%s: CONNACK 0x%02x, want 0x%02x", tt.name, c.connack.ReasonCode, tt.code)
		}
		if tt.codes != nil {
			if got := c.subscribe("a", "b"); string(got) != string(tt.codes) {
				t.Errorf("%s: SUBACK % x, want % x", tt.name, got, tt.codes)
			}
			if a := c.ask("list", ""); a.Code != group.NotAuthorized {
				t.Errorf("%s: an operator's request is answered %v", tt.name, a.Code)
			}
		}
		if tt.name != "removed" {
			remove()
		}
		removed.answer()
	}
}

// pass lets n writes through.
func (h *heldStore) pass(n int) {
	h.goOn <- struct{}{} // the one that waits
	for range n - 1 {
		<-h.asked
		h.goOn <- struct{}{}
	}
}

// gone waits until an account is removed; its devices may not be forgotten yet.
func (s *testServer) gone(op *client, name string) {
	s.t.Helper()
	for start := time.Now(); time.Since(start) < patience; {
		if op.ask("account", jsonOf(map[string]any{"op": "show", "user": name})).Code == group.NoSuchAccount {
			return
		}
	}
	s.t.Fatalf("account %s is not removed", name)
}
