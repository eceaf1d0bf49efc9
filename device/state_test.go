package device_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/device"
	"github.com/muster-mqtt/muster/group"
)

// Each connection subscribes to the own state, whether the server has kept the
// Session or not, and what the server says then is the truth: a membership that
// was lost while the device was away shows as a change.
func TestStateAfterReconnectWins(t *testing.T) {
	for _, clean := range []bool{false, true} {
		t.Run(fmt.Sprintf("clean %v", clean), func(t *testing.T) {
			f := listen(t)
			o := options()
			o.CleanSession = clean
			d, p := connected(t, f, o, 7, 1, 2)
			_ = p.conn.Close()
			p = f.accept()
			if p.connect.CleanSession != clean {
				t.Errorf("clean session %v", p.connect.CleanSession)
			}
			p.connack(0, !clean)
			if !clean {
				p.state(9, 2, 3) // as a resumed Session brings it
			}
			p.granted(control.MeTopic, 0)
			p.state(9, 2, 3)
			want := []device.Change{
				{Kind: device.Left, From: 1, Epoch: 9, Missed: true},
				{Kind: device.Joined, To: 3, Epoch: 9, Missed: true},
			}
			for _, w := range want {
				if c := next(t, d.Changes()); c != w {
					t.Errorf("change %+v, want %+v", c, w)
				}
			}
			if got := numbers(d); !reflect.DeepEqual(got, []group.Number{2, 3}) || d.Epoch() != 9 {
				t.Errorf("groups %v, epoch %d", got, d.Epoch())
			}
			// A server that begins anew has an older epoch, and is right all the same.
			_ = p.conn.Close()
			p = f.accept()
			p.welcome(2)
			for _, n := range []group.Number{2, 3} {
				if c := next(t, d.Changes()); c.From != n || c.Epoch != 2 || !c.Missed {
					t.Errorf("change %+v", c)
				}
			}
			if len(d.Groups()) != 0 {
				t.Errorf("groups %v", numbers(d))
			}
		})
	}
}

// Messages and changes are handed over in the order of the stream, and Groups
// is never behind what was handed over.
func TestOrderOfMessagesAndChanges(t *testing.T) {
	f := listen(t)
	o := options()
	var d *device.Device
	ready, seen := make(chan struct{}), make(chan string, 16)
	o.Messages = func(m device.Message) {
		<-ready
		seen <- fmt.Sprintf("%d %s %s %s at %d, in %v", m.Group, m.Part, m.Sender, m.Payload, m.Epoch, numbers(d))
	}
	o.Changes = func(c device.Change) {
		<-ready
		seen <- fmt.Sprintf("%s %d %d at %d, forced %v by %q", c.Kind, c.From, c.To, c.Epoch, c.Forced, c.By)
	}
	d, p := connected(t, f, o, 7, 1)
	p.message("g/1/all/lamp-8/x", "a")
	p.notice(control.Notice{Code: group.MembershipTerminated, Kind: "move", From: 1, To: 2, Epoch: 8, By: "local", Why: "operator"})
	p.message("g/2/to/lamp-7/lamp-9/x/y", "b")
	p.mine(8, 2) // the notice does not tell the details
	p.notice(control.Notice{Code: group.OK, Kind: "leave", From: 2, Epoch: 9})
	p.notice(control.Notice{Code: group.OK, Kind: "leave", From: 2, Epoch: 9}) // told twice, it is one change
	p.notice(control.Notice{Code: group.NotAuthorized, Kind: "refused", Topic: "g/2/all/lamp-7/x", Count: 3})
	roundTrip(t, d, p)
	close(ready)
	for _, want := range []string{
		"1 all lamp-8 a at 7, in []",
		`move 1 2 at 8, forced true by "local"`,
		"2 to lamp-9 b at 8, in []",
		`leave 2 0 at 9, forced false by ""`,
		`refused 0 0 at 9, forced false by ""`,
	} {
		if got := next(t, seen); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// The state changes at the point of the notice, not when somebody looks at it.
func TestGroupsFollowTheStream(t *testing.T) {
	f := listen(t)
	o := options()
	seen := make(chan device.Message)
	o.Messages = func(m device.Message) { seen <- m }
	d, p := connected(t, f, o, 7, 1)
	p.notice(control.Notice{Code: group.MembershipTerminated, Kind: "delete", From: 1, Epoch: 8})
	p.message("g/2/all/lamp-8/x", "after")
	if m := next(t, seen); m.Epoch != 8 || len(d.Groups()) != 0 {
		t.Errorf("message at %d, groups %v", m.Epoch, numbers(d))
	}
	if c := next(t, d.Changes()); c.Kind != device.Deleted || !c.Forced {
		t.Errorf("change %+v", c)
	}
}

// An epoch that grows by more than one says that something was not told: the
// device asks for the whole.
func TestGapInTheEpoch(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 7, 1)
	p.notice(control.Notice{Kind: "leave", From: 1, Epoch: 9})
	p.mine(9, 5)
	if c := next(t, d.Changes()); c.Kind != device.Left || c.Missed {
		t.Errorf("change %+v", c)
	}
	if c := next(t, d.Changes()); c.Kind != device.Joined || c.To != 5 || !c.Missed {
		t.Errorf("change %+v", c)
	}
	// A server that does not tell the whole loses the connection, since a new one
	// begins with the state.
	p.notice(control.Notice{Kind: "leave", From: 5, Epoch: 12})
	r, _ := p.request()
	p.answer(control.Answer{Op: r.Op, ID: r.ID, Code: group.Internal})
	p.closed()
	p = f.accept()
	p.welcome(12, 6)
	if c := next(t, d.Changes()); c.Kind != device.Left || c.From != 5 {
		t.Errorf("change %+v", c)
	}
	if c := next(t, d.Changes()); c.Kind != device.Joined || c.To != 6 {
		t.Errorf("change %+v", c)
	}
}

// A device that does not read its changes gets the newest ones, and its
// messages all the same.
func TestChangesThatNobodyReads(t *testing.T) {
	f := listen(t)
	d, p := connected(t, f, options(), 1)
	for i := range 100 {
		p.notice(control.Notice{Kind: "refused", Code: group.NotAuthorized, Topic: "x", Count: i})
	}
	p.message("g/1/all/lamp-8/x", "last")
	if m := next(t, d.Messages()); string(m.Payload) != "last" {
		t.Errorf("message %+v", m)
	}
	if c := next(t, d.Changes()); c.Count != 100-64 {
		t.Errorf("the oldest change kept is %d", c.Count)
	}
}
