// Package wire turns bytes into MQTT packets and packets into bytes, for MQTT
// 3.1.1 and 5.0, on the side of a Server.
//
// It sees every byte first. [Frame] finds where a packet ends, [Validate] checks
// all that the specification says of one packet by itself, and the Parse
// functions read it. Parsing checks what Validate checks, so it is safe on any
// input; the one thing that only Validate does is to keep the [Limits]. What
// depends on more than one packet is left to the caller: that CONNECT comes
// first and once, which Topic Aliases and packet identifiers are in use, the
// Receive Maximum, a Session Expiry Interval in DISCONNECT after a zero one in
// CONNECT (MQTT 5.0, 3.14.2.2.2), and what the Server accepts at all.
//
// A [Shared] is one message for many receivers: it is encoded once for each form
// that receivers need, and copied for each of them.
//
// A version is 4 for MQTT 3.1.1 and 5 for MQTT 5.0. The Append functions add one
// whole packet to dst and return it, as append does; strings given to them are
// UTF-8 without U+0000, and are cut at 65,535 bytes. The package does no I/O,
// reads no clock, and is safe for concurrent use.
package wire
