package broker

import (
	"errors"
	"strings"
	"sync"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// An exchange is what a client waits for: the answer to a request, or the SUBACK
// or UNSUBACK of verbs. It is a ledger.Reply, and is answered once.
type exchange struct {
	c *conn
	// packets makes what is sent, of the answers.
	packets func(answers []control.Answer) [][]byte
	// joinIDs returns the Subscription Identifiers that the answers give to
	// memberships; nil: none.
	joinIDs func(answers []control.Answer) map[group.Number]uint32
	pause   *pause // ends with the answers
	once    sync.Once
	answers []control.Answer
}

func newExchange(c *conn, packets func([]control.Answer) [][]byte) *exchange {
	return &exchange{c: c, packets: packets, pause: c.newPause(nil)}
}

// wait pauses the connection until the answers are sent; then is called after that.
func (x *exchange) wait(then func() *goodbye) {
	x.pause.then = then
	x.c.paused = x.pause
}

// Answer sends the answers. The connection's goroutine goes on then.
func (x *exchange) Answer(answers []control.Answer) {
	x.once.Do(func() {
		if x.joinIDs != nil {
			x.c.session.member.SetJoinIDs(x.joinIDs(answers))
		}
		x.answers = answers
		x.c.send(x.packets(answers)...)
		x.pause.end()
	})
}

// inQueue returns the packets of the answers for a place in the asker's own
// queue, and ends the exchange. The Member is locked.
func (x *exchange) inQueue(answers []control.Answer) (packets [][]byte) {
	x.once.Do(func() {
		x.answers = answers
		packets = x.packets(answers)
		x.pause.end()
	})
	return packets
}

// request takes a PUBLISH to the control protocol.
func (c *conn) request(topic string, p *wire.Publish) {
	op, code, ours := control.ParseRequestTopic(topic)
	if !ours {
		c.refusePublish(topic, group.NotAuthorized)
		c.acknowledge(p, wire.NotAuthorized, "")
		return
	}
	r := control.Request{Op: op, Encoding: control.EncodingOf(p.Payload)}
	if code == group.OK {
		parsed, err := control.ParseRequest(op, p.Payload)
		if err == nil {
			r = parsed
		} else {
			code = group.Internal
			errors.As(err, &code)
		}
	}
	to := control.AnswerTopic
	if len(p.ResponseTopic) > 0 {
		to = string(p.ResponseTopic)
		if !c.mayAnswerTo(to) {
			to, code = control.AnswerTopic, group.BadRequest
		}
	}
	if r.Secret == "" && p.Secret != nil && len(p.Secret) <= 64 {
		r.Secret = string(p.Secret)
	}
	correlation := append([]byte(nil), p.CorrelationData...)
	ack := *p
	ack.Topic, ack.Payload, ack.Props = nil, nil, nil
	x := newExchange(c, func(answers []control.Answer) [][]byte {
		a := answers[0]
		room := 0
		if c.maxPacket > 0 {
			room = c.maxPacket - len(to) - len(correlation) - 32
		}
		payload := control.EncodeAnswer(control.Fit(a, r.Encoding, room), r.Encoding)
		return [][]byte{
			c.acknowledgement(&ack, wire.Reason(control.PubackReason(a.Code)), ackText(a.Code)),
			c.fit(wire.AppendPublish(nil, c.version, to, payload, correlation)),
		}
	})
	sess := c.session
	switch {
	case code != group.OK:
		x.Answer([]control.Answer{{Op: r.Op, ID: r.ID, Code: code}})
	case !sess.groupable && !sess.reserved:
		x.Answer([]control.Answer{{Op: r.Op, ID: r.ID, Code: group.NotAuthorized}})
	default:
		who := sess.asker(c, false)
		who.AssignedDevice = r.Device != "" && c.s.assigned(r.Device)
		c.s.ledger.Do(who, []control.Request{r}, c.s.cfg.now(), x)
	}
	x.wait(func() *goodbye {
		c.settle(&ack, wire.Reason(control.PubackReason(x.answers[0].Code)))
		return nil
	})
}

// ackText is the Reason String of a refusal.
func ackText(code group.Code) string {
	if code.Success() {
		return ""
	}
	return code.Error() + ": " + code.Text()
}

// fit drops a packet that the client has said it cannot take (MQTT 5.0,
// 3.1.2.11.4).
func (c *conn) fit(packet []byte) []byte {
	if c.maxPacket > 0 && len(packet) > c.maxPacket {
		return nil
	}
	return packet
}

// mayAnswerTo reports whether an answer may be sent to the Response Topic.
func (c *conn) mayAnswerTo(topic string) bool {
	switch {
	case control.IsAnswerFilter(topic) && !strings.ContainsAny(topic, "+#"):
		return true
	case !wire.ValidTopicName([]byte(topic)) || !isOrdinary(topic) || wire.Levels(topic) > c.s.limits.TopicLevels:
		return false
	}
	return c.s.hooks.OnACLCheck(c.client, topic, false)
}

var _ fanout.Sink = (*conn)(nil)
