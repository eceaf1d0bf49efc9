//go:build crash

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/control"
)

// crashPatience is how long a test waits for what must come.
const crashPatience = 20 * time.Second

// A crashClient is an MQTT 3.1.1 client of a server that may die at any instant:
// each call returns what came, or the error with which the connection ended. It
// is for one goroutine.
type crashClient struct {
	nc       net.Conn
	r        *bufio.Reader
	messages []string // of groups, "topic payload"
	notices  []control.Notice
	lastID   uint16
}

// dialCrash connects, without a user if it is empty. The code is that of the
// CONNACK.
func dialCrash(network, addr, id, user, password string) (c *crashClient, code byte, err error) {
	nc, err := net.DialTimeout(network, addr, crashPatience)
	if err != nil {
		return nil, 0, err
	}
	c = &crashClient{nc: nc, r: bufio.NewReader(nc)}
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: id, Clean: true, Keepalive: 60},
	}
	if user != "" {
		pk.Connect.UsernameFlag, pk.Connect.Username = true, []byte(user)
		pk.Connect.PasswordFlag, pk.Connect.Password = true, []byte(password)
	}
	if err = c.write(&pk, (*packets.Packet).ConnectEncode); err == nil {
		pk, err = c.await(packets.Connack)
	}
	if err != nil {
		nc.Close()
		return nil, 0, fmt.Errorf("connect %s: %w", id, err)
	}
	return c, pk.ReasonCode, nil
}

func (c *crashClient) close() { c.nc.Close() }

func (c *crashClient) write(pk *packets.Packet, encode func(*packets.Packet, *bytes.Buffer) error) error {
	var b bytes.Buffer
	pk.ProtocolVersion = 4
	if err := encode(pk, &b); err != nil {
		return err
	}
	c.nc.SetDeadline(time.Now().Add(crashPatience))
	_, err := c.nc.Write(b.Bytes())
	return err
}

// next reads one packet, and acknowledges what is to be acknowledged.
func (c *crashClient) next() (pk packets.Packet, err error) {
	first, err := c.r.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	n := 0
	for shift := 0; ; shift += 7 {
		b, err := c.r.ReadByte()
		if err != nil {
			return pk, err
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return pk, err
	}
	pk.ProtocolVersion, pk.FixedHeader.Remaining = 4, n
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Publish:
		if err = pk.PublishDecode(body); err == nil && pk.FixedHeader.Qos == 1 {
			ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID}
			err = c.write(&ack, (*packets.Packet).PubackEncode)
		}
	}
	return pk, err
}

// await reads up to a packet of the type, and keeps messages and notices that
// come before it. Of the type Publish it is the next answer.
func (c *crashClient) await(typ byte) (packets.Packet, error) {
	for {
		pk, err := c.next()
		switch {
		case err != nil:
			return pk, err
		case pk.FixedHeader.Type != packets.Publish:
			if pk.FixedHeader.Type == typ {
				return pk, nil
			}
		case pk.TopicName == control.AnswerTopic:
			if typ == packets.Publish {
				return pk, nil
			}
		case pk.TopicName == control.MeTopic:
			n, err := control.DecodeNotice(pk.Payload)
			if err != nil {
				return pk, err
			}
			c.notices = append(c.notices, n)
		default:
			c.messages = append(c.messages, pk.TopicName+" "+string(pk.Payload))
		}
	}
}

// ask makes a request with the body's JSON and waits for the answer.
func (c *crashClient) ask(op control.Op, body any) (control.Answer, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return control.Answer{}, err
	}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "$G/" + string(op), Payload: b}
	if err := c.write(&pk, (*packets.Packet).PublishEncode); err != nil {
		return control.Answer{}, err
	}
	if pk, err = c.await(packets.Publish); err != nil {
		return control.Answer{}, err
	}
	return control.DecodeAnswer(pk.Payload)
}

// subscribe returns the code of the SUBACK.
func (c *crashClient) subscribe(filter string) (byte, error) {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: c.packetID(),
		Filters: packets.Subscriptions{{Filter: filter, Qos: 1}},
	}
	if err := c.write(&pk, (*packets.Packet).SubscribeEncode); err != nil {
		return 0, err
	}
	pk, err := c.await(packets.Suback)
	if err != nil || len(pk.ReasonCodes) != 1 {
		return 0, fmt.Errorf("SUBACK with codes %v: %w", pk.ReasonCodes, err)
	}
	return pk.ReasonCodes[0], nil
}

// publish publishes with QoS 1 and waits for the PUBACK.
func (c *crashClient) publish(topic, payload string) error {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: c.packetID(),
		TopicName: topic, Payload: []byte(payload),
	}
	if err := c.write(&pk, (*packets.Packet).PublishEncode); err != nil {
		return err
	}
	_, err := c.await(packets.Puback)
	return err
}

// flush waits for all that was queued for the client up to now.
func (c *crashClient) flush() error {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}}
	if err := c.write(&pk, (*packets.Packet).PingreqEncode); err != nil {
		return err
	}
	_, err := c.await(packets.Pingresp)
	return err
}

func (c *crashClient) packetID() uint16 {
	c.lastID = c.lastID%65535 + 1
	return c.lastID
}
