package broker_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
)

func keepAlive(seconds uint16) option {
	return func(pk *packets.Packet, _ *client) { pk.Connect.Keepalive = seconds }
}

// A 5.0 client whose Keep Alive is too long, or that wants none, is told another,
// which is kept (MQTT 5.0, 3.2.2.3.14); 3.1.1 has its own.
func TestServerKeepAlive(t *testing.T) {
	s := serve(t, func(c *broker.Config) { c.Limits.KeepAliveMax = 59500 * time.Millisecond })
	for _, tt := range []struct{ asked, told uint16 }{{120, 60}, {0, 60}, {65535, 60}, {61, 60}, {60, 0}, {59, 0}, {1, 0}} {
		c := s.operatorAs("muster~keep", v5, keepAlive(tt.asked))
		if got, said := c.connack.Properties.ServerKeepAlive, c.connack.Properties.ServerKeepAliveFlag; got != tt.told || said != (tt.told != 0) {
			t.Errorf("%d s asked for, %d told", tt.asked, got)
		}
		c.disconnect()
	}
	short := serve(t, func(c *broker.Config) { c.Limits.KeepAliveMax = time.Second })
	old := short.operatorAs("muster~old", keepAlive(0))
	short.operatorAs("muster~five", v5, keepAlive(0)).expectEnd("silent", 0x8D)
	old.expectMessages()
}

// A part of a packet does not count as one: the connection ends as if nothing had
// come (MQTT 5.0, 3.1.2.10).
func TestKeepAliveCountsPackets(t *testing.T) {
	s := serve(t, nil)
	c := s.operatorAs("muster~slow", v5, keepAlive(1))
	end := make(chan struct{})
	go func() {
		defer close(end)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for range 100 { // a byte in time, and never a packet
			if _, err := c.nc.Write([]byte{0x30}); err != nil {
				return
			}
			<-tick.C
		}
	}()
	c.raw([]byte{0x30, 0xFF, 0x01})
	c.expectEnd("half a packet", 0x8D)
	<-end
}

// Without Request Problem Information no packet but CONNACK, PUBLISH and
// DISCONNECT has a Reason String or User Property (MQTT 5.0, 3.1.2.11.7).
func TestProblemInformation(t *testing.T) {
	s := serve(t, nil)
	s.lamps()
	without := func(pk *packets.Packet, _ *client) {
		pk.Properties.RequestProblemInfo, pk.Properties.RequestProblemInfoFlag = 0, true
	}
	for _, with := range [][]option{{v5, without}, {v5}} {
		c := s.dial("lamp-7", with...)
		got := []packets.Packet{
			c.publishWith(nil, "g/1/all/lamp-7/x", "x", 1),
			c.publishWith(nil, "g/1/all/lamp-7/x", "x", 2),
			c.publishWith(nil, "$G/join", "nowhere", 1),
			c.subscribeWith(nil, "$join/nowhere"),
			c.subscribeWith(nil, "$join/lamps"),
			c.unsubscribe("$join/lamps"),
		}
		told := 0
		for _, pk := range got {
			if pk.Properties.ReasonString != "" || len(pk.Properties.User) > 0 {
				told++
			}
		}
		if len(with) == 2 && told > 0 || len(with) == 1 && told == 0 {
			t.Errorf("%d packets tell more than a code", told)
		}
		c.disconnect()
	}
}

// A Maximum Packet Size is kept by every packet (MQTT 5.0, 3.1.2.11.4): a Reason
// String that does not fit is left out, and a client that could not be told what
// CONNACK must say is refused.
func TestSmallMaximumPacketSize(t *testing.T) {
	s := serve(t, nil)
	s.lamps()
	for _, size := range []int{48, 64, 100, 1000} {
		measured := func(pk *packets.Packet, c *client) {
			pk.Properties.RequestResponseInfo = 1
			c.seen = func(pk *packets.Packet) {
				if n := 2 + pk.FixedHeader.Remaining; n > size {
					t.Errorf("a packet of %d bytes for a client that takes %d", n, size)
				}
			}
		}
		c := attempt(t, "tcp", s.addr, "", v5, maxPacket(uint32(size)), measured)
		if c.connack.ReasonCode != 0 || c.connack.Properties.AssignedClientID == "" {
			t.Fatalf("%d bytes: CONNACK 0x%02x", size, c.connack.ReasonCode)
		}
		if r := c.publish("g/1/all/lamp-7/x", "x", 1); r != 0x87 {
			t.Errorf("%d bytes: PUBACK 0x%02x", size, r)
		}
		c.subscribe("a/1", "a/2", "$join/nowhere")
		c.flushed()
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 7}
		for i := range 100 {
			pk.Filters = append(pk.Filters, packets.Subscription{Filter: fmt.Sprint("a/", i)})
		}
		c.write(&pk, (*packets.Packet).SubscribeEncode) // its SUBACK does not fit everywhere
		c.flushed()
		c.raw([]byte{0x30, 0})
		c.ended()
	}
	for _, tt := range []struct {
		size byte
		want []byte
	}{{1, nil}, {4, nil}, {5, []byte{0x20, 3, 0, 0x83, 0}}, {47, []byte{0x20, 3, 0, 0x83, 0}}} {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.Write([]byte{0x10, 18, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 5, 0x27, 0, 0, 0, tt.size, 0, 0})
		got, err := io.ReadAll(nc)
		nc.Close()
		if err != nil || !bytes.Equal(got, tt.want) {
			t.Errorf("%d bytes: received % x (%v), want % x", tt.size, got, err, tt.want)
		}
	}
}
