#!/usr/bin/env bash
# Gets everything that the cluster of the end-to-end tests consists of, once, and prints the folders of its programs:
# Kubernetes and Helm are built with Go into a cache, the rest are Debian packages.
# Usage: scripts/cluster/build.sh
set -euo pipefail
HELM=v3.19.5
PACKAGES=(etcd-server containerd runc busybox-static containernetworking-plugins iptables conntrack socat)

root=$(cd "$(dirname "$0")/../.." && pwd)
module="$root/tests/e2e/cluster/tools"
cache=${KEYFERRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keyferry}
kubernetes=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' "$module/go.mod")

mkdir -p "$cache"
exec 9>"$cache/cluster.lock"
flock 9 # Two builds at the same time would only slow each other down.
building=$(mktemp -d "$cache/building.XXXXXX")
trap 'rm -rf "$building"' EXIT

need_go() {
  command -v go >/dev/null || {
    echo "Building $1 needs Go, which is not on the PATH. Install Go 1.24 or newer (https://go.dev/dl)." >&2
    exit 1
  }
}

# The folder appears whole or not at all, so that no interrupted build is taken for a finished one.
finish() { # FOLDER
  mv "$building/bin" "$1"
}

build_kubernetes() { # FOLDER
  local name=k8s.io/component-base/version minor=${kubernetes#v1.}
  need_go "Kubernetes $kubernetes"
  echo "Building Kubernetes $kubernetes; this takes minutes, and is done once ..." >&2
  mkdir "$building/bin"
  # Without these the programs call themselves v0.0.0 and refuse to work with each other's versions.
  local stamps="-X $name.gitVersion=$kubernetes -X $name.gitMajor=1 -X $name.gitMinor=${minor%%.*}"
  (
    cd "$module"
    export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off
    "$root/scripts/retry.sh" go mod download
    go build -trimpath -buildvcs=false -ldflags "-s -w $stamps" -o "$building/bin/" tool
  ) >&2
  finish "$1"
}

build_helm() { # FOLDER
  need_go "Helm $HELM"
  echo "Building Helm $HELM ..." >&2
  mkdir "$building/bin"
  (
    cd "$building"
    export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOBIN="$building/bin"
    "$root/scripts/retry.sh" go install -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@$HELM"
  ) >&2
  finish "$1"
}

install_packages() {
  local missing=() package
  for package in "${PACKAGES[@]}"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  echo "Installing ${missing[*]} ..." >&2
  export DEBIAN_FRONTEND=noninteractive
  "$root/scripts/retry.sh" apt-get update --quiet=2 >&2
  "$root/scripts/retry.sh" apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}" >&2
}

install_packages
[ -d "$cache/kubernetes-$kubernetes" ] || build_kubernetes "$cache/kubernetes-$kubernetes"
[ -d "$cache/helm-$HELM" ] || build_helm "$cache/helm-$HELM"
echo "$cache/kubernetes-$kubernetes"
echo "$cache/helm-$HELM"
