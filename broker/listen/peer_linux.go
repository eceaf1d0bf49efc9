package listen

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// trusted reports whether the peer of a unix socket is the server's own user or
// root.
func trusted(nc net.Conn) bool {
	uc, ok := nc.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return false
	}
	return cred.Uid == 0 || cred.Uid == uint32(os.Getuid())
}
