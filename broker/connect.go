package broker

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/muster-mqtt/muster/broker/fanout"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
)

// An identity is who a client is found to be at CONNECT.
type identity struct {
	id        string
	device    group.ClientID
	side      bool
	reserved  bool
	assigned  bool
	groupable bool
	anonymous bool
	account   group.Account
}

// refuse is the goodbye to a client whose CONNECT is refused.
func (c *conn) refuse(r wire.Reason, text string) *goodbye {
	c.refusal = wire.AppendConnack(nil, c.version, wire.Connack{Reason: r, ReasonString: text})
	if c.maxPacket > 0 && len(c.refusal) > c.maxPacket { // MQTT 5.0, 3.2.2.3.9
		c.refusal = c.fit(wire.AppendConnack(nil, c.version, wire.Connack{Reason: r}))
	}
	return &goodbye{silent: true, reason: r, refused: cmp.Or(text, r.String())}
}

// logged says that the log has the refusal.
func logged(g *goodbye) *goodbye {
	g.refused = ""
	return g
}

// connect takes the CONNECT: it finds out who the client is, and gives it its
// Session.
func (c *conn) connect(frame []byte) *goodbye {
	if err := wire.Validate(frame, 0, c.wireLimits()); err != nil {
		return c.broken(err, frame)
	}
	cn, err := wire.ParseConnect(frame)
	if err != nil {
		return c.broken(err, frame)
	}
	c.version, c.problem = cn.Version, cn.RequestProblemInfo
	c.maxPacket = int(cn.MaximumPacketSize)
	c.claimedID, c.claimedUser = cn.ClientID, cmp.Or(cn.User, c.net.Account)
	c.state = stateAuth
	c.s.admission.heard(c)
	if c.looped != nil && c.s.waitsForNothing(&cn) {
		return c.admit(frame, &cn)
	}
	frame = bytes.Clone(frame)
	c.paused = &pause{work: func() *goodbye { return c.admit(frame, &cn) }}
	return nil
}

// waitsForNothing reports whether a client can be let in at once, on a loop: it has no
// secret that is to be checked, its Client Identifier is recorded as it would be, and
// there is no connection that it would take over.
func (s *Server) waitsForNothing(cn *wire.Connect) bool {
	if cn.HasUser || cn.HasPassword || cn.ClientID == "" {
		return false
	}
	device, side := control.SplitClientID(cn.ClientID)
	d, ok := s.ledger.Device(device)
	if !ok || side || group.Fold(d.Account) != group.Anonymous {
		return false
	}
	sess := s.main(device)
	return sess == nil || !sess.online.Load()
}

// admit finds out who the client is, and gives it its Session. It waits for
// argon2id, for the disk, and for others who connect under the Client Identifier.
func (c *conn) admit(frame []byte, cn *wire.Connect) *goodbye {
	if cn.AuthMethod != "" {
		return c.refuse(wire.BadAuthenticationMethod, "extended authentication is not supported")
	}
	who, g := c.identify(frame, cn)
	if g != nil {
		return g
	}
	if w := cn.Will; w != nil && (control.IsControl(w.Topic) || control.IsVerb(w.Topic)) {
		return c.refuse(wire.TopicNameInvalid, "a Will may not be a request")
	}
	if c.maxPacket > 0 && c.maxPacket < minPacket {
		return c.refuse(wire.ImplementationSpecificError, "")
	}
	seconds, _ := c.s.keepAlive(cn)
	c.keepAlive = time.Duration(seconds) * time.Second * 3 / 2 // MQTT 5.0, 3.1.2.10
	c.mute = who.side || cn.Recv0
	for range maxBinds {
		if g := c.bind(who); g != nil {
			return g
		}
		if g, again := c.s.attach(c, who, cn); !again {
			return g
		}
		acc, ok := c.s.accountNow(&who.account, who.anonymous)
		if !ok || who.reserved && acc.Role != group.RoleOperator {
			return c.refuse(wire.NotAuthorized, goodbyeRights.text)
		}
		who.account = acc
	}
	return c.refuse(wire.ServerUnavailable, group.Unavailable.Text())
}

