#!/usr/bin/env bash
# Checks the Kubernetes manifests without a cluster, and that the check notices what is broken.
#
#   tools/check_kubernetes.sh        the programs of LASTMILE_BIN_DIR, else of target/debug, are asked about their settings
#
# Exit status: 0 all well or skipped by name, 1 something is wrong.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin_dir=${LASTMILE_BIN_DIR:-${CARGO_TARGET_DIR:-target}/debug}

if ! .venv/bin/python -c 'import kubernetes_validate' 2>/dev/null; then
  echo "SKIPPED kubernetes manifests: kubernetes-validate is not installed (tools/install.sh installs it)"
  exit 0
fi
if [ ! -x "$bin_dir/subscriber" ]; then
  echo "SKIPPED kubernetes settings: $bin_dir/subscriber is not built"
fi
# One file that must be refused, by the tool itself.
broken=$(mktemp)
trap 'rm -f "$broken"' EXIT
sed 's/replicas: 1/replicas: two/' deploy/kubernetes/base/broker.yaml >"$broken"
if .venv/bin/kubernetes-validate --strict --quiet -k 1.33 "$broken" >/dev/null 2>&1; then
  echo "kubernetes: a broken file was accepted" >&2
  exit 1
fi
.venv/bin/python tools/check_kubernetes.py --bin-dir "$bin_dir" --control
