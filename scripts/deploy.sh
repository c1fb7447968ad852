#!/usr/bin/env bash
# Render charts/keyferry to the plain manifests in deploy for installations without Helm, or in the folder given as argument, and copy its CRDs.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/deploy}
helm=$("$root/scripts/tools.sh" helm)

render() { # FLAG...
  "$helm" template keyferry "$root/charts/keyferry" --namespace kube-system --kube-version 1.34.0 --skip-tests "$@" |
    sed -e '/^# Source: /d' -e '/app.kubernetes.io\/managed-by: Helm/d' -e '/helm.sh\/chart: /d'
}

{
  echo "# Generated from charts/keyferry by scripts/deploy.sh. The CRDs are in the directory crds."
  render
} >"$folder/keyferry.yaml"
{
  echo "# Generated from charts/keyferry by scripts/deploy.sh: only the SecretSync controller. The CRDs are in the directory crds."
  echo "# The controller may sync Secrets in the namespace default. For another one, repeat the Role and the RoleBinding keyferry-sync with it, and"
  echo "# add it to --namespaces, separated by a comma."
  render --set driver.enabled=false --set secretSync.enabled=true --set 'secretSync.namespaces={default}' --set secretSync.crd=skip
} >"$folder/keyferry-sync.yaml"
mkdir -p "$folder/crds"
cp "$root"/charts/keyferry/crds/*.yaml "$root"/charts/keyferry/files/crds/*.yaml "$folder/crds"
