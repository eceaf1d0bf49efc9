package broker

import "time"

// SetPatience makes the Server wait for a slow device for another time than a
// second before it answers an operator.
func (c *Config) SetPatience(d time.Duration) { c.patience = d }
