# Read by the scripts that get components of the end-to-end tests: into a cache, once, or from Debian. Needs `set -euo pipefail`.
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${KEYFERRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keyferry}

# Makes the folder $building, for this script alone: two builds at the same time would only slow each other down.
hold_cache() { # LOCK
  mkdir -p "$cache"
  exec 9>"$cache/$1.lock"
  flock 9
  building=$(mktemp -d "$cache/building.XXXXXX")
  trap 'rm -rf "$building"' EXIT
}

# What was built appears whole or not at all, so that no interrupted build is taken for a finished one.
finish() { # FOLDER
  mv "$building/bin" "$1"
}

need_go() { # WHAT
  command -v go >/dev/null || {
    echo "Building $1 needs Go, which is not on the PATH. Install Go 1.25 or newer (https://go.dev/dl)." >&2
    exit 1
  }
}

install_packages() { # PACKAGE...
  local missing=() package
  for package; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  echo "Installing ${missing[*]} ..." >&2
  export DEBIAN_FRONTEND=noninteractive
  ( # Two of these scripts may run at the same time, but apt-get refuses to.
    flock 8
    "$scripts/retry.sh" apt-get update --quiet=2 >&2
    "$scripts/retry.sh" apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}" >&2
  ) 8>"$cache/packages.lock"
}
