#!/usr/bin/env bash
# Generates the protobuf stubs beside their .proto files. With --check: fails if the committed ones differ.
set -euo pipefail
cd "$(dirname "$0")/.."
source=src/keyferry/proto
if [ "${1:-}" = --check ]; then out=$(mktemp -d); trap 'rm -rf "$out"' EXIT; else out=$source; fi
"${VENV:-.venv}/bin/python" -m grpc_tools.protoc -I "$source" --python_out="$out" --pyi_out="$out" "$source"/*.proto
if [ "${1:-}" = --check ]; then
  for stub in "$out"/*; do
    cmp -s "$stub" "$source/$(basename "$stub")" || {
      echo "$source/$(basename "$stub") is not what its .proto generates. Run: make proto"; exit 1; }
  done
fi
