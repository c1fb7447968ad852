#!/usr/bin/env bash
# Builds a Go program of the tests, once, into a cache, and prints its path: the conformance suite, or one of the Go originals that
# tests/compat and bench run beside us, as they are published. Nothing of the originals is kept here.
# Usage: scripts/tools.sh csi-sanity | driver-original | azure-original
set -euo pipefail
CSI_SANITY=v5.6.0
DRIVER_ORIGINAL=v1.6.0
AZURE_ORIGINAL=v1.8.2

scripts=$(cd "$(dirname "$0")" && pwd)
cache=${KEYFERRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keyferry}

# Prints the path of a program. Where it is missing, BUILD makes it in $building first; an interrupted build leaves nothing that the
# next run would take for a tool.
cached() { # NAME VERSION BUILD ARGUMENT...
  local name=$1 folder="$cache/$1-$2"
  if [ ! -x "$folder/$name" ]; then
    command -v go >/dev/null || {
      echo "Building $name needs Go, which is not on the PATH. Install Go 1.25 or newer (https://go.dev/dl)." >&2
      exit 1
    }
    echo "Building $name $2; this is done once ..." >&2
    mkdir -p "$cache"
    building=$(mktemp -d "$cache/building.XXXXXX")
    trap 'chmod -R u+w "$building"; rm -rf "$building"' EXIT
    (cd "$building" && "${@:3}") >&2
    mkdir -p "$folder"
    mv "$building/$name" "$folder/$name"
  fi
  echo "$folder/$name"
}

go_install() { # PACKAGE VERSION
  GOBIN="$building" GOFLAGS= "$scripts/retry.sh" go install "$1@$2"
}

# From the module's own folder, so that its own go.sum holds what it consists of.
go_build_module() { # NAME MODULE VERSION FOLDER
  local source
  source=$("$scripts/retry.sh" go mod download -json "$2@$3" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  cp -r "$source" source
  chmod -R u+w source
  cd source
  go mod edit -replace "monis.app/mlog=$scripts/../tests/compat/mlog"
  CGO_ENABLED=0 GOFLAGS=-mod=mod GOWORK=off \
    "$scripts/retry.sh" go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$building/$1" "./$4"
}

case "${1:-}" in
  csi-sanity) cached csi-sanity "$CSI_SANITY" go_install github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity "$CSI_SANITY" ;;
  driver-original)
    cached driver-original "$DRIVER_ORIGINAL" go_build_module driver-original sigs.k8s.io/secrets-store-csi-driver "$DRIVER_ORIGINAL" \
      cmd/secrets-store-csi-driver
    ;;
  azure-original)
    cached azure-original "$AZURE_ORIGINAL" go_build_module azure-original github.com/Azure/secrets-store-csi-driver-provider-azure \
      "$AZURE_ORIGINAL" cmd
    ;;
  *) echo "Usage: scripts/tools.sh csi-sanity | driver-original | azure-original" >&2; exit 2 ;;
esac
