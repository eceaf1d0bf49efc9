//go:build !linux

package poll

import (
	"errors"
	"time"
)

// Supported is true where a Poller can be made.
const Supported = false

// A Poller is for Linux.
type Poller struct{}

// New refuses.
func New() (*Poller, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (p *Poller) Close() {}

// Add refuses.
func (p *Poller) Add(int) error { return errors.ErrUnsupported }

// Wake does nothing.
func (p *Poller) Wake() {}

// Wait refuses.
func (p *Poller) Wait(bool, time.Time) ([]Event, error) { return nil, errors.ErrUnsupported }
