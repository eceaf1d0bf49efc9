package control

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonValid returns body without the white space around it, and whether it is
// one JSON value in UTF-8.
func jsonValid(body []byte) ([]byte, bool) {
	return bytes.Trim(body, jsonSpace), utf8.Valid(body) && json.Valid(body)
}

const jsonSpace = " \t\r\n"

// jsonNext cuts the first value from valid JSON that begins with one.
func jsonNext(b []byte) (raw, rest []byte) {
	depth := 0
	for i := 0; i < len(b); {
		switch b[i] {
		case '"':
			i = jsonStringEnd(b, i)
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\r', '\n':
			i++
			continue
		default:
			for i < len(b) && bytes.IndexByte([]byte(",:]} \t\r\n"), b[i]) < 0 {
				i++
			}
		}
		if depth == 0 {
			return b[:i], b[i:]
		}
	}
	return b, nil
}

// jsonStringEnd returns the index after the string that begins at i.
func jsonStringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// skipSpace returns b from its first byte that is neither white space nor the
// given separator.
func skipSpace(b []byte, separator byte) []byte {
	for i, c := range b {
		if c != separator && c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return b[i:]
		}
	}
	return nil
}

func jsonItems(raw []byte, f func(value) bool) bool {
	if raw[0] != '[' {
		return false
	}
	for b := skipSpace(raw[1:], ','); b[0] != ']'; b = skipSpace(b, ',') {
		var item []byte
		item, b = jsonNext(b)
		if !f(value{false, item}) {
			return false
		}
	}
	return true
}

func jsonFields(raw []byte, f func(k key, name string, v value) bool) bool {
	if raw[0] != '{' {
		return false
	}
	for b := skipSpace(raw[1:], ','); b[0] != '}'; b = skipSpace(b, ',') {
		var quoted, item []byte
		quoted, b = jsonNext(b)
		item, b = jsonNext(skipSpace(b, ':'))
		name, ok := jsonText(quoted)
		if !ok || !f(keyNamed(name), name, value{false, item}) {
			return false
		}
	}
	return true
}

// jsonText returns the text of a string. It is false if raw is none, or has half
// of a surrogate pair, which is no character.
func jsonText(raw []byte) (string, bool) {
	if raw[0] != '"' {
		return "", false
	}
	raw = raw[1 : len(raw)-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw), true
	}
	text := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			text = append(text, raw[i])
			continue
		}
		i++
		switch c := raw[i]; c {
		case 'u':
			r := rune4(raw[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				if len(raw) < i+7 || raw[i+1] != '\\' || raw[i+2] != 'u' {
					return "", false
				}
				if r = utf16.DecodeRune(r, rune4(raw[i+3:])); r == utf8.RuneError {
					return "", false
				}
				i += 6
			}
			text = utf8.AppendRune(text, r)
		case 'b':
			text = append(text, '\b')
		case 'f':
			text = append(text, '\f')
		case 'n':
			text = append(text, '\n')
		case 'r':
			text = append(text, '\r')
		case 't':
			text = append(text, '\t')
		default: // '"', '\\', '/'
			text = append(text, c)
		}
	}
	return string(text), true
}

// rune4 reads four hexadecimal digits.
func rune4(b []byte) rune {
	n, err := strconv.ParseUint(string(b[:4]), 16, 16)
	if err != nil {
		return utf8.RuneError
	}
	return rune(n)
}

// appendJSONText appends s, which must be UTF-8, as a string.
func appendJSONText[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	plain := 0 // s is appended up to here
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c != 0x7F {
			continue
		}
		dst = append(dst, s[plain:i]...)
		plain = i + 1
		if c == '"' || c == '\\' {
			dst = append(dst, '\\', c)
		} else {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[plain:]...)
	return append(dst, '"')
}
