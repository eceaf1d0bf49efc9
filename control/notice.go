package control

// EncodeNotice writes a notice in JSON, the form in which notices are sent.
func EncodeNotice(n Notice) []byte {
	w := newWriter(JSON)
	spans, start := w.open()
	w.key(keyCode)
	w.rawUint(uint64(n.Code))
	w.text(keyKind, n.Kind)
	w.text(keyTopic, n.Topic)
	w.int(keyCount, int64(n.Count))
	w.uint(keyFrom, uint64(n.From))
	w.uint(keyTo, uint64(n.To))
	w.uint(keyEpoch, uint64(n.Epoch))
	w.text(keyBy, n.By)
	w.text(keyWhy, n.Why)
	w.int(keyDropped, int64(n.Dropped))
	w.list(n.List, n.HasList)
	w.close(spans, start)
	return w.buf
}

// DecodeNotice reads a notice. Unknown keys are ignored. After an error the
// Notice is zero.
func DecodeNotice(b []byte) (Notice, error) {
	var n Notice
	code := false
	err := decode(b, func(k key, v value) bool {
		code = code || k == keyCode
		return n.set(k, v)
	})
	if err != nil || !code {
		return Notice{}, errMessage
	}
	return n, nil
}

func (n *Notice) set(k key, v value) bool {
	switch k {
	case keyCode:
		return readInt(v, &n.Code)
	case keyKind:
		return readText(v, &n.Kind)
	case keyTopic:
		return readText(v, &n.Topic)
	case keyCount:
		return readInt(v, &n.Count)
	case keyFrom:
		return readInt(v, &n.From)
	case keyTo:
		return readInt(v, &n.To)
	case keyEpoch:
		return readInt(v, &n.Epoch)
	case keyBy:
		return readText(v, &n.By)
	case keyWhy:
		return readText(v, &n.Why)
	case keyDropped:
		return readInt(v, &n.Dropped)
	case keyList:
		n.HasList = true
		return readList(v, &n.List)
	}
	return true
}

// snapshot is the kind of an event that holds the roster.
const snapshot = "snapshot"

// EncodeEvent writes a roster event in JSON, the form in which events are sent.
// A snapshot has its list also if it is empty.
func EncodeEvent(e Event) []byte {
	w := newWriter(JSON)
	spans, start := w.open()
	w.text(keyKind, e.Kind)
	w.uint(keySeq, e.Seq)
	w.uint(keyPrev, e.Prev)
	w.text(keyBoot, e.Boot)
	w.uint(keyRev, uint64(e.Rev))
	w.text(keyDevice, string(e.Device))
	w.state(e.State)
	w.text(keyUser, e.User)
	w.text(keyBy, e.By)
	w.int(keyAt, e.At)
	w.int(keyPart, int64(e.Part))
	if e.Last {
		w.bool(keyLast, &e.Last)
	}
	w.list(e.List, e.Kind == snapshot)
	w.close(spans, start)
	return w.buf
}

// DecodeEvent reads a roster event. Unknown keys are ignored. After an error the
// Event is zero.
func DecodeEvent(b []byte) (Event, error) {
	var e Event
	if err := decode(b, e.set); err != nil || e.Kind == "" {
		return Event{}, errMessage
	}
	return e, nil
}

func (e *Event) set(k key, v value) bool {
	switch k {
	case keyKind:
		return readText(v, &e.Kind)
	case keySeq:
		return readInt(v, &e.Seq)
	case keyPrev:
		return readInt(v, &e.Prev)
	case keyBoot:
		return readText(v, &e.Boot)
	case keyRev:
		return readInt(v, &e.Rev)
	case keyDevice:
		return readText(v, &e.Device)
	case keyState:
		return readState(v, &e.State)
	case keyUser:
		return readText(v, &e.User)
	case keyBy:
		return readText(v, &e.By)
	case keyAt:
		return readInt(v, &e.At)
	case keyPart:
		return readInt(v, &e.Part)
	case keyLast:
		return readBool(v, &e.Last)
	case keyList:
		return readList(v, &e.List)
	}
	return true
}
