package broker

import "time"

// SetClock gives the Server another clock for requests.
func (c *Config) SetClock(now func() time.Time) { c.now = now }

// SetTimers has the Server's timers made by f in place of time.AfterFunc.
func (c *Config) SetTimers(f func(time.Duration, func()) *time.Timer) { c.afterFunc = f }
