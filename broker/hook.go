package broker

import (
	"fmt"
	"net"
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/authz"
	"github.com/muster-mqtt/muster/control"
)

// initHooks makes mochi's chain of hooks with our authorization on it. Other
// hooks of mochi's kind can stand beside it: the Server calls OnStarted,
// OnConnect, OnConnectAuthenticate, OnSessionEstablished, OnACLCheck, OnWill,
// OnDisconnect, OnClientExpired and OnStopped.
func (s *Server) initHooks() error {
	s.hooks = &mqtt.Hooks{Log: s.log}
	hook := &authorization{s: s}
	hook.SetOpts(s.log, &mqtt.HookOptions{Capabilities: mqtt.NewDefaultServerCapabilities()})
	if err := s.hooks.Add(hook, nil); err != nil {
		return fmt.Errorf("authorization hook: %w", err)
	}
	return nil
}

// hookConn is the net.Conn that hooks are shown: ours finds the connection by it.
type hookConn struct {
	net.Conn
	c *conn
}

// authorization says who may connect, and who may use which ordinary topic. What
// is asked of groups is not for hooks: it goes to package ledger.
type authorization struct {
	mqtt.HookBase
	s *Server
}

// ID names the hook.
func (h *authorization) ID() string { return "muster-authorization" }

// Provides names the events that the hook answers.
func (h *authorization) Provides(b byte) bool {
	return b == mqtt.OnConnectAuthenticate || b == mqtt.OnACLCheck
}

// OnConnectAuthenticate checks user name and password. It may take as long as
// argon2id does.
func (h *authorization) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	hc, ok := cl.Net.Conn.(hookConn)
	if !ok {
		return false
	}
	hc.c.loginErr = hc.c.authenticate(string(pk.Connect.Username), pk.Connect.Password)
	return hc.c.loginErr == nil
}

// OnACLCheck decides on an ordinary topic by the account's rules: whether the
// client may publish to a Topic Name, or read all that a Topic Filter, without
// $share, matches.
func (h *authorization) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	hc, ok := cl.Net.Conn.(hookConn)
	switch {
	case !ok || hc.c.session == nil:
		return false
	case write:
		return mayPublish(hc.c.session.rights.Load(), topic)
	}
	return hc.c.session.mayRead(topic)
}

// mayPublish reports whether the rights are to publish to a topic that is
// ordinary.
func mayPublish(rights *authz.Topics, topic string) bool {
	return isOrdinary(topic) && rights.MayPublish(topic)
}

// mayRead reports whether the client may, at this moment, read what an ordinary
// Topic Filter matches, or a message of an ordinary topic.
func (sess *session) mayRead(filter string) bool {
	return isOrdinary(filter) && sess.rights.Load().MayRead(filter)
}

// isOrdinary reports whether a Topic Name or Topic Filter, without $share, is
// neither ours nor the server's.
func isOrdinary(s string) bool {
	return !strings.HasPrefix(s, "$") && !control.IsGroupTopic(s)
}
