package main

import (
	"crypto/tls"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-mqtt/muster/broker/listen/listentest"
)

// authorities holds the authority of each script, by its directory.
var authorities sync.Map

// An authority is what certs has made.
type authority struct {
	t       testing.TB
	ca      *listentest.CA
	clients map[string]tls.Certificate
}

// scriptT lets listentest fail a script.
type scriptT struct {
	testing.TB
	ts *testscript.TestScript
}

func (t scriptT) Helper()           {}
func (t scriptT) Fatal(args ...any) { t.ts.Fatalf("%v", args) }

func certs(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: certs NAME ...")
	}
	dir := ts.MkAbs(".")
	t := scriptT{ts: ts}
	a := &authority{t, listentest.NewCA(t, "authority"), map[string]tls.Certificate{}}
	listentest.Write(t, dir, "ca.pem", a.ca.PEM())
	listentest.Write(t, dir, "crl.pem", a.ca.CRL(1, time.Now().Add(time.Hour)))
	listentest.WriteCertificate(t, dir, "server", a.ca.Server(nil))
	for _, name := range args {
		a.clients[name] = a.ca.Client(name, nil)
		listentest.WriteCertificate(t, dir, name, a.clients[name])
	}
	authorities.Store(dir, a)
}

func revoke(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(".")
	v, ok := authorities.Load(dir)
	if neg || len(args) != 1 || !ok {
		ts.Fatalf("usage: certs NAME ..., then revoke NAME")
	}
	a := v.(*authority)
	listentest.Write(a.t, dir, "crl.pem", a.ca.CRL(2, time.Now().Add(time.Hour), a.clients[args[0]]))
}
