package wire

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// decodeByMochi has mochi decode a whole packet, as package broker does after
// Validate.
func decodeByMochi(frame []byte, version byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("mochi panics: %v", r)
		}
	}()
	pk := packets.Packet{ProtocolVersion: version}
	if err := pk.FixedHeader.Decode(frame[0]); err != nil {
		return err
	}
	length, n := varint(frame[1:])
	pk.FixedHeader.Remaining = int(length)
	body := bytes.Clone(frame[1+n:])
	if len(body) != int(length) {
		return fmt.Errorf("remaining length %d, body %d", length, len(body))
	}
	switch FrameType(frame) {
	case CONNECT:
		err = pk.ConnectDecode(body)
	case CONNACK:
		err = pk.ConnackDecode(body)
	case PUBLISH:
		err = pk.PublishDecode(body)
	case PUBACK:
		err = pk.PubackDecode(body)
	case PUBREC:
		err = pk.PubrecDecode(body)
	case PUBREL:
		err = pk.PubrelDecode(body)
	case PUBCOMP:
		err = pk.PubcompDecode(body)
	case SUBSCRIBE:
		if err = pk.SubscribeDecode(body); err == nil {
			if code := pk.SubscribeValidate(); code != packets.CodeSuccess {
				err = code
			}
		}
	case SUBACK:
		err = pk.SubackDecode(body)
	case UNSUBSCRIBE:
		if err = pk.UnsubscribeDecode(body); err == nil {
			if code := pk.UnsubscribeValidate(); code != packets.CodeSuccess {
				err = code
			}
		}
	case UNSUBACK:
		err = pk.UnsubackDecode(body)
	case DISCONNECT:
		err = pk.DisconnectDecode(body)
	case AUTH:
		err = pk.AuthDecode(body)
	}
	return err
}

func TestMochiDecodesSamples(t *testing.T) {
	for _, s := range samples() {
		if err := decodeByMochi(s.frame, s.version); err != nil {
			t.Errorf("%v, version %d: % x: %v", FrameType(s.frame), s.version, s.frame, err)
		}
	}
}

// FuzzValidate: what Validate lets through, mochi decodes, and the Parse
// functions read; what it refuses, they refuse.
func FuzzValidate(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.version == 5, s.frame)
	}
	f.Add(true, raw(0x82, 5, 0, 1, 0, 0, 0)) // panics in mochi
	f.Fuzz(func(t *testing.T, five bool, frame []byte) {
		version := byte(4)
		if five {
			version = 5
		}
		err := Validate(frame, version, Limits{})
		reasonOf(t, err)
		if perr, ok := parse(frame, version); ok && reasonOf(t, perr) != reasonOf(t, err) {
			t.Fatalf("% x: Validate says %v, parsing %v", frame, err, perr)
		}
		ConnectVersion(frame)
		if err != nil {
			return
		}
		if n, err := Frame(frame, len(frame)); n != len(frame) || err != nil {
			t.Fatalf("% x: valid, but Frame says %d, %v", frame, n, err)
		}
		if err := decodeByMochi(frame, version); err != nil {
			t.Fatalf("% x: mochi: %v", frame, err)
		}
		if FrameType(frame) == PUBLISH {
			again(t, frame, version)
		}
	})
}

// again checks that a valid PUBLISH, forwarded, says the same.
func again(t *testing.T, frame []byte, version byte) {
	p, err := ParsePublish(frame, version)
	if err != nil || len(p.Topic) == 0 {
		return
	}
	s := NewShared(Message{Topic: string(p.Topic), Payload: p.Payload, Props: p.Props})
	out := s.Append(nil, SendOptions{Version: version, QoS: p.QoS, ID: p.ID, Dup: p.Dup, Retain: p.Retain})
	q, err := ParsePublish(out, version)
	if err != nil || !bytes.Equal(p.Topic, q.Topic) || !bytes.Equal(p.Payload, q.Payload) || !bytes.Equal(p.Props, q.Props) ||
		p.ID != q.ID || !bytes.Equal(p.Secret, q.Secret) || !bytes.Equal(p.CorrelationData, q.CorrelationData) {
		t.Fatalf("% x became % x: %+v, %v", frame, out, q, err)
	}
	pairs := 0
	p.UserProperties(func(_, _ []byte) bool { pairs++; return true })
	if version < 5 && pairs > 0 {
		t.Fatal("3.1.1 has user properties")
	}
}
