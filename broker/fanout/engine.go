package fanout

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/muster-mqtt/muster/group"
)

// shardMax is how many Members a shard holds: entering and leaving copy one
// shard, so they cost the same in a group of 10 and of 100,000.
const shardMax = 1024

// An Engine knows which Members to ask for a message of a group. The zero
// Engine is empty. Its methods may be called by several goroutines at once.
type Engine struct {
	// mu guards rooms; a room guards itself.
	mu    sync.RWMutex
	rooms map[group.Number]*room
	// watchers are Members that may observe groups: they are asked for messages
	// of every group, and are in no room.
	watchers room
	// posts numbers publications as they begin.
	posts atomic.Uint64
}

// A room holds the Members to be asked for one group. Readers take no lock.
type room struct {
	shards atomic.Pointer[[]*shard]
	// mu serialises changes, and guards what follows.
	mu   sync.Mutex
	at   map[*Member]*shard
	open []*shard // those with room for one more
}

type shard struct {
	members atomic.Pointer[[]*Member]
}

// Enter lists the Member for groups. It must come before the change that makes
// it a member.
func (e *Engine) Enter(m *Member, groups ...group.Number) {
	if m.watching {
		return
	}
	for _, n := range groups {
		e.mu.RLock()
		r := e.rooms[n]
		if r != nil {
			r.add(m) // under the lock, so that nobody drops the room meanwhile
		}
		e.mu.RUnlock()
		if r != nil {
			continue
		}
		e.mu.Lock()
		if r = e.rooms[n]; r == nil {
			if e.rooms == nil {
				e.rooms = map[group.Number]*room{}
			}
			r = &room{}
			e.rooms[n] = r
		}
		r.add(m)
		e.mu.Unlock()
	}
}

// Exit takes the Member out of the lists of groups. It must come after the
// change that ends its membership.
func (e *Engine) Exit(m *Member, groups ...group.Number) {
	if m.watching {
		return
	}
	for _, n := range groups {
		r := e.room(n)
		if r == nil || !r.remove(m) {
			continue
		}
		e.mu.Lock()
		if e.rooms[n] == r && r.empty() {
			delete(e.rooms, n)
		}
		e.mu.Unlock()
	}
}

// Watch lists the Member for every group if it may observe any.
func (e *Engine) Watch(m *Member) {
	if m.watching {
		e.watchers.add(m)
	}
}

// Remove takes the Member out of every list, and out of its Budget: its Session has
// ended.
func (e *Engine) Remove(m *Member) {
	groups, _ := m.Groups()
	e.Exit(m, groups...)
	if m.watching {
		e.watchers.remove(m)
	}
	m.retire()
}

func (e *Engine) room(n group.Number) *room {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.rooms[n]
}

// Publish offers the message to everyone who may be to have it, and returns when
// it is queued for all of them. A message to one member is offered with
// [Member.Offer] instead.
func (e *Engine) Publish(p *Post) {
	p.begun = e.posts.Add(1)
	if p.Part == All {
		if r := e.room(p.Group); r != nil {
			r.each(p)
		}
	}
	e.watchers.each(p)
}

// Larger reports whether the group has more Members, those away included, than about
// so many: counted are the shards.
func (e *Engine) Larger(n group.Number, than int) bool {
	r := e.room(n)
	return r != nil && len(r.list())*shardMax > than
}

func (r *room) each(p *Post) {
	for _, s := range r.list() {
		for _, m := range *s.members.Load() {
			m.Offer(p)
		}
	}
}

func (r *room) add(m *Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at[m] != nil {
		return
	}
	if r.at == nil {
		r.at = map[*Member]*shard{}
	}
	if n := len(r.open); n > 0 {
		s := r.open[n-1]
		next := append(*s.members.Load(), m) // readers see no further than their own length
		s.members.Store(&next)
		if len(next) == shardMax {
			r.open = r.open[:n-1]
		}
		r.at[m] = s
		return
	}
	s := &shard{}
	s.members.Store(&[]*Member{m})
	r.at[m], r.open = s, append(r.open, s)
	next := append(slices.Clone(r.list()), s)
	r.shards.Store(&next)
}

// remove reports whether the Member was there. No other Member moves, so that a
// reader under way neither misses one nor asks it twice.
func (r *room) remove(m *Member) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.at[m]
	if s == nil {
		return false
	}
	delete(r.at, m)
	old := *s.members.Load()
	if len(old) == 1 {
		next := slices.DeleteFunc(slices.Clone(r.list()), func(o *shard) bool { return o == s })
		r.shards.Store(&next)
		r.open = slices.DeleteFunc(r.open, func(o *shard) bool { return o == s })
		return true
	}
	i := slices.Index(old, m)
	next := slices.Concat(old[:i], old[i+1:])
	s.members.Store(&next)
	if len(old) == shardMax {
		r.open = append(r.open, s)
	}
	return true
}

func (r *room) list() []*shard {
	if p := r.shards.Load(); p != nil {
		return *p
	}
	return nil
}

func (r *room) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.at) == 0
}
