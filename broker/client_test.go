package broker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A client is an MQTT client that shows every packet it receives, in order. It
// acknowledges QoS 1 and 2 by itself unless told not to.
type client struct {
	t       *testing.T
	nc      net.Conn
	version byte
	id      string
	noAck   bool
	// maxPacket is the greatest packet it takes, in bytes; 0: any.
	maxPacket int
	// seen, if not nil, is called with each packet as it arrives.
	seen    func(*packets.Packet)
	connack packets.Packet

	pause  sync.Mutex // held while it does not read; see stall
	mu     sync.Mutex
	arrive *sync.Cond
	got    []packets.Packet // not looked at yet
	sizes  []int            // bytes of each
	err    error            // why reading has ended
	wmu    sync.Mutex
	lastID uint16
}

// An option alters a CONNECT.
type option func(*packets.Packet, *client)

func v5(pk *packets.Packet, _ *client) { pk.ProtocolVersion = 5 }

func login(user, password string) option {
	return func(pk *packets.Packet, _ *client) {
		pk.Connect.UsernameFlag, pk.Connect.Username = true, []byte(user)
		pk.Connect.PasswordFlag, pk.Connect.Password = true, []byte(password)
	}
}

// persistent asks for a Session that outlives the connection.
func persistent(pk *packets.Packet, _ *client) {
	pk.Connect.Clean = false
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
}

func withoutAcks(_ *packets.Packet, c *client) { c.noAck = true }

func withWill(topic, payload string, qos byte) option {
	return func(pk *packets.Packet, _ *client) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillQos = true, topic, []byte(payload), qos
	}
}

func userProperty(k, v string) option {
	return func(pk *packets.Packet, _ *client) {
		pk.Properties.User = append(pk.Properties.User, packets.UserProperty{Key: k, Val: v})
	}
}

func maxPacket(n uint32) option {
	return func(pk *packets.Packet, c *client) { pk.Properties.MaximumPacketSize, c.maxPacket = n, int(n) }
}

func receiveMaximum(n uint16) option {
	return func(pk *packets.Packet, _ *client) { pk.Properties.ReceiveMaximum = n }
}

// attempt connects and returns the client with whatever CONNACK came.
func attempt(t *testing.T, network, addr, id string, options ...option) *client {
	t.Helper()
	nc, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	return attemptOver(t, nc, id, options...)
}

// attemptOver is attempt on a connection that is there.
func attemptOver(t *testing.T, nc net.Conn, id string, options ...option) *client {
	t.Helper()
	c := &client{t: t, nc: nc, id: id}
	c.arrive = sync.NewCond(&c.mu)
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: id, Clean: true, Keepalive: 60},
	}
	for _, o := range options {
		o(&pk, c)
	}
	c.version = pk.ProtocolVersion
	t.Cleanup(func() { nc.Close() })
	c.write(&pk, (*packets.Packet).ConnectEncode)
	go c.read()
	k, err := c.tryNext()
	if err != nil {
		t.Fatalf("%s: no CONNACK: %v", id, err)
	}
	c.connack = k
	return c
}

// dial connects to the Server's first listener, and must be let in.
func (s *testServer) dial(id string, options ...option) *client {
	s.t.Helper()
	if s.over != nil {
		return s.accepted(attemptOver(s.t, s.over(), id, options...))
	}
	return s.accepted(attempt(s.t, "tcp", s.addr, id, options...))
}

// operator connects through the operator socket.
func (s *testServer) operator(options ...option) *client {
	s.t.Helper()
	return s.accepted(attempt(s.t, "unix", s.socket, "muster~test", options...))
}

func (s *testServer) accepted(c *client) *client {
	s.t.Helper()
	if c.connack.FixedHeader.Type != packets.Connack || c.connack.ReasonCode != 0 {
		s.t.Fatalf("%s: not let in: type %d, reason 0x%02x", c.id, c.connack.FixedHeader.Type, c.connack.ReasonCode)
	}
	return c
}

// stall makes the client read nothing more, but for a packet that it waits for
// already, until the function it returns is called.
func (c *client) stall() (goOn func()) {
	c.pause.Lock()
	return sync.OnceFunc(c.pause.Unlock)
}

