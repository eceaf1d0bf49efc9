package broker_test

import (
	"testing"
)

// The whole way once: a group, a member, a message, a switch.
func TestJoinReceiveSwitch(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	op.must("create", `{"name":"lamps-east"}`)
	lamp := s.dial("lamp-7")
	if codes := lamp.subscribe("$join/lamps"); codes[0] != 1 {
		t.Fatalf("SUBACK %v, want granted QoS 1", codes)
	}
	if r := op.publish("g/1/all/muster/hello", "good-morning", 1); r != 0 {
		t.Fatalf("PUBACK 0x%02x", r)
	}
	lamp.expectMessages("g/1/all/muster/hello good-morning")
	lamp.must("switch", "lamps lamps-east")
	op.publish("g/1/all/muster/hello", "old", 1)
	op.publish("g/2/all/muster/hello", "new", 1)
	lamp.expectMessages("g/2/all/muster/hello new")
}
