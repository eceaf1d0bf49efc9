//go:build crash

package crash

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// The chosen place, and how often it is to be passed; 0 times: none.
var (
	place, times = chosen(os.Getenv("MUSTER_CRASH_POINT"))
	passed       atomic.Int64
)

func chosen(at string) (place string, times int64) {
	place, n, _ := strings.Cut(at, ":")
	times, err := strconv.ParseInt(n, 10, 64)
	if at != "" && (err != nil || times < 1) {
		panic("MUSTER_CRASH_POINT: want NAME:N")
	}
	return place, times
}

// hold is how long the process lives on at the chosen place: an answer that did
// not wait for what comes next has time to get out, and is found false.
const hold = 20 * time.Millisecond

// Point kills the process if it is the chosen place.
func Point(name string) {
	if times > 0 && name == place && passed.Add(1) == times {
		time.Sleep(hold)
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
