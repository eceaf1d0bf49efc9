// Package docs_test keeps the documents and the code to what they say of each
// other: imports, numbered statements, links, tests.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the project's own directory.
const root = ".."

// files returns the content of the project's files with one of the given
// endings, by path from root with slashes.
func files(t *testing.T, endings ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || path == filepath.Join(root, "bin") || name == "muster-data") {
				return filepath.SkipDir
			}
			return nil
		}
		for _, e := range endings {
			if strings.HasSuffix(name, e) && d.Type().IsRegular() {
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				rel, err := filepath.Rel(root, path)
				if err != nil {
					return err
				}
				found[filepath.ToSlash(rel)] = string(b)
				break
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// line returns the number of the line in which offset lies.
func line(s string, offset int) int { return 1 + strings.Count(s[:offset], "\n") }

// parse returns the syntax tree of a Go file.
func parse(t *testing.T, path, content string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, content, parser.SkipObjectResolution|parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The code leaves nothing undone, and no test waits by the clock.
func TestCodeHasNothingForLater(t *testing.T) {
	rules := []struct {
		rule, in string
		re       *regexp.Regexp
	}{
		{"left for later: do it, or open an issue", ".go", regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)},
		{"a test sleeps: wait for the event, or use testing/synctest", "_test.go", regexp.MustCompile(`\btime\.Sl` + `eep\(`)},
	}
	for path, content := range files(t, ".go") {
		for _, r := range rules {
			if !strings.HasSuffix(path, r.in) {
				continue
			}
			for _, at := range r.re.FindAllStringIndex(content, -1) {
				t.Errorf("%s:%d: %s: %s", path, line(content, at[0]), content[at[0]:at[1]], r.rule)
			}
		}
	}
}

// Every fuzz target starts from something: an f.Add, in itself or in a function
// that it gives f to, or a file of testdata/fuzz.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	targets := 0
	for path, content := range files(t, "_test.go") {
		for _, d := range parse(t, path, content).Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") || fn.Type.Params.NumFields() != 1 {
				continue
			}
			targets++
			if seeded(fn) {
				continue
			}
			kept, err := os.ReadDir(filepath.Join(root, filepath.Dir(filepath.FromSlash(path)), "testdata", "fuzz", fn.Name.Name))
			if err != nil || len(kept) == 0 {
				t.Errorf("%s: %s has no seed: call f.Add, or keep an input in testdata/fuzz", path, fn.Name.Name)
			}
		}
	}
	if targets == 0 {
		t.Error("found no fuzz target at all")
	}
}

// seeded reports whether the fuzz target calls f.Add, or another function with
// f.
func seeded(fn *ast.FuncDecl) bool {
	if len(fn.Type.Params.List[0].Names) == 0 {
		return false
	}
	f, found := fn.Type.Params.List[0].Names[0].Name, false
	isF := func(e ast.Expr) bool {
		id, ok := e.(*ast.Ident)
		return ok && id.Name == f
	}
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && isF(sel.X) {
			found = found || sel.Sel.Name == "Add"
			return sel.Sel.Name != "Fuzz" // what is in there runs with each input
		}
		for _, a := range call.Args {
			found = found || isF(a)
		}
		return true
	})
	return found
}
