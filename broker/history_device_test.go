package broker_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A historyDevice is one device and its stream.
type historyDevice struct {
	h       *history
	id      string
	rng     *rand.Rand
	version byte
	c       *client
	op      *client // to see that a lost connection was noticed
	// settle keeps operators away while the device begins to listen.
	settle sync.Mutex

	// mu guards the stream, to which the reading goroutine adds.
	mu     sync.Mutex
	stream []segment
	in     []group.Number
	epoch  group.Epoch
	before []int // acknowledged when the request under way was sent
	dialed []int // begun when the connection was dialed
	resume bool
	// connection counts them.
	connection int
	kept       bool // the Session outlives its connection
}

// connect connects, with a clean start or to resume, and begins to listen.
func (d *historyDevice) connect(clean bool) {
	d.settle.Lock()
	defer d.settle.Unlock()
	d.mu.Lock()
	d.before, d.dialed, d.resume = snapshot(d.h.acked), snapshot(d.h.started), !clean && d.kept
	d.kept = !clean || d.version == 5 // a 3.1.1 clean session ends with its connection
	d.connection++
	connection := d.connection
	d.mu.Unlock()
	seen := func(pk *packets.Packet) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.connection == connection { // else it comes from one that was taken over
			d.seen(pk)
		}
	}
	options := []option{func(_ *packets.Packet, c *client) { c.seen = seen }, persistent}
	if d.version == 5 {
		options = append(options, v5)
	}
	options = append(options, func(pk *packets.Packet, _ *client) { pk.Connect.Clean = clean })
	d.c = d.h.s.dial(d.id, options...)
	d.c.subscribe("$G/me")
	d.c.flushed()
}

// seen takes each packet in its order, on the reading goroutine.
func (d *historyDevice) seen(pk *packets.Packet) {
	switch {
	case pk.FixedHeader.Type == packets.Connack:
		d.begin(pk)
	case pk.FixedHeader.Type == packets.Suback && len(pk.Properties.User) > 0:
		d.verdict(pk)
	case pk.FixedHeader.Type != packets.Publish:
	case pk.TopicName == control.AnswerTopic:
		a, err := control.DecodeAnswer(pk.Payload)
		if err != nil {
			d.h.t.Errorf("%s: answer %q: %v", d.id, pk.Payload, err)
			return
		}
		d.answered(&a)
	case pk.TopicName == control.MeTopic:
		n, err := control.DecodeNotice(pk.Payload)
		if err != nil {
			d.h.t.Errorf("%s: notice %q: %v", d.id, pk.Payload, err)
			return
		}
		d.noticed(&n)
	default:
		d.message(pk)
	}
}

// begin begins the stream of a connection. For 3.1.1 the memberships come with
// the state notice behind CONNACK, and nothing else before it.
func (d *historyDevice) begin(pk *packets.Packet) {
	if d.version == 5 {
		d.in = nil
		for _, u := range pk.Properties.User {
			if n, err := strconv.Atoi(u.Val); err == nil && u.Key == "grp" {
				d.in = append(d.in, group.Number(n))
			} else if err == nil && u.Key == "epoch" {
				d.epoch = group.Epoch(n)
			}
		}
	}
	seg := segment{in: slices.Clone(d.in), fresh: true, notBefore: d.before, notAfter: snapshot(d.h.started)}
	if pk.SessionPresent {
		seg.resumed = d.dialed
	} else if d.resume {
		d.h.t.Errorf("%s: the Session was lost", d.id)
	}
	d.stream = append(d.stream, seg)
	d.before = nil
}

// now begins a segment with the memberships of now.
func (d *historyDevice) now(own bool, dropped int) {
	seg := segment{in: slices.Clone(d.in), notAfter: snapshot(d.h.started), dropped: dropped > 0}
	if own {
		seg.notBefore = d.before
	}
	d.stream = append(d.stream, seg)
}

func (d *historyDevice) add(n group.Number) {
	if n != 0 && !slices.Contains(d.in, n) {
		d.in = append(d.in, n)
	}
}

func (d *historyDevice) remove(n group.Number) {
	d.in = slices.DeleteFunc(slices.Clone(d.in), func(o group.Number) bool { return o == n })
}

func (d *historyDevice) answered(a *control.Answer) {
	if a.Op == control.OpMine {
		var list []group.Number
		for _, e := range a.List {
			list = append(list, e.N)
		}
		if !sameGroups(list, d.in) {
			d.h.t.Errorf("%s: mine says %v, and by what it was told it is in %v", d.id, list, d.in)
		}
		return
	}
	if a.Code != group.OK {
		return
	}
	d.remove(a.From)
	if a.State == "member" {
		d.add(a.N)
	}
	d.epoch = a.Epoch
	d.now(true, a.Dropped)
}

