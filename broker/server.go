package broker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/listen"
	"github.com/muster-mqtt/muster/broker/topics"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/ledger"
)

// A Server is one MQTT server. Open makes one, Run serves.
type Server struct {
	cfg       Config
	limits    Limits
	log       *slog.Logger // calmed
	calm      calm
	ledger    *ledger.Ledger
	engine    fanout.Engine
	budget    *fanout.Budget
	tree      *topics.Tree
	hooks     *mqtt.Hooks
	events    events
	flusher   *flusher
	loops     []*loop
	workers   workers
	admission admission
	listeners []*listen.Listener

	// base ends when the Server stops: nobody waits for a password then.
	base     context.Context
	stopBase context.CancelFunc

	nextKey atomic.Uint64
	// groups holds what delivery needs to know of each group: group.Number to
	// *groupInfo.
	groups sync.Map

	// mu guards the maps. It is a leaf: nothing is called under it.
	mu       sync.RWMutex
	slots    map[string]*slot
	keys     map[topics.Key]*session
	sides    map[group.ClientID]map[*session]struct{} // side connections of each device
	conns    map[*conn]struct{}
	sessions int
	// perAccount counts the Sessions of each account that is recorded, by its folded
	// name.
	perAccount map[string]int
	stopping   bool

	wg sync.WaitGroup // goroutines that Run waits for
}

// groupInfo is what delivery needs to know of a group.
type groupInfo struct {
	membersTo, membersEvents, deleted bool
}

// Open reads the records and listens on all addresses. After an error nothing is
// left open. The store stays the caller's to close, after Run has returned.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, limits: cfg.Limits.withDefaults(),
		slots: map[string]*slot{}, keys: map[topics.Key]*session{}, conns: map[*conn]struct{}{}, perAccount: map[string]int{},
		sides: map[group.ClientID]map[*session]struct{}{},
	}
	s.log = cfg.Logger
	if !cfg.loud {
		s.log = slog.New(calmHandler{cfg.Logger.Handler(), &s.calm})
	}
	if s.cfg.now == nil {
		s.cfg.now = time.Now
	}
	if s.cfg.patience == 0 {
		s.cfg.patience = flipPatience
	}
	if s.cfg.large == 0 {
		s.cfg.large = largeGroup
	}
	if s.cfg.afterFunc == nil {
		s.cfg.afterFunc = time.AfterFunc
	}
	s.admission.limits = &s.limits
	s.base, s.stopBase = context.WithCancel(context.Background())
	var boot [4]byte
	rand.Read(boot[:])
	s.events.init(s, hex.EncodeToString(boot[:]))
	s.tree = topics.New(topics.Limits{Retained: s.limits.RetainedMessages, RetainedBytes: s.limits.RetainedBytes, RetainedPerOwner: s.limits.RetainedPerAccount})
	s.flusher = newFlusher()
	s.workers.wg = &s.wg
	s.budget = fanout.NewBudget(s.limits.QueueBytesTotal)
	if err := s.initHooks(); err != nil {
		return nil, err
	}
	var err error
	s.ledger, err = ledger.Open(ctx, ledger.Config{
		Store: cfg.Store, Authority: authz.New(cfg.Authority), Actor: s, Logger: s.log,
		Limits: group.Limits{
			MembersPerGroup: s.limits.MembersPerGroup, GroupsPerDevice: s.limits.GroupsPerDevice,
			DevicesPerAccount: devicesPerAccount, AnonymousDevices: anonymousDevices,
		},
		ChangesPerMinute: s.limits.ChangesPerMinute, GrantTTL: cfg.GrantTTL, JournalKeep: cfg.JournalKeep,
		Now: s.cfg.now,
	})
	if err != nil {
		return nil, err
	}
	s.ledger.View(func(st *group.State) {
		for _, g := range st.Groups(0, int(^uint(0)>>1)) {
			s.setGroup(&g)
		}
	})
	if err = s.openLoops(); err == nil {
		err = s.listen()
	}
	if err != nil {
		s.closeListeners()
		s.closeLoops()
		return nil, err
	}
	return s, nil
}

// setGroup takes over what delivery needs to know of a group.
func (s *Server) setGroup(g *group.Group) {
	s.groups.Store(g.Number, &groupInfo{membersTo: g.MembersTo, membersEvents: g.MembersEvents, deleted: g.Deleted})
}

// group returns what is known of a group that is there.
func (s *Server) group(n group.Number) (*groupInfo, bool) {
	v, ok := s.groups.Load(n)
	if !ok || v.(*groupInfo).deleted {
		return nil, false
	}
	return v.(*groupInfo), true
}

// Addrs returns where the Server can be reached: mqtt://, mqtts://, ws:// or wss://
// with HOST:PORT, or unix:PATH; the operator socket last.
func (s *Server) Addrs() []string {
	addrs := make([]string, len(s.listeners))
	for i, l := range s.listeners {
		addrs[i] = l.URL()
	}
	return addrs
}

// Run serves until ctx ends. Then it accepts no more, answers what it has begun,
// says goodbye, and returns within 5 seconds; all that it started has ended.
func (s *Server) Run(ctx context.Context) error {
	house, stopHouse := context.WithCancel(context.Background())
	defer stopHouse()
	s.flusher.start()
	var loops sync.WaitGroup
	for _, l := range s.loops {
		loops.Go(l.run)
	}
	for _, l := range s.listeners {
		if l.Direct() && len(s.loops) > 0 {
			s.wg.Go(func() { s.acceptLooped(l) })
		} else {
			s.wg.Go(func() { s.accept(l) })
		}
		s.wg.Go(func() { l.Watch(house, reloadEvery, s.checkCertificates) })
	}
	s.wg.Go(func() { s.ledger.Run(house) })
	s.wg.Go(func() { s.keepHouse(house) })
	s.hooks.OnStarted()
	s.log.Info("serving", "addresses", s.Addrs(), "version", s.cfg.Version)
	for _, l := range s.listeners {
		if l.Exposed() {
			s.log.Warn("a listener without TLS can be reached over the network", "listener", l.URL)
		}
	}
	<-ctx.Done()

	s.log.Info("stopping")
	limit, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	s.closeListeners()
	s.stopBase()
	err := s.ledger.Close(limit)
	if err != nil {
		s.log.Error("stopped with requests unanswered", "err", err)
	}
	s.stopConns(limit)
	stopHouse()
	s.wg.Wait()
	s.flusher.stop()
	for _, l := range s.loops {
		l.stop()
	}
	loops.Wait()
	s.closeLoops()
	s.hooks.OnStopped()
	s.calm.sum(s.log, time.Now(), true)
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

// stopConns ends all connections, and returns when they are gone.
func (s *Server) stopConns(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	for c := range s.conns {
		c.stop(goodbyeShutdown)
	}
	s.mu.Unlock()
	// Whoever does not read its goodbye in time is cut.
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			c.net.Close()
		}
	})
	defer stop()
	for _, c := range s.allConns() {
		<-c.done
	}
}

func (s *Server) allConns() []*conn {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// keepHouse drops what has expired.
func (s *Server) keepHouse(ctx context.Context) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.tree.Expire(now)
			s.calm.sum(s.log, now, false)
		}
	}
}
