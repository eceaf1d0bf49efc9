package control

import (
	"reflect"
	"testing"

	"github.com/muster-mqtt/muster/group"
	"pgregory.net/rapid"
)

// The notices and events of docs/protocol.md, letter for letter.
func TestNoticesOfTheProtocol(t *testing.T) {
	tests := []struct {
		n    Notice
		want string
	}{
		{Notice{Kind: "state", Epoch: 7, List: []Entry{{N: 2, Name: "lamps-east", State: "member"}}, HasList: true},
			`{"code":0,"kind":"state","epoch":7,"list":[{"n":2,"name":"lamps-east","state":"member"}]}`},
		{Notice{Kind: "state", HasList: true}, `{"code":0,"kind":"state","list":[]}`},
		{Notice{Code: group.MembershipTerminated, Kind: "move", From: 2, To: 1, Epoch: 8, By: "local", Why: "operator"},
			`{"code":35,"kind":"move","from":2,"to":1,"epoch":8,"by":"local","why":"operator"}`},
		{Notice{Kind: "switch", From: 1, To: 2, Epoch: 9}, `{"code":0,"kind":"switch","from":1,"to":2,"epoch":9}`},
		{Notice{Code: group.NotAuthorized, Kind: "refused", Topic: "g/1/all/lamp-7/x", Count: 3},
			`{"code":30,"kind":"refused","topic":"g/1/all/lamp-7/x","count":3}`},
	}
	for _, test := range tests {
		b := EncodeNotice(test.n)
		if string(b) != test.want {
			t.Errorf("got  %s\nwant %s", b, test.want)
		}
		if got, err := DecodeNotice(b); err != nil || !reflect.DeepEqual(got, test.n) {
			t.Errorf("%s = %+v, %v", b, got, err)
		}
	}
}

func TestEventsOfTheProtocol(t *testing.T) {
	tests := []struct {
		e    Event
		want string
	}{
		{Event{Kind: "snapshot", Seq: 17, Boot: "5f1c", Rev: 60, Part: 1, Last: true, List: []Entry{{Device: "lamp-8", User: "anonymous", Online: ptr(true), Since: 40}}},
			`{"kind":"snapshot","seq":17,"boot":"5f1c","rev":60,"part":1,"last":true,"list":[{"device":"lamp-8","user":"anonymous","online":true,"since":40}]}`},
		{Event{Kind: "snapshot", Boot: "5f1c", Part: 1, Last: true}, `{"kind":"snapshot","boot":"5f1c","part":1,"last":true,"list":[]}`},
		{Event{Kind: "join", Seq: 18, Prev: 17, Boot: "5f1c", Rev: 61, Device: "lamp-7", User: "anonymous", By: "anonymous", At: 1763990100},
			`{"kind":"join","seq":18,"prev":17,"boot":"5f1c","rev":61,"device":"lamp-7","user":"anonymous","by":"anonymous","at":1763990100}`},
		{Event{Kind: "switch", Seq: 19, Prev: 18, Boot: "5f1c", Rev: 62, Device: "lamp-7", State: "out", User: "anonymous", By: "local", At: 1763990110},
			`{"kind":"switch","seq":19,"prev":18,"boot":"5f1c","rev":62,"device":"lamp-7","state":"out","user":"anonymous","by":"local","at":1763990110}`},
		{Event{Kind: "offline", Seq: 19, Prev: 18, Boot: "5f1c", Device: "lamp-8", User: "anonymous", At: 1763990200},
			`{"kind":"offline","seq":19,"prev":18,"boot":"5f1c","device":"lamp-8","user":"anonymous","at":1763990200}`},
	}
	for _, test := range tests {
		b := EncodeEvent(test.e)
		if string(b) != test.want {
			t.Errorf("got  %s\nwant %s", b, test.want)
		}
		if got, err := DecodeEvent(b); err != nil || !reflect.DeepEqual(got, test.e) {
			t.Errorf("%s = %+v, %v", b, got, err)
		}
	}
}

func TestNoticesAndEventsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := Notice{
			Code: rapid.SampledFrom(group.Codes()).Draw(t, "code"), Kind: words.Draw(t, "kind"), From: number32(t, "from"), To: number32(t, "to"),
			Why: words.Draw(t, "why"), By: words.Draw(t, "by"), Topic: words.Draw(t, "topic"), Count: 3, List: aList(t), HasList: true, Dropped: 4,
		}
		if got, err := DecodeNotice(EncodeNotice(n)); err != nil || !reflect.DeepEqual(got, n) {
			t.Fatalf("%+v, %v; want %+v", got, err, n)
		}
		e := Event{Kind: "snapshot", Seq: 1, Boot: words.Draw(t, "boot"), By: words.Draw(t, "by"), Last: rapid.Bool().Draw(t, "last"), List: aList(t)}
		if got, err := DecodeEvent(EncodeEvent(e)); err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("%+v, %v; want %+v", got, err, e)
		}
	})
}

func TestNoticesAndEventsRefuse(t *testing.T) {
	for _, s := range []string{"", "x", "{}", `{"code":"0"}`, `{"kind":1}`, `{"kind":"x","kind":"y"}`, `{"kind":"join","code":-1}`, "{"} {
		if n, err := DecodeNotice([]byte(s)); err == nil || !reflect.DeepEqual(n, Notice{}) {
			t.Errorf("notice %q = %+v, %v", s, n, err)
		}
	}
	for _, s := range []string{"", "x", "{}", `{"kind":1}`, `{"kind":"join","seq":1.5}`, `{"kind":"join","device":7}`, `{"kind":"snapshot","list":[[]]}`} {
		if e, err := DecodeEvent([]byte(s)); err == nil || !reflect.DeepEqual(e, Event{}) {
			t.Errorf("event %q = %+v, %v", s, e, err)
		}
	}
}
