package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/device"
	"github.com/muster-mqtt/muster/group"
)

func ptr[T any](v T) *T { return &v }

// Tables are aligned, have a header, and show whatever a client calls itself as
// it can stand on a terminal.
func TestTables(t *testing.T) {
	id, err := group.ParseID("01JDFQ5K6V7W8X9YZABCDEFGHJ")
	if err != nil {
		t.Fatal(err)
	}
	g := control.Entry{
		N: 1, G: id, Name: "lamps", Policy: "pin", Visible: "members", Members: ptr(12), PINInTopic: ptr(true),
		MembersTo: ptr(false), MembersEvents: ptr(false), Aliases: []string{"lights", "bulbs"}, At: 1763990100,
	}
	tests := []struct {
		name  string
		print func(*cli, control.Answer) error
		in    control.Answer
		want  string
	}{
		{"groups", (*cli).printGroups, control.Answer{List: []control.Entry{g, {N: 22, G: id, Name: "östlich", Policy: "open", Visible: "all", Members: ptr(0)}}}, `
N   NAME     POLICY  VISIBLE  MEMBERS  ID
1   lamps    pin     members  12       01JDFQ5K6V7W8X9YZABCDEFGHJ
22  östlich  open    all      0        01JDFQ5K6V7W8X9YZABCDEFGHJ
`},
		{"a generated PIN", (*cli).printGroups, control.Answer{PIN: "40718835", List: []control.Entry{g}}, `
N  NAME   POLICY  VISIBLE  MEMBERS  ID
1  lamps  pin     members  12       01JDFQ5K6V7W8X9YZABCDEFGHJ
PIN 40718835
`},
		{"no groups", (*cli).printGroups, control.Answer{}, `
N  NAME  POLICY  VISIBLE  MEMBERS  ID
`},
		{"one group", (*cli).printGroup, control.Answer{List: []control.Entry{g}}, `
number                  1
id                      01JDFQ5K6V7W8X9YZABCDEFGHJ
name                    lamps
old names               lights,bulbs
policy                  pin
visible to              members
members                 12
PIN in topics           yes
members publish to one  no
members get events      no
created                 2025-11-24T13:15:00Z
`},
		{"members", (*cli).printMembers, control.Answer{List: []control.Entry{
			{Device: "lamp-7", User: "anonymous", Online: ptr(true), Since: 40, At: 1763990100}, {Device: "lamp-10", User: "ann", Online: ptr(false)},
		}}, `
DEVICE   ACCOUNT    STATE    JOINED
lamp-7   anonymous  online   2025-11-24T13:15:00Z
lamp-10  ann        offline  -
`},
		{"devices", (*cli).printDevices, control.Answer{List: []control.Entry{
			{Device: "lamp-7", User: "ann", Online: ptr(true), Epoch: 7, Groups: []group.Number{1, 22}}, {Device: "\x1b[2J", Online: ptr(false)},
		}}, `
DEVICE     ACCOUNT  STATE    EPOCH  GROUPS
lamp-7     ann      online   7      1,22
"\x1b[2J"  -        offline  0      -
`},
		{"one device", (*cli).printDevice, control.Answer{Device: "lamp-7", User: "ann", Kind: "online", Epoch: 7, List: []control.Entry{
			{N: 1, Name: "lamps", At: 1763990100}, {N: 2, Name: "ovens", QoS: ptr(byte(0)), Recv: ptr(false), Filter: []string{"a/#", "b"}},
		}}, `
DEVICE  ACCOUNT  STATE   EPOCH
lamp-7  ann      online  7

N  NAME   QOS  RECEIVES  FILTER  JOINED
1  lamps  1    yes       #       2025-11-24T13:15:00Z
2  ovens  0    no        a/#,b   -
`},
		{"a device in no group", (*cli).printDevice, control.Answer{Device: "lamp-7", User: "ann", Kind: "offline", Epoch: 8}, `
DEVICE  ACCOUNT  STATE    EPOCH
lamp-7  ann      offline  8
`},
		{"accounts", (*cli).printAccounts, control.Answer{List: []control.Entry{
			{User: "ann", Role: "observer", Findable: ptr(true), Groups: []group.Number{1}, At: 1763990100}, {User: "bob", Role: "observer", Disabled: ptr(true)},
			{User: "eve", Role: "operator"}, {User: "lamp-7", Role: "device", Topics: []string{"allow both a"}},
			{User: "lamp-8", Role: "operator", Topics: []string{"allow both a", "deny both b"}},
		}}, `
ACCOUNT  ROLE      STATE     FINDABLE  GROUPS  TOPICS   CREATED
ann      observer  enabled   yes       1       -        2025-11-24T13:15:00Z
bob      observer  disabled  no        all     -        -
eve      operator  enabled   no        -       all      -
lamp-7   device    enabled   no        -       1 rule   -
lamp-8   operator  enabled   no        -       2 rules  -
`},
		{"an account", (*cli).printAccount, control.Answer{List: []control.Entry{
			{User: "lamp-7", Role: "device", Disabled: ptr(true), At: 1763990100, Topics: []string{"allow publish sensors/%c/#", "deny both a  b"}},
		}}, `
account   lamp-7
role      device
state     disabled
findable  no
groups    -
created   2025-11-24T13:15:00Z
topics    allow publish sensors/%c/#
topics    deny both a  b
`},
		{"joined", (*cli).printChange, control.Answer{Op: "join", N: 1, To: 1, State: "member", Epoch: 5, Device: "lamp-7"}, `
lamp-7 joined group 1, epoch 5
`},
		{"left", (*cli).printChange, control.Answer{Op: "leave", N: 1, From: 1, State: "out", Epoch: 6, Dropped: 3}, `
left group 1, epoch 6, 3 waiting messages dropped
`},
		{"switched", (*cli).printChange, control.Answer{Op: "switch", N: 2, From: 1, To: 2, State: "member", Epoch: 7}, `
switched from group 1 to group 2, epoch 7
`},
		{"moved", (*cli).printChange, control.Answer{Op: "move", Device: "lamp-7", N: 2, From: 1, To: 2, State: "member", Epoch: 8}, `
lamp-7 moved from group 1 to group 2, epoch 8
`},
		{"removed", (*cli).printChange, control.Answer{Op: "remove", Device: "lamp-7", N: 1, From: 1, State: "out", Epoch: 9}, `
lamp-7 removed from group 1, epoch 9
`},
		{"unchanged", (*cli).printChange, control.Answer{Code: group.Unchanged, Op: "join", N: 1, State: "member", Epoch: 9}, `
unchanged: nothing to change: it is so already
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := tt.print(&cli{stdout: &out, stderr: &out}, tt.in); err != nil {
				t.Fatal(err)
			}
			if got := "\n" + out.String(); got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// A watcher shows a snapshot when its last part is there, then events and
// messages, each in one line that is fit for a terminal.
func TestWatcher(t *testing.T) {
	event := func(e control.Event) device.Message {
		return device.Message{Topic: "g/1/evt", Group: 1, Part: control.Evt, Payload: control.EncodeEvent(e)}
	}
	messages := []device.Message{
		event(control.Event{Kind: "snapshot", Seq: 4, Boot: "5f1c", Part: 1, List: []control.Entry{{Device: "lamp-7", Online: ptr(true)}}}),
		event(control.Event{Kind: "snapshot", Seq: 4, Boot: "5f1c", Part: 2, Last: true, List: []control.Entry{{Device: "lamp-8", Online: ptr(false)}}}),
		event(control.Event{Kind: "join", Seq: 5, Prev: 4, Boot: "5f1c", Device: "lamp-9", User: "ann", By: "local"}),
		{Topic: "g/1/all/lamp-9/hello", Group: 1, Part: control.All, Sender: "lamp-9", Rest: "hello", Payload: []byte("good morning"), QoS: 1},
		{Topic: "g/1/up/lamp-9/raw", Group: 1, Part: control.Up, Sender: "lamp-9", Rest: "raw", Payload: []byte("\x1b[2J\xff")},
		event(control.Event{Kind: "switch", Seq: 6, Prev: 5, Boot: "5f1c", Device: "lamp-7", User: "ann", By: "ann"}),
		event(control.Event{Kind: "switch", Seq: 7, Prev: 6, Boot: "5f1c", Device: "lamp-7", User: "ann", By: "ann"}),
		event(control.Event{Kind: "update", Seq: 8, Prev: 7, Boot: "5f1c", By: "local"}),
		event(control.Event{Kind: "delete", Seq: 9, Prev: 8, Boot: "5f1c", By: "local"}),
	}
	tests := []struct {
		name string
		json bool
		want string
	}{
		{"for people", false, `
roster   2 members
member   lamp-7 online
member   lamp-8 offline
join     lamp-9 by local
message  g/1/all/lamp-9/hello good morning
message  g/1/up/lamp-9/raw "\x1b[2J\xff"
switch   lamp-7 out
switch   lamp-7 in
update   the group by local
delete   the group by local
`},
		{"for programs", true, `
` + strings.Join([]string{
			string(messages[0].Payload), string(messages[1].Payload), string(messages[2].Payload),
			`{"kind":"message","topic":"g/1/all/lamp-9/hello","device":"lamp-9","qos":1,"payload":"good morning"}`,
			`{"kind":"message","topic":"g/1/up/lamp-9/raw","device":"lamp-9","qos":0,"payload_base64":"G1sySv8="}`,
			string(messages[5].Payload), string(messages[6].Payload), string(messages[7].Payload), string(messages[8].Payload),
		}, "\n") + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			w := newWatcher(&cli{stdout: &out, json: tt.json})
			for _, m := range messages {
				w.message(m)
			}
			if got := "\n" + out.String(); got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
			select {
			case err := <-w.end:
				if err != group.GroupDeleted {
					t.Errorf("ended by %v", err)
				}
			default:
				t.Error("it goes on though the group is no more")
			}
		})
	}
}
