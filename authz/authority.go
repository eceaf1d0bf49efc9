package authz

import (
	"cmp"
	"crypto/rand"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"
)

// The life of a grant.
const (
	DefaultTTL = 60 * time.Second
	MinTTL     = time.Second
	MaxTTL     = 24 * time.Hour
)

// Params is the cost of argon2id for what is hashed from now on. A field that
// is 0 or less has its default; one above its range, the range's end.
type Params struct {
	// Memory of one run in bytes, up to 1 GiB; by default 19 MiB. It is rounded
	// down to whole KiB, and is at least 8 KiB for each thread.
	Memory int
	// Time is the number of passes over the memory: 1 to 100, by default 2.
	Time int
	// Threads of one run: 1 to 64, by default 1.
	Threads int
	// Runs at once: 1 to 1024, by default 2. Others wait in line.
	Runs int
}

// The ends of the ranges of Params, also for hashes that are read.
const (
	maxMemory  = 1 << 30
	maxTime    = 100
	maxThreads = 64
	maxRuns    = 1024
)

func (p Params) complete() Params {
	or := func(n, otherwise, most int) int { return min(cmp.Or(max(n, 0), otherwise), most) }
	p.Time, p.Threads, p.Runs = or(p.Time, 2, maxTime), or(p.Threads, 1, maxThreads), or(p.Runs, 2, maxRuns)
	p.Memory = max(or(p.Memory, 19<<20, maxMemory)>>10, 8*p.Threads) << 10
	return p
}

// A Config is what an Authority goes by. A field that is zero has its default.
//
// Wrong PINs are counted for each device, for its account and for the network
// address it comes from: whoever has reached one of these limits is answered
// RateLimited, with the right PIN too, until the oldest of his failures is a
// window old. Once a group has had 1,000 wrong PINs in a window, those who have
// failed in it wait, but not an account that has passed once. What fails while
// nothing can be seen counts towards one such budget for all hidden groups, so
// that it does not tell which of them exist.
//
// A join without a PIN of a group that the asker can see is not a guess.
//
// Wrong passwords are counted for each address, and for each account from each
// address. A generated password cannot be guessed and always logs in.
//
// The counters are in memory and bounded. When there is no room the one with
// the fewest failures among some goes, so that to be forgotten costs many more
// failures than it frees.
type Config struct {
	Argon2 Params
	// PINGuesses is how many wrong PINs one device may give in a window: by
	// default 5. Ten times as many are allowed to one account, and as many wrong
	// passwords to one account from one address.
	PINGuesses int
	// PINGuessesAddress is how many wrong PINs, and how many wrong passwords, may
	// come from one address in a window: by default 100. IPv6 addresses count by
	// their /64.
	PINGuessesAddress int
	// PINWindow is how long a failure counts: by default 10 minutes.
	PINWindow time.Duration
	// Now reads the clock; by default time.Now.
	Now func() time.Time
}

// An Authority answers who may ask for what. Its methods may be called by
// several goroutines at once.
type Authority struct {
	params Params
	derive func(secret, salt []byte, passes, kib uint32, threads uint8, size uint32) []byte // argon2id
	dummy  string                                                                           // a hash that nothing matches
	line   *line
	known  *memory
	limits *limiter
	keys   atomic.Pointer[Keys]
}

// New returns an Authority without keys: until [Authority.SetKeys] it issues no
// grant and knows none.
func New(c Config) *Authority {
	c.PINGuesses = cmp.Or(max(c.PINGuesses, 0), 5)
	c.PINGuessesAddress = cmp.Or(max(c.PINGuessesAddress, 0), 100)
	c.PINWindow = cmp.Or(max(c.PINWindow, 0), 10*time.Minute)
	if c.Now == nil {
		c.Now = time.Now
	}
	p := c.Argon2.complete()
	var noise [saltSize + sumSize]byte
	rand.Read(noise[:])
	return &Authority{
		params: p,
		derive: argon2.IDKey,
		dummy:  phc{Params: p, salt: noise[:saltSize], sum: noise[saltSize:]}.String(),
		line:   newLine(p.Runs),
		known:  newMemory(),
		limits: newLimiter(c),
	}
}