// stalled returns when the client may read.
func (c *client) stalled() {
	c.pause.Lock()
	defer c.pause.Unlock()
}

// write encodes and sends a packet.
func (c *client) write(pk *packets.Packet, encode func(*packets.Packet, *bytes.Buffer) error) {
	var b bytes.Buffer
	pk.ProtocolVersion = max(pk.ProtocolVersion, c.version)
	pk.Mods.AllowResponseInfo = true
	if err := encode(pk, &b); err != nil {
		c.t.Errorf("%s: encode: %v", c.id, err)
		return
	}
	c.raw(b.Bytes())
}

// raw sends bytes as they are.
func (c *client) raw(b []byte) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.nc.Write(b)
}

// read decodes what arrives until the connection ends.
func (c *client) read() {
	for {
		pk, size, err := c.readPacket()
		c.mu.Lock()
		if err != nil {
			c.err = err
			c.mu.Unlock()
			c.arrive.Broadcast()
			c.nc.Close() // the server waits for it
			return
		}
		if c.seen != nil {
			c.seen(&pk)
		}
		c.got, c.sizes = append(c.got, pk), append(c.sizes, size)
		c.mu.Unlock()
		c.arrive.Broadcast()
		if !c.noAck {
			c.ack(&pk)
		}
	}
}

// ack acknowledges a packet as a client must.
func (c *client) ack(pk *packets.Packet) {
	reply := packets.Packet{PacketID: pk.PacketID}
	switch {
	case pk.FixedHeader.Type == packets.Publish && pk.FixedHeader.Qos == 1:
		reply.FixedHeader.Type = packets.Puback
		c.write(&reply, (*packets.Packet).PubackEncode)
	case pk.FixedHeader.Type == packets.Publish && pk.FixedHeader.Qos == 2:
		reply.FixedHeader.Type = packets.Pubrec
		c.write(&reply, (*packets.Packet).PubrecEncode)
	case pk.FixedHeader.Type == packets.Pubrel:
		reply.FixedHeader.Type = packets.Pubcomp
		c.write(&reply, (*packets.Packet).PubcompEncode)
	case pk.FixedHeader.Type == packets.Pubrec && pk.ReasonCode < 0x80:
		reply.FixedHeader = packets.FixedHeader{Type: packets.Pubrel, Qos: 1}
		c.write(&reply, (*packets.Packet).PubrelEncode)
	}
}

func (c *client) readPacket() (pk packets.Packet, size int, err error) {
	var one [1]byte
	c.stalled()
	if _, err = io.ReadFull(c.nc, one[:]); err != nil {
		return pk, 0, err
	}
	if err = pk.FixedHeader.Decode(one[0]); err != nil {
		return pk, 0, err
	}
	size = 1
	n, shift := 0, 0
	for {
		if _, err = io.ReadFull(c.nc, one[:]); err != nil {
			return pk, size, err
		}
		size++
		n |= int(one[0]&0x7f) << shift
		if shift += 7; one[0] < 0x80 {
			break
		}
	}
	body := make([]byte, n)
	if _, err = io.ReadFull(c.nc, body); err != nil {
		return pk, size, err
	}
	size += n
	pk.ProtocolVersion, pk.FixedHeader.Remaining = c.version, n
	decode := map[byte]func(*packets.Packet, []byte) error{
		packets.Connack: (*packets.Packet).ConnackDecode, packets.Publish: (*packets.Packet).PublishDecode,
		packets.Puback: (*packets.Packet).PubackDecode, packets.Pubrec: (*packets.Packet).PubrecDecode,
		packets.Pubrel: (*packets.Packet).PubrelDecode, packets.Pubcomp: (*packets.Packet).PubcompDecode,
		packets.Suback: (*packets.Packet).SubackDecode, packets.Unsuback: (*packets.Packet).UnsubackDecode,
		packets.Pingresp: (*packets.Packet).PingrespDecode, packets.Disconnect: (*packets.Packet).DisconnectDecode,
	}[pk.FixedHeader.Type]
	if decode == nil {
		return pk, size, fmt.Errorf("a packet of type %d, which no server sends", pk.FixedHeader.Type)
	}
	if pk.FixedHeader.Type == packets.Disconnect && n == 1 {
		pk.ReasonCode = body[0] // MQTT 5.0, 3.14.2.2.1; mochi reads no reason without properties
		return pk, size, nil
	}
	return pk, size, decode(&pk, body)
}

