package broker_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/group"
)

// No password, PIN, grant or payload is in the log, at its lowest level, whatever
// way it takes and however wrong it is. Each secret of this test holds the word
// below, or is remembered.
func TestLogHoldsNoSecret(t *testing.T) {
	s := serve(t, func(c *broker.Config) {
		c.Anonymous = false
		c.SetLoud()
		unlimited(c)
	})
	s.stop()
	s.cfg.Logger = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.start()
	const word = "hush"
	secrets := []string{word}
	op := s.operator(v5)
	op.must("account", jsonOf(map[string]any{"op": "add", "user": "ann", "secret": "hush-password"}))
	ann := login("ann", "hush-password")
	generated := op.must("account", jsonOf(map[string]any{"op": "add", "user": "bob"})).Secret
	op.must("account", jsonOf(map[string]any{"op": "update", "user": "bob", "secret": "hush-other"}))
	op.must("create", `{"name":"open"}`)
	pin := op.must("create", `{"name":"lamps","policy":"pin"}`).PIN
	op.must("create", `{"name":"topics","pin":"hush4711","pin_in_topic":true}`)
	secrets = append(secrets, generated, pin)
	grants := func(a []byte) {
		secrets = append(secrets, string(a), base64.RawURLEncoding.EncodeToString(a), base64.StdEncoding.EncodeToString(a), hex.EncodeToString(a))
	}
	inDialects(t, func(d dialect) {
		// Logins, right and wrong, and CONNECTs that are broken in all places.
		for i, o := range []option{ann, login("ann", "hush-wrong"), login("nobody", "hush-nobody"), login("", "hush-empty"), login("bob", generated+"x")} {
			attempt(t, "tcp", s.addr, fmt.Sprint("lamp-", i), d.plus(o, withWill("g/1/all/lamp/hush", "hush-will", 1))...).nc.Close()
		}
		whole := append([]byte{0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', d.code(5, 4), 0xc6, 0, 9}, []byte("\x00\x01x\x00\x01w\x00\x09hush-will\x00\x03ann\x00\x0dhush-password")...)
		if d.v5 {
			whole = append(append([]byte{0x10, 0}, whole[2:12]...), []byte("\x00\x00\x01x\x00\x00\x01w\x00\x09hush-will\x00\x03ann\x00\x0dhush-password")...)
		}
		for i := range whole {
			for _, change := range []byte{0xff, 0x80, 1} {
				b := append([]byte(nil), whole...)
				b[1] = byte(len(b) - 2)
				b[i] ^= change
				nc := s.open(0, nil)
				nc.Write(b)
				nc.Close()
			}
		}

		c := s.dial("ann-1", d.plus(ann)...)
		// PINs: right, wrong, in topics, in properties, in bodies that cannot be read.
		for _, secret := range []string{pin, "hush-pin", pin + "1"} {
			c.ask("join", jsonOf(map[string]any{"g": "lamps", "secret": secret}))
			c.ask("join", "lamps "+secret)
			c.ask("join", `{"g":"lamps","secret":"`+secret+`"`)
			c.ask("join", `{"g":"lamps","secret":`+jsonOf(secret)+`,"x`+secret+`":1}`)
			c.ask("hush", secret)
			c.ask("hush/"+secret, secret)
			c.subscribe("$join/topics/hush4711", "$join/lamps/"+secret, "$join/topics/"+secret, "$switch/1/2/"+secret, "$join/"+secret, "$leave/topics/"+secret, "$nothing/"+secret)
			c.flushed()
			c.unsubscribe("$join/topics/"+secret, "$join/"+secret)
			if d.v5 {
				c.subscribeWith(func(pk *packets.Packet) {
					userProperty("pin", secret)(pk, nil)
					userProperty("secret", secret)(pk, nil)
				}, "$join/lamps")
				c.publishWith(func(pk *packets.Packet) {
					userProperty("pin", secret)(pk, nil)
					userProperty("secret", secret)(pk, nil)
				}, "$G/join", "lamps", 1)
			}
			op.ask("update", jsonOf(map[string]any{"g": "topics", "pin": "hush-" + secret}))
			op.ask("account", jsonOf(map[string]any{"op": "update", "user": "bob", "secret": secret}))
			c.ask("account", jsonOf(map[string]any{"op": "update", "user": "ann", "secret": secret}))
		}
		c.flushed()
		// Grants: redeemed, used twice, another's, broken.
		a := c.must("grant", `{"op":"join","g":"open"}`)
		grants(a.Grant)
		for range 2 {
			c.ask("join", redeem(a.Grant, ""))
		}
		op.ask("join", redeem(a.Grant, ""))
		for _, f := range []string{base64.RawURLEncoding.EncodeToString(a.Grant), base64.RawURLEncoding.EncodeToString(a.Grant[1:]), hex.EncodeToString(a.Grant)} {
			c.subscribe("$grant/"+f, "$grant/"+f+"/x")
			c.ask("join", `{"grant":"`+f+`"`)
		}
		// Payloads: allowed, refused, too large for a queue, in Wills, retained, of a
		// response, and behind what breaks the connection.
		c.ask("join", "open")
		for qos := range byte(3) {
			c.publish("g/1/all/ann-1/x", "hush-payload", qos)
			c.publish("g/2/all/ann-1/x", "hush-payload", qos)
			c.publish("hush/ordinary", "hush-payload", qos)
			c.publish("g/hush/x", "hush-payload", qos)
			c.publish(strings.Repeat("hush/", 20), "hush-payload", qos)
			op.publishWith(retain, "hush/kept", "hush-payload", qos)
		}
		op.subscribe("hush/#", "$share/hush/hush/#", "hush/#/x")
		will := s.dial("ann-will", d.plus(ann, withWill("hush/will", "hush-will", 1))...)
		s.lose(will)
		for _, broken := range [][]byte{
			[]byte("\x36\x10\x00\x04hush\x00\x00hush-broken"), []byte("\x30\x10\x00\x04hu#h\x00hush-brok"), []byte("\x82\x08\x00\x00\x00\x04hush"),
			[]byte("\x10\x10\x00\x04hushhush-bro"), []byte("\xf0\x04hush"), []byte("\x00\x04hush"), []byte("\x40\x04hush"), []byte("\xa2\x08\x00\x01\x00\x04hush"),
			[]byte("\x30\xff\xff\xff\xffhush"), whole,
		} {
			x := s.dial("ann-broken", d.plus(ann)...)
			x.raw(append(broken, "hush-rest"...))
			x.nc.(interface{ CloseWrite() error }).CloseWrite()
			x.ended()
		}
		c.refused(group.BadRequest, "join", "hush hush hush hush hush")
		c.disconnect()
	})
	s.stop()
	log := s.log.String()
	if strings.Count(log, "msg=refused") < 20 || !strings.Contains(log, "level=DEBUG") {
		t.Fatalf("the log is too short to say anything:\n%s", log)
	}
	for _, secret := range secrets {
		if secret == "" {
			t.Fatal("an empty secret")
		}
		for _, line := range strings.Split(log, "\n") {
			if strings.Contains(line, secret) {
				t.Errorf("%q is in the log: %s", secret, line)
			}
		}
	}
}
