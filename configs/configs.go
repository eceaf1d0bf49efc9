// Package configs holds the files that a server is set up with.
//
// muster.yaml names every key of the configuration, with its default and what
// it means; a test of cmd/muster reads it and compares it with the defaults in
// the code. muster.service is a unit for systemd.
package configs

import _ "embed" // for the files

// Default is the content of muster.yaml: what a server does that was told
// nothing.
//
//go:embed muster.yaml
var Default string
