// Package topics is the tree of ordinary topics: who has subscribed to what,
// with or without a share, and which messages are retained.
//
// A [Tree] says which Sessions have a filter that matches a Topic Name, and
// nothing more: QoS, No Local and Subscription Identifiers are in the Session's
// own map of [Subscription], and it decides from there. A Session is named by a
// [Key] of its own. The caller enters filters that [wire.ValidFilter] accepts,
// bounds their number and their levels, and takes all filters of a Session out
// when it ends. Topics of groups never come here.
//
// Filters are matched by the topic index of mochi, with its gaps closed from
// outside: it misses "a" for "+/#", takes any spelling of "$share" for a share,
// and copies all it finds on the way at each match. So each filter is entered
// once, whoever has it, and the Sessions that have it are held here.
//
// Retained messages are held in a tree of this package. The index of mochi can
// hold them, and copies each node and a packet of 800 bytes for each match:
// 43 MB for one SUBSCRIBE to "#" over 10,000 messages, and in proportion to what
// is configured (BenchmarkRetained10000Mochi). It races with itself there too.
//
// All methods are safe for concurrent use. Functions that a caller passes in are
// called with no lock held, so they may call the Tree.
package topics
