#!/usr/bin/env bash
# Checks what is under deploy/: each part by a script of its own, tools/check_PART.sh. Every part runs even
# when one before it failed.
#
#   tools/check_deploy.sh                    all parts
#   tools/check_deploy.sh kubernetes         only these
#
# The binaries are those of LASTMILE_BIN_DIR, else of target/debug. Exit status: 0 when no part failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
failed=()
for part in "${@:-compose kubernetes postman terraform}"; do
  for name in $part; do
    printf -- '--- deploy: %s\n' "$name"
    if [ ! -x "tools/check_$name.sh" ]; then
      echo "SKIPPED deploy $name: there is no tools/check_$name.sh"
    elif ! "tools/check_$name.sh"; then
      failed+=("$name")
    fi
  done
done
if [ "${#failed[@]}" -gt 0 ]; then
  echo "deploy: failed: ${failed[*]}" >&2
  exit 1
fi