// keepAlive returns the Keep Alive of a connection in seconds, and whether the
// client must be told, since it is not the one it asked for (MQTT 5.0, 3.2.2.3.14).
// A client of MQTT 3.1.1 cannot be told, and keeps its own.
func (s *Server) keepAlive(cn *wire.Connect) (seconds uint16, told bool) {
	most := (s.limits.KeepAliveMax + time.Second - 1) / time.Second
	if cn.Version < 5 || most <= 0 || cn.KeepAlive > 0 && time.Duration(cn.KeepAlive) <= most {
		return cn.KeepAlive, false
	}
	return uint16(min(most, 65535)), true
}

// maxBinds is how often a connection is tried whose Client Identifier is forgotten
// again, or whose account changes, before it is there.
const maxBinds = 8

// identify finds out the account, and what the Client Identifier stands for.
func (c *conn) identify(frame []byte, cn *wire.Connect) (*identity, *goodbye) {
	who := &identity{id: cn.ClientID}
	if who.id == "" {
		who.id, who.assigned = assignedID(), true
	}
	if len(who.id) > maxClientID {
		return nil, c.refuse(wire.ClientIdentifierNotValid, "the Client Identifier is longer than 256 bytes")
	}
	if g := c.login(frame, cn, who); g != nil {
		return nil, g
	}
	who.device, who.side = control.SplitClientID(who.id)
	if who.device == "" {
		return nil, c.refuse(wire.ClientIdentifierNotValid, "there is nothing before ~")
	}
	who.groupable = control.CheckClientID(who.device) == nil
	if who.device == reservedID {
		if who.account.Role != group.RoleOperator {
			return nil, c.refuse(wire.ClientIdentifierNotValid, "the Client Identifier is reserved")
		}
		who.reserved, who.side = true, false
	}
	return who, nil
}

// reservedID is the Client Identifier of operators' tools: it is never a member
// and never bound.
const reservedID = "muster"

// assignedID returns a Client Identifier for a client that has none: 80 random
// bits.
func assignedID() string {
	var b [10]byte
	rand.Read(b[:])
	return "auto-" + base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])
}

