// Package group decides who is in which group.
//
// A [State] holds the groups, the devices and their rosters. [State.Decide]
// says what a [Request] would change: which groups the device loses and gains.
// The caller stages the change, records it, and settles or drops it, so that
// after a crash the record, the roster and what the device receives can be made
// equal again, with the record as the truth.
//
// The package does no I/O and reads no clock: the same requests in the same
// order always give the same rosters. A State is not safe for concurrent use;
// package ledger owns the only one.
package group
