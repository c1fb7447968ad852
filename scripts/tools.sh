#!/usr/bin/env bash
# Builds a Go tool of the end-to-end tests, once, into a cache, and prints the path of its program.
# Usage: scripts/tools.sh csi-sanity
set -euo pipefail
CSI_SANITY=v5.6.0

scripts=$(cd "$(dirname "$0")" && pwd)
cache=${KEYFERRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keyferry}

go_tool() { # NAME VERSION PACKAGE
  local folder="$cache/$1-$2"
  if [ ! -x "$folder/$1" ]; then
    command -v go >/dev/null || {
      echo "Building $1 needs Go, which is not on the PATH. Install Go 1.25 or newer (https://go.dev/dl)." >&2
      exit 1
    }
    mkdir -p "$cache"
    # A build that is interrupted leaves nothing that the next run would take for a tool.
    building=$(mktemp -d "$cache/building.XXXXXX")
    trap 'rm -rf "$building"' EXIT
    (cd "$building" && GOBIN="$building" GOFLAGS= "$scripts/retry.sh" go install "$3@$2") >&2
    mkdir -p "$folder"
    mv "$building/$1" "$folder/$1"
  fi
  echo "$folder/$1"
}

case "${1:-}" in
  csi-sanity) go_tool csi-sanity "$CSI_SANITY" github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity ;;
  *) echo "Usage: scripts/tools.sh csi-sanity" >&2; exit 2 ;;
esac
