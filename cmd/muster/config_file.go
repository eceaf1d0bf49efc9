package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// file sets the keys found in b, the content of the file at path. Each key may
// stand there once; one that does not exist is an error, as is a value of the
// wrong kind.
func (l *loader) file(path string, b []byte) error {
	d := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil // an empty file sets nothing
	case err != nil:
		return fmt.Errorf("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: more than one YAML document", path)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: want keys and values, found %s", path, root.Line, kindOf(root))
	}
	return l.mapping(path, "", root)
}

// mapping sets the keys found in node, whose own key is prefix without its last
// dot.
func (l *loader) mapping(path, prefix string, node *yaml.Node) error {
	for i := 0; i+1 < len(node.Content); i += 2 {
		k, v := node.Content[i], node.Content[i+1]
		at := fmt.Sprintf("%s:%d", path, k.Line)
		if k.Kind != yaml.ScalarNode {
			return fmt.Errorf("%s: want a key, found %s", at, kindOf(k))
		}
		name := prefix + k.Value
		for j := 0; j < i; j += 2 {
			if node.Content[j].Value == k.Value {
				return fmt.Errorf("%s: key %q stands in line %d already", at, name, node.Content[j].Line)
			}
		}
		if err := l.entry(path, at, name, k.Value, v); err != nil {
			return err
		}
	}
	return nil
}

// entry sets the key called name, found at the given place as written.
func (l *loader) entry(path, at, name, written string, v *yaml.Node) error {
	switch k, section := l.find(name); {
	case strings.Contains(written, ".") && (k != nil || section):
		cut := strings.LastIndexByte(name, '.')
		return fmt.Errorf("%s: write %q as key %q below %q", at, name, name[cut+1:], name[:cut])
	case k != nil:
		if nested, ok := k.value.(*listeners); ok {
			if err := nested.node(v); err != nil {
				return fmt.Errorf("%s: %s: %w", at, name, err)
			}
			l.from[k.name] = at + ": " + name
			return nil
		}
		values, err := scalars(k.value, v)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", at, name, err)
		}
		return l.set(*k, at+": "+name, values)
	case section && v.Kind == yaml.MappingNode:
		return l.mapping(path, name+".", v)
	case section && v.Tag == "!!null":
		return nil // a section whose keys are all commented out
	case section:
		return fmt.Errorf("%s: %s: want keys and values, found %s", at, name, kindOf(v))
	}
	if near := l.near(name); near != "" {
		return fmt.Errorf("%s: unknown key %s (did you mean %q?)", at, quote(name), near)
	}
	return fmt.Errorf("%s: unknown key %s", at, quote(name))
}

// scalars returns the values that a node gives to v.
func scalars(v value, node *yaml.Node) ([]string, error) {
	list, isList := v.(several)
	switch {
	case isList && node.Kind == yaml.SequenceNode:
		values := make([]string, 0, len(node.Content))
		for _, n := range node.Content {
			if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
				return nil, fmt.Errorf("want a list of single values, found %s in it", kindOf(n))
			}
			values = append(values, n.Value)
		}
		return values, nil
	case isList:
		return nil, fmt.Errorf("want a list, as in [%q], found %s", list.example(), kindOf(node))
	case node.Kind != yaml.ScalarNode || node.Tag == "!!null":
		return nil, fmt.Errorf("want a single value, found %s", kindOf(node))
	}
	return []string{node.Value}, nil
}

// kindOf says what a node is, for an error.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return "none"
		}
	}
	return "a single value"
}

// find returns the key with the given name, or whether there are keys below it.
func (l *loader) find(name string) (k *key, section bool) {
	for i := range l.keys {
		if l.keys[i].name == name {
			return &l.keys[i], false
		}
		section = section || strings.HasPrefix(l.keys[i].name, name+".")
	}
	return nil, section
}

// near returns the key that somebody who wrote name may have meant, or "".
func (l *loader) near(name string) string {
	if len(name) > 64 {
		return ""
	}
	best, least := "", 3
	consider := func(candidate string, distance int) {
		if distance < least {
			best, least = candidate, distance
		}
	}
	for _, k := range l.keys {
		consider(k.name, edits(name, k.name))
		section, last, nested := strings.Cut(k.name, ".")
		if nested {
			consider(section, edits(name, section))
			if last == name[strings.LastIndexByte(name, '.')+1:] { // right key, wrong place
				consider(k.name, 1)
			}
		}
	}
	return best
}

// edits returns how many bytes must be put in, taken out, replaced or swapped
// with the next to make a of b.
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
		for j := 1; j <= len(b); j++ {
			if i == 0 {
				rows[i][j] = j
				continue
			}
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
