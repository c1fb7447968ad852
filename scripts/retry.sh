#!/usr/bin/env bash
# Runs a command up to three times: for downloads, whose failures are mostly passing ones.
for pause in 2 8 0; do
  "$@" && exit 0
  status=$?
  [ "$pause" -gt 0 ] && { echo "failed (exit $status), again in ${pause}s: $1" >&2; sleep "$pause"; }
done
exit "$status"
