// Package control reads and writes the messages of the control protocol
// (docs/protocol.md): request topics, verbs, group topics, and requests,
// answers, notices and events in JSON, CBOR and bare words.
//
// It is pure: no I/O, no clock, nothing kept between two calls; every function
// may be called from several goroutines at once. What it reads may come from a
// hostile client: whatever the bytes, it returns a value or a [group.Code],
// never panics, and uses memory in proportion to the input. What it returns
// holds nothing of the input's memory, except the parts of a [Topic], which are
// substrings of the topic.
package control
