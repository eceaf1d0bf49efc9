package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/muster-mqtt/muster/broker/listen"
)

// listeners are addresses with TLS, WebSocket or proxies: a list of keys and
// values in the file, the same in one line in the environment.
type listeners []listen.Config

func (l *listeners) set(values []string) error {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(one(values)), &doc); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 {
		return errors.New("want a list, found none; [] is an empty one")
	}
	return l.node(doc.Content[0])
}

// node reads the list.
func (l *listeners) node(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return fmt.Errorf("want a list, found %s", kindOf(n))
	}
	all := listeners{}
	for i, entry := range n.Content {
		var c listen.Config
		err := fields(entry, map[string]func(*yaml.Node) error{
			"address":   func(n *yaml.Node) error { return word(n, &c.Address) },
			"tls":       func(n *yaml.Node) error { return readTLS(n, &c) },
			"websocket": func(n *yaml.Node) error { return readWebSocket(n, &c) },
			"proxy":     func(n *yaml.Node) error { return readProxy(n, &c) },
		})
		if err == nil {
			err = checkListener(&c)
		}
		if err != nil {
			return fmt.Errorf("entry %d, line %d: %w", i+1, entry.Line, err)
		}
		all = append(all, c)
	}
	*l = all
	return nil
}

func checkListener(c *listen.Config) error {
	if c.Address == "" {
		return errors.New("address is missing")
	}
	if err := checkListen(c.Address); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if network, _ := splitListen(c.Address); network == "unix" && c.Proxy != nil {
		return errors.New("proxy: a unix socket has no proxies before it")
	}
	return nil
}

func readTLS(n *yaml.Node, c *listen.Config) error {
	t := &listen.TLS{}
	err := fields(n, map[string]func(*yaml.Node) error{
		"cert":      func(n *yaml.Node) error { return file(n, &t.Cert) },
		"key":       func(n *yaml.Node) error { return file(n, &t.Key) },
		"client_ca": func(n *yaml.Node) error { return file(n, &t.ClientCA) },
		"crl":       func(n *yaml.Node) error { return file(n, &t.CRL) },
		"account": func(n *yaml.Node) error {
			if err := word(n, &t.Account); err != nil {
				return err
			}
			return (&choice{&t.Account, listen.Accounts}).set([]string{t.Account})
		},
	})
	switch {
	case err != nil:
		return err
	case t.Cert == "" || t.Key == "":
		return errors.New("cert and key are needed")
	case t.ClientCA == "" && (t.CRL != "" || t.Account != ""):
		return errors.New("crl and account need client_ca")
	}
	c.TLS = t
	return nil
}

func readWebSocket(n *yaml.Node, c *listen.Config) error {
	w := &listen.WebSocket{}
	if err := fields(n, map[string]func(*yaml.Node) error{
		"path":    func(n *yaml.Node) error { return word(n, &w.Path) },
		"origins": func(n *yaml.Node) (err error) { w.Origins, err = items(n); return err },
	}); err != nil {
		return err
	}
	c.WebSocket = w
	return w.Check()
}

func readProxy(n *yaml.Node, c *listen.Config) error {
	var from []string
	if err := fields(n, map[string]func(*yaml.Node) error{
		"from": func(n *yaml.Node) (err error) { from, err = items(n); return err },
	}); err != nil {
		return err
	}
	for _, s := range from {
		p, err := netip.ParsePrefix(s)
		if a, addrErr := netip.ParseAddr(s); addrErr == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			return fmt.Errorf("from: %s is neither an address nor a network such as 192.0.2.0/24", show(s))
		}
		c.Proxy = append(c.Proxy, p)
	}
	if len(c.Proxy) == 0 {
		return errors.New("from is missing: list the addresses of the proxies")
	}
	return nil
}

// fields reads keys and values, each by the function of its name.
func fields(n *yaml.Node, read map[string]func(*yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("want keys and values, found %s", kindOf(n))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		f := read[name]
		switch {
		case f == nil:
			names := make([]string, 0, len(read))
			for known := range read {
				names = append(names, known)
			}
			slices.Sort(names)
			return fmt.Errorf("unknown key %s: want %s", quote(name), strings.Join(names, ", "))
		case seen[name]:
			return fmt.Errorf("key %q stands there twice", name)
		}
		seen[name] = true
		if err := f(n.Content[i+1]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// word reads a single value.
func word(n *yaml.Node, to *string) error {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return fmt.Errorf("want a single value, found %s", kindOf(n))
	}
	*to = n.Value
	return nil
}

// file reads the path of a file.
func file(n *yaml.Node, to *string) error {
	if err := word(n, to); err != nil {
		return err
	}
	return (*text)(to).set([]string{*to})
}

// items reads a list of single values.
func items(n *yaml.Node) ([]string, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("want a list, found %s", kindOf(n))
	}
	all := make([]string, len(n.Content))
	for i := range n.Content {
		if err := word(n.Content[i], &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}
