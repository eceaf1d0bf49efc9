package docs_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// claim is a row of a table of statements in docs/conformance.md.
var claim = regexp.MustCompile(`^\| ([0-9]+\.[0-9]+\.[0-9]+-[0-9]+) \| ([^|]+) \| ([^|]+) \|$`)

// Each statement of MQTT in docs/conformance.md stands there once for its version,
// with a test that exists or a reason why it does not apply, and each test that
// the page names exists.
func TestConformanceIsProved(t *testing.T) {
	b, err := os.ReadFile("conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	decl := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(t \*testing\.T\)`)
	for _, content := range files(t, "_test.go") {
		for _, m := range decl.FindAllStringSubmatch(content, -1) {
			tests[m[1]] = true
		}
	}
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	section, seen, count := "", map[string]bool{}, map[string]int{}
	for i, l := range strings.Split(string(b), "\n") {
		if s, ok := strings.CutPrefix(l, "## "); ok {
			section = s
		}
		for _, m := range named.FindAllStringSubmatch(l, -1) {
			if !tests[m[1]] {
				t.Errorf("docs/conformance.md:%d: there is no %s", i+1, m[1])
			}
		}
		m := claim.FindStringSubmatch(l)
		switch {
		case m == nil:
			if strings.HasPrefix(section, "MQTT ") && strings.HasPrefix(l, "| ") && !strings.HasPrefix(l, "| statement ") {
				t.Errorf("docs/conformance.md:%d: this is no row of the table", i+1)
			}
			continue
		case seen[section+m[1]]:
			t.Errorf("docs/conformance.md:%d: %s stands there twice", i+1, m[1])
		case !named.MatchString(m[3]) && !strings.HasPrefix(m[3], "n/a: "):
			t.Errorf("docs/conformance.md:%d: %s has neither test nor reason", i+1, m[1])
		}
		seen[section+m[1]] = true
		count[section]++
	}
	for _, version := range []string{"MQTT 3.1.1", "MQTT 5.0"} {
		if count[version] < 100 {
			t.Errorf("%d statements of %s", count[version], version)
		}
	}
}
