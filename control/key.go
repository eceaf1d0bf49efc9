package control

// A key is a key of a request, answer, notice or event: its number in CBOR
// (docs/protocol.md, 5.6). Key 0 is every key that is not in the table.
type key uint8

const (
	keyID key = iota + 1
	keyG
	keyTo
	keyCode
	keySecret
	keyEpoch
	keyExp
	keyTTL
	keyGrant
	keyState
	keyN
	keyRev
	keyFilter
	keyRecv
	keyQoS
	keyFrom
	keyDevice
	keyName
	keyPolicy
	keyList
	keyUser
	keyRetry
	keyWhy
	keyKind
	keyPrev
	keyAt
	keyBy
	keyRole
	keySince
	keyOnline
	keyNext
	keySeq
	keyBoot
	keyPart
	keyLast
	keyOp
	keyFor
	keyPIN
	keyDropped
	keyLimit
	keyVisible
	keyPINInTopic
	keyMembersTo
	keyMembersEvents
	keyFindable
	keyGroups
	keyMembers
	keyAliases
	keyTopic
	keyCount
	keyTopics
	keyDisabled
	keys // how many there are, with key 0
)

// A shape is what the values of a key look like.
type shape uint8

const (
	anything shape = iota
	number
	text
	truth // true or false
	refs  // a number or text
	octets
	idents // text, in CBOR also bytes
	states // text, in CBOR a number
	list
)

// keyTable gives each key its name in JSON and its shape.
var keyTable = [keys]struct {
	name  string
	shape shape
}{
	keyID:            {"id", idents},
	keyG:             {"g", refs},
	keyTo:            {"to", refs},
	keyCode:          {"code", number},
	keySecret:        {"secret", text},
	keyEpoch:         {"epoch", number},
	keyExp:           {"exp", number},
	keyTTL:           {"ttl", number},
	keyGrant:         {"grant", octets},
	keyState:         {"state", states},
	keyN:             {"n", number},
	keyRev:           {"rev", number},
	keyFilter:        {"filter", list},
	keyRecv:          {"recv", truth},
	keyQoS:           {"qos", number},
	keyFrom:          {"from", refs},
	keyDevice:        {"device", text},
	keyName:          {"name", text},
	keyPolicy:        {"policy", text},
	keyList:          {"list", list},
	keyUser:          {"user", text},
	keyRetry:         {"retry", number},
	keyWhy:           {"why", text},
	keyKind:          {"kind", text},
	keyPrev:          {"prev", number},
	keyAt:            {"at", number},
	keyBy:            {"by", text},
	keyRole:          {"role", text},
	keySince:         {"since", number},
	keyOnline:        {"online", truth},
	keyNext:          {"next", text},
	keySeq:           {"seq", number},
	keyBoot:          {"boot", text},
	keyPart:          {"part", number},
	keyLast:          {"last", truth},
	keyOp:            {"op", text},
	keyFor:           {"for", anything},
	keyPIN:           {"pin", text},
	keyDropped:       {"dropped", number},
	keyLimit:         {"limit", number},
	keyVisible:       {"visible", text},
	keyPINInTopic:    {"pin_in_topic", truth},
	keyMembersTo:     {"members_to", truth},
	keyMembersEvents: {"members_events", truth},
	keyFindable:      {"findable", truth},
	keyGroups:        {"groups", list},
	keyMembers:       {"members", number},
	keyAliases:       {"aliases", list},
	keyTopic:         {"topic", text},
	keyCount:         {"count", number},
	keyTopics:        {"topics", list},
	keyDisabled:      {"disabled", truth},
}

// keyNamed returns the key with the given name in JSON, or 0.
func keyNamed(name string) key {
	for k := key(1); k < keys; k++ {
		if keyTable[k].name == name {
			return k
		}
	}
	return 0
}

// stateNames are the words of key "state", by their number in CBOR.
var stateNames = [...]string{"out", "member", "pending", "invited", "banned"}
