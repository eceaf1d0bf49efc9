package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/group"
)

// Two accounts, one of them hostile. Vera has v/# and Mallory m/#; whatever
// Mallory tries, he reads nothing of hers, writes nothing to her, takes nothing
// from her, and is told so each time.
func TestHostileAccount(t *testing.T) {
	s := serve(t, nil)
	op := s.lamps()
	vera := withRules(op, "vera", "device", "allow both v/#")
	mallory := withRules(op, "mallory", "device", "allow both m/#", "allow both %c/mail")
	inDialects(t, func(d dialect) {
		no := d.code(0x87, 0x80)
		her := s.dial("vera", d.plus(vera, persistent)...)
		her.subscribes(1, "v/#", "$share/crew/v/jobs/+")
		her.unsubscribe("v/#")
		her.flushed()
		her.subscribes(1, "v/private")
		her.publishWith(retain, "v/kept", "hers", 1) // she has no filter for it
		m := s.dial("mallory", d.plus(mallory)...)

		// Reading.
		m.subscribes(no, "#", "+", "+/#", "+/private", "v/#", "v/private", "v/kept", "v/+", "/#", "+/+", "V/../v/#",
			"$share/crew/v/jobs/+", "$share/crew/v/#", "$share/crew/#", "$share/mine/+/private",
			"$SYS/#", "$SYS/broker/clients", "$CONTROL/#", "$CONTROL/group/v1/#", "vera/mail")
		for _, f := range []string{"$share/crew/g/#", "$share/crew/$SYS/#", "$share/crew/$CONTROL/group/v1/me", "$share//v/#", "$share/v/#"} {
			if code := m.subscribe(f)[0]; code < 0x80 {
				t.Errorf("%q is granted %d", f, code)
			}
		}
		m.subscribes(1, "m/#", "mallory/mail", "$share/crew/m/#", "$share/crew/m/v/jobs/+")
		for i := range 6 {
			her.put("v/jobs/"+fmt.Sprint(i), "job", 1)
		}
		her.put("v/private", "secret", 1)
		m.expectMessages()
		if got := her.messages(); len(got) != 7 {
			t.Errorf("she received %q", got)
		}

		// Writing.
		for _, topic := range []string{"v/private", "v/jobs/1", "v/kept", "v", "vera/mail", "$SYS/x", "$share/crew/v/jobs/1", "/v/private", "g/1/all/vera/x", "g/1/all/mallory/x"} {
			m.refusedAll(0x87, topic)
			m.publishWith(retain, topic, "", 1) // takes nothing away
		}
		if d.v5 {
			m.publishWith(topicAlias(1), "m/x", "x", 1)
			m.publishWith(topicAlias(1), "v/private", "x", 1) // the alias is hers from now on
			if r := m.publishWith(topicAlias(1), "", "through the alias", 1).ReasonCode; r != 0x87 {
				t.Errorf("through an alias: 0x%02x", r)
			}
			m.flushed()
			for _, to := range []string{"v/private", "vera/mail", "$SYS/x", "$CONTROL/group/v1/me", "g/1/all/mallory/x"} {
				m.publishWith(func(pk *packets.Packet) { pk.Properties.ResponseTopic = to }, "$G/mine", "", 1)
				for _, pk := range m.flushed() {
					if pk.FixedHeader.Type == packets.Publish && pk.TopicName == to {
						t.Errorf("an answer came on %q", to)
					}
				}
			}
			// A Response Topic within a message to himself is only a text.
			m.publishWith(func(pk *packets.Packet) { pk.Properties.ResponseTopic = "v/private" }, "m/x", "x", 1)
			m.flushed()
		}
		for i, topic := range []string{"v/private", "v/kept", "vera/mail", "$SYS/x"} {
			w := s.dial(fmt.Sprint("m-will-", i), d.plus(mallory, withWill(topic, "will", 1), func(pk *packets.Packet, _ *client) { pk.Connect.WillRetain = true })...)
			s.lose(w)
		}
		her.expectMessages()
		her.subscribes(1, "v/kept")
		her.expectMessages("v/kept hers")
		her.unsubscribe("v/kept")

		// Stealing: her Client Identifier, her Session, her side connections.
		for _, id := range []string{"vera", "vera~1", "vera~" + strings.Repeat("x", 40)} {
			s.refuse(d.code(0x85, 2), id, d.plus(mallory)...)
			s.refuse(d.code(0x85, 2), id, d.plus(mallory, persistent)...)
		}
		s.lose(her)
		her2 := func() *client { return s.dial("vera", d.plus(vera, persistent)...) }
		op.put("v/private", "while away", 1)
		s.refuse(d.code(0x85, 2), "vera", d.plus(mallory, persistent)...)
		her = her2()
		her.expectMessages("v/private while away")

		// Names that mean something in a rule.
		for _, id := range []string{"+", "#", "v", "$SYS", "g", "v/private"} {
			x := s.dial(id, d.plus(mallory)...)
			x.subscribes(no, "v/private", "+/mail", "#", "v/#", "$SYS/mail")
			x.refusedAll(0x87, "v/private")
			x.refusedAll(0x87, "$SYS/mail")
			x.disconnect()
		}

		// Administering.
		for _, op := range []string{`"op":"update","user":"mallory","topics":["allow both #"]`, `"op":"update","user":"vera","disabled":true`, `"op":"show","user":"vera"`} {
			m.refused(group.NotAuthorized, "account", "{"+op+"}")
		}
		m.expectMessages()
		her.expectMessages()
		for _, x := range []*client{m, her} {
			x.disconnect()
		}
		s.dial("vera", d.plus(vera)...).disconnect()
	})
}

// However many publish and subscribe meanwhile: what comes after a right was
// taken away is nothing of it.
func TestRulesChangeUnderLoad(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	ann := withRules(op, "ann", "device", "allow subscribe b/#")
	c := s.dial("lamp", v5, ann)
	c.subscribe("b/#")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 2 {
		p := s.operatorAs(fmt.Sprint("muster~load-", i))
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					p.put("a/x", "x", byte(n%3))
				}
			}
		})
	}
	for range 20 {
		setRules(op, "ann", "allow subscribe a/#", "allow subscribe b/#")
		c.subscribes(1, "a/#")
		subscribing := make(chan struct{})
		go func() {
			defer close(subscribing)
			for range 5 {
				c.subscribe("a/+") // granted or not
			}
		}()
		op.put("b/x", "between", 1)
		setRules(op, "ann", "allow subscribe b/#")
		<-subscribing
		c.flushed()
		op.put("b/x", "end", 1)
		got := c.messages()
		if slices.ContainsFunc(got, func(m string) bool { return strings.HasPrefix(m, "a/") }) || !slices.Contains(got, "b/x end") {
			t.Fatalf("received %q", got)
		}
	}
	close(stop)
	wg.Wait()
}
