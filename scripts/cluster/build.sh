#!/usr/bin/env bash
# Gets everything that the cluster of the end-to-end tests consists of, once, and prints the folders of its programs:
# Kubernetes and Helm are built with Go into a cache, the rest are Debian packages.
# Usage: scripts/cluster/build.sh
set -euo pipefail
PACKAGES=(etcd-server containerd runc busybox-static containernetworking-plugins iptables conntrack socat)

. "$(dirname "$0")/../cache.sh"
module="$scripts/../tests/e2e/cluster/tools"
kubernetes=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' "$module/go.mod")

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
    "$scripts/retry.sh" go mod download
    go build -trimpath -buildvcs=false -ldflags "-s -w $stamps" -o "$building/bin/" tool
  ) >&2
  finish "$1"
}

hold_cache cluster
install_packages "${PACKAGES[@]}"
[ -d "$cache/kubernetes-$kubernetes" ] || build_kubernetes "$cache/kubernetes-$kubernetes"
helm=$("$scripts/tools.sh" helm)
echo "$cache/kubernetes-$kubernetes"
dirname "$helm"
