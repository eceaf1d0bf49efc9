package main

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func operations(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// docs/operations.md has each key of the configuration, in order, with its
// default, variable and flag.
func TestOperationsHasEachKey(t *testing.T) {
	var c config
	keys := c.keys()
	row := regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\| `([^`]*)` \\| `([A-Z0-9_]+)` \\| (?:`(--[a-z]+)`)? ?\\| (.*)\\|$")
	rows := row.FindAllStringSubmatch(operations(t), -1)
	if len(rows) != len(keys) {
		t.Fatalf("%d keys in docs/operations.md, %d in the code", len(rows), len(keys))
	}
	for i, k := range keys {
		flag := ""
		if k.flag != "" {
			flag = "--" + k.flag
		}
		r := rows[i]
		if r[1] != k.name || r[3] != k.env() || r[4] != flag {
			t.Errorf("%s, %s, %q, want %s, %s, %q", r[1], r[3], r[4], k.name, k.env(), flag)
		}
		def := r[2]
		if def == `""` {
			def = ""
		}
		if err := k.value.set([]string{def}); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
	}
	if want := defaults(); !reflect.DeepEqual(c, want) {
		t.Errorf("docs/operations.md gives\n%+v\nthe defaults are\n%+v", c, want)
	}
}

// docs/operations.md shows each command at least once, and none that is not
// there, each with flags that it has.
func TestOperationsShowsEachCommand(t *testing.T) {
	shown := map[string]bool{}
	for _, line := range strings.Split(operations(t), "\n") {
		line = strings.TrimPrefix(line, "$ ")
		if !strings.HasPrefix(line, "muster ") || strings.HasPrefix(line, "muster: ") {
			continue
		}
		checkExample(t, line)
		words := shellWords(line)
		if cmd, _, err := (&cli{env: lookup(nil)}).root().Traverse(words[1:]); err == nil {
			shown[cmd.CommandPath()] = true
		}
	}
	each(t, func(t *testing.T, cmd *cobra.Command) {
		text := operations(t)
		if !cmd.HasSubCommands() && !shown[cmd.CommandPath()] && !strings.Contains(text, "`"+cmd.CommandPath()) {
			t.Errorf("docs/operations.md does not show %q", cmd.CommandPath())
		}
	})
}
