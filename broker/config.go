package broker

import (
	"log/slog"
	"time"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/broker/listen"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
)

// A Config says how a Server works. Store must be set; zero fields of Limits
// mean the defaults.
type Config struct {
	Store store.Store
	// Logger takes the log; nil means none.
	Logger *slog.Logger
	// Listen holds addresses for MQTT: HOST:PORT or unix:PATH. Port 0 takes a
	// free one.
	Listen []string
	// Listeners holds those that are more than an address. Their Logger is the
	// Server's.
	Listeners []listen.Config
	// Socket is the path of the operator socket; empty: none.
	Socket string
	// Anonymous lets clients connect without a user name, where listener and peer
	// are loopback and nowhere else.
	Anonymous bool
	// AnonymousTopics are the rights of those clients to ordinary topics.
	AnonymousTopics []group.TopicRule
	Limits          Limits
	// Loops is how many event loops serve the connections of plain TCP; 0: one for
	// each processor; -1: none, a goroutine serves each connection. Only Linux has
	// them.
	Loops int
	// RefuseFilters are ordinary Topic Filters to which, as they stand, SUBSCRIBE is
	// refused with 0x80. That is no right: another filter may match the same topics.
	RefuseFilters []string
	// Authority holds the costs and limits of secrets.
	Authority authz.Config
	// GrantTTL is the life of a grant whose asker named none; 0 means 60 s.
	GrantTTL time.Duration
	// JournalKeep is how long notes of decisions are kept; 0 means 24 h.
	JournalKeep time.Duration
	// Version is told to nobody but the log.
	Version string

	// now and afterFunc are time's for requests and for timers; nil: those of
	// package time.
	now       func() time.Time
	afterFunc func(time.Duration, func()) *time.Timer
	// patience is flipPatience, or shorter in tests.
	patience time.Duration
	// large is largeGroup, or smaller in tests.
	large int
	// loud has no line withheld from the log, in tests.
	loud bool
}

// Limits bound what a Server accepts. A zero field means the default that
// stands in configs/muster.yaml; those marked so have no bound at -1.
type Limits struct {
	PacketSize       int // bytes of an MQTT packet, 256 KiB
	TopicLevels      int // 16
	Inflight         int // unacknowledged messages each way, 64
	QueueMessages    int // waiting for one Session, 1,000
	QueueBytes       int // of these, 4 MiB
	Filters          int // of one Session, 64
	MembersPerGroup  int // 100,000
	GroupsPerDevice  int // 64
	ChangesPerMinute int // of one device, 60; -1: no bound
	Connections      int // 100,000; -1: no bound
	Sessions         int // 200,000; -1: no bound
	RetainedMessages int // 10,000
	RetainedBytes    int // of these, 256 MiB
	// RetainedPerAccount is how many of them may be of one account, 2,500, which may
	// have the same share of RetainedBytes; -1: no bound. Who is not bounded by
	// SessionsPerAccount is not by this.
	RetainedPerAccount int
	// QueueBytesTotal bounds what waits for all Sessions, 1 GiB; -1: no bound. The
	// first 16 KiB of each are not counted.
	QueueBytesTotal int
	// SessionsPerAccount is 10,000; -1: no bound. Anonymous clients and the operator
	// socket have no account, and are not bounded by it.
	SessionsPerAccount int
	// ConnectionsPerAddress is 1,000; -1: no bound. An address of IPv6 is its first
	// 64 bits. Loopback and unix sockets are not bounded by it.
	ConnectionsPerAddress int
	// Connecting is how many connections may not have logged in yet, 10,000; -1: no
	// bound. Beyond it the oldest of which no whole CONNECT has come is closed.
	Connecting int
	// ConnectingPerAddress is the same for one address, 250; -1: no bound. Beyond it
	// no other is let in.
	ConnectingPerAddress int
	UserProperties       int // of one packet, 64
	// PublishRate is how many PUBLISH packets are taken of one connection in a
	// second: what comes faster waits, unread. 0 and -1: no bound.
	PublishRate int
	// TopicAliases is the Topic Alias Maximum of each connection, both ways, 16;
	// -1: none.
	TopicAliases int
	// ConnectTimeout is the time from accept to a whole CONNECT, 10 s.
	ConnectTimeout time.Duration
	// SessionExpiryMax is the longest that a Session outlives its connection, 24 h.
	SessionExpiryMax time.Duration
	// KeepAliveMax is the longest Keep Alive of a 5.0 client, in whole seconds
	// rounded up; 0: as the client asks.
	KeepAliveMax time.Duration
}

func (l Limits) withDefaults() Limits {
	def := func(at *int, v int) {
		if *at == 0 {
			*at = v
		}
		*at = max(*at, 0) // from here on 0 is no bound
	}
	def(&l.PacketSize, 256<<10)
	def(&l.TopicLevels, 16)
	def(&l.Inflight, 64)
	def(&l.QueueMessages, 1000)
	def(&l.QueueBytes, 4<<20)
	def(&l.Filters, 64)
	def(&l.MembersPerGroup, 100_000)
	def(&l.GroupsPerDevice, 64)
	def(&l.ChangesPerMinute, 60)
	def(&l.Connections, 100_000)
	def(&l.Sessions, 200_000)
	def(&l.RetainedMessages, 10_000)
	def(&l.RetainedBytes, 256<<20)
	def(&l.RetainedPerAccount, 2500)
	def(&l.QueueBytesTotal, 1<<30)
	def(&l.SessionsPerAccount, 10_000)
	def(&l.ConnectionsPerAddress, 1000)
	def(&l.Connecting, 10_000)
	def(&l.ConnectingPerAddress, 250)
	def(&l.UserProperties, 64)
	def(&l.PublishRate, 0)
	def(&l.TopicAliases, 16)
	l.TopicAliases = min(l.TopicAliases, 65535)
	if l.ConnectTimeout == 0 {
		l.ConnectTimeout = 10 * time.Second
	}
	if l.SessionExpiryMax == 0 {
		l.SessionExpiryMax = 24 * time.Hour
	}
	return l
}

// Bounds that are no keys of the configuration.
const (
	// maxConnect bounds the CONNECT packet in bytes.
	maxConnect = 8 << 10
	// minPacket is the least Maximum Packet Size of a client, in bytes: a CONNACK
	// that says all it must fits.
	minPacket = 48
	// maxClientID bounds the Client Identifier in bytes. Those that may be in a
	// group are shorter.
	maxClientID = 256
	// devicesPerAccount and anonymousDevices bound the Client Identifiers that
	// are bound to an account.
	devicesPerAccount = 1024
	anonymousDevices  = 65536
	// lingerTime is how long a closed connection waits for the peer's end:
	// closing with unread input would reset it and lose the last answer.
	lingerTime = 2 * time.Second
	// largeGroup is about how many members a group has to which a loop has a worker
	// publish: so many take about 2 ms.
	largeGroup = 8 << 10
	// flipPatience is how long the answer to an operator waits for what is
	// queued to be written.
	flipPatience = time.Second
	// stopTime is how long a stopping Server waits for what it has begun.
	stopTime = 4 * time.Second
)