// verdict takes the SUBACK of a verb: n and epoch are in its properties.
func (d *historyDevice) verdict(pk *packets.Packet) {
	var n, epoch int
	for _, u := range pk.Properties.User {
		if u.Key == "n" {
			n, _ = strconv.Atoi(u.Val)
		} else if u.Key == "epoch" {
			epoch, _ = strconv.Atoi(u.Val)
		}
	}
	if pk.ReasonCodes[0] > 2 || group.Epoch(epoch) == d.epoch {
		return
	}
	d.add(group.Number(n))
	d.epoch = group.Epoch(epoch)
	d.now(true, 0)
}

func (d *historyDevice) noticed(n *control.Notice) {
	if n.Kind == "state" {
		var list []group.Number
		for _, e := range n.List {
			list = append(list, e.N)
		}
		last := &d.stream[len(d.stream)-1]
		if d.version == 4 && last.fresh {
			last.in = list // nobody has changed it since CONNACK: see settle
		} else if !sameGroups(list, d.in) {
			d.h.t.Errorf("%s: the state says %v, and by what it was told it is in %v", d.id, list, d.in)
		}
		d.in, d.epoch = list, n.Epoch
		return
	}
	d.remove(n.From)
	d.add(n.To)
	d.epoch = n.Epoch
	d.now(false, n.Dropped)
}

func (d *historyDevice) message(pk *packets.Packet) {
	t, ok := control.ParseTopic(pk.TopicName)
	p, s, found := strings.Cut(t.Rest, "/")
	pn, err1 := strconv.Atoi(p)
	sn, err2 := strconv.Atoi(s)
	if !ok || !found || err1 != nil || err2 != nil || len(d.stream) == 0 {
		d.h.t.Errorf("%s: a message under %q", d.id, pk.TopicName)
		return
	}
	last := &d.stream[len(d.stream)-1]
	last.got = append(last.got, received{p: pn, s: sn, group: t.Number, dup: pk.FixedHeader.Dup})
}

func sameGroups(a, b []group.Number) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// step does one thing.
func (d *historyDevice) step() {
	from, to := d.h.groups[d.rng.IntN(len(d.h.groups))], d.h.groups[d.rng.IntN(len(d.h.groups))]
	switch d.rng.IntN(12) {
	case 0, 1:
		d.ask("join", from, to, fmt.Sprint(to))
	case 2, 3:
		d.ask("leave", from, 0, fmt.Sprint(from))
	case 4, 5, 6:
		d.ask("switch", from, to, fmt.Sprintf("%d %d", from, to))
	case 7:
		d.ask("mine", 0, 0, "")
	case 8:
		d.verb(to)
	case 9:
		d.lose(d.rng.IntN(2) == 0)
	case 10:
		d.connect(true) // takes over
	case 11:
		d.cutWhileAsking(from, to)
	}
}

func (d *historyDevice) ask(op string, from, to group.Number, body string) {
	d.send()
	call := d.h.calls.begin(d.id, op, from, to)
	a := d.c.ask(op, body)
	d.h.calls.end(call, &a)
}

// send notes what was acknowledged before a request.
func (d *historyDevice) send() {
	acked := snapshot(d.h.acked)
	d.mu.Lock()
	d.before = acked
	d.mu.Unlock()
}

// verb joins by SUBSCRIBE. Only 5.0 is told enough of it for the stream; a
// membership that somebody else ended is not joined by it.
func (d *historyDevice) verb(to group.Number) {
	if d.version != 5 {
		d.ask("join", 0, to, fmt.Sprint(to))
		return
	}
	d.send()
	call := d.h.calls.begin(d.id, "verb", 0, to)
	d.c.subscribe(fmt.Sprintf("$join/%d", to))
	d.h.calls.unknown(call)
}

// lose loses the connection and returns, to the same Session or to a new one.
func (d *historyDevice) lose(clean bool) {
	d.h.s.cut(d.op, d.c)
	d.connect(clean)
}

// cutWhileAsking loses the connection with a request under way, and learns at its
// return what became of it.
func (d *historyDevice) cutWhileAsking(from, to group.Number) {
	d.send()
	call := d.h.calls.begin(d.id, "switch", from, to)
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "$G/switch", Payload: fmt.Appendf(nil, "%d %d", from, to),
	}
	d.c.write(&pk, (*packets.Packet).PublishEncode)
	d.h.s.cut(d.op, d.c)
	d.h.calls.unknown(call)
	d.connect(d.rng.IntN(2) == 0)
}
