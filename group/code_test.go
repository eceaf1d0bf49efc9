package group_test

import (
	"errors"
	"io"
	"testing"

	"github.com/muster-mqtt/muster/group"
)

func TestCodes(t *testing.T) {
	all := group.Codes()
	for i, c := range all {
		if i > 0 && c <= all[i-1] {
			t.Errorf("%d stands after %d", c, all[i-1])
		}
		if back, ok := group.ParseCode(c.Error()); !ok || back != c {
			t.Errorf("%d is named %q, which is %d", c, c.Error(), back)
		}
		if c.Text() == "" || c.String() != c.Error() {
			t.Errorf("%d has the texts %q and %q", c, c.Text(), c.String())
		}
		if c.Success() != (c < 10) {
			t.Errorf("%d: success is %v", c, c.Success())
		}
		if want := c == 62 || c >= 80 && c < 90; c.Retryable() != want {
			t.Errorf("%d: retryable is %v", c, c.Retryable())
		}
	}
	if c := group.Code(7); c.Error() != "internal" || c.Text() != group.Internal.Text() {
		t.Errorf("a code that is not there is called %q", c.Error())
	}
	if c, ok := group.ParseCode("nonsense"); ok {
		t.Errorf("nonsense is code %d", c)
	}
}

func TestErrorPrints(t *testing.T) {
	tests := []struct {
		err  group.Error
		want string
	}{
		{group.Error{Op: "switch", Client: "pump-7", Group: 99, Code: group.NotAuthorized, Err: io.EOF}, `switch group 99, client "pump-7": not_authorized: EOF`},
		{group.Error{Op: "account", Code: group.NameTaken}, "account: name_taken"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
		if !errors.Is(&tt.err, tt.err.Code) || tt.err.Err != nil && !errors.Is(&tt.err, tt.err.Err) {
			t.Errorf("%v is not what it is made of", &tt.err)
		}
	}
}
