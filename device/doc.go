// Package device is the client library of muster for a device or a tool: it
// keeps one connection to the server, makes requests and hands over messages.
//
// [Dial] connects and learns in which groups the device is; from then on the
// [Device] reconnects by itself until [Device.Close]. What it knows of its
// groups is what the server has said last on the connection, never what it
// remembers: after each reconnect the server tells the whole state, and what
// became different meanwhile is delivered as a [Change].
//
// Everything that the server sends stands in one order. [Device.Groups] follows
// it as it arrives; messages and changes are handed over in that order, by one
// goroutine. A request whose answer is lost is asked again with the same
// identifier, so that it has its effect once.
//
// The caller must take the messages, from [Device.Messages] or with
// [Options.Messages]. While it does not, the server keeps back messages with
// QoS 1, and the oldest ones with QoS 0 are lost and counted
// ([Device.Dropped]).
//
// A message with QoS 1 is acknowledged when it has been handed over, and not
// before. One that was handed over just when the connection was lost can come
// a second time, with Dup set.
package device
