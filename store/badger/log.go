package badger

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// A logger hands on what Badger logs. Its errors are warnings here: what they
// mean for a write, the write's own error says.
type logger struct{ log *slog.Logger }

func (l logger) Errorf(format string, args ...any)   { l.print(slog.LevelWarn, format, args) }
func (l logger) Warningf(format string, args ...any) { l.print(slog.LevelWarn, format, args) }
func (l logger) Infof(format string, args ...any)    { l.print(slog.LevelDebug, format, args) }

// Debugf drops what it is given: some of it is said with every commit.
func (logger) Debugf(string, ...any) {}

func (l logger) print(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "badger: "+strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}
