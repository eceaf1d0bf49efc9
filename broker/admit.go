package broker

import (
	"container/list"
	"net/netip"
	"sync"
)

// An admission counts connections from accept to their end: all, those of each
// address, and those that have not logged in. A connection of which no whole CONNECT
// has come makes room for a newer one, so that silent sockets keep nobody out.
type admission struct {
	limits *Limits

	mu         sync.Mutex // guards all below; a leaf
	all        int
	connecting int
	silent     list.List // of *conn without a whole CONNECT, oldest first
	addrs      map[netip.Prefix]*crowd
}

// A crowd is what comes from one address.
type crowd struct{ all, connecting int }

// A ticket is a connection's place in the admission, which guards it.
type ticket struct {
	inside     bool
	connecting bool
	silent     *list.Element // nil: its CONNECT is whole, or it was evicted
	at         netip.Prefix
	crowd      *crowd // nil: its address is not bounded, or not known yet
}

// Why connections are not let in.
const (
	fullServer     = "as many connections as limits.connections allows"
	fullConnecting = "as many connections without a login as limits.connecting allows"
	fullAddress    = "as many connections of the address as limits.connections_per_address allows"
	fullLogins     = "as many connections of the address without a login as limits.connecting_per_address allows"
)

// enter counts a new connection, unless refused says why it is not let in. With
// known set it counts for its address at once, else [admission.locate] is called
// later. evicted, if not nil, is to be ended in its favour.
func (a *admission) enter(c *conn, known bool) (evicted *conn, refused string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	full := ""
	switch {
	case a.limits.Connections > 0 && a.all >= a.limits.Connections:
		full = fullServer
	case a.limits.Connecting > 0 && a.connecting >= a.limits.Connecting:
		full = fullConnecting
	}
	oldest := a.silent.Front()
	if full != "" && oldest == nil {
		return nil, full
	}
	if known {
		if refused = a.join(c); refused != "" {
			return nil, refused
		}
	}
	if full != "" {
		evicted = oldest.Value.(*conn)
		a.silent.Remove(oldest)
		evicted.ticket.silent = nil
	}
	c.ticket.inside, c.ticket.connecting = true, true
	c.ticket.silent = a.silent.PushBack(c)
	a.all++
	a.connecting++
	if c.ticket.crowd != nil {
		c.ticket.crowd.connecting++
	}
	return evicted, ""
}

// join counts the connection for its address. The caller holds a.mu.
func (a *admission) join(c *conn) (refused string) {
	at, bounded := addressOf(c.net.Peer)
	if !bounded {
		return ""
	}
	w := a.addrs[at]
	switch {
	case w == nil:
		w = &crowd{}
	case a.limits.ConnectionsPerAddress > 0 && w.all >= a.limits.ConnectionsPerAddress:
		return fullAddress
	case a.limits.ConnectingPerAddress > 0 && w.connecting >= a.limits.ConnectingPerAddress:
		return fullLogins
	}
	if a.addrs == nil {
		a.addrs = map[netip.Prefix]*crowd{}
	}
	a.addrs[at] = w
	w.all++
	c.ticket.crowd, c.ticket.at = w, at
	return ""
}

// locate counts a connection for its address that a proxy has named.
func (a *admission) locate(c *conn) (refused string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.ticket.crowd != nil {
		return ""
	}
	refused = a.join(c)
	if c.ticket.crowd != nil {
		c.ticket.crowd.connecting++
	}
	return refused
}

// heard notes that the CONNECT is whole: the connection is not evicted any more.
func (a *admission) heard(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listened(&c.ticket)
}

func (a *admission) listened(t *ticket) {
	if t.silent != nil {
		a.silent.Remove(t.silent)
		t.silent = nil
	}
}

// up notes that the client has logged in.
func (a *admission) up(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.connected(&c.ticket)
}

func (a *admission) connected(t *ticket) {
	if !t.connecting {
		return
	}
	t.connecting = false
	a.connecting--
	if t.crowd != nil {
		t.crowd.connecting--
	}
}

// leave ends the counting of a connection.
func (a *admission) leave(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := &c.ticket
	if !t.inside {
		return
	}
	a.listened(t)
	a.connected(t)
	t.inside = false
	a.all--
	if t.crowd == nil {
		return
	}
	if t.crowd.all--; t.crowd.all == 0 {
		delete(a.addrs, t.at)
	}
	t.crowd = nil
}

// addressOf returns what a peer is counted by: its address of IPv4, or the first
// 64 bits of IPv6, of which one peer has all. Loopback and what is no address are
// not bounded.
func addressOf(peer string) (at netip.Prefix, bounded bool) {
	a, err := netip.ParseAddr(peer)
	if err != nil || a.Unmap().IsLoopback() {
		return netip.Prefix{}, false
	}
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	at, err = a.Prefix(bits)
	return at, err == nil
}