// tryNext returns the next packet that has not been looked at, or why there is
// none.
func (c *client) tryNext() (packets.Packet, error) {
	timer := time.AfterFunc(patience, func() {
		c.mu.Lock()
		if c.err == nil {
			c.err = errors.New("nothing came in time")
		}
		c.mu.Unlock()
		c.arrive.Broadcast()
	})
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.got) == 0 && c.err == nil {
		c.arrive.Wait()
	}
	if len(c.got) == 0 {
		return packets.Packet{}, c.err
	}
	pk := c.got[0]
	c.got, c.sizes = c.got[1:], c.sizes[1:]
	return pk, nil
}

// next returns the next packet, which must come.
func (c *client) next() packets.Packet {
	c.t.Helper()
	pk, err := c.tryNext()
	if err != nil {
		c.t.Fatalf("%s: no packet: %v", c.id, err)
	}
	return pk
}

// await returns the next packet that is wanted, and those that came before it.
func (c *client) await(want func(*packets.Packet) bool) (pk packets.Packet, before []packets.Packet) {
	c.t.Helper()
	for {
		pk := c.next()
		if want(&pk) {
			return pk, before
		}
		before = append(before, pk)
	}
}

func isType(typ byte) func(*packets.Packet) bool {
	return func(pk *packets.Packet) bool { return pk.FixedHeader.Type == typ }
}

// ended waits until the server has closed the connection, and returns what came
// before.
func (c *client) ended() []packets.Packet {
	c.t.Helper()
	var all []packets.Packet
	for {
		pk, err := c.tryNext()
		if err != nil {
			if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") && !errors.Is(err, net.ErrClosed) {
				c.t.Fatalf("%s: the connection lives: %v", c.id, err)
			}
			return all
		}
		all = append(all, pk)
	}
}

// flushed returns all that was queued for the client up to now: what has been
// acknowledged to a publisher is queued, and PINGRESP comes behind it.
func (c *client) flushed() []packets.Packet {
	c.t.Helper()
	c.raw([]byte{0xC0, 0})
	_, before := c.await(isType(packets.Pingresp))
	return before
}

// messages returns the messages that were queued for the client up to now, as
// "topic payload". Answers and notices are left out.
func (c *client) messages() []string {
	c.t.Helper()
	var out []string
	for _, pk := range c.flushed() {
		if pk.FixedHeader.Type == packets.Publish && !control.IsControl(pk.TopicName) {
			out = append(out, pk.TopicName+" "+string(pk.Payload))
		}
	}
	return out
}

// expectMessages compares what was queued for the client up to now.
func (c *client) expectMessages(want ...string) {
	c.t.Helper()
	if got := c.messages(); !slices.Equal(got, want) {
		c.t.Fatalf("%s received %q, want %q", c.id, got, want)
	}
}

func (c *client) packetID() uint16 {
	c.lastID++
	if c.lastID == 0 {
		c.lastID = 1
	}
	return c.lastID
}

// subscribe sends one SUBSCRIBE with QoS 1 for each filter and returns the codes
// of the SUBACK.
func (c *client) subscribe(filters ...string) []byte {
	c.t.Helper()
	return c.subscribeWith(nil, filters...).ReasonCodes
}

// subscribeWith lets change alter the SUBSCRIBE, and returns the SUBACK. Packets
// that come before it stay to be looked at.
func (c *client) subscribeWith(change func(*packets.Packet), filters ...string) packets.Packet {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: c.packetID()}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: 1})
	}
	if change != nil {
		change(&pk)
	}
	c.write(&pk, (*packets.Packet).SubscribeEncode)
	return c.reply(packets.Suback)
}

// unsubscribe sends one UNSUBSCRIBE and returns the UNSUBACK.
func (c *client) unsubscribe(filters ...string) packets.Packet {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: c.packetID()}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f})
	}
	c.write(&pk, (*packets.Packet).UnsubscribeEncode)
	return c.reply(packets.Unsuback)
}

// reply waits for a packet of the type, and puts back what came before it.
func (c *client) reply(typ byte) packets.Packet {
	c.t.Helper()
	pk, before := c.await(isType(typ))
	c.putBack(before)
	return pk
}