// login finds out the account by the hooks, or by where the client comes from.
func (c *conn) login(frame []byte, cn *wire.Connect, who *identity) *goodbye {
	pk := packets.Packet{ProtocolVersion: cn.Version, FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	if err := pk.ConnectDecode(body(frame)); err != nil {
		return c.refuse(wire.MalformedPacket, "")
	}
	c.client = &mqtt.Client{
		ID:  who.id,
		Net: mqtt.ClientConnection{Conn: hookConn{c.net, c}, Remote: c.net.RemoteAddr().String(), Listener: c.net.URL},
		Properties: mqtt.ClientProperties{
			Props: pk.Properties, Username: pk.Connect.Username, ProtocolVersion: cn.Version, Clean: cn.Clean,
		},
	}
	if err := c.s.hooks.OnConnect(c.client, pk); err != nil {
		var code packets.Code
		if !errors.As(err, &code) {
			code = packets.ErrNotAuthorized
		}
		return c.refuse(wire.Reason(code.Code), "")
	}
	c.loginErr = nil
	if c.s.hooks.OnConnectAuthenticate(c.client, pk) && c.loginErr == nil {
		acc, anonymous := c.account(cn)
		who.account, who.anonymous = acc, anonymous
		return nil
	}
	return logged(c.refuseLogin(cn))
}

// account returns the account that the authentication hook has let in.
func (c *conn) account(cn *wire.Connect) (acc group.Account, anonymous bool) {
	switch {
	case c.loggedIn.Name != "":
		return c.loggedIn, false
	case c.net.Operator:
		return group.Account{Name: group.Local, Role: group.RoleOperator}, false
	}
	return group.Account{Name: group.Anonymous, Topics: c.s.cfg.AnonymousTopics}, true
}

// refuseLogin logs why a client is not let in, and is the goodbye to it.
func (c *conn) refuseLogin(cn *wire.Connect) *goodbye {
	code := group.NotAuthorized
	errors.As(c.loginErr, &code)
	c.s.log.Info("refused", "op", "connect", "client", cn.ClientID, "by", cmp.Or(cn.User, c.net.Account), "addr", c.addr, "reason", code.Error(), "err", c.loginErr)
	switch {
	case code == group.RateLimited:
		return c.refuse(wire.ConnectionRateExceeded, code.Text())
	case code == group.Unavailable:
		return c.refuse(wire.ServerBusy, code.Text())
	case c.net.Account != "":
		return c.refuse(wire.NotAuthorized, "the certificate does not allow it")
	case !cn.HasUser || cn.User == "":
		return c.refuse(wire.NotAuthorized, "a user name and password are needed here")
	}
	return c.refuse(wire.BadUserNameOrPassword, "")
}

// authenticate is what our hook does: it checks user name and password, or
// whether the client may do without.
func (c *conn) authenticate(user string, password []byte) error {
	if c.net.Account != "" {
		return c.certified(user)
	}
	if user == "" {
		if c.net.Operator || c.s.cfg.Anonymous && c.net.Loopback {
			return nil
		}
		return group.NotAuthorized
	}
	acc, err := c.s.ledger.Login(c.s.base, user, password, c.addr)
	c.loggedIn = acc
	return err
}

// certified checks the account that the client's certificate names. It needs no
// password, and a User Name is to be the same.
func (c *conn) certified(user string) error {
	refuse := func(why string) error {
		return &group.Error{Op: "login", Code: group.NotAuthorized, Err: errors.New(why)}
	}
	name, err := control.AccountName(c.net.Account)
	switch {
	case err != nil:
		return refuse("the certificate names no account")
	case user != "" && group.Fold(user) != group.Fold(name):
		return refuse("the User Name is not the account that the certificate names")
	}
	acc, ok := c.s.accountNow(&group.Account{Name: name}, false)
	if !ok {
		return refuse("there is no account that the certificate names, or it is disabled")
	}
	c.loggedIn = acc
	return nil
}

// bind records to whom the Client Identifier belongs, before CONNACK.
func (c *conn) bind(who *identity) *goodbye {
	if who.assigned || who.reserved {
		return nil
	}
	done := make(chan error, 1)
	c.s.ledger.Bind(who.account.Name, who.device, time.Now(), func(err error) { done <- err })
	err := <-done
	switch {
	case err == nil:
		return nil
	case errors.Is(err, group.NotAuthorized):
		c.s.log.Info("refused", "op", "connect", "client", who.id, "by", who.account.Name, "addr", c.addr, "reason", "the Client Identifier belongs to another account")
		return logged(c.refuse(wire.ClientIdentifierNotValid, "the Client Identifier belongs to another account"))
	}
	c.s.log.Warn("refused", "op", "connect", "client", who.id, "by", who.account.Name, "addr", c.addr, "err", err)
	return logged(c.refuse(wire.ServerUnavailable, group.Unavailable.Text()))
}

// attach gives the connection its Session: a take-over, what is resumed, CONNACK
// and what is sent again are one step for the Client Identifier, between two
// changes. It is to be tried again, with the account read and the Client Identifier
// bound anew, if one of these has changed meanwhile, or had to.
func (s *Server) attach(c *conn, who *identity, cn *wire.Connect) (g *goodbye, again bool) {
	now := time.Now()
	sl := s.acquire(who.id)
	if !s.owns(who) {
		s.release(who.id, sl)
		return nil, true
	}
	old := sl.session.Load()
	var fires []fired // to be published when the slot is free
	resume := old != nil && !cn.Clean && !old.dead.Load() && group.Fold(old.account.Load().Name) == group.Fold(who.account.Name) &&
		old.account.Load().Role == who.account.Role
	if old != nil && old.conn != nil {
		if w := s.takeOver(old, resume); w != nil {
			fires = append(fires, fired{old, w})
		}
	}
	if old != nil && !resume {
		fires = append(fires, fired{old, s.end(sl, old)})
	}
	full := !resume && s.full(who)
	// What lasted as long as the old Session ends before a new one begins.
	over := old != nil && !resume && old.assigned
	if !full && !over {
		sess := old
		if !resume {
			sess = s.newSession(who)
		}
		again = !s.connect(c, sl, sess, who, cn, resume)
	}
	if old != nil && (full || over || again) && old.online.Load() {
		s.events.offline(old) // it was ended, and nothing has taken its place
	}
	s.release(who.id, sl)
	for _, f := range fires {
		if f.will != nil {
			s.fire(f.sess, f.will, now)
		}
	}
	if old != nil && (!resume || again) { // it was ended
		s.reassign(old.back)
	}
	switch {
	case over:
		done := make(chan struct{})
		s.ledger.Release(who.device, now, func() { close(done) })
		<-done
		return nil, true
	case full:
		return c.refuse(wire.QuotaExceeded, "there are as many Sessions as there may be"), false
	case again:
		return nil, true
	}
	c.state = stateUp
	s.admission.up(c)
	var deadline time.Time
	if c.keepAlive > 0 {
		deadline = now.Add(c.keepAlive)
	}
	c.expect(deadline)
	return nil, false
}

// owns reports whether the Client Identifier is the client's to use.
func (s *Server) owns(who *identity) bool {
	if who.assigned || who.reserved {
		return true
	}
	d, ok := s.ledger.Device(who.device)
	return ok && group.Fold(d.Account) == group.Fold(who.account.Name)
}

// fired is a Will that is due.
type fired struct {
	sess *session
	will *will
}

// full reports whether there are as many Sessions as there may be: of all, or of
// the account.
func (s *Server) full(who *identity) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	most := s.limits.SessionsPerAccount
	return s.limits.Sessions > 0 && s.sessions >= s.limits.Sessions ||
		most > 0 && s.perAccount[group.Fold(who.account.Name)] >= most
}

