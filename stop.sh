#!/usr/bin/env bash
# Stops what ./start.sh started. Running it again changes nothing.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
# shellcheck source=tools/lib.sh
. "$root/tools/lib.sh"
# shellcheck source=tools/docker.sh
. "$root/tools/docker.sh"

usage() {
  cat <<'TEXT'
Usage: ./stop.sh [--data DIR]

Stops the pipeline that ./start.sh started: it takes no more messages, finishes those it has, and ends.
Without --data that is the one in Docker, the one in a process of its own, or both.

  --data DIR   the data directory it was started with [default: ./data beside this script, or LASTMILE_DATA]
  --help       this text
TEXT
}

data=${LASTMILE_DATA:-$root/data}
in_docker=yes
if [ -n "${LASTMILE_DATA:-}" ]; then in_docker=no; fi
while [ $# -gt 0 ]; do
  case $1 in
    --data)
      [ $# -ge 2 ] || fail "--data needs a directory."
      data=$2 in_docker=no
      shift
      ;;
    --data=*) data=${1#--data=} in_docker=no ;;
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
data=$(absolute "$data")

stopped_docker=no
if [ "$in_docker" = yes ] && command -v docker >/dev/null && docker_works && docker_is_up; then
  docker_stop
  stopped_docker=yes
fi

# The process ends by itself within its --stop-timeout (20 s unless set); this is for one that hangs.
patience_s=60
pid_file=$data/run/lastmile.pid

if [ "$(cut -d' ' -f2- "$models_pid_file" 2>/dev/null)" = "$data" ] && stop_models_build; then
  echo "Stopped the background build of the SQL models; ./start.sh continues it."
fi

pid=$(read_pid "$pid_file")
if ! is_ours "$pid" lastmile "$data"; then
  rm -f "$pid_file"
  if [ "$stopped_docker" = no ]; then echo "lastmile is not running on $data."; fi
  exit 0
fi

echo "Stopping lastmile (process $pid): finishing the messages it has taken ..."
kill -TERM "$pid" 2>/dev/null
waited=0
while is_ours "$pid" lastmile "$data"; do
  if [ "$waited" -ge $((patience_s * 10)) ]; then
    echo "It did not stop within $patience_s s, so it is ended at once. This is safe: nothing that was"
    echo "acknowledged is lost; the next start recovers it."
    kill -KILL "$pid" 2>/dev/null
    while is_ours "$pid" lastmile "$data"; do sleep 0.1; done
    break
  fi
  sleep 0.1
  waited=$((waited + 1))
  if [ $((waited % 50)) = 0 ]; then echo "  still stopping, $((waited / 10)) s"; fi
done
await_end "$pid"
rm -f "$pid_file"
echo "Stopped. The data stays in $data; ./start.sh goes on with it."
