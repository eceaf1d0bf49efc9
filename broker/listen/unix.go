package listen

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// listenUnix listens on a socket in the file system. One that a server left
// behind is replaced; one at which somebody answers is an error.
func listenUnix(path string, operator bool) (net.Listener, error) {
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode()&os.ModeSocket == 0 {
			return nil, errors.New("there is a file of that name that is no socket")
		}
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, syscall.EADDRINUSE
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	mode := os.FileMode(0o666)
	if operator {
		mode = 0o600
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// plain leaves of an error what an operator needs: the system's own word.
func plain(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
