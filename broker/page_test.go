package broker_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// A lister is a request that is answered with a list, and what must be in it.
type lister struct {
	op   string
	keys map[string]any
	want []string
}

// entryName names an entry by what it is about.
func entryName(e *control.Entry) string {
	switch {
	case e.Device != "":
		return string(e.Device)
	case e.User != "":
		return e.User
	}
	return e.N.String()
}

// pages asks for all pages of a list and returns their entries. between, if not
// nil, is called after each page that is not the last.
func (c *client) pages(l lister, limit int, cbor bool, between func(page []control.Entry)) (all []string, pages int) {
	c.t.Helper()
	keys := maps.Clone(l.keys)
	if keys == nil {
		keys = map[string]any{}
	}
	if limit != 0 {
		keys["limit"] = limit
	}
	for {
		body := []byte(jsonOf(keys))
		if cbor {
			body = asCBOR(c.t, string(body))
		}
		got, _ := c.publishes(nil, "$G/"+l.op, body, 0)
		if len(got) != 1 {
			c.t.Fatalf("%s %s: %d answers", l.op, body, len(got))
		}
		a, err := control.DecodeAnswer(got[0].Payload)
		if err != nil || a.Code != group.OK || !a.HasList {
			c.t.Fatalf("%s %s: %q", l.op, body, got[0].Payload)
		}
		if size := packetSize(&got[0]); c.maxPacket > 0 && size > c.maxPacket {
			c.t.Fatalf("%s %s: a packet of %d bytes, the client takes %d", l.op, body, size, c.maxPacket)
		}
		if bound := min(limit, 1000); limit > 0 && len(a.List) > bound || limit == 0 && len(a.List) > 100 {
			c.t.Fatalf("%s %s: a page of %d", l.op, body, len(a.List))
		}
		for i := range a.List {
			all = append(all, entryName(&a.List[i]))
		}
		if pages++; a.Next == "" {
			return all, pages
		}
		if len(a.List) == 0 || pages > 5000 {
			c.t.Fatalf("%s %s: page %d has %d entries, and says that there are more", l.op, body, pages, len(a.List))
		}
		keys["next"] = a.Next
		if between != nil {
			between(a.List)
		}
	}
}

// packetSize returns the size of a packet, in bytes.
func packetSize(pk *packets.Packet) int {
	size := 2 + pk.FixedHeader.Remaining
	for n := pk.FixedHeader.Remaining; n > 127; n >>= 7 {
		size++
	}
	return size
}

// a house full of entries: 12 groups, 30 devices, 7 accounts.
func withEntries(t *testing.T) (s *testServer, op *client, listers map[string]lister) {
	t.Helper()
	s = serve(t, nil)
	op = s.operator()
	var groups, devices, members []string
	for i := range 12 {
		op.must("create", fmt.Sprintf(`{"name":"group-%d"}`, i))
		groups = append(groups, fmt.Sprint(i+1))
		op.must("join", fmt.Sprintf(`{"device":"a","g":%d}`, i+1))
	}
	devices, members = []string{"a"}, []string{"a"}
	for i := range 29 {
		id := fmt.Sprintf("lamp-%d", i) // not in the order in which they are made
		op.must("join", fmt.Sprintf(`{"device":"%s","g":%d}`, id, 1+i%2))
		devices = append(devices, id)
		if i%2 == 0 {
			members = append(members, id)
		}
	}
	accounts := []string{"ann", "Bob", "émile", "Zoë", "_x", "a.b", "ANN2"}
	for _, a := range accounts {
		op.must("account", fmt.Sprintf(`{"op":"add","user":"%s"}`, a))
	}
	slices.Sort(devices)
	slices.Sort(members)
	slices.SortFunc(accounts, func(a, b string) int { return strings.Compare(group.Fold(a), group.Fold(b)) })
	return s, op, map[string]lister{
		"groups":           {"list", nil, groups},
		"devices":          {"list", map[string]any{"kind": "device"}, devices},
		"accounts":         {"account", map[string]any{"op": "list"}, accounts},
		"members":          {"members", map[string]any{"g": 1}, members},
		"groups of device": {"show", map[string]any{"device": "a"}, groups},
		"mine of device":   {"mine", map[string]any{"device": "a"}, groups},
		"mine":             {"mine", nil, groups},
	}
}

