package broker

import "time"

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

// pace waits until the connection may publish again: meanwhile nothing is read, so
// that the peer's bytes wait with the peer. It returns a goodbye if the connection
// is to end.
func (c *conn) pace() *goodbye {
	rate := c.s.limits.PublishRate
	if rate <= 0 {
		return nil
	}
	wait := c.bucket.take(rate, time.Now())
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.halt:
	}
	return c.ending.Load()
}
