#!/usr/bin/env bash
# Checks the workflows of GitHub Actions, without asking any server: their syntax with actionlint, their security with zizmor.
set -euo pipefail
cd "$(dirname "$0")/.."
"$(scripts/tools.sh actionlint)" -no-color -shellcheck= -pyflakes=
.venv-tools/bin/zizmor --offline --no-progress --color=never --quiet --persona=regular .github