func (c *client) putBack(before []packets.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(slices.Clone(before), c.got...)
	c.sizes = append(make([]int, len(before)), c.sizes...)
}

// publish publishes and returns the reason of the PUBACK or PUBREC; 0 for QoS 0.
func (c *client) publish(topic, payload string, qos byte) byte {
	c.t.Helper()
	return c.publishWith(nil, topic, payload, qos).ReasonCode
}

// publishWith lets change alter the PUBLISH, and returns its acknowledgement.
func (c *client) publishWith(change func(*packets.Packet), topic, payload string, qos byte) packets.Packet {
	c.t.Helper()
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, Payload: []byte(payload),
	}
	if qos > 0 {
		pk.PacketID = c.packetID()
	}
	if change != nil {
		change(&pk)
	}
	c.write(&pk, (*packets.Packet).PublishEncode)
	switch qos {
	case 1:
		return c.reply(packets.Puback)
	case 2:
		rec := c.reply(packets.Pubrec)
		if rec.ReasonCode < 0x80 {
			c.reply(packets.Pubcomp)
		}
		return rec
	}
	return packets.Packet{}
}

// ask makes a request with a JSON body or bare word and returns the answer.
func (c *client) ask(op, body string) control.Answer {
	c.t.Helper()
	a, _ := c.askRaw(op, body)
	return a
}

// askRaw returns the answer's payload too.
func (c *client) askRaw(op, body string) (control.Answer, []byte) {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "$G/" + op, Payload: []byte(body)}
	c.write(&pk, (*packets.Packet).PublishEncode)
	return c.answer()
}

// answer waits for an answer, and puts back what came before it.
func (c *client) answer() (control.Answer, []byte) {
	c.t.Helper()
	pk, before := c.await(func(pk *packets.Packet) bool {
		return pk.FixedHeader.Type == packets.Publish && pk.TopicName == control.AnswerTopic
	})
	c.putBack(before)
	a, err := control.DecodeAnswer(pk.Payload)
	if err != nil {
		c.t.Fatalf("%s: answer %q: %v", c.id, pk.Payload, err)
	}
	return a, pk.Payload
}

// must makes a request that must be answered with code 0.
func (c *client) must(op, body string) control.Answer {
	c.t.Helper()
	a := c.ask(op, body)
	if a.Code != group.OK {
		c.t.Fatalf("%s: %s %s: answered %d %s", c.id, op, body, uint8(a.Code), a.Code)
	}
	return a
}

// refused makes a request that must be answered with the code.
func (c *client) refused(code group.Code, op, body string) control.Answer {
	c.t.Helper()
	a := c.ask(op, body)
	if a.Code != code {
		c.t.Fatalf("%s: %s %s: answered %d %s, want %d %s", c.id, op, body, uint8(a.Code), a.Code, uint8(code), code)
	}
	return a
}

// notice waits for the next notice on me.
func (c *client) notice() control.Notice {
	c.t.Helper()
	pk, before := c.await(func(pk *packets.Packet) bool {
		return pk.FixedHeader.Type == packets.Publish && pk.TopicName == control.MeTopic
	})
	c.putBack(before)
	n, err := control.DecodeNotice(pk.Payload)
	if err != nil {
		c.t.Fatalf("%s: notice %q: %v", c.id, pk.Payload, err)
	}
	return n
}

// groups returns the numbers of the device's groups, as mine says.
func (c *client) groups() []group.Number {
	c.t.Helper()
	var out []group.Number
	for _, e := range c.must("mine", "").List {
		out = append(out, e.N)
	}
	return out
}

// cut ends the connection as a lost network does, and waits until the server has
// noticed.
func (s *testServer) cut(op *client, c *client) {
	s.t.Helper()
	c.nc.Close()
	device, _ := control.SplitClientID(c.id)
	for start := time.Now(); time.Since(start) < patience; {
		if op.must("show", jsonOf(map[string]any{"device": string(device)})).Kind == "offline" {
			return
		}
	}
	s.t.Fatalf("%s: the server has not noticed that it is gone", c.id)
}

// disconnect says goodbye.
func (c *client) disconnect() {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}}
	c.write(&pk, (*packets.Packet).DisconnectEncode)
	c.ended()
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
