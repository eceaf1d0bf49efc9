// Package broker is the MQTT server: it makes what devices receive equal to the
// record, and carries their requests to package ledger.
//
// # The life of a connection
//
// A connection has a state, which its own goroutine or loop alone changes:
//
//	state    what it does                                       leaves it for
//	new      waits for one CONNECT, for a bounded time          auth, closing
//	auth     checks account, Client Identifier and Will; what   up, closing
//	         waits for argon2id or for the disk waits here
//	up       handles one packet after the other                 closing
//	closing  takes no packet; writes what is left, says         gone
//	         goodbye, waits for the peer's end for 2 s
//	gone     has released everything                            -
//
// Others ask a connection to end with [conn.stop], once, and give the reason; the
// goroutine finds it before its next packet. What a packet asks for is done before
// the next one is looked at, so that a client's packets have their effects in
// their order.
//
// A connection does not know what reads it or writes it: bytes come in through
// conn.feed and go out through [listen.Conn.Try]. Neither waits: a packet that has to
// wait, for argon2id or for the disk, pauses its connection, and whoever reads may
// read others meanwhile. Plain TCP on Linux is read and written by event loops (type
// loop), many connections each; anything else by a goroutine for each connection
// (conn.run) and a few writers (type flusher). What is said of a connection's
// goroutine holds for its loop, and for the worker that a loop has handed it to.
//
// An admission counts connections from accept to their end. One that is new can be
// ended in favour of a newer one; from auth on it has its place. Of what it costs
// until then a goroutine, a buffer of 1 KiB and its socket are all.
//
// # Sessions
//
// A Session is an object of its own and outlives its connection. Of each Client
// Identifier there is at most one; a slot serialises the CONNECTs, the ends of
// connections and the expiry of one Client Identifier, so that take-over, resume,
// CONNACK and what is sent again are one step. The Session owns a
// [fanout.Member], through whose one queue goes everything that is sent.
//
// # Acting
//
// The Server is the ledger's [ledger.Actor]. A recorded change becomes a change
// of one Member, and the answer stands in that Member's queue at the point of the
// change. A device that connects gets its memberships from the record between two
// changes, by the same function.
//
// # Rights
//
// Who may use which ordinary topics stands in the rules of accounts, made ready
// for each Session (authz.Topics), and is decided when a message acts: at PUBLISH,
// when a Will fires, at each delivery. A change of an account takes from each of
// its Sessions, in one step, the subscriptions and the waiting messages to which
// the right has ended: what stands in a queue may always be sent.
//
// # Locks
//
// Taken in this order, and never two of one kind: slot, ledger (acting), events,
// session, tree or Member; the maps of the Server, the admission and the log's calm
// are leaves. No lock but the slot's is held while anything waits, and publishing,
// Wills, hooks and the ledger are called under no session's or Member's lock.
//
// mochi's server is embedded as parts: its hook chain, on which our authorization
// is one hook, its codec for the packets that hooks are shown, and its topic tree
// (package broker/topics). No goroutine of mochi's runs.
package broker
