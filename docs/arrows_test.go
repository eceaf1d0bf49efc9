package docs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"io"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/muster-mqtt/muster"

// arrows holds, for each package, the packages of this module that it may
// import outside its tests. What is not here may not be; add a package where it
// stands in the order.
var arrows = map[string][]string{
	"group":                    {},
	"broker/wire":              {},
	"internal/crash":           {},
	"configs":                  {},
	"docs":                     {},
	"control":                  {"group"},
	"authz":                    {"group"},
	"store":                    {"group"},
	"store/storetest":          {"group", "store"},
	"store/badger":             {"group", "store", "internal/crash"},
	"broker/fanout":            {"group", "broker/wire"},
	"broker/topics":            {"broker/wire"},
	"broker/listen":            {},
	"broker/poll":              {},
	"broker/listen/listentest": {},
	"ledger":                   {"group", "control", "authz", "store", "internal/crash"},
	"broker":                   {"group", "control", "authz", "store", "ledger", "broker/wire", "broker/fanout", "broker/topics", "broker/listen", "broker/poll"},
	"device":                   {"group", "control"},
	"cmd/muster":               {"group", "control", "authz", "store", "store/badger", "ledger", "broker", "broker/listen", "device", "configs"},
}

// libraries holds, for each outside library, the packages that may import it
// outside their tests: as a rule, one.
var libraries = map[string][]string{
	"github.com/mochi-mqtt/server/v2":     {"broker", "broker/topics"},
	"github.com/dgraph-io/badger/v4":      {"store/badger"},
	"github.com/eclipse/paho.mqtt.golang": {"device"},
	"github.com/fxamacker/cbor/v2":        {"control", "authz", "store"},
	"github.com/spf13/cobra":              {"cmd/muster"},
	"github.com/spf13/pflag":              {"cmd/muster"},
	"go.yaml.in/yaml/v3":                  {"cmd/muster"},
	"golang.org/x/crypto":                 {"authz"},
	"golang.org/x/text":                   {"control"},
	"golang.org/x/sys":                    {"broker/listen", "broker/poll", "cmd/muster", "store/badger"},
	"github.com/gorilla/websocket":        {"broker/listen", "device"},
}

// A listed is one package, as go list prints it.
type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

// list returns what go list says of the packages that match the arguments.
func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Imports,Standard"}, args...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// within reports whether the import path is of the module or below it.
func within(importPath, module string) bool {
	return importPath == module || strings.HasPrefix(importPath, module+"/")
}

// Imports point one way, and each outside library is known to one package.
func TestImportArrows(t *testing.T) {
	for _, tags := range []string{"", "crash"} {
		for _, p := range list(t, "-tags="+tags, "./...") {
			name := strings.TrimPrefix(p.ImportPath, module+"/")
			may, ok := arrows[name]
			if !ok {
				t.Errorf("package %s has no place in the order of imports: give it one in docs/arrows_test.go", name)
				continue
			}
			for _, i := range p.Imports {
				first, _, _ := strings.Cut(i, "/")
				switch {
				case within(i, module):
					if other := strings.TrimPrefix(i, module+"/"); !slices.Contains(may, other) {
						t.Errorf("package %s imports %s, and may import %q", name, other, may)
					}
				case strings.Contains(first, "."):
					checkLibrary(t, name, i)
				}
			}
		}
	}
}

func checkLibrary(t *testing.T, name, importPath string) {
	t.Helper()
	for library, users := range libraries {
		if within(importPath, library) {
			if !slices.Contains(users, name) {
				t.Errorf("package %s imports %s, which is known to %q alone", name, importPath, users)
			}
			return
		}
	}
	t.Errorf("package %s imports %s, which has no place in docs/arrows_test.go: name it there, and give the reason in docs/decisions", name, importPath)
}

