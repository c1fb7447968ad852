#!/usr/bin/env bash
# The steps of .github/workflows/release.yaml that publish what was built: see docs/development/release.md.
# Usage: scripts/publish.sh check | image | chart | python | github
# image and chart log in to the registry as $REGISTRY_USER with $REGISTRY_PASSWORD, sign with the identity of the workflow,
# and write name and digest to $GITHUB_OUTPUT.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
repository=$(sed -n 's/^    repository: //p' charts/keyferry/values.yaml)
charts=${repository%/*}/charts
registry=${repository%%/*}

need() { # PROGRAM
  command -v "$1" >/dev/null || { echo "Publishing needs $1, which is not on the PATH." >&2; exit 1; }
}

# A tag that does not name the version would publish something else than it says.
check() {
  local chart
  chart=$(sed -n 's/^version: //p' charts/keyferry/Chart.yaml)
  for found in "${GITHUB_REF_NAME#v}" "$chart" "$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' src/keyferry/__init__.py)"; do
    [ "$found" = "$version" ] || { echo "The version is $version in pyproject.toml, but $found in the tag, the chart or the package." >&2; exit 1; }
  done
  grep -q "^## \[\?$version" CHANGELOG.md || { echo "CHANGELOG.md has no section for $version." >&2; exit 1; }
}

sign() { # NAME DIGEST
  cosign login "$registry" --username "$REGISTRY_USER" --password-stdin <<<"$REGISTRY_PASSWORD"
  cosign sign --yes --recursive "$1@$2"
  echo "published and signed $1@$2"
  [ -z "${GITHUB_OUTPUT:-}" ] || printf 'name=%s\ndigest=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"
}

image() {
  local digest
  need skopeo
  need cosign
  digest=$(mktemp)
  skopeo login "$registry" --username "$REGISTRY_USER" --password-stdin <<<"$REGISTRY_PASSWORD"
  scripts/retry.sh skopeo copy --all --preserve-digests --digestfile "$digest" \
    oci-archive:build/keyferry.oci.tar "docker://$repository:v$version"
  sign "$repository" "$(cat "$digest")"
}

chart() {
  local helm digest
  need cosign
  helm=$(scripts/tools.sh helm)
  "$helm" package charts/keyferry --destination build
  "$helm" registry login "$registry" --username "$REGISTRY_USER" --password-stdin <<<"$REGISTRY_PASSWORD"
  digest=$(scripts/retry.sh "$helm" push "build/keyferry-$version.tgz" "oci://$charts" 2>&1 | sed -n 's/^Digest: //p')
  sign "$charts/keyferry" "$digest"
}

# Trusted publishing: the index trusts the identity of the workflow, so there is no token.
python() {
  .venv-tools/bin/python -m pypi_attestations sign dist/*
  .venv-tools/bin/twine upload --non-interactive --attestations dist/*.whl dist/*.tar.gz dist/*.attestation
}

github() {
  need gh
  gh release create "v$version" --verify-tag --title "Keyferry $version" \
    --notes "See [CHANGELOG.md](CHANGELOG.md)." build/keyferry.oci.tar build/*.cdx.json dist/*.whl dist/*.tar.gz build/plugin/*
}

case "${1:-}" in
  check | image | chart | python | github) "$1" ;;
  *) echo "Usage: scripts/publish.sh check | image | chart | python | github" >&2; exit 2 ;;
esac
