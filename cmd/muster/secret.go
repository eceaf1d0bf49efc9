package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// maxSecret is the size in bytes of the longest secret that is read from a
// file.
const maxSecret = 4096

// secretFile returns the secret in the file that a flag names: its content
// without the line break at the end. With - it is standard input, once; empty
// without the flag.
func (c *cli) secretFile(cmd *cobra.Command, flag, path string) (string, error) {
	if path == "" {
		if f := cmd.Flags().Lookup(flag); f != nil && f.Changed && f.Value.String() == "" {
			return "", usagef(cmd, "--%s: want the name of a file, or - for standard input", flag)
		}
		return "", nil
	}
	b, err := c.readSecret(path)
	if err != nil {
		return "", fmt.Errorf("--%s: %w", flag, err)
	}
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	switch {
	case len(b) > maxSecret:
		return "", fmt.Errorf("--%s: %s: longer than %d bytes", flag, show(path), maxSecret)
	case s == "":
		return "", fmt.Errorf("--%s: %s: empty", flag, show(path))
	case strings.ContainsAny(s, "\r\n"):
		return "", fmt.Errorf("--%s: %s: more than one line", flag, show(path))
	}
	return s, nil
}

func (c *cli) readSecret(path string) ([]byte, error) {
	if path == "-" {
		if c.stdinTaken {
			return nil, fmt.Errorf("standard input was read for another flag")
		}
		c.stdinTaken = true
		return io.ReadAll(io.LimitReader(c.stdin, maxSecret+1))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSecret+1))
}

// loginPassword returns the password of --user: from its file, else from the
// environment.
func (c *cli) loginPassword(cmd *cobra.Command) (string, error) {
	if c.passwordFile != "" {
		return c.secretFile(cmd.Root(), "password-file", c.passwordFile)
	}
	p, _ := c.env("MUSTER_PASSWORD")
	return p, nil
}
