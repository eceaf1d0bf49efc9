package authz

import (
	"testing"

	"github.com/muster-mqtt/muster/group"
)

func BenchmarkIssue(b *testing.B) {
	a := withKeys(b)
	g := widest()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Issue(g); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	a := withKeys(b)
	g := issue(b, a, widest())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Open(g, pump7, noon); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkQuick asks what Quick decides: a member's join, one of an open group,
// a PIN that is known to be right, and one who has to wait.
func BenchmarkQuick(b *testing.B) {
	a := newBench(b, Config{})
	open, pin, _ := a.groups(b)
	q := Ask{Op: group.OpJoin, Client: "pump-7", Account: "pump-7", Addr: "192.0.2.1:50000", To: pin, Secret: right}
	member, known, opened, waits := q, q, q, q
	member.Member, member.Visible = true, true
	opened.To, opened.Visible = open, true
	waits.Client = "pump-8"
	a.judge(b, known)
	for range 5 {
		waits.Secret = wrong
		a.judge(b, waits)
	}
	for _, bb := range []struct {
		name string
		q    Ask
		code group.Code
	}{{"member", member, group.OK}, {"open", opened, group.OK}, {"pin", known, group.OK}, {"waits", waits, group.RateLimited}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if v, ok := a.Quick(bb.q); !ok || v.Code != bb.code {
					b.Fatal(v, ok)
				}
			}
		})
	}
}
