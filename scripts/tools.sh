#!/usr/bin/env bash
# Builds a Go program once, into a cache, and prints its path: the CSI conformance suite, a published upstream program that
# tests/compat and bench compare with Keyferry, the test program go-reader, Helm, krew, or a linter. promtool is that of Debian.
# This repository contains no source of upstream.
# Usage: scripts/tools.sh csi-sanity | upstream-driver | upstream-azure | go-reader | helm | krew | validate-krew-manifest | actionlint | promtool
set -euo pipefail
. "$(dirname "$0")/cache.sh"
ACTIONLINT=v1.7.12
CSI_SANITY=v5.6.0
HELM=v3.19.5
KREW=v0.4.3
UPSTREAM_DRIVER=v1.6.0
UPSTREAM_AZURE=v1.8.2

go_install() { # PROGRAM PACKAGE VERSION
  cd "$building"
  CGO_ENABLED=0 GOBIN="$building/bin" GOFLAGS=-buildvcs=false "$scripts/retry.sh" go install -ldflags "-s -w" "$2@$3"
}

# From the module's own folder, so that its own go.sum holds what it consists of.
go_build_module() { # PROGRAM MODULE VERSION FOLDER
  local published
  published=$("$scripts/retry.sh" go mod download -json "$2@$3" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  cp -r "$published" "$building/source"
  chmod -R u+w "$building/source"
  cd "$building/source"
  go mod edit -replace "monis.app/mlog=$scripts/../tests/compat/mlog"
  CGO_ENABLED=0 GOFLAGS=-mod=mod GOWORK=off \
    "$scripts/retry.sh" go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$building/bin/$1" "./$4"
}

go_build_local() { # PROGRAM FOLDER
  cd "$2"
  CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off \
    "$scripts/retry.sh" go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$building/bin/$1" .
}

# Without its package, which would install and start a server.
debian_program() { # PROGRAM PACKAGE
  cd "$building"
  ( # apt-get of two scripts would get in each other's way.
    flock 8
    apt-get download --quiet=2 "$2" || { "$scripts/retry.sh" apt-get update --quiet=2 && "$scripts/retry.sh" apt-get download --quiet=2 "$2"; }
  ) 8>"$cache/packages.lock"
  dpkg-deb --extract "$2"_*.deb source
  cp "source/usr/bin/$1" bin
}

program=${1:-}
case "$program" in
  actionlint) version=$ACTIONLINT build=(go_install "$program" github.com/rhysd/actionlint/cmd/actionlint "$ACTIONLINT") ;;
  helm) version=$HELM build=(go_install "$program" helm.sh/helm/v3/cmd/helm "$HELM") ;;
  krew | validate-krew-manifest) version=$KREW build=(go_install "$program" "sigs.k8s.io/krew/cmd/$program" "$KREW") ;;
  csi-sanity) version=$CSI_SANITY build=(go_install "$program" github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity "$CSI_SANITY") ;;
  upstream-driver)
    version=$UPSTREAM_DRIVER
    build=(go_build_module "$program" sigs.k8s.io/secrets-store-csi-driver "$version" cmd/secrets-store-csi-driver)
    ;;
  upstream-azure)
    version=$UPSTREAM_AZURE
    build=(go_build_module "$program" github.com/Azure/secrets-store-csi-driver-provider-azure "$version" cmd)
    ;;
  go-reader)
    source="$scripts/../tests/e2e/vault/go_reader"
    version=$(cat "$source"/go.mod "$source"/go.sum "$source"/main.go | sha256sum | cut -c1-12)
    build=(go_build_local "$program" "$source")
    ;;
  promtool) version=debian build=(debian_program "$program" prometheus) ;;
  *) echo "Usage: scripts/tools.sh csi-sanity | upstream-driver | upstream-azure | go-reader | helm | krew | validate-krew-manifest | actionlint | promtool" >&2; exit 2 ;;
esac

folder="$cache/$program-$version"
hold_cache tools
if [ ! -d "$folder" ]; then
  [ "${build[0]}" = debian_program ] || need_go "$program"
  echo "Building $program $version ..." >&2
  mkdir "$building/bin"
  ("${build[@]}") >&2
  finish "$folder"
fi
echo "$folder/$program"
