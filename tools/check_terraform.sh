#!/usr/bin/env bash
# Checks deploy/terraform: every file is HCL, every variable it uses is declared and every one declared is used;
# with terraform or tofu installed and a network, also what `validate` says.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
python=.venv/bin/python
[ -x "$python" ] || python=python3
if ! "$python" -c 'import hcl2' 2>/dev/null; then
  echo "SKIPPED deploy terraform: needs Python with python-hcl2; run tools/install.sh"
  exit 0
fi
"$python" tools/check_terraform.py deploy/terraform || exit 1
for tool in tofu terraform; do
  command -v "$tool" >/dev/null && { "$tool" fmt -check -diff deploy/terraform 2>/dev/null || { echo "terraform: deploy/terraform is not formatted; run $tool fmt" >&2 && exit 1; }; }
  command -v "$tool" >/dev/null || continue
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  cp deploy/terraform/* "$folder"
  if (cd "$folder" && "$tool" init -backend=false -input=false >/dev/null 2>&1); then
    (cd "$folder" && "$tool" validate) || exit 1
  else
    echo "SKIPPED deploy terraform validate: $tool cannot fetch the provider"
  fi
  exit 0
done
echo "SKIPPED deploy terraform validate: neither tofu nor terraform is installed"