// takeOver takes a Session from its connection, for another one that resumes it, or
// to end it. The slot is locked. It returns a Will that is due (MQTT 5.0, 3.1.2.5,
// 3.1.4).
func (s *Server) takeOver(sess *session, resume bool) *will {
	c := sess.conn
	c.abort()
	c.leftover = sess.member.Leftover(c)
	if resume {
		sess.member.Move(c)
	} else {
		sess.member.Detach(c)
	}
	sess.conn = nil
	sess.lastEpoch, sess.epochKnown = sess.member.Epoch(), true
	s.hooks.OnDisconnect(c.client, nil, !resume)
	c.stop(goodbyeTakenOver)
	w := sess.will
	sess.will = nil
	if w != nil && w.delay > 0 && resume {
		return nil // the client has returned before the delay has passed
	}
	return w
}

// connect attaches the connection to the Session, unless the Client Identifier is
// no longer the client's. The slot is locked.
func (s *Server) connect(c *conn, sl *slot, sess *session, who *identity, cn *wire.Connect, resume bool) (ok bool) {
	sess.stopTimers()
	sess.generation++
	sess.conn = c
	sess.will = newWill(cn.Will, c.addr)
	sess.expiry = s.expiryOf(cn)
	c.session = sess
	s.ledger.Ordered(func() {
		if ok = s.owns(who) && s.current(sess, who); !ok {
			return
		}
		d, _ := s.ledger.Device(who.device)
		var in []fanout.Membership
		switch {
		case sess.isMember():
			in = memberships(&d)
		case sess.reserved:
			d = group.Device{}
		}
		c.lostBefore = sess.member.Lost()
		c.epochBefore, c.epochKnown = sess.lastEpoch, sess.epochKnown
		if !resume {
			s.enroll(sl, sess, &d)
		}
		first := s.connack(c, sess, &d, cn, resume)
		c.accepted = first
		if resume && sess.listening.Load() {
			first = append(first, s.statePacket(c, &d)...)
		}
		s.events.online(sess, in, func() {
			sess.member.Attach(fanout.Connection{
				Sink: c, Version: c.version, MaxSize: c.maxPacket, Window: int(cn.ReceiveMaximum),
				Aliases: min(int(cn.TopicAliasMaximum), s.limits.TopicAliases), Mute: c.mute, First: first,
			}, in, d.Epoch)
		})
	})
	if !ok {
		sess.conn, c.session = nil, nil
		if resume {
			s.end(sl, sess)
		}
		return false
	}
	s.hooks.OnSessionEstablished(c.client, packets.Packet{ProtocolVersion: c.version, FixedHeader: packets.FixedHeader{Type: packets.Connect}})
	s.log.Debug("connected", "client", sess.id, "by", who.account.Name, "addr", c.addr, "resumed", resume)
	return true
}

