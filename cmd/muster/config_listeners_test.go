package main

import (
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/muster-mqtt/muster/broker/listen"
	"github.com/muster-mqtt/muster/configs"
)

func TestListenersInConfig(t *testing.T) {
	const full = `
listeners:
  - address: 0.0.0.0:8883
    tls: {cert: c, key: k, client_ca: a, crl: r, account: uri}
    websocket: {path: /x, origins: ["https://app.example.com"]}
    proxy: {from: [192.0.2.4, 198.51.100.0/24, "2001:db8::/32"]}
  - address: unix:mqtt.sock
    websocket: {}
`
	want := []listen.Config{{
		Address:   "0.0.0.0:8883",
		TLS:       &listen.TLS{Cert: "c", Key: "k", ClientCA: "a", CRL: "r", Account: "uri"},
		WebSocket: &listen.WebSocket{Path: "/x", Origins: []string{"https://app.example.com"}},
		Proxy: []netip.Prefix{
			netip.MustParsePrefix("192.0.2.4/32"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32"),
		},
	}, {Address: "unix:mqtt.sock", WebSocket: &listen.WebSocket{}}}
	got, err := load(t, full, nil, nil)
	if err != "" || !reflect.DeepEqual(got.Listeners, want) {
		t.Errorf("%+v, %s", got.Listeners, err)
	}
	// The environment stands over the file, as everywhere.
	got, err = load(t, full, map[string]string{"MUSTER_LISTENERS": "[{address: ':8883', tls: {cert: c, key: k}}]"}, nil)
	if want := []listen.Config{{Address: ":8883", TLS: &listen.TLS{Cert: "c", Key: "k"}}}; err != "" || !reflect.DeepEqual(got.Listeners, want) {
		t.Errorf("%+v, %s", got.Listeners, err)
	}
}

func TestListenersInConfigRefused(t *testing.T) {
	in := func(entry string) string { return "listeners:\n- " + entry + "\n" }
	at := "muster.yaml:1: listeners: "
	one := at + "entry 1, line 2: "
	tests := []struct{ name, file, want string }{
		{"no list", "listeners: 0.0.0.0:8883", at + "want a list, found a single value"},
		{"none", "listeners:", at + "want a list, found none"},
		{"no keys", in("0.0.0.0:8883"), one + "want keys and values, found a single value"},
		{"no address", in("tls: {cert: c, key: k}"), one + "address is missing"},
		{"address", in("address: x"), one + "address: x is neither HOST:PORT nor unix:PATH"},
		{"unknown key", in("{address: ':1', tsl: {}}"), one + `unknown key "tsl": want address, proxy, tls, websocket`},
		{"a key twice", in("{address: ':1', address: ':2'}"), one + `key "address" stands there twice`},
		{"no certificate", in("{address: ':1', tls: {key: k}}"), one + "tls: cert and key are needed"},
		{"no key", in("{address: ':1', tls: {cert: c, key: ''}}"), one + "tls: key: must not be empty"},
		{"empty TLS", in("{address: ':1', tls: }"), one + "tls: want keys and values, found none"},
		{"CRL alone", in("{address: ':1', tls: {cert: c, key: k, crl: r}}"), one + "tls: crl and account need client_ca"},
		{"account", in("{address: ':1', tls: {cert: c, key: k, client_ca: a, account: name}}"), one + "tls: account: name is not one of cn, dns, email, uri, password"},
		{"path", in("{address: ':1', websocket: {path: x}}"), one + `websocket: path: "x" is not a path such as /mqtt`},
		{"origin", in("{address: ':1', websocket: {origins: [example.com]}}"), one + `websocket: origins: "example.com" is not an origin such as https://app.example.com`},
		{"any origin", in("{address: ':1', websocket: {origins: ['*']}}"), one + `websocket: origins: "*" is not an origin such as https://app.example.com`},
		{"no proxies", in("{address: ':1', proxy: {from: []}}"), one + "proxy: from is missing: list the addresses of the proxies"},
		{"a proxy's name", in("{address: ':1', proxy: {from: [haproxy]}}"), one + "proxy: from: haproxy is neither an address nor a network such as 192.0.2.0/24"},
		{"a proxy before a socket", in("{address: 'unix:s', proxy: {from: [127.0.0.1]}}"), one + "proxy: a unix socket has no proxies before it"},
		{"the operator socket", in("address: unix:./muster-data/muster.sock"), "muster.yaml:1: listeners: unix:./muster-data/muster.sock is the operator socket"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := load(t, tt.file, nil, nil); err != tt.want {
				t.Errorf("%s\nwant %s", err, tt.want)
			}
		})
	}
}

// The entries in the comment of configs/muster.yaml and in docs/operations.md are
// such as the server takes.
func TestListenersExamples(t *testing.T) {
	_, comment, ok := strings.Cut(configs.Default, "A full entry:\n")
	if !ok {
		t.Fatal("configs/muster.yaml shows no full entry")
	}
	comment, _, _ = strings.Cut(comment, "\nlisteners: []")
	c, err := load(t, regexp.MustCompile("(?m)^# ?").ReplaceAllString(comment, ""), nil, nil)
	if err != "" || len(c.Listeners) != 1 || c.Listeners[0].TLS == nil || c.Listeners[0].WebSocket == nil || len(c.Listeners[0].Proxy) != 2 {
		t.Errorf("configs/muster.yaml: %+v, %s", c.Listeners, err)
	}
	b, readErr := os.ReadFile("../../docs/operations.md")
	if readErr != nil {
		t.Fatal(readErr)
	}
	_, section, _ := strings.Cut(string(b), "\n## Listeners\n")
	_, example, _ := strings.Cut(section, "```\n")
	example, _, _ = strings.Cut(example, "```")
	if c, err := load(t, example, nil, nil); err != "" || len(c.Listeners) != 4 {
		t.Errorf("docs/operations.md: %+v, %s", c.Listeners, err)
	}
}
