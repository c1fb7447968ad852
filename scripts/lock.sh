#!/usr/bin/env bash
# Pins every dependency with its hashes. No address of any package index gets into the lock files.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  .venv/bin/pip-compile --quiet --generate-hashes --allow-unsafe --no-header \
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links "$@"
}
compile --strip-extras --output-file requirements/runtime.lock pyproject.toml
# The build backend, for building the wheel; the image does not contain it.
compile --strip-extras --output-file requirements/build.lock requirements/build.in
# Not from its pyproject.toml, because keyferry itself is on no index.
compile --strip-extras --output-file requirements/devvault.lock requirements/devvault.in
compile --strip-extras --output-file requirements/dev.lock requirements/dev.in
compile --strip-extras --output-file requirements/openbao.lock requirements/openbao.in
compile --strip-extras --output-file requirements/docs.lock requirements/docs.in
compile --strip-extras --output-file requirements/tools.lock requirements/tools.in
compile --strip-extras --output-file requirements/plugin.lock requirements/plugin.in
# The lowest accepted versions, for `make test-lowest`. pip installs them only if the lock keeps the extras.
lowest=$(mktemp --suffix .in)
trap 'rm -f "$lowest"' EXIT
.venv/bin/python scripts/lowest.py >"$lowest"
compile --no-strip-extras --no-annotate --output-file requirements/lowest.lock "$lowest" requirements/test-lowest.in
