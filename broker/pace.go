package broker

import (
	"time"

	"github.com/muster-mqtt/muster/broker/wire"
)

// A bucket holds what a connection may publish at once: as much as in one second.
type bucket struct {
	filled time.Time // when it was last looked at; zero: it is full
	tokens float64
}

// take takes one token at rate tokens a second, and returns how long it takes until
// that one is there.
func (b *bucket) take(rate int, now time.Time) time.Duration {
	most := float64(rate)
	if b.filled.IsZero() {
		b.tokens = most
	} else if gone := now.Sub(b.filled); gone > 0 {
		b.tokens = min(most, b.tokens+gone.Seconds()*most)
	}
	b.filled = now
	b.tokens--
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / most * float64(time.Second))
}

// pace returns the pause that is due before a packet may be taken, or nil. While a
// PUBLISH has to wait nothing is read, so that the peer's bytes wait with the peer.
// The packet is shown again when the pause is over, and has paid for itself then.
func (c *conn) pace(frame []byte) *pause {
	rate := c.s.limits.PublishRate
	if rate <= 0 || c.state != stateUp || wire.FrameType(frame) != wire.PUBLISH {
		return nil
	}
	if c.paid {
		c.paid = false
		return nil
	}
	wait := c.bucket.take(rate, time.Now())
	if wait <= 0 {
		return nil
	}
	c.paid = true
	var timer *time.Timer
	p := c.newPause(func() *goodbye {
		timer.Stop()
		return nil
	})
	p.halting = true
	timer = time.AfterFunc(wait, p.end)
	return p
}
