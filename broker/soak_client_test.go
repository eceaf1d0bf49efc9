//go:build soak

package broker_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/muster-mqtt/muster/control"
)

// A soakClient does as little as a client can, on one goroutine: it reads while it
// waits for an answer.
type soakClient struct {
	nc net.Conn
	r  *bufio.Reader
	id uint16
}

// soakDial connects with MQTT 3.1.1.
func soakDial(network, addr, id string, clean bool) (*soakClient, error) {
	nc, err := net.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	c := &soakClient{nc: nc, r: bufio.NewReaderSize(nc, 1<<10)}
	b := bareConnect(id)
	if !clean {
		b[9] = 0
	}
	nc.SetDeadline(time.Now().Add(patience))
	nc.Write(b)
	first, body, err := c.frame()
	if err == nil && (first != 0x20 || body[1] != 0) {
		err = fmt.Errorf("CONNECT of %s is answered %x %x", id, first, body)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// frame reads one packet.
func (c *soakClient) frame() (first byte, body []byte, err error) {
	if first, err = c.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(c.r)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(c.r, body)
	return first, body, err
}

// until reads packets, and acknowledges messages, until one is wanted.
func (c *soakClient) until(want func(first byte, topic string, payload []byte) bool) error {
	c.nc.SetDeadline(time.Now().Add(patience))
	for {
		first, body, err := c.frame()
		if err != nil {
			return err
		}
		if first>>4 != 3 {
			if want(first, "", body) {
				return nil
			}
			continue
		}
		n := 2 + int(binary.BigEndian.Uint16(body))
		topic, payload := string(body[2:n]), body[n:]
		if first>>1&3 == 1 {
			c.nc.Write([]byte{0x40, 2, payload[0], payload[1]})
			payload = payload[2:]
		}
		if want(first, topic, payload) {
			return nil
		}
	}
}

func (c *soakClient) send(first byte, body string) {
	c.nc.Write(append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...))
}

func soakText(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + s }

// ask makes a request.
func (c *soakClient) ask(op, body string) (a control.Answer, err error) {
	c.send(0x30, soakText("$G/"+op)+body)
	decoding := error(nil)
	err = c.until(func(_ byte, topic string, payload []byte) bool {
		if topic != control.AnswerTopic {
			return false
		}
		a, decoding = control.DecodeAnswer(payload)
		return true
	})
	return a, errors.Join(err, decoding)
}

// publish publishes, and waits for the acknowledgement of QoS 1.
func (c *soakClient) publish(topic, payload string, qos byte) error {
	if qos == 0 {
		c.send(0x30, soakText(topic)+payload)
		return nil
	}
	c.id = max(c.id+1, 1)
	c.send(0x32, soakText(topic)+string([]byte{byte(c.id >> 8), byte(c.id)})+payload)
	return c.until(func(first byte, _ string, _ []byte) bool { return first == 0x40 })
}

// subscribe subscribes to one filter.
func (c *soakClient) subscribe(filter string, qos byte) error {
	c.send(0x82, "\x00\x01"+soakText(filter)+string([]byte{qos}))
	return c.until(func(first byte, _ string, _ []byte) bool { return first == 0x90 })
}

// flush returns when all that was queued is read.
func (c *soakClient) flush() error {
	c.nc.Write([]byte{0xC0, 0})
	return c.until(func(first byte, _ string, _ []byte) bool { return first == 0xD0 })
}
