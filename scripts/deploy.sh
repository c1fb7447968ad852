#!/usr/bin/env bash
# Render charts/keyferry to deploy/keyferry.yaml for installations without Helm, or to the path given as argument, and copy its CRDs.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
helm=$("$root/scripts/tools.sh" helm)
{
  echo "# Generated from charts/keyferry by scripts/deploy.sh. The CRDs are in the directory crds."
  "$helm" template keyferry "$root/charts/keyferry" --namespace kube-system --kube-version 1.34.0 --skip-tests |
    sed -e '/^# Source: /d' -e '/app.kubernetes.io\/managed-by: Helm/d' -e '/helm.sh\/chart: /d'
} >"${1:-$root/deploy/keyferry.yaml}"
[ $# -gt 0 ] || cp "$root"/charts/keyferry/crds/*.yaml "$root/deploy/crds"
