package broker

import "github.com/muster-mqtt/muster/broker/wire"

// topic returns the Topic Name of a PUBLISH: its own, or the one that its Topic
// Alias stands for on this connection (MQTT 5.0, 3.3.2.3.4). All that is decided
// of the message is decided of this name.
func (c *conn) topic(p *wire.Publish) (string, error) {
	if p.Alias == 0 {
		return string(p.Topic), nil
	}
	n := int(p.Alias)
	switch {
	case n > c.s.limits.TopicAliases:
		return "", &wire.Error{Reason: wire.TopicAliasInvalid, Rule: "the Topic Alias is above the Topic Alias Maximum (3.3.2.3.4)"}
	case len(p.Topic) > 0:
		if n > len(c.aliases) {
			c.aliases = append(c.aliases, make([]string, n-len(c.aliases))...)
		}
		c.aliases[n-1] = string(p.Topic)
	case n > len(c.aliases) || c.aliases[n-1] == "":
		return "", &wire.Error{Reason: wire.ProtocolError, Rule: "the Topic Alias stands for no Topic Name (3.3.4)"}
	}
	return c.aliases[n-1], nil
}
