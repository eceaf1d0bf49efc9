package docs_test

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// link finds [text](target), [text](target "title") and the target of a
// reference, [name]: target.
var link = regexp.MustCompile(`\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)|(?m:^\[[^\]]+\]:\s+(\S+))`)

// A link in a document leads to a file that is there, and to a heading that is
// in it.
func TestLinksLeadSomewhere(t *testing.T) {
	documents := files(t, ".md")
	if _, ok := documents["README.md"]; !ok {
		t.Error("README.md is missing")
	}
	for name, content := range documents {
		if strings.Contains("/"+name, "/testdata/") {
			continue
		}
		content = withoutCode(content)
		for _, m := range link.FindAllStringSubmatchIndex(content, -1) {
			at := m[2:4]
			if at[0] < 0 {
				at = m[4:6]
			}
			target := content[at[0]:at[1]]
			u, err := url.Parse(target)
			if err != nil {
				t.Errorf("%s:%d: %s: %v", name, line(content, at[0]), target, err)
				continue
			}
			if u.Scheme != "" || u.Host != "" {
				continue
			}
			to := name
			if u.Path != "" {
				to = path.Join(path.Dir(name), u.Path)
			}
			if to == ".." || strings.HasPrefix(to, "../") {
				t.Errorf("%s:%d: %s leads out of the project", name, line(content, at[0]), target)
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(to))); err != nil {
				t.Errorf("%s:%d: %s leads nowhere", name, line(content, at[0]), target)
				continue
			}
			if other, ok := documents[to]; ok && u.Fragment != "" && !anchors(other)[u.Fragment] {
				t.Errorf("%s:%d: %s has no heading #%s", name, line(content, at[0]), to, u.Fragment)
			}
		}
	}
}

// withoutCode returns a document with its code blocks and code spans blanked,
// every line where it was.
func withoutCode(s string) string {
	lines, fenced := strings.Split(s, "\n"), false
	for i, l := range lines {
		fence := strings.HasPrefix(strings.TrimSpace(l), "```")
		if fence {
			fenced = !fenced
		}
		if fence || fenced {
			lines[i] = ""
			continue
		}
		for {
			a, after, ok := strings.Cut(lines[i], "`")
			_, b, closed := strings.Cut(after, "`")
			if !ok || !closed {
				break
			}
			lines[i] = a + b
		}
	}
	return strings.Join(lines, "\n")
}

// anchors returns the fragments by which a document's headings are reached.
func anchors(s string) map[string]bool {
	found, fenced := map[string]bool{}, false
	for l := range strings.Lines(s) {
		if strings.HasPrefix(strings.TrimSpace(l), "```") {
			fenced = !fenced
		}
		text := strings.TrimLeft(l, "#")
		if fenced || text == l || !strings.HasPrefix(text, " ") {
			continue
		}
		var b strings.Builder
		for _, r := range strings.ToLower(strings.TrimSpace(text)) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				b.WriteRune(r)
			}
		}
		found[b.String()] = true
	}
	return found
}

// The decisions are numbered without a gap, have the same three parts, and stand
// in the list of docs/decisions/README.md.
func TestDecisionsAreListed(t *testing.T) {
	documents := files(t, ".md")
	index := documents["docs/decisions/README.md"]
	numbers := map[string]string{}
	for name, content := range documents {
		dir, file := path.Split(name)
		if dir != "docs/decisions/" || file == "README.md" {
			continue
		}
		number, _, ok := strings.Cut(file, "-")
		if !ok || len(number) != 4 {
			t.Errorf("%s: want a name such as 0001-what-it-is.md", name)
			continue
		}
		if other := numbers[number]; other != "" {
			t.Errorf("%s and %s have the same number", name, other)
		}
		numbers[number] = name
		for _, part := range []string{"## Context", "## Choice", "## Consequences"} {
			if !strings.Contains(content, "\n"+part+"\n") {
				t.Errorf("%s has no part %q", name, part)
			}
		}
		if !strings.Contains(index, "("+file+")") {
			t.Errorf("docs/decisions/README.md does not list %s", file)
		}
	}
	for i := range len(numbers) {
		if n := fmt.Sprintf("%04d", i+1); numbers[n] == "" {
			t.Errorf("docs/decisions has no number %s", n)
		}
	}
}