// current takes over the account's record as it is now: it may have changed since
// the password was checked. It reports whether the client may still be there, as
// what it was let in for. It runs between two changes, so that no later one is
// missed.
func (s *Server) current(sess *session, who *identity) bool {
	acc, ok := s.accountNow(&who.account, who.anonymous)
	if !ok || acc.Role != who.account.Role {
		return false
	}
	s.regard(sess, acc, new(revoked)) // nothing is: each change was applied as it came
	return true
}

// expiryOf returns how long the Session is to outlive the connection.
func (s *Server) expiryOf(cn *wire.Connect) time.Duration {
	switch {
	case cn.Version < 5 && cn.Clean:
		return 0
	case cn.Version < 5:
		return s.limits.SessionExpiryMax // MQTT 3.1.1, 3.1.2.4: no end is foreseen
	}
	return min(time.Duration(cn.SessionExpiry)*time.Second, s.limits.SessionExpiryMax)
}

// connack returns the CONNACK, with the device's own state for 5.0 if it fits.
func (s *Server) connack(c *conn, sess *session, d *group.Device, cn *wire.Connect, resumed bool) []byte {
	k := wire.Connack{SessionPresent: resumed}
	if c.version < 5 {
		return wire.AppendConnack(nil, c.version, k)
	}
	k.ReceiveMaximum = uint16(min(s.limits.Inflight, 65535))
	k.MaximumPacketSize = uint32(s.limits.PacketSize)
	k.TopicAliasMaximum = uint16(s.limits.TopicAliases)
	if seconds, told := s.keepAlive(cn); told {
		k.ServerKeepAlive = &seconds
	}
	if sess.expiry != time.Duration(cn.SessionExpiry)*time.Second {
		seconds := uint32(sess.expiry / time.Second)
		k.SessionExpiry = &seconds
	}
	if sess.assigned {
		k.AssignedClientID = sess.id
	}
	if cn.RequestResponseInfo {
		k.ResponseInfo = control.AnswerTopic
	}
	bare := wire.AppendConnack(nil, c.version, k)
	if c.maxPacket > 0 && len(bare) > c.maxPacket {
		k.ResponseInfo = ""
		return wire.AppendConnack(nil, c.version, k)
	}
	if sess.reserved {
		return bare
	}
	k.User = append(k.User, wire.UserProperty{Key: "epoch", Value: epochText(d.Epoch)})
	for _, m := range d.Groups {
		k.User = append(k.User, wire.UserProperty{Key: "grp", Value: m.Number.String()})
	}
	if full := wire.AppendConnack(nil, c.version, k); c.maxPacket == 0 || len(full) <= c.maxPacket {
		return full
	}
	return bare
}
