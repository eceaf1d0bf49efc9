package device

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// The bounds of a Device.
const (
	maxOutstanding = 16 // requests that wait for an answer
	changesRoom    = 64 // changes that wait in Device.Changes
)

var errFlood = errors.New("the server sends far more messages with QoS 1 than it may before they are acknowledged")

// A Device is a connection to the server that is made anew when it is lost. Its
// methods may be called by several goroutines.
type Device struct {
	clientID string
	self     group.ClientID // the device that it speaks for: of a side connection the part before "~"
	server   string
	addr     address
	o        Options
	log      *slog.Logger
	sleep    func(ctx context.Context, d time.Duration) error

	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	run      sync.WaitGroup // the goroutines that keep connecting and ask for details
	pump     sync.WaitGroup // the one that hands over
	queue    *queue
	messages chan Message
	changes  chan Change
	slots    chan struct{} // one for each outstanding request
	details  chan struct{} // holds one signal while details of the state are missing

	mu      sync.Mutex    // guards the fields below
	links   uint64        // how many connections were tried
	cur     *link         // nil while there is none
	ready   chan struct{} // closed when cur is there
	groups  []Membership  // by number
	epoch   group.Epoch
	known   bool // the server has told the state once
	waiting map[string]*waiter
	filters []ownFilter
}

// Dial connects to the server, which is mqtt://HOST:PORT, mqtts://HOST:PORT,
// ws://HOST:PORT/PATH, wss://HOST:PORT/PATH or unix:PATH, and returns when the server has accepted the device and has told
// its groups. From then on the Device reconnects by itself until Close.
//
// The error says what to do: an [*Error] with [group.NotAuthorized] for a wrong
// password, a Client Identifier of another account or a listener that takes no
// such account. After an error nothing is left of the attempt.
func Dial(ctx context.Context, server string, o Options) (*Device, error) {
	return dial(ctx, server, o, sleep)
}

func dial(ctx context.Context, server string, o Options, wait func(context.Context, time.Duration) error) (*Device, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	addr, err := parseServer(server, o.TLS)
	if err != nil {
		return nil, err
	}
	d := &Device{
		clientID: o.ClientID, server: server, addr: addr, o: o, log: o.Logger, sleep: wait,
		queue: newQueue(o.BufferMessages), messages: make(chan Message), changes: make(chan Change, changesRoom),
		slots: make(chan struct{}, maxOutstanding), details: make(chan struct{}, 1),
		ready: make(chan struct{}), waiting: map[string]*waiter{},
	}
	d.self, _ = control.SplitClientID(o.ClientID)
	d.ctx, d.cancel = context.WithCancel(context.Background())
	l, err := d.connect(ctx)
	if err != nil {
		d.cancel()
		return nil, err
	}
	d.up(l)
	d.pump.Go(d.handOver)
	d.run.Go(func() { d.keepConnected(l) })
	d.run.Go(d.keepDetails)
	d.log.Info("connected", "client", d.clientID, "server", d.server)
	return d, nil
}

// Close ends the connection and everything that the Device has begun, and
// returns when all of it has ended: it waits for a callback that is running, so
// a callback must not call it. What was not handed over is not acknowledged.
// The channels of Messages and Changes are closed, and what waits for an answer
// returns [ErrClosed]. The memberships stay. The error is always nil.
func (d *Device) Close() error {
	d.cancel()
	d.pump.Wait()
	d.run.Wait()
	return nil
}

// Connected reports whether there is a connection on which the server has told
// the device's state.
func (d *Device) Connected() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cur != nil
}

// ClientID returns the Client Identifier by which groups know the device: of a
// side connection the part before "~".
func (d *Device) ClientID() group.ClientID { return d.self }

// Groups returns the groups that the device is in, by number, as the server has
// told last: also while there is no connection.
func (d *Device) Groups() []Membership {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]Membership, len(d.groups))
	for i, m := range d.groups {
		all[i] = m.clone()
	}
	return all
}

// Member returns the device's membership of group n, and whether there is one.
func (d *Device) Member(n group.Number) (Membership, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok := d.member(n)
	return m.clone(), ok
}

// Epoch returns the version of the device's record that Groups shows.
func (d *Device) Epoch() group.Epoch {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.epoch
}

// Messages returns the channel of what the device receives, unless
// Options.Messages takes it. It has no room: a message that it has given is
// acknowledged. Close closes it.
//
// A message that arrived before the answer to a leave or a switch can still
// wait here when that returns; its Epoch is from before the change.
func (d *Device) Messages() <-chan Message { return d.messages }

// Changes returns the channel of what happens to the device's memberships,
// unless Options.Changes takes it. A change is in it before a message that
// follows it is handed over. It has room for 64; then the oldest is dropped,
// while Groups stays true. Close closes it.
func (d *Device) Changes() <-chan Change { return d.changes }

// Dropped returns how many messages with QoS 0 were dropped because the receiver
// did not take them in time.
func (d *Device) Dropped() uint64 { return d.queue.lost() }

// handOver gives messages and changes to the receiver, in order.
func (d *Device) handOver() {
	defer close(d.messages)
	defer close(d.changes)
	for {
		it := d.queue.take()
		if it == nil {
			select {
			case <-d.queue.wake:
				continue
			case <-d.ctx.Done():
				return
			}
		}
		if d.ctx.Err() != nil {
			return
		}
		if it.change != nil {
			d.giveChange(*it.change)
			continue
		}
		if d.o.Messages != nil {
			d.o.Messages(it.message)
		} else {
			select {
			case d.messages <- it.message:
			case <-d.ctx.Done():
				return
			}
		}
		if ack := d.queue.handed(it); ack != nil {
			ack()
		}
	}
}

func (d *Device) giveChange(c Change) {
	if d.o.Changes != nil {
		d.o.Changes(c)
		return
	}
	for {
		select {
		case d.changes <- c:
			return
		default:
		}
		select {
		case <-d.changes:
		default:
		}
	}
}
