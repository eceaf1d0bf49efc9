package broker_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-mqtt/muster/broker"
	"github.com/muster-mqtt/muster/broker/wire"
	"github.com/muster-mqtt/muster/group"
	"github.com/muster-mqtt/muster/store"
	"github.com/muster-mqtt/muster/store/badger"
)

// benchServer starts a Server on a store on disk that knows a number of devices,
// all of them in group 1. It returns the address for MQTT, and how long it took to
// read the records.
func benchServer(b *testing.B, known int) (addr string, open time.Duration) {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := badger.Open(filepath.Join(b.TempDir(), "data"), badger.Options{Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	seed(b, st, known)
	began := time.Now()
	srv, err := broker.Open(context.Background(), broker.Config{
		Store: st, Logger: log, Listen: []string{"127.0.0.1:0"}, Anonymous: true, Limits: broker.Limits{ChangesPerMinute: -1, MembersPerGroup: 1 << 20},
	})
	if err != nil {
		b.Fatal(err)
	}
	open = time.Since(began)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		<-done
	})
	return strings.TrimPrefix(srv.Addrs()[0], "mqtt://"), open
}

// seed writes two open groups and the known devices.
func seed(b *testing.B, st store.Store, known int) {
	b.Helper()
	var wg sync.WaitGroup
	put := func(k store.Key, v []byte) {
		wg.Add(1)
		st.Submit(store.Write{Key: k, Value: v}, func(_ group.Rev, err error) {
			if err != nil {
				b.Error(err)
			}
			wg.Done()
		})
	}
	for n := group.Number(1); n <= 2; n++ {
		put(store.GroupKey(n), store.EncodeGroup(group.Group{
			Number: n, ID: group.NewID(time.Now(), [10]byte{byte(n)}), Name: fmt.Sprintf("g%d", n), Visible: group.VisibleAll, PolicyRev: 1,
		}))
	}
	for i := range known {
		d := group.Device{
			ClientID: group.ClientID(fmt.Sprintf("known-%06d", i)), Account: fmt.Sprintf("site-%d", i/1000), Epoch: 1,
			Groups: []group.Membership{{Number: 1, QoS: 1, Recv: true, By: group.Anonymous}},
		}
		put(store.DeviceKey(d.ClientID), store.EncodeDevice(d))
	}
	wg.Wait()
}

// A benchClient does as little as a client can.
type benchClient struct {
	nc net.Conn
	r  *bufio.Reader
}

func dialBench(b *testing.B, addr, id string) *benchClient {
	b.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { nc.Close() })
	c := &benchClient{nc: nc, r: bufio.NewReader(nc)}
	connect := append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, byte(len(id))}, id...)
	nc.Write(connect)
	c.frame(b)
	return c
}

// frame reads one packet.
func (c *benchClient) frame(b *testing.B) []byte {
	first, err := c.r.ReadByte()
	if err != nil {
		b.Error(err)
		return nil
	}
	n, shift := 0, 0
	for {
		l, err := c.r.ReadByte()
		if err != nil {
			b.Error(err)
			return nil
		}
		n |= int(l&0x7f) << shift
		if shift += 7; l < 0x80 {
			break
		}
	}
	body := make([]byte, n+1)
	body[0] = first
	if _, err := io.ReadFull(c.r, body[1:]); err != nil {
		b.Error(err)
	}
	return body
}

// ask makes a request with a bare word and waits for its answer.
func (c *benchClient) ask(b *testing.B, op, word string) {
	c.nc.Write(wire.AppendPublish(nil, 4, "$G/"+op, []byte(word), nil))
	if f := c.frame(b); !strings.Contains(string(f), `"code":0`) {
		b.Errorf("%s %s: %q", op, word, f)
	}
}

// BenchmarkChanges is the rate of durable membership changes over MQTT, each
// device waiting for its answer, with a sync of the disk before each answer, and
// how long a bare sync of the disk takes meanwhile.
func BenchmarkChanges(b *testing.B) {
	for _, known := range []int{0, 100_000} {
		for _, devices := range []int{1, 64} {
			b.Run(fmt.Sprintf("known=%d/devices=%d", known, devices), func(b *testing.B) {
				addr, open := benchServer(b, known)
				clients := make([]*benchClient, devices)
				for i := range clients {
					clients[i] = dialBench(b, addr, fmt.Sprintf("bench-%d", i))
					clients[i].ask(b, "join", "1")
				}
				b.ResetTimer()
				var wg sync.WaitGroup
				for i, c := range clients {
					n := b.N / devices
					if i < b.N%devices {
						n++
					}
					wg.Go(func() {
						for k := range n {
							from, to := 1+k%2, 2-k%2
							c.ask(b, "switch", fmt.Sprintf("%d %d", from, to))
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
				b.ReportMetric(open.Seconds()*1e3, "ms-to-open")
				b.ReportMetric(bareSync(b).Seconds()*1e6, "us/sync")
			})
		}
	}
}

// bareSync returns how long it takes to append 100 bytes to a file and sync it.
func bareSync(b *testing.B) time.Duration {
	f, err := os.Create(filepath.Join(b.TempDir(), "sync"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const n = 200
	began := time.Now()
	for range n {
		f.Write(make([]byte, 100))
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began) / n
}

// BenchmarkConnect is a plain CONNECT and SUBSCRIBE of a device that has been there
// before, with its answers, and the end of the connection: client and server
// together.
func BenchmarkConnect(b *testing.B) {
	addr, _ := benchServer(b, 0)
	subscribe := append([]byte{0x82, 8, 0, 1, 0, 3}, "g/#\x00"...)
	once := func(id string) {
		c := dialBench(b, addr, id)
		c.nc.Write(subscribe)
		c.frame(b)
		c.nc.Close()
	}
	for i := range 64 {
		once(fmt.Sprint("bench-", i))
	}
	b.ResetTimer()
	for i := range b.N {
		once(fmt.Sprint("bench-", i%64))
	}
}
