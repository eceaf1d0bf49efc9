package control

import "github.com/muster-mqtt/muster/group"

// list writes the entries of a message, also of an empty list that is wanted.
func (w *writer) list(list []Entry, wanted bool) {
	if !wanted && len(list) == 0 {
		return
	}
	w.key(keyList)
	w.array(len(list))
	for i := range list {
		w.comma(i)
		w.entry(&list[i])
	}
	w.endArray()
}

func (w *writer) entry(e *Entry) {
	spans, start := w.open()
	w.uint(keyN, uint64(e.N))
	w.ulid(keyID, e.G)
	w.text(keyName, e.Name)
	w.text(keyDevice, string(e.Device))
	w.text(keyUser, e.User)
	w.bool(keyOnline, e.Online)
	w.state(e.State)
	w.text(keyRole, e.Role)
	w.text(keyPolicy, e.Policy)
	w.text(keyVisible, e.Visible)
	w.bool(keyPINInTopic, e.PINInTopic)
	w.bool(keyMembersTo, e.MembersTo)
	w.bool(keyMembersEvents, e.MembersEvents)
	if e.Members != nil {
		w.key(keyMembers)
		w.rawUint(uint64(max(*e.Members, 0)))
	}
	w.bool(keyFindable, e.Findable)
	if len(e.Groups) > 0 {
		w.key(keyGroups)
		w.array(len(e.Groups))
		for i, n := range e.Groups {
			w.comma(i)
			w.rawUint(uint64(n))
		}
		w.endArray()
	}
	if len(e.Topics) > 0 {
		w.texts(keyTopics, e.Topics)
	}
	w.bool(keyDisabled, e.Disabled)
	w.uint(keyEpoch, uint64(e.Epoch))
	w.qos(e.QoS)
	w.bool(keyRecv, e.Recv)
	if len(e.Filter) > 0 {
		w.texts(keyFilter, e.Filter)
	}
	w.uint(keySince, uint64(e.Since))
	w.int(keyAt, e.At)
	if len(e.Aliases) > 0 {
		w.texts(keyAliases, e.Aliases)
	}
	w.close(spans, start)
}

// readList reads the entries of a message.
func readList(v value, to *[]Entry) bool {
	var all []Entry
	ok := v.items(func(v value) bool {
		var e Entry
		ok := v.fields(e.set)
		all = append(all, e)
		return ok
	})
	*to = all
	return ok
}

func (e *Entry) set(k key, v value) bool {
	switch k {
	case keyN:
		return readInt(v, &e.N)
	case keyID:
		return readULID(v, &e.G)
	case keyName:
		return readText(v, &e.Name)
	case keyState:
		return readState(v, &e.State)
	case keySince:
		return readInt(v, &e.Since)
	case keyAt:
		return readInt(v, &e.At)
	case keyRole:
		return readText(v, &e.Role)
	case keyDevice:
		return readText(v, &e.Device)
	case keyUser:
		return readText(v, &e.User)
	case keyOnline:
		return readBoolPtr(v, &e.Online)
	case keyPolicy:
		return readText(v, &e.Policy)
	case keyVisible:
		return readText(v, &e.Visible)
	case keyPINInTopic:
		return readBoolPtr(v, &e.PINInTopic)
	case keyMembersTo:
		return readBoolPtr(v, &e.MembersTo)
	case keyMembersEvents:
		return readBoolPtr(v, &e.MembersEvents)
	case keyMembers:
		return readIntPtr(v, &e.Members)
	case keyFindable:
		return readBoolPtr(v, &e.Findable)
	case keyGroups:
		return v.items(func(v value) bool {
			var n group.Number
			ok := readInt(v, &n)
			e.Groups = append(e.Groups, n)
			return ok
		})
	case keyEpoch:
		return readInt(v, &e.Epoch)
	case keyFilter:
		return readTexts(v, &e.Filter)
	case keyRecv:
		return readBoolPtr(v, &e.Recv)
	case keyQoS:
		return readIntPtr(v, &e.QoS)
	case keyTopics:
		return readTexts(v, &e.Topics)
	case keyDisabled:
		return readBoolPtr(v, &e.Disabled)
	case keyAliases:
		return readTexts(v, &e.Aliases)
	}
	return true
}
