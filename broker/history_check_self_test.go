package broker_test

import (
	"testing"

	"github.com/muster-mqtt/muster/group"
)

// The checker accepts what it must and finds each kind of fault, so that the
// history test means something.
func TestHistoryCheckerFindsFaults(t *testing.T) {
	// One publisher alternates between groups 1 and 2: odd to 1, even to 2.
	h := &published{groups: [][]group.Number{{1, 2, 1, 2, 1, 2, 1, 2}}}
	in := func(n ...group.Number) []group.Number { return n }
	msgs := func(ss ...int) []received {
		var out []received
		for _, s := range ss {
			out = append(out, received{p: 0, s: s, group: h.of(0, s)})
		}
		return out
	}
	all := []int{8}
	tests := []struct {
		name   string
		stream []segment
		last   []int
		ok     bool
	}{
		{"a switch between two messages", []segment{{in: in(1), got: msgs(1, 3)}, {in: in(2), got: msgs(4, 6, 8)}}, all, true},
		{"a switch with the cut elsewhere", []segment{{in: in(1), got: msgs(1, 3, 5)}, {in: in(2), got: msgs(6, 8)}}, all, true},
		{"the cut between 4 and 5", []segment{{in: in(1), got: msgs(1, 3)}, {in: in(2), got: msgs(6, 8)}}, all, true},
		{"neither: 5 and 6 both missing", []segment{{in: in(1), got: msgs(1, 3)}, {in: in(2), got: msgs(8)}}, all, false},
		{"both: 4 before the cut and 5", []segment{{in: in(1), got: msgs(1, 3, 5)}, {in: in(2), got: msgs(4, 6, 8)}}, all, false},
		{"old group after the answer", []segment{{in: in(1), got: msgs(1)}, {in: in(2), got: msgs(2, 3)}}, nil, false},
		{"the end discarded, as the device was told", []segment{{in: in(1), got: msgs(1)}, {in: in(2), dropped: true, got: msgs(6, 8)}}, all, true},
		{"the end discarded without a word", []segment{{in: in(1), got: msgs(1)}, {in: in(2), got: msgs(6, 8)}}, all, false},
		{"of a group that stays, from before a join", []segment{{in: in(1), got: msgs(1)}, {in: in(1, 2), got: msgs(3, 5, 6, 7, 8)}}, all, true},
		{"a gap within", []segment{{in: in(1), got: msgs(1, 5)}}, nil, false},
		{"twice", []segment{{in: in(1), got: msgs(1, 3, 3)}}, nil, false},
		{"silent after a join", []segment{{in: in(1), notAfter: []int{0}}}, all, false},
		{"empty while out", []segment{{in: in(1), got: msgs(1)}, {}, {in: in(1), got: msgs(5, 7)}}, all, true},
		{"acknowledged after the answer came, and missing", []segment{{}, {in: in(1), notAfter: []int{2}, got: msgs(5, 7)}}, all, false},
		{"acknowledged before the request was sent, and delivered", []segment{{}, {in: in(1), notBefore: []int{3}, got: msgs(3, 5, 7)}}, all, false},
		{"away between two connections", []segment{{in: in(1), got: msgs(1)}, {in: in(1), fresh: true, got: msgs(7)}}, all, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := checkCuts(h, tt.stream, tt.last); (err == nil) != tt.ok {
				t.Errorf("checkCuts: %v", err)
			}
		})
	}
}
