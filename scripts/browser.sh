#!/usr/bin/env bash
# Prints the path of what the tests of the status page need: Debian's Chromium, or axe-core, which checks pages for barriers. axe-core is taken
# from the npm registry into a cache, by version and hash; nothing of it is part of this repository.
# Usage: scripts/browser.sh chromium | axe
set -euo pipefail
. "$(dirname "$0")/cache.sh"
AXE=4.14.1
AXE_SHA512=1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5

case "${1:-}" in
  chromium)
    command -v chromium >/dev/null || install_packages chromium fonts-dejavu-core
    command -v chromium
    ;;
  axe)
    folder="$cache/axe-core-$AXE"
    hold_cache browser
    if [ ! -d "$folder" ]; then
      command -v npm >/dev/null || install_packages npm
      cd "$building"
      "$scripts/retry.sh" npm pack --silent "axe-core@$AXE" >&2
      echo "$AXE_SHA512  axe-core-$AXE.tgz" | sha512sum --check --quiet >&2
      mkdir bin
      tar --extract --gzip --file "axe-core-$AXE.tgz" --directory bin --strip-components=1 package/axe.min.js package/LICENSE
      finish "$folder"
    fi
    echo "$folder/axe.min.js"
    ;;
  *) echo "Usage: scripts/browser.sh chromium | axe" >&2; exit 2 ;;
esac
