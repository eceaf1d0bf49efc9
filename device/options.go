package device

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// Options say who connects and how. Only ClientID is needed.
type Options struct {
	// ClientID is what the device is known by: 1 to 64 bytes without "/", "+",
	// "#", "~" and control characters, not beginning with "$". "<device>~<any>"
	// is a side connection, which asks and publishes as <device>.
	ClientID string
	User     string // the account; empty: anonymous
	Password string // needs User; never in logs and errors
	// KeepAlive is the longest silence on the connection: 1 s to 18 h in whole
	// seconds, 30 s if 0.
	KeepAlive time.Duration
	// CleanSession ends the server's Session with each connection: messages in
	// flight are then not sent again. Memberships do not depend on it.
	CleanSession bool
	// ConnectTimeout bounds an attempt to connect, up to CONNACK; 10 s if 0.
	ConnectTimeout time.Duration
	// RequestTimeout is how long an answer is waited for before the request is
	// asked again; 10 s if 0.
	RequestTimeout time.Duration
	// MaxReconnect is the longest wait between two attempts to reconnect; 1 min
	// if 0. The first wait is at most 1 s.
	MaxReconnect time.Duration
	// TLS is for mqtts and wss; nil: the system's certificates, and the server's
	// name from its address. With a client certificate that names the account, User
	// may be empty.
	TLS *tls.Config
	// Logger gets connects, losses and what the server does against the
	// protocol; nil: nobody.
	Logger *slog.Logger
	// Messages is called with each message, in order, by one goroutine. It may
	// call all methods but Close. nil: messages come from Device.Messages.
	Messages func(Message)
	// Changes is called with each change, by the goroutine of Messages and in
	// one order with the messages. nil: changes come from Device.Changes.
	Changes func(Change)
	// BufferMessages is how many messages with QoS 0 wait for the receiver
	// before the oldest is dropped: 1 to 65,536; 1,000 if 0.
	BufferMessages int
	// NoRetry returns a refusal with a code that can be tried again to the
	// caller at once, instead of asking again until the context ends.
	NoRetry bool
	// PacketSize is the largest MQTT packet that is sent and accepted, in bytes:
	// 16 KiB to 16 MiB; 256 KiB, a server's default, if 0.
	PacketSize int
}

// withDefaults returns the options with their defaults, or says which is wrong.
func (o Options) withDefaults() (Options, error) {
	for _, d := range []struct {
		name         string
		value        *time.Duration
		unset, least time.Duration
		most         time.Duration
	}{
		{"KeepAlive", &o.KeepAlive, 30 * time.Second, time.Second, 65535 * time.Second},
		{"ConnectTimeout", &o.ConnectTimeout, 10 * time.Second, time.Millisecond, time.Hour},
		{"RequestTimeout", &o.RequestTimeout, 10 * time.Second, time.Millisecond, time.Hour},
		{"MaxReconnect", &o.MaxReconnect, time.Minute, time.Millisecond, 24 * time.Hour},
	} {
		if *d.value == 0 {
			*d.value = d.unset
		}
		if *d.value < d.least || *d.value > d.most {
			return o, fmt.Errorf("device options: %s: %v is not between %v and %v", d.name, *d.value, d.least, d.most)
		}
	}
	for _, n := range []struct {
		name               string
		value              *int
		unset, least, most int
	}{
		{"BufferMessages", &o.BufferMessages, 1000, 1, 65536},
		{"PacketSize", &o.PacketSize, 256 << 10, 16 << 10, 16 << 20},
	} {
		if *n.value == 0 {
			*n.value = n.unset
		}
		if *n.value < n.least || *n.value > n.most {
			return o, fmt.Errorf("device options: %s: %d is not between %d and %d", n.name, *n.value, n.least, n.most)
		}
	}
	if o.KeepAlive%time.Second != 0 {
		return o, fmt.Errorf("device options: KeepAlive: %v is not in whole seconds", o.KeepAlive)
	}
	if o.Password != "" && o.User == "" {
		return o, errors.New("device options: a Password needs a User")
	}
	if len(o.User) > 65535 || len(o.Password) > 65535 {
		return o, errors.New("device options: User and Password have at most 65,535 bytes")
	}
	if self, _ := control.SplitClientID(o.ClientID); control.CheckClientID(self) != nil || strings.ContainsFunc(o.ClientID, isControlChar) {
		return o, fmt.Errorf("device options: ClientID: %q is not 1 to 64 bytes without / + # ~ and control characters", o.ClientID)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func isControlChar(r rune) bool { return r < 0x20 || r == 0x7f || r == '\uFFFD' }

// isTool reports whether the Client Identifier is one that is never a member,
// so that it has no state to be told.
func isTool(self group.ClientID) bool { return self == "muster" }

// An address says where the server listens.
type address struct {
	network string // "tcp", "unix" or "ws"
	at      string // HOST:PORT, a path or, for "ws", the whole address
	tls     *tls.Config
}

// The schemes of addresses, with what follows from them.
var schemes = map[string]struct {
	network string
	secure  bool
	port    string // if none is given
}{
	"mqtt": {"tcp", false, "1883"}, "mqtts": {"tcp", true, "8883"},
	"ws": {"ws", false, "80"}, "wss": {"ws", true, "443"},
}

// parseServer reads mqtt://HOST[:PORT], mqtts://HOST[:PORT],
// ws://HOST[:PORT][/PATH], wss://HOST[:PORT][/PATH] or unix:PATH.
func parseServer(server string, conf *tls.Config) (address, error) {
	if path, ok := strings.CutPrefix(server, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		switch {
		case path == "":
			return address{}, errors.New("server unix: a path is missing, as in unix:muster-data/muster.sock")
		case conf != nil:
			return address{}, errors.New("server: Options.TLS is for mqtts:// and wss://, and not for a unix socket")
		}
		return address{network: "unix", at: path}, nil
	}
	if strings.Contains(server, "@") {
		return address{}, errors.New("server: user and password belong in Options, not in the address")
	}
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return address{}, errServer(server)
	}
	scheme, ok := schemes[u.Scheme]
	if !ok || scheme.network == "tcp" && strings.Trim(u.Path, "/") != "" {
		return address{}, errServer(server)
	}
	a := address{network: scheme.network}
	switch {
	case scheme.secure:
		if conf == nil {
			conf = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		a.tls = conf.Clone()
		if a.tls.ServerName == "" {
			a.tls.ServerName = u.Hostname()
		}
	case conf != nil:
		return address{}, fmt.Errorf("server: Options.TLS is for mqtts:// and wss://, and not for %s://", u.Scheme)
	}
	a.at = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), scheme.port))
	if a.network == "ws" {
		path := u.EscapedPath()
		if strings.Trim(path, "/") == "" {
			path = "/mqtt"
		}
		a.at = u.Scheme + "://" + a.at + path
	}
	return a, nil
}

func errServer(server string) error {
	return fmt.Errorf("server %q is not mqtt://HOST:PORT, mqtts://HOST:PORT, ws://HOST:PORT/PATH, wss://HOST:PORT/PATH or unix:PATH", server)
}
