package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// serverKinds are the addresses that --server takes.
const serverKinds = "unix:PATH, mqtt://HOST:PORT, mqtts://HOST:PORT, ws://HOST:PORT or wss://HOST:PORT"

// isServer reports whether the address is of a kind that --server takes.
func isServer(s string) bool {
	for _, scheme := range []string{"unix:", "mqtt://", "mqtts://", "ws://", "wss://"} {
		if strings.HasPrefix(s, scheme) {
			return true
		}
	}
	return false
}

// tlsConfig returns what --ca, --cert and --key say; nil if none was given.
func (c *cli) tlsConfig(cmd *cobra.Command) (*tls.Config, error) {
	switch {
	case c.caFile == "" && c.certFile == "" && c.keyFile == "":
		return nil, nil
	case !strings.HasPrefix(c.server, "mqtts://") && !strings.HasPrefix(c.server, "wss://"):
		return nil, usagef(cmd, "--ca, --cert and --key are for mqtts:// and wss://, and not for %s", show(c.server))
	case (c.certFile == "") != (c.keyFile == ""):
		return nil, usagef(cmd, "--cert and --key go together")
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.caFile != "" {
		b, err := os.ReadFile(c.caFile)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("--ca: %s holds no certificate in PEM", show(c.caFile))
		}
	}
	if c.certFile != "" {
		cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %s", strings.TrimPrefix(err.Error(), "tls: "))
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}
