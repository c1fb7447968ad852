#!/usr/bin/env bash
# Runs the unit tests on each Python after 3.11 that can be had, each in an environment of its own, .venv-VERSION, and ends with a line for each.
# An interpreter comes from the PATH, from pyenv or uv, or from Debian's packages: of trixie for 3.13, of forky for 3.14 (on Debian; kept in the cache).
# Fails if a test fails, or if no Python after 3.11 was found. Usage: scripts/test_pythons.sh [ARGUMENT OF PYTEST...]
set -euo pipefail
. "$(dirname "$0")/cache.sh"
cd "$scripts/.."
tools=$PWD/.venv-tools/bin
versions=(3.12 3.13 3.14)
declare -A debian=([3.13]=trixie [3.14]=forky)

works() { # PATH VERSION
  [ -x "$1" ] && [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$2" ]
}

find_python() { # VERSION: prints its path
  local each
  for each in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python \
    "${XDG_DATA_HOME:-$HOME/.local/share}"/uv/python/cpython-"$1".*/bin/python3; do
    works "$each" "$1" && { echo "$each"; return; }
  done
  [ -z "${debian[$1]:-}" ] || get_python "$1" "${debian[$1]}"
}

get_python() { # VERSION SUITE: unpacks the packages of another release of Debian, and prints the path of the interpreter
  local folder=$cache/python-$1 loader archive mirror root
  local python=$folder/usr/bin/python$1
  works "$python" "$1" && { echo "$python"; return; }
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep --max-count=1 '/debian/$') || return 0
  echo "Getting Python $1 of Debian $2 ..." >&2
  hold_cache python
  root=$building
  mkdir -p "$root/state/lists/partial" "$root/archives/partial" "$root/files"
  : >"$root/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $2 main" >"$root/sources.list"
  local apt=(apt-get --quiet=2 -o Dir::Etc::sourcelist="$root/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State="$root/state"
    -o Dir::State::status="$root/status" -o Dir::Cache="$root" -o Debug::NoLocking=1 -o APT::Install-Recommends=false -o APT::Sandbox::User=)
  { "$scripts/retry.sh" "${apt[@]}" update && "$scripts/retry.sh" "${apt[@]}" --yes --download-only install "python$1"; } >&2 ||
    { echo "Python $1 is not among the packages of Debian $2." >&2; return 0; }
  for archive in "$root"/archives/*.deb; do dpkg-deb --extract "$archive" "$root/files"; done
  rm -rf "$folder"
  mv "$root/files" "$folder"
  loader=$(echo "$folder"/usr/lib/*/ld-linux-*.so.*)
  # Its own loader and libraries, because those of this machine are older.
  "$tools/patchelf" --set-interpreter "$loader" --force-rpath --set-rpath "$(dirname "$loader")" "$python"
  works "$python" "$1" && echo "$python"
}

test_on() { # VERSION PATH ARGUMENT...
  local environment=.venv-$1 python=$2
  shift 2
  "$tools/uv" venv --quiet --clear --python "$python" "$environment"
  local install=("$scripts/retry.sh" "$tools/uv" pip install --quiet --python "$environment")
  "${install[@]}" --require-hashes -r requirements/runtime.lock -r requirements/devvault.lock -r requirements/build.lock -r requirements/dev.lock
  "${install[@]}" --no-deps --no-build-isolation --editable . --editable src/keyferry_devvault
  "$environment/bin/python" -m pytest tests/unit --numprocesses=auto --dist=worksteal "$@"
}

summary="" found=0 failed=0
for version in "${versions[@]}"; do
  python=$(find_python "$version")
  if [ -z "$python" ]; then
    summary+="Python $version: not found"$'\n'
    continue
  fi
  found=$((found + 1))
  echo "--- Python $version: $python"
  if test_on "$version" "$python" "$@"; then
    summary+="Python $version: passed"$'\n'
  else
    failed=$((failed + 1))
    summary+="Python $version: FAILED"$'\n'
  fi
done
printf '%s' "$summary"
if [ "$found" -eq 0 ]; then
  echo "No Python after 3.11 was found. Install one, for example with pyenv or uv, and run this again." >&2
  exit 1
fi
[ "$failed" -eq 0 ]
