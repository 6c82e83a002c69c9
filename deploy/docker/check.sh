#!/usr/bin/env bash
# Sees the Docker side work, on a machine of its own making: starts a Docker Engine that touches nothing of
# this machine's, builds the image, starts the stack, loads it through its published ports, scales it, kills
# every service, stops and starts it, and cleans up.
#
# Where an image registry answers the real images are used. Where none does, stand-ins are built from
# packages (deploy/docker/standins) and named in the output: what was seen with them says nothing about the
# images they stand for.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd) || exit 1

usage() {
  cat <<'TEXT'
Usage: deploy/docker/check.sh [--work DIR] [--keep] [--release]

  --work DIR   where everything is kept [default: a new folder in /tmp]; some 15 GB
  --keep       keep the folder, so that the next run with the same --work builds only what changed
  --release    build with optimisation [default: the development profile, a third of the time]
  --help       this text

Needs root, Debian or Ubuntu with apt, a Rust toolchain where no registry can be reached, and 20 to 40
minutes the first time. It installs docker.io, iptables, slirp4netns and debootstrap. Exit status: 0 when all
was seen, 1 when something was wrong, 2 for wrong usage. What could not be seen is listed as SKIPPED.
TEXT
}

work='' keep=no profile=dev
while [ $# -gt 0 ]; do
  case $1 in
    --work)
      [ $# -ge 2 ] || { usage >&2 && exit 2; }
      work=$2
      shift
      ;;
    --work=*) work=${1#--work=} ;;
    --keep) keep=yes ;;
    --release) profile=release ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
  shift
done
if [ "$(id -u)" != 0 ]; then
  echo "This needs root: it starts a Docker Engine in a network namespace of its own." >&2
  exit 2
fi
if [ -n "$work" ]; then mkdir -p "$work" && work=$(cd "$work" && pwd -P); else work=$(mktemp -d --tmpdir lastmile-docker-XXXXXX); fi
case $work/ in "$root"/*) echo "--work must be outside the repository." >&2 && exit 2 ;; esac
if grep -qa dockerd "/proc/$(cat "$work/engine/docker.pid" 2>/dev/null)/cmdline" 2>/dev/null; then
  echo "Another run uses $work." >&2
  exit 2
fi
logs=$work/log-$(date -u +%Y%m%dT%H%M%SZ)
mkdir -p "$logs" "$work/engine" || exit 1
ns=lastmile-check-$$
export DOCKER_HOST=unix://$work/engine/docker.sock DOCKER_CONFIG=$work/cli
# What is set for another stack must not reach this one.
unset COMPOSE_PROJECT_NAME COMPOSE_FILE COMPOSE_PROFILES

# shellcheck source=deploy/docker/check/engine.sh
. "$root/deploy/docker/check/engine.sh"
# shellcheck source=deploy/docker/check/stack.sh
. "$root/deploy/docker/check/stack.sh"

failed=0 skipped=() standins=()
say() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*" | tee -a "$logs/check.log"; }
skip() {
  skipped+=("$*")
  say "SKIPPED $*"
}
wrong() {
  say "WRONG: $*"
  return 1
}

# step NAME FUNCTION: runs it, its output goes to a file; on failure shows the end and goes on to clean up.
step() {
  local name=$1 begun=$SECONDS
  say "--- $name"
  if "$2"; then
    say "    ok, $((SECONDS - begun)) s"
  else
    failed=1
    say "    FAILED after $((SECONDS - begun)) s; logs in $logs"
    stack_state >"$logs/state.log" 2>&1
    tail -n 60 "$logs/state.log"
    exit 1
  fi
}

finish() {
  local status=$?
  trap - EXIT
  say "--- cleaning up"
  stop_engine
  if [ "$keep" = yes ]; then
    say "    kept: $work"
  else
    # The log stays, everything else goes.
    mkdir -p "${TMPDIR:-/tmp}/lastmile-docker-logs" && cp -r "$logs" "${TMPDIR:-/tmp}/lastmile-docker-logs/"
    rm -rf "$work"
    echo "the log: ${TMPDIR:-/tmp}/lastmile-docker-logs/$(basename "$logs")"
  fi
  [ "${#standins[@]}" = 0 ] || printf 'STAND-IN %s\n' "${standins[@]}"
  [ "${#skipped[@]}" = 0 ] || printf 'SKIPPED %s\n' "${skipped[@]}"
  if [ "$status" = 0 ] && [ "$failed" = 0 ]; then
    echo "docker check: all seen, $SECONDS s"
  else
    echo "docker check: FAILED, $SECONDS s"
    [ "$status" != 0 ] || status=1
  fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "log: $logs"
step "packages" install_packages
step "engine" start_engine
step "base images" base_images
step "the images of the stack" stack_images
step "a copy of this checkout with settings of its own" copy_checkout
step "docker compose config" check_config
step "docker compose build (profile $profile)" build_image
step "./start.sh --docker, with its demo fleet" first_start
step "what the containers may do" check_hardening
step "a burst through the published ports: all acknowledged is readable, once" check_burst
step "the Postman collection through the published port" check_postman
step "three api, two subscriber: all take part, nothing is lost" check_scale
step "kill -9 in every container under load: all come back, nothing is lost" check_kills
step "the lake: every stored row is in it once" check_lake
step "Prometheus: every replica is scraped, every metric named here exists" check_observability
step "down and up: the data is there" check_down_and_up
step "new volumes: what was sent before the first subscriber is stored" check_early
step "./stop.sh, and down --volumes" check_stop
