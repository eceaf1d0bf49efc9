package group_test

import (
	"errors"
	"fmt"

	"github.com/muster-mqtt/muster/group"
)

// A State with two groups, of which the device is in the first.
func example() *group.State {
	s := group.NewState(group.Limits{})
	s.LoadGroup(group.Group{Number: 1, Name: "north", PolicyRev: 1}, 1)
	s.LoadGroup(group.Group{Number: 2, Name: "south", PolicyRev: 1}, 2)
	s.LoadDevice(group.Device{ClientID: "pump-7", Epoch: 5, Groups: []group.Membership{{Number: 1}}}, 3)
	s.Loaded(3)
	return s
}

// A switch leaves one group and joins the other in one change.
func ExampleState_Decide_switch() {
	s := example()
	c, err := s.Decide(group.Switch("pump-7", 1, 2), group.Verdict{PolicyRev: 1}, noon)
	fmt.Println(c.Lost(), c.Gained(), err)
	// Output: [1] [2] <nil>
}

// A decision is staged, recorded and settled; then it can be read.
func ExampleState_Settle() {
	s := example()
	c, _ := s.Decide(group.Leave("pump-7", 1), group.Verdict{}, noon)
	s.Stage(c)
	fmt.Println(s.Count(1)) // it may still fail to be recorded
	s.Settle(c, 4)
	fmt.Println(s.Count(1))
	// Output:
	// 1
	// 0
}

// A refusal says who was refused what, and its Code is what the device is told.
func ExampleError() {
	_, err := example().Decide(group.Leave("pump-7", 2), group.Verdict{}, noon)
	fmt.Println(err)
	fmt.Println(errors.Is(err, group.NotMember))
	// Output:
	// leave group 2, client "pump-7": not_member
	// true
}
