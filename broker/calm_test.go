package broker

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A flood of lines of one kind about one address leaves room for others, and the
// sum of what was withheld is logged.
func TestCalm(t *testing.T) {
	var out bytes.Buffer
	var c calm
	next := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})
	h := calmHandler{next, &c}
	now := time.Now()
	refuse := func(n int, addr, reason string) (lines int) {
		out.Reset()
		for range n {
			r := slog.NewRecord(now, slog.LevelInfo, "refused", 0)
			r.AddAttrs(slog.String("op", "connect"), slog.String("addr", addr), slog.String("reason", reason))
			h.Handle(t.Context(), r)
		}
		return strings.Count(out.String(), "\n")
	}
	sum := func(end bool) string {
		out.Reset()
		c.sum(slog.New(next), now, end)
		return out.String()
	}
	steps := []struct {
		n            int
		addr, reason string
		lines        int
	}{
		{100, "192.0.2.1", "wrong", calmLines},
		{5, "192.0.2.2", "wrong", 5},
		{5, "192.0.2.1", "other", 5},
		{100, "2001:db8::1", "wrong", calmLines},
		{5, "2001:db8::ffff", "wrong", 0}, // one network
		{5, "192.0.2.1", "wrong", 0},
	}
	for _, st := range steps {
		if got := refuse(st.n, st.addr, st.reason); got != st.lines {
			t.Errorf("%d times %s, %s: %d lines, want %d", st.n, st.addr, st.reason, got, st.lines)
		}
	}
	if got := sum(false); got != "" {
		t.Errorf("summed up before the time is over: %s", got)
	}
	now = now.Add(calmTime)
	got := sum(false)
	for _, want := range []string{"lines=85 addr=192.0.2.1", "lines=85 addr=2001:db8::/64"} {
		if !strings.Contains(got, `msg=withheld of=refused op=connect reason=wrong `+want) || strings.Count(got, "\n") != 2 {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if got := refuse(5, "192.0.2.1", "wrong"); got != 5 {
		t.Errorf("%d lines after the time is over, want 5", got)
	}

	// From however many addresses: the lines, the sums and the memory are bounded.
	lines := 0
	for i := range 20_000 {
		lines += refuse(1, fmt.Sprintf("10.0.%d.%d", i>>8, i&0xff), "wrong")
	}
	if lines > calmTotal || len(c.kinds) > calmKinds+2 {
		t.Errorf("%d lines, %d kinds are kept", lines, len(c.kinds))
	}
	got = sum(true)
	withheld := 0
	for _, line := range strings.Split(got, "\n") {
		var n int
		if _, rest, ok := strings.Cut(line, " lines="); ok {
			fmt.Sscan(rest, &n)
		}
		withheld += n
	}
	if withheld+lines != 20_000 || strings.Count(got, "\n") > calmLines+2 || len(c.kinds) != 0 {
		t.Errorf("%d withheld and %d logged of 20,000, %d kept:\n%s", withheld, lines, len(c.kinds), got)
	}
	// What is no refusal is not withheld, and what is chosen by a stranger is cut.
	for range 2 * calmTotal {
		slog.New(h).Info("changed", "addr", "192.0.2.1")
	}
	if got := strings.Count(out.String(), "msg=changed"); got != 2*calmTotal {
		t.Errorf("%d lines", got)
	}
	out.Reset()
	slog.New(h).Info("refused", "client", strings.Repeat("x", 100_000))
	if out.Len() > 2*calmText {
		t.Errorf("a line of %d bytes", out.Len())
	}
}
