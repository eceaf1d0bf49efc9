package ledger_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/muster-mqtt/muster/control"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/ledger"
	"github.com/muster-mqtt/muster/store"
	"github.com/muster-mqtt/muster/store/badger"
)

// BenchmarkChanges measures changes that are recorded with one sync or a share
// of one: devices switch between two groups, and each waits for its answer
// before it asks again. known devices stand by as members of one of the groups.
func BenchmarkChanges(b *testing.B) {
	for _, devices := range []int{1, 64} {
		for _, known := range []int{0, 100_000} {
			b.Run(fmt.Sprintf("devices=%d/known=%d", devices, known), func(b *testing.B) { changes(b, devices, known) })
		}
	}
}

func changes(b *testing.B, devices, known int) {
	s, err := badger.Open(b.TempDir(), badger.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	var wg sync.WaitGroup
	wg.Add(known)
	for i := range known {
		d := group.Device{ClientID: group.ClientID(fmt.Sprintf("known-%06d", i)), Account: "local", Epoch: 1}
		d.Groups = []group.Membership{{Number: 1, QoS: 1, Recv: true, By: "local"}}
		s.Submit(store.Write{Key: store.DeviceKey(d.ClientID), Value: store.EncodeDevice(d)}, func(_ group.Rev, err error) {
			if err != nil {
				b.Error(err)
			}
			wg.Done()
		})
	}
	wg.Wait()
	for i, name := range []string{"north", "south", "vault"} {
		g := group.Group{Number: group.Number(i + 1), ID: group.ID{15: byte(i)}, Name: name, Visible: group.VisibleAll, PolicyRev: 1}
		wg.Add(1)
		s.Submit(store.Write{Key: store.GroupKey(g.Number), Value: store.EncodeGroup(g)}, func(group.Rev, error) { wg.Done() })
	}
	wg.Wait()
	h := &house{t: b, engine: s, now: noon, config: quietConfig()}
	h.open()
	b.Cleanup(h.close)
	if n := len(h.Roster(1)); n != known {
		b.Fatalf("%d members", n)
	}
	who := make([]ledger.Asker, devices)
	for i := range who {
		who[i] = ledger.Asker{Client: group.ClientID(fmt.Sprint("pump-", i)), Account: "local"}
		h.want(h.ask(who[i], join(1)), group.OK)
	}
	b.ResetTimer()
	for i := range who {
		wg.Go(func() {
			for n := range b.N/devices + 1 {
				r := change(1, 2)
				if n%2 == 1 {
					r = change(2, 1)
				}
				done := make(chan group.Code, 1)
				h.Do(who[i], []control.Request{r}, noon, ledger.ReplyFunc(func(as []control.Answer) { done <- as[0].Code }))
				if code := <-done; code != group.OK {
					b.Errorf("answered %v", code)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(devices*(b.N/devices+1))/b.Elapsed().Seconds(), "changes/s")
}
