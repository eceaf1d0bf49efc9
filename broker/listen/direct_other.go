//go:build !linux

package listen

import "errors"

// Direct reports false: there are no event loops on this system.
func (l *Listener) Direct() bool { return false }

// AcceptDirect is for event loops.
func (l *Listener) AcceptDirect() (c *Conn, fd int, err error) {
	return nil, 0, errors.ErrUnsupported
}

// Release is for event loops.
func (c *Conn) Release() {}