// The order of imports has no circle, so that "points one way" means something.
func TestArrowsPointOneWay(t *testing.T) {
	done := map[string]bool{}
	var visit func(name string, above []string)
	visit = func(name string, above []string) {
		if slices.Contains(above, name) {
			t.Fatalf("a circle: %q", append(above, name))
		}
		if done[name] {
			return
		}
		done[name] = true
		below, ok := arrows[name]
		if !ok {
			t.Errorf("%s is allowed to %q and has no place of its own", name, above)
		}
		for _, b := range below {
			visit(b, append(above, name))
		}
	}
	for name := range arrows {
		visit(name, nil)
	}
}

// The packages that decide and that read bytes depend on the standard library
// alone: nothing outside gets in by way of another package. Package group does
// no I/O either.
func TestPurePackages(t *testing.T) {
	for _, name := range []string{"group", "broker/wire"} {
		for _, p := range list(t, "-deps", "./"+name) {
			if !p.Standard && p.ImportPath != module+"/"+name {
				t.Errorf("package %s depends on %s, and maybe on more", name, p.ImportPath)
				break
			}
		}
	}
	for _, p := range list(t, "./group") {
		for _, i := range p.Imports {
			if first, _, _ := strings.Cut(i, "/"); slices.Contains([]string{"bufio", "context", "io", "log", "net", "os", "sync", "syscall"}, first) {
				t.Errorf("package group imports %s: it does no I/O, and is used by one goroutine at a time", i)
			}
		}
	}
}

// Types of outside libraries do not appear in what a package exports, so that
// each can be replaced where it is known.
func TestExportedAPIHasNoOutsideTypes(t *testing.T) {
	for file, content := range files(t, ".go") {
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, "cmd/") {
			continue
		}
		f := parse(t, file, content)
		outside := map[string]string{} // name in this file -> import path
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			for library := range libraries {
				if within(p, library) {
					outside[nameOf(i, p)] = p
				}
			}
		}
		if len(outside) == 0 {
			continue
		}
		for _, d := range f.Decls {
			for what, n := range exported(d) {
				ast.Inspect(n, func(n ast.Node) bool {
					if sel, ok := n.(*ast.SelectorExpr); ok {
						if id, ok := sel.X.(*ast.Ident); ok && outside[id.Name] != "" {
							t.Errorf("%s: exported %s shows %s.%s of %s", file, what, id.Name, sel.Sel.Name, outside[id.Name])
						}
					}
					return true
				})
			}
		}
	}
}

// nameOf returns the name by which a file knows the package that it imports.
func nameOf(i *ast.ImportSpec, importPath string) string {
	if i.Name != nil {
		return i.Name.Name
	}
	switch importPath {
	case "github.com/mochi-mqtt/server/v2", "github.com/eclipse/paho.mqtt.golang":
		return "mqtt"
	}
	if base := path.Base(importPath); !strings.HasPrefix(base, "v") {
		return base
	}
	return path.Base(path.Dir(importPath)) // cbor/v2
}

// exported returns the types that a declaration shows to other packages, by the
// name under which it does.
func exported(d ast.Decl) map[string]ast.Node {
	shown := map[string]ast.Node{}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || receiverExported(d.Recv)) {
			shown[d.Name.Name] = d.Type
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					typeShows(s.Name.Name, s.Type, shown)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() && s.Type != nil {
						shown[n.Name] = s.Type
					}
				}
			}
		}
	}
	return shown
}

// typeShows adds what the exported type of the given name shows.
func typeShows(name string, typ ast.Expr, shown map[string]ast.Node) {
	st, ok := typ.(*ast.StructType)
	if !ok {
		shown[name] = typ
		return
	}
	for _, field := range st.Fields.List {
		if len(field.Names) == 0 {
			shown[name+", embedding"] = field.Type
		}
		for _, n := range field.Names {
			if n.IsExported() {
				shown[name+"."+n.Name] = field.Type
			}
		}
	}
}

func receiverExported(recv *ast.FieldList) bool {
	typ := recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.Ident:
			return t.IsExported()
		default:
			return false
		}
	}
}