// Whatever the limit, the Maximum Packet Size and the encoding, the pages hold
// each entry once, and no entry is in the wrong order. [GRP-5.7-1]
func TestPages(t *testing.T) {
	s, op, listers := withEntries(t)
	small := s.accepted(attempt(t, "unix", s.socket, "muster~small", v5, maxPacket(500)))
	own := map[*client]*client{op: s.dial("a"), small: s.dial("a~1", v5, maxPacket(500))}
	for name, l := range listers {
		for c, device := range own {
			if name == "mine" {
				c = device
			}
			for _, limit := range []int{0, 1, 2, 3, 7, len(l.want) - 1, len(l.want), len(l.want) + 1, 1000, 1001, 1 << 40} {
				for _, cbor := range []bool{false, true} {
					if got, pages := c.pages(l, limit, cbor, nil); !slices.Equal(got, l.want) {
						t.Errorf("%s by %s, limit %d, %d pages: %q, want %q", name, c.id, limit, pages, got, l.want)
					}
				}
			}
		}
	}
}

// A page has 100 entries if the asker does not say, and 1,000 at most. [GRP-5.7-1]
func TestPagesOfAGreatRoster(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"lamps"}`)
	var want []string
	for i := range 1003 {
		want = append(want, fmt.Sprintf("lamp-%04d", i))
		op.must("join", fmt.Sprintf(`{"device":"%s","g":1}`, want[i]))
	}
	for _, l := range []lister{{"members", map[string]any{"g": 1}, want}, {"list", map[string]any{"kind": "device"}, want}} {
		for limit, pages := range map[int]int{0: 11, 1000: 2, 5000: 2, 501: 3} {
			if got, n := op.pages(l, limit, true, nil); n != pages || !slices.Equal(got, want) {
				t.Errorf("%s, limit %d: %d entries in %d pages, want %d in %d", l.op, limit, len(got), n, len(want), pages)
			}
		}
	}
}

// Entries that come and go between the pages do not hide the others, and do not
// bring them twice. [GRP-5.7-1]
func TestPagesWhileEntriesComeAndGo(t *testing.T) {
	tests := map[string]func(op *client, name string){ // takes an entry away
		"groups":           func(op *client, n string) { op.must("delete", `{"g":`+n+`}`) },
		"devices":          func(op *client, d string) { op.must("forget", `{"device":"`+d+`"}`) },
		"accounts":         func(op *client, u string) { op.must("account", `{"op":"remove","user":"`+u+`"}`) },
		"members":          func(op *client, d string) { op.must("remove", `{"device":"`+d+`","g":1}`) },
		"groups of device": func(op *client, n string) { op.must("remove", `{"device":"a","g":`+n+`}`) },
		"mine of device":   func(op *client, n string) { op.must("remove", `{"device":"a","g":`+n+`}`) },
	}
	for name, take := range tests {
		for _, limit := range []int{1, 2, 3} {
			_, op, listers := withEntries(t)
			l := listers[name]
			away := map[string]bool{}
			got, _ := op.pages(l, limit, false, func(page []control.Entry) {
				// The entry at which the next page begins, and the last of all.
				if len(away) > 6 {
					return
				}
				for _, n := range []string{entryName(&page[len(page)-1]), l.want[max(0, len(l.want)-1-len(away)/2)]} {
					if !away[n] {
						take(op, n)
						away[n] = true
					}
				}
				op.must("create", fmt.Sprintf(`{"name":"new-%d"}`, len(away)))
				op.ask("join", fmt.Sprintf(`{"device":"new-%d","g":1}`, len(away))) // group 1 may be gone
			})
			seen := map[string]int{}
			for _, n := range got {
				seen[n]++
			}
			for _, n := range l.want {
				if seen[n] > 1 || seen[n] == 0 && !away[n] {
					t.Errorf("%s, limit %d: %s is there %d times, taken away: %v; %q", name, limit, n, seen[n], away[n], got)
				}
			}
		}
	}
}

// An answer of which not even one entry fits says so, and the connection goes
// on. [GRP-5.7-1]
func TestPageThatDoesNotFit(t *testing.T) {
	s := serve(t, nil)
	op := s.operator()
	op.must("create", `{"name":"`+strings.Repeat("n", 64)+`"}`)
	op.must("join", `{"device":"a","g":1}`)
	c := s.dial("a", v5, maxPacket(180))
	if a, _ := c.askRaw("mine", ""); a.Code != group.TooLarge {
		t.Errorf("answered %+v", a)
	}
	c.must("leave", "1")
}
