#!/usr/bin/env bash
# Runs deploy/airflow's DAG by a real Airflow from PyPI over a store with positions in it, twice, and looks at the
# lake; then with a command that fails, which must fail the run. Not a part of ./test.sh: Airflow is some 200 MB.
#
#   tools/check_airflow.sh
#
# The binaries are those of LASTMILE_BIN_DIR, else of target/debug. Airflow is put into .venv-airflow.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin_dir=${LASTMILE_BIN_DIR:-$PWD/target/debug}
messages=500
version=3.3.2

for program in lastmile publisher lake_ingest; do
  [ -x "$bin_dir/$program" ] || { echo "airflow: $bin_dir/$program is missing; build it first" >&2 && exit 1; }
done
if [ ! -x .venv-airflow/bin/airflow ]; then
  echo "airflow: installing apache-airflow $version into .venv-airflow (some 200 MB)"
  python3 -m venv .venv-airflow
  .venv-airflow/bin/pip install --quiet "apache-airflow==$version"
fi

work=$(mktemp -d)
pid=
cleanup() {
  [ -n "$pid" ] && kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT

echo "airflow: storing $messages positions"
export LASTMILE_DATA="$work/data"
"$bin_dir/lastmile" --mqtt-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 >"$work/ready" 2>"$work/lastmile.log" &
pid=$!
for _ in $(seq 600); do
  grep -q '^READY' "$work/ready" && break
  kill -0 "$pid" 2>/dev/null || { cat "$work/lastmile.log" >&2 && exit 1; }
  sleep 0.1
done
address=$(sed -n 's/^READY //p' "$work/ready" | python3 -c 'import json, sys; print(json.load(sys.stdin)["mqtt"])')
"$bin_dir/publisher" --broker "mqtt://$address" --burst "$messages" >"$work/publisher.log" 2>&1 ||
  { cat "$work/publisher.log" >&2 && exit 1; }
kill "$pid"
wait "$pid" || true
pid=

mkdir "$work/dags"
cp deploy/airflow/lastmile_lake.py "$work/dags"
export AIRFLOW_HOME="$work/airflow" AIRFLOW__CORE__DAGS_FOLDER="$work/dags" AIRFLOW__CORE__LOAD_EXAMPLES=False
export LASTMILE_LAKE_INGEST="$bin_dir/lake_ingest"
airflow() { .venv-airflow/bin/airflow "$@" >"$work/airflow.log" 2>&1 || { tail -n 60 "$work/airflow.log" >&2 && return 1; }; }
airflow db migrate
.venv-airflow/bin/airflow dags list-import-errors 2>/dev/null | grep -q 'No data found' ||
  { .venv-airflow/bin/airflow dags list-import-errors >&2 && exit 1; }
echo "airflow: the DAG is imported without errors"

count() { "$bin_dir/lake_ingest" query 'SELECT COUNT(*) FROM raw.deliverer_location' --format csv | tail -n 1; }
today=$(date -u +%F)
for run in first second; do
  airflow dags test lastmile_lake "$today"
  grep -q 'state=success, run_type' "$work/airflow.log" || { tail -n 60 "$work/airflow.log" >&2 && exit 1; }
  rows=$(count)
  echo "airflow: $run run succeeded; raw holds $rows of $messages positions"
  [ "$rows" = "$messages" ] || exit 1
done

# The control: a command that fails is not passed over.
export LASTMILE_LAKE_INGEST=false LASTMILE_LAKE_RETRIES=0
if .venv-airflow/bin/airflow dags test lastmile_lake "$today" >"$work/airflow.log" 2>&1 &&
  grep -q 'state=success, run_type' "$work/airflow.log"; then
  echo "airflow: a run whose command fails succeeded" >&2
  exit 1
fi
echo "airflow: a run whose command fails does not succeed"
