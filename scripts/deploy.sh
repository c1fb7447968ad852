#!/usr/bin/env bash
# Renders charts/keyferry into deploy/keyferry.yaml, for whoever installs without Helm. With a path: writes there instead.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
helm=$("$root/scripts/cluster/build.sh" | tail -n 1)/helm
{
  echo "# Made from charts/keyferry by scripts/deploy.sh. The CRDs stand beside it, in crds."
  "$helm" template keyferry "$root/charts/keyferry" --namespace kube-system --kube-version 1.34.0 |
    sed -e '/^# Source: /d' -e '/app.kubernetes.io\/managed-by: Helm/d' -e '/helm.sh\/chart: /d'
} >"${1:-$root/deploy/keyferry.yaml}"
