package broker

// SetLoud has the Server withhold no line from the log.
func (c *Config) SetLoud() { c.loud = true }
