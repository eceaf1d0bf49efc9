package authz

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

func canceled(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

// The line takes what it has room for, in order, each class in turn, and has all
// its room again in the end.
func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(2)
		for range 2 {
			if err := l.enter(t.Context(), forLogin); err != nil {
				t.Fatal(err)
			}
		}
		var went []class
		turn := make(chan class)
		for _, c := range []class{forLogin, forLogin, forLogin, forJudging, forSetting, forSetting} {
			go func() {
				if err := l.enter(t.Context(), c); err != nil {
					t.Error(err)
				}
				turn <- c
			}()
			synctest.Wait()
		}
		for range 6 {
			l.leave()
			went = append(went, <-turn)
		}
		want := []class{forJudging, forLogin, forSetting, forLogin, forSetting, forLogin}
		if !slices.Equal(went, want) {
			t.Errorf("went %v, want %v", went, want)
		}
		l.leave()
		l.leave()
		if l.free != 2 {
			t.Errorf("%d are free of 2", l.free)
		}
	})
}

// A line that is full refuses at once, and the others do not feel it.
func TestLineIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(1)
		if err := l.enter(t.Context(), forLogin); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := canceled(t)
		errs := make(chan error, maxWaiting)
		for range maxWaiting {
			go func() { errs <- l.enter(ctx, forLogin) }()
		}
		synctest.Wait()
		if err := l.enter(t.Context(), forLogin); !errors.Is(err, errLine) {
			t.Errorf("one more in the line: %v", err)
		}
		operator := make(chan error)
		go func() { operator <- l.enter(t.Context(), forSetting) }()
		synctest.Wait()
		l.leave()
		if err := <-errs; err != nil {
			t.Errorf("the first in the line: %v", err)
		}
		l.leave()
		if err := <-operator; err != nil {
			t.Errorf("an operator beside the long line: %v", err)
		}
		cancel()
		for range maxWaiting - 1 {
			if err := <-errs; !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up got %v", err)
			}
		}
		l.leave()
		if l.free != 1 || len(l.waiting[forLogin]) != 0 {
			t.Errorf("%d are free of 1, %d wait", l.free, len(l.waiting[forLogin]))
		}
	})
}

// Turns that come at the very moment their waiters give up are not lost.
func TestLineLosesNoTurn(t *testing.T) {
	l := newLine(1)
	for range 500 {
		if err := l.enter(t.Context(), forJudging); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := canceled(t)
		got := make(chan error, 2)
		for range 2 {
			go func() { got <- l.enter(ctx, forJudging) }()
		}
		go cancel()
		l.leave()
		for range 2 {
			if err := <-got; err == nil {
				l.leave()
			}
		}
		if l.free != 1 {
			t.Fatalf("%d are free of 1", l.free)
		}
	}
}
