package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// statement is the number of a statement of docs/protocol.md: part, section,
// and place in the section.
var statement = regexp.MustCompile(`\[GRP-[0-9]+(?:\.[0-9]+)*-[0-9]+\]`)

// loose finds what looks like a number without being one, so that a slip of
// the pen does not hide a statement.
var loose = regexp.MustCompile(`(?i)\bGRP-[0-9][0-9.-]*[0-9]`)

// Each statement of docs/protocol.md is proved by a test that carries its
// number, stands there once as the statement itself, and each number in the
// code is one of a statement.
func TestStatementsAreProved(t *testing.T) {
	b, err := os.ReadFile("protocol.md")
	if err != nil {
		t.Fatalf("the control protocol is not described: %v", err)
	}
	stated := map[string]int{} // line
	for i, l := range strings.Split(string(b), "\n") {
		for _, n := range statement.FindAllString(l, -1) {
			if stated[n] == 0 {
				stated[n] = i + 1
			}
		}
		for _, n := range loose.FindAllString(l, -1) {
			if !statement.MatchString("["+n+"]") || !strings.Contains(l, "["+n+"]") {
				t.Errorf("docs/protocol.md:%d: %s is not written as a number of a statement", i+1, n)
			}
		}
	}
	if len(stated) == 0 {
		t.Fatal("docs/protocol.md has no numbered statement")
	}
	proved := map[string]bool{}
	for path, content := range files(t, ".go", ".txtar") {
		if filepath.ToSlash(path) == "docs/protocol_test.go" {
			continue
		}
		for _, at := range loose.FindAllStringIndex(content, -1) {
			n := "[" + content[at[0]:at[1]] + "]"
			if stated[n] == 0 {
				t.Errorf("%s:%d: %s is not in docs/protocol.md", path, line(content, at[0]), n)
			}
			if strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".txtar") {
				proved[n] = true
			}
		}
	}
	var open []string
	for n := range stated {
		if !proved[n] {
			open = append(open, n)
		}
	}
	slices.SortFunc(open, func(a, b string) int { return stated[a] - stated[b] })
	for _, n := range open {
		t.Errorf("docs/protocol.md:%d: no test carries %s", stated[n], n)
	}
}
