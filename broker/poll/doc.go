// Package poll says which descriptors have become ready, for loops that read and
// write many of them.
//
// A [Poller] tells of changes only: a descriptor that was reported as readable is
// reported again when more has come, not while something is left. One goroutine calls
// Add and Wait; any other one may call Wake.
//
// It is epoll of Linux. Libraries were compared and not taken: gnet, evio and nbio own
// their connections, their buffers and their accept, and each of them would stand
// between a handler and the flush that follows it, which is what is to be controlled
// here. What is left of them is these hundred lines.
package poll

// An Event is what has become of one descriptor.
type Event struct {
	FD int
	// In says that there is something to read, or that the peer has ended; Out that
	// the kernel takes more; End that the peer has ended or the connection is broken,
	// so that reading will come to an end.
	In, Out, End bool
}
