#!/usr/bin/env bash
# Pins every dependency with its hashes. No address of any package index gets into the lock files.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  .venv/bin/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-header \
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links "$@"
}
compile --output-file requirements/runtime.lock pyproject.toml requirements/build.in
# Not from its pyproject.toml, because keyferry itself is on no index.
compile --output-file requirements/devvault.lock requirements/devvault.in
compile --output-file requirements/dev.lock requirements/dev.in
compile --output-file requirements/openbao.lock requirements/openbao.in
compile --output-file requirements/docs.lock requirements/docs.in
