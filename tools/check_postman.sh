#!/usr/bin/env bash
# Runs the Postman collection against the all-in-one, twice on one store, and against a service that
# lies, which it must notice.
#
#   tools/check_postman.sh           the binaries of LASTMILE_BIN_DIR, else of target/debug
#
# Exit status: 0 all well or skipped by name, 1 something is wrong.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin_dir=${LASTMILE_BIN_DIR:-${CARGO_TARGET_DIR:-target}/debug}

if [ ! -x .venv/postman/node_modules/.bin/newman ]; then
  echo "SKIPPED postman: newman is not installed (tools/install.sh installs it where npm is)"
  exit 0
fi
if [ ! -x "$bin_dir/lastmile" ]; then
  echo "postman: $bin_dir/lastmile is not built" >&2
  exit 1
fi

work=$(mktemp -d)
pids=()
finish() {
  local pid
  for pid in "${pids[@]}"; do
    # A process ended by a signal has a status of its own, which is not ours.
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap finish EXIT

# await FILE PATTERN PID: waits, 30 s at most, for a line; shows the log when the process ends before.
await() {
  for _ in {1..300}; do
    grep -qE "$2" "$1" && return 0
    kill -0 "$3" 2>/dev/null || break
    sleep 0.1
  done
  echo "postman: '$2' never came; the log:" >&2
  tail -n 20 "$work"/*.log >&2
  return 1
}

"$bin_dir/lastmile" --data "$work/data" --http-listen 127.0.0.1:0 --mqtt-listen 127.0.0.1:0 --lake-schedule off \
  >"$work/ready" 2>"$work/lastmile.log" &
pids+=($!)
await "$work/ready" '^READY ' "$!"
address=$(sed -n 's/^READY .*"http":"\([^"]*\)".*/\1/p' "$work/ready")

for round in first second; do
  echo "--- $round run on the same store"
  deploy/postman/run.sh "http://$address" >"$work/run.log" 2>&1 || { cat "$work/run.log"; exit 1; }
  grep -E '^postman|problem\(s\)|executed|requests|assertions' "$work/run.log"
done

echo "--- controls: a route without a request; answers that are not what the service says"
python3 tools/check_postman.py "http://$address/openapi.json" --control
for lie in age status duplicate; do
  : >"$work/liar"
  python3 tools/lying_proxy.py "$address" "$lie" >"$work/liar" 2>"$work/liar.log" &
  pids+=($!)
  await "$work/liar" '^http://' "$!"
  if deploy/postman/run.sh "$(cat "$work/liar")" >"$work/run.log" 2>&1; then
    echo "postman: the collection did not notice the lie '$lie'" >&2
    exit 1
  fi
  echo "lie '$lie' noticed: $(grep -cE '^ +[0-9]+\. ' "$work/run.log") failed assertion(s), first: $(grep -m1 -E '^ +1\. ' "$work/run.log" || tail -n 1 "$work/run.log")"
done
