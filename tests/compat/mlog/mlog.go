// Package mlog replaces the library of that name, which the upstream driver uses for its log: not every module proxy has it.
// The log is klog's own text then; nothing else of the driver goes through it.
package mlog

import (
	"context"
	"flag"
	"os"

	"k8s.io/klog/v2"
)

// LogFormat is the form of the lines.
type LogFormat string

const (
	FormatJSON LogFormat = "json"
	FormatText LogFormat = "text"
)

// Setup returns what ends the log.
func Setup() func() { return klog.Flush }

// ValidateAndSetKlogLevelAndFormatGlobally sets the verbosity; the form stays text.
func ValidateAndSetKlogLevelAndFormatGlobally(_ context.Context, level klog.Level, _ LogFormat) error {
	return flag.Set("v", level.String())
}

// Error logs an error.
func Error(text string, err error, pairs ...any) { klog.ErrorS(err, text, pairs...) }

// Fatal logs an error and ends the process.
func Fatal(err error, pairs ...any) {
	klog.ErrorS(err, "fatal", pairs...)
	klog.Flush()
	os.Exit(1)
}
