package broker

// SetLarge has loops take every group with members for a large one.
func (c *Config) SetLarge() { c.large = 1 }
