#!/usr/bin/env bash
# Checks docker-compose.yml, the Dockerfiles, and what Prometheus and Grafana are given, as far as that needs
# no engine. deploy/docker/check.sh sees the stack run.
#
# Exit status: 0 all well (what could not be checked is named as SKIPPED), 1 something is wrong.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
failed=0
plugins=.venv/deploy

wrong() {
  printf 'deploy: WRONG: %s\n' "$*"
  failed=1
}

# Compose: the file is right with and without profiles, and a mistake would be found.
check_compose() {
  local compose=$PWD/$plugins/docker-compose work
  if ! tools/compose.sh "$plugins" >/dev/null 2>&1; then
    echo "SKIPPED compose: Compose 2.40 could not be had (tools/compose.sh; needs apt and network)"
    return
  fi
  work=$(mktemp -d)
  "$compose" --env-file .env.example config --quiet || wrong "docker-compose.yml"
  "$compose" --env-file .env.example --profile '*' config --quiet || wrong "docker-compose.yml with all profiles"
  sed 's/service_healthy/service_helthy/' docker-compose.yml >"$work/docker-compose.yml"
  "$compose" --project-directory . --file "$work/docker-compose.yml" --env-file .env.example config --quiet 2>/dev/null &&
    wrong "Compose passes a misspelt condition"
  env -u MONGO_KEY "$compose" --env-file /dev/null config --quiet 2>/dev/null && wrong "Compose passes a stack without secrets"
  # Every variable is explained, and every explained one is used.
  comm -3 <(grep -oE '\$\{[A-Z0-9_]+' docker-compose.yml | sed 's/${//' | sort -u |
    grep -vE '_(MEMORY|CPUS)$|^(RUST_LOG|LASTMILE_REVISION|LASTMILE_HTTP_CORS|LASTMILE_REPLICA|LASTMILE_MONGODB_DATABASE|PROMETHEUS_RETENTION|METABASE_HEAP)$') \
    <(sed -n 's/^#\{0,1\}\([A-Z0-9_]*\)=.*/\1/p' .env.example | sort -u |
      grep -vE '_(MEMORY|CPUS)$|^LASTMILE_(MONGODB_TTL|LAKE_PURGE_AFTER)$') >"$work/differences"
  [ ! -s "$work/differences" ] || wrong ".env.example and docker-compose.yml differ in: $(tr -s '\n\t' '  ' <"$work/differences")"
  # What .env.example shows as a default is the default.
  while IFS='=' read -r name value; do
    grep -qF "\${$name:-$value}" docker-compose.yml || [ "$name" = LASTMILE_LAKE ] || [ "$name" = MONGODB_URI ] ||
      [ "$name" = LASTMILE_BROKER ] || [ "$name" = LASTMILE_MONGODB_TTL ] || [ "$name" = LASTMILE_LAKE_PURGE_AFTER ] || wrong ".env.example shows another default of $name"
  done < <(sed -n 's/^#\([A-Z0-9_]*=.*\)/\1/p' .env.example)
  rm -rf "$work"
  echo "deploy: compose $("$compose" version --short) checked"
}

# left_out IGNORE: files that programs take in while they are built and that IGNORE keeps out of the build context.
left_out() {
  local source path
  grep -roE 'include_(str|bytes)!\("[^"]+"' api broker crates lake_ingest publisher subscriber --include='*.rs' |
    grep -vE '^[^:]*/(tests|examples|target)/' | sed -E 's/:include_(str|bytes)!\("/ /; s/"$//' |
    while read -r source path; do
      path=$(realpath --canonicalize-missing --relative-to=. "$(dirname "$source")/$path")
      grep -qxF -e "!${path%%/*}" -e "!$path" "$1" || echo "$path"
    done
}

check_context() {
  local missing
  missing=$(left_out .dockerignore)
  [ -z "$missing" ] || wrong ".dockerignore keeps out what the programs are built from: $missing"
  [ -n "$(left_out <(grep -v '^!deploy' .dockerignore))" ] || wrong "a file left out of the build context is not noticed"
}

check_dockerfiles() {
  local hadolint=.venv/bin/hadolint
  if [ ! -x "$hadolint" ]; then
    echo "SKIPPED hadolint: it is not installed (tools/install.sh)"
    return
  fi
  "$hadolint" Dockerfile deploy/docker/standins/*.Dockerfile || wrong "a Dockerfile"
  # The check can fail.
  printf 'FROM debian\nRUN sudo true\n' | "$hadolint" - >/dev/null && wrong "hadolint passes a bad Dockerfile"
  grep -q '^# syntax' Dockerfile && wrong "a syntax line in Dockerfile needs a registry for every build"
  echo "deploy: $("$hadolint" --version | tail -n 1) checked"
}

# promtool comes in Debian's package of Prometheus, which is unpacked, not installed: it would start.
promtool=$plugins/promtool
have_promtool() {
  local work
  [ -x "$promtool" ] && return 0
  command -v apt-get >/dev/null || return 1
  work=$(mktemp -d)
  (cd "$work" && apt-get -o APT::Sandbox::User=root download -qq prometheus && dpkg -x prometheus_*.deb out) >/dev/null 2>&1 &&
    mkdir -p "$plugins" && install -m 755 "$work/out/usr/bin/promtool" "$promtool"
  rm -rf "$work"
  [ -x "$promtool" ]
}

check_prometheus() {
  if ! have_promtool; then
    echo "SKIPPED promtool: Debian's package of Prometheus could not be had"
    return
  fi
  (cd deploy/prometheus && "../../$promtool" check config prometheus.yml && "../../$promtool" check rules alerts.yml) >/dev/null ||
    { (cd deploy/prometheus && "../../$promtool" check config prometheus.yml) && wrong "deploy/prometheus"; }
  sed 's/expr: up{/expr: up{{/' deploy/prometheus/alerts.yml | "$promtool" check rules /dev/stdin >/dev/null 2>&1 &&
    wrong "promtool passes a broken rule"
  echo "deploy: $("$promtool" --version 2>&1 | head -n 1 | cut -d' ' -f1-3) checked prometheus.yml and alerts.yml"
}

check_dashboards() {
  python3 - deploy/grafana/dashboards/*.json <<'PYTHON' || wrong "a dashboard"
import json
import sys

for path in sys.argv[1:]:
    board = json.load(open(path, encoding="utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)), f"{path}: two panels have one id"
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            assert target["expr"].count("(") == target["expr"].count(")"), f"{path}: {panel['title']}"
            assert target["datasource"]["uid"] == "prometheus", f"{path}: {panel['title']}"
    print(f"deploy: {path}: {len(ids)} panels")
PYTHON
}

check_metric_names() {
  tools/check_metrics.py || wrong "a metric that no program has"
}

check_compose
check_context
check_dockerfiles
check_prometheus
check_dashboards
check_metric_names
exit "$failed"
