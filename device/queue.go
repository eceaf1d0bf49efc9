package device

import (
	"container/list"
	"sync"
)

// The bounds of what waits for the receiver.
const (
	maxWaitingBytes   = 8 << 20 // of messages with QoS 0
	maxWaitingChanges = 256
	// maxWaitingQoS1 is far beyond the 64 that a server leaves unacknowledged.
	maxWaitingQoS1 = 1024
)

// An item is one message or one change on its way to the receiver.
type item struct {
	message Message
	change  *Change // nil: it is a message
	// ack acknowledges a message with QoS 1; id is its packet identifier on the
	// connection with that number.
	ack  func()
	id   uint16
	link uint64
}

// A queue holds what has arrived until the receiver takes it, in order.
type queue struct {
	wake chan struct{} // holds one signal while there may be something to take

	mu      sync.Mutex // guards the fields below
	max     int        // messages with QoS 0
	items   *list.List // of *item
	qos0    *list.List // of *list.Element, those of items that may be dropped
	changes *list.List // the same
	bytes   int        // of qos0
	qos1    int
	handing *item // taken, and not yet handed over
	dropped uint64
}

func newQueue(max int) *queue {
	return &queue{wake: make(chan struct{}, 1), max: max, items: list.New(), qos0: list.New(), changes: list.New()}
}

// put adds an item. It reports false, and adds nothing, if the server has sent
// far more messages with QoS 1 than it may without their acknowledgement.
func (q *queue) put(it *item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case it.change != nil:
		if q.changes.Len() >= maxWaitingChanges {
			q.drop(q.changes)
		}
		q.changes.PushBack(q.items.PushBack(it))
	case it.message.QoS == 0:
		for q.qos0.Len() > 0 && (q.qos0.Len() >= q.max || q.bytes+it.size() > maxWaitingBytes) {
			q.drop(q.qos0)
			q.dropped++
		}
		q.qos0.PushBack(q.items.PushBack(it))
		q.bytes += it.size()
	default:
		if it.message.Dup && q.again(it) {
			break
		}
		if q.qos1 >= maxWaitingQoS1 {
			return false
		}
		q.qos1++
		q.items.PushBack(it)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// again reports whether the message still waits from an earlier connection: it
// is handed over once then, and acknowledged on this one.
func (q *queue) again(it *item) bool {
	if q.handing != nil && q.handing.renew(it) {
		return true
	}
	for e := q.items.Front(); e != nil; e = e.Next() {
		if e.Value.(*item).renew(it) {
			return true
		}
	}
	return false
}

// renew takes over the acknowledgement of the same message, sent again on a
// later connection, and reports whether it is the same.
func (it *item) renew(again *item) bool {
	if it.ack == nil || it.link >= again.link || it.id != again.id || it.message.Topic != again.message.Topic ||
		string(it.message.Payload) != string(again.message.Payload) {
		return false
	}
	it.ack, it.link = again.ack, again.link
	return true
}

// drop takes the oldest item of the given kind away.
func (q *queue) drop(kind *list.List) {
	e := kind.Remove(kind.Front()).(*list.Element)
	it := q.items.Remove(e).(*item)
	if it.change == nil {
		q.bytes -= it.size()
	}
}

// take returns the oldest item, nil if there is none. It is to be given to
// handed when the receiver has it.
func (q *queue) take() *item {
	q.mu.Lock()
	defer q.mu.Unlock()
	front := q.items.Front()
	if front == nil {
		return nil
	}
	it := q.items.Remove(front).(*item)
	switch {
	case it.change != nil:
		q.changes.Remove(q.changes.Front())
	case it.message.QoS == 0:
		q.qos0.Remove(q.qos0.Front())
		q.bytes -= it.size()
	default:
		q.qos1--
	}
	q.handing = it
	return it
}

// handed returns how to acknowledge the item that was taken last; nil if there
// is nothing to acknowledge.
func (q *queue) handed(it *item) (ack func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.handing = nil
	return it.ack
}

// lost returns how many messages with QoS 0 were dropped.
func (q *queue) lost() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

func (it *item) size() int { return len(it.message.Topic) + len(it.message.Payload) }
