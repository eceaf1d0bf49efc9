// Package fanout delivers: members, their queues, and the switch point.
//
// A [Member] is one Session's place in delivery: the groups it is in, what it
// has subscribed to of groups by filters of its own, one queue and one window
// for everything that goes out to it, whatever it is. The [Engine] knows which
// Members to ask for a message of a group.
//
// # The switch point
//
// A Member's lock makes "is it a member?" and "enqueue" one step, and so does
// [Member.Set] with "it is a member no longer" and "enqueue the answer".
// Deliveries and changes of one device therefore have one order, and the answer
// to a change separates old from new in what the device reads. Between the two
// the Engine may ask a Member that has just left, or one that has not joined
// yet: the Member decides, not the list in which it was found. A join enters
// the Member in the Engine's list before the switch point, a leave takes it out
// afterwards.
//
// # Who calls what
//
// [Engine.Publish] returns when the message is queued for everyone; nothing in
// it waits. The bytes are fetched with [Member.Take] by whoever writes them,
// who is called through [Sink.Wake], and says when they are handed to the
// kernel with [Member.Wrote].
//
// Locks: a room's, then a Member's. No lock is held while a Sink is called.
package fanout
