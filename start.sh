#!/usr/bin/env bash
# Builds lastmile, starts it in the background, shows it at work with a small demo fleet.
#
# With Docker: the services as containers (docker-compose.yml). Without: all in one process; that needs a Rust
# toolchain and a C compiler, and says how to get them. Nothing outside this folder and the data directory
# is changed, except that as root on Debian or Ubuntu a missing C compiler is installed.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
# shellcheck source=tools/lib.sh
. "$root/tools/lib.sh"
# shellcheck source=tools/docker.sh
. "$root/tools/docker.sh"

usage() {
  cat <<'TEXT'
Usage: ./start.sh [options]

Builds the pipeline (minutes the first time, seconds later), starts it in the background, and runs a small
demo fleet. Running it again is harmless. ./stop.sh stops it.

Where Docker works the services run as containers, with MongoDB and S3; otherwise, or when an option or
variable of the all-in-one is given, all in one process.

  --docker        containers; says what is missing when Docker does not work
  --no-docker     all in one process
  --data DIR      where everything is kept [default: ./data beside this script, or LASTMILE_DATA]
  --port-base N   added to every port, to run a second one or to avoid a busy port
                  [default: 0, or LASTMILE_PORT_BASE]
                  (both of the all-in-one; containers have volumes, and ports in .env)
  --no-demo       do not run the demo fleet
  -n N            deliverers of the demo fleet [default: 50]
  -l N            positions each of them sends [default: 15]
  -d SECONDS      pause between two positions of one deliverer [default: 1]
  --help          this text

Environment: LASTMILE_BUILD_PROFILE=dev builds without optimisation; LASTMILE_BIN_DIR=DIR uses ready-made
binaries and builds nothing. Settings of the pipeline itself: LASTMILE_CONFIG=FILE, or see lastmile --help.
TEXT
}

data=${LASTMILE_DATA:-$root/data}
port_base=${LASTMILE_PORT_BASE:-0}
demo=yes deliverers=50 locations=15 delay=1
mode=auto
# What only the all-in-one knows settles how to run.
if [ -n "${LASTMILE_DATA:-}${LASTMILE_PORT_BASE:-}${LASTMILE_BIN_DIR:-}${LASTMILE_CONFIG:-}" ]; then mode=process; fi

usage_error() {
  printf '%s\n\n' "$1" >&2
  usage >&2
  exit 2
}

# number NAME VALUE: ends unless it is a number, with a fraction or without.
number() {
  [[ $2 =~ ^[0-9]+([.][0-9]+)?$ ]] || usage_error "$1 needs a number, not '$2'."
}

while [ $# -gt 0 ]; do
  case $1 in
    --docker) mode=docker ;;
    --no-docker) mode=process ;;
    --data=*) data=${1#--data=} mode=process ;;
    --port-base=*) port_base=${1#--port-base=} mode=process ;;
    --no-demo) demo=no ;;
    -h | --help)
      usage
      exit 0
      ;;
    --data | --port-base | -n | -l | -d)
      [ $# -ge 2 ] || usage_error "$1 needs a value."
      case $1 in
        --data) data=$2 mode=process ;;
        --port-base) port_base=$2 mode=process ;;
        -n) deliverers=$2 ;;
        -l) locations=$2 ;;
        -d) delay=$2 ;;
      esac
      shift
      ;;
    *) usage_error "Unknown option '$1'." ;;
  esac
  shift
done
number -n "$deliverers"
number -l "$locations"
number -d "$delay"
if ! [[ $port_base =~ ^[0-9]{1,5}$ ]] || [ "$port_base" -gt 50000 ]; then
  usage_error "--port-base needs a number from 0 to 50000, not '$port_base'."
fi
data=$(absolute "$data")

case ${LASTMILE_BUILD_PROFILE:-release} in
  release) profile=(--release) folder=release first_build='The first time takes 6 to 12 minutes on two cores' ;;
  dev) profile=() folder=debug first_build='The first time takes about 3 minutes on two cores' ;;
  *) fail "LASTMILE_BUILD_PROFILE is '$LASTMILE_BUILD_PROFILE'; give release or dev." ;;
esac
if [ -n "${LASTMILE_BIN_DIR:-}" ]; then bin=$(absolute "$LASTMILE_BIN_DIR"); else bin=$target_dir/$folder; fi

other_ports="End that program, or move all ports of the pipeline: ./start.sh --port-base $(((port_base + 10000) % 50000))"
progress_child=''
trap 'if [ -n "$progress_child" ]; then kill "$progress_child" 2>/dev/null; fi' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- small tools --------------------------------------------------------------------------------------

# fetch URL: prints the body; fails on anything but success.
fetch() {
  if command -v curl >/dev/null; then
    curl --silent --fail --max-time 5 "$1"
  elif command -v python3 >/dev/null; then
    python3 -c 'import sys, urllib.request
sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' "$1" 2>/dev/null
  else
    local address path line status body
    address=${1#http://}
    path=/${address#*/}
    address=${address%%/*}
    exec 3<>"/dev/tcp/${address%:*}/${address##*:}" || return 1
    printf 'GET %s HTTP/1.0\r\nHost: %s\r\n\r\n' "$path" "$address" >&3
    IFS= read -r status <&3
    while IFS= read -r line <&3 && [ "$line" != $'\r' ]; do :; done
    body=$(cat <&3)
    exec 3>&-
    case $status in *' 200 '*) printf '%s' "$body" ;; *) return 1 ;; esac
  fi
}

# number_of NAME: the first number with that name in the JSON on stdin.
number_of() { sed -n "s/.*\"$1\":\([0-9][0-9]*\).*/\1/p" | head -n 1; }

# ready_address NAME: an address in the ready line, as this machine reaches it; fails while there is none.
ready_address() {
  local address
  address=$(sed -n "s/^READY .*\"$1\":\"\([^\"]*\)\".*/\1/p" "$out" 2>/dev/null | tail -n 1)
  [ -n "$address" ] && printf '%s\n' "${address/#0.0.0.0:/127.0.0.1:}"
}

# holder_of PORT: who listens there, as far as this user may see.
holder_of() {
  local found=''
  if command -v ss >/dev/null; then
    found=$(ss -Hltnp "sport = :$1" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (process \2)/p' | head -n 1)
  fi
  if [ -z "$found" ] && command -v lsof >/dev/null; then
    found=$(lsof -nP -iTCP:"$1" -sTCP:LISTEN 2>/dev/null | awk 'NR == 2 { print $1 " (process " $2 ")" }')
  fi
  printf '%s\n' "${found:-another program}"
}

# check_ports: says which ports somebody else has, and ends.
check_ports() {
  local port busy=no
  # With addresses of its own only the program knows; it says so itself.
  if [ -n "${LASTMILE_CONFIG:-}${LASTMILE_MQTT_LISTEN:-}${LASTMILE_HTTP_LISTEN:-}${PORT:-}" ]; then return; fi
  for port in 1883 8080; do
    port=$((port + port_base))
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "Port $port is in use by $(holder_of "$port")." >&2
      busy=yes
    fi
  done
  if [ "$busy" = yes ]; then
    fail "$other_ports"
  fi
}

# --- tools and build ----------------------------------------------------------------------------------

check_tools() {
  local wanted found
  [ -x "$HOME/.cargo/bin/cargo" ] && PATH=$PATH:$HOME/.cargo/bin
  if ! command -v cargo >/dev/null; then
    fail "The Rust toolchain is missing (cargo is not in PATH). To get it, without root:" \
      "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" \
      "Then open a new shell and run ./start.sh again."
  fi
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
  found=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
  if [ -n "$found" ] && [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
    fail "Rust $wanted or newer is needed; this is $found. With rustup: rustup update stable"
  fi
  command -v cc >/dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing build-essential: Rust links with the C compiler, and SQLite is compiled with it."
    if apt-get update -qq >/dev/null 2>&1; then :; fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends build-essential >"$build_log" 2>&1 ||
      fail "It could not be installed; see $build_log"
  else
    fail "A C compiler is missing (cc is not in PATH); Rust links with it, and SQLite is compiled with it." \
      "  Debian, Ubuntu: sudo apt-get install build-essential" \
      "  Fedora:         sudo dnf install gcc" \
      "  macOS:          xcode-select --install"
  fi
}

# explain_build_failure: what the log of the build says, in plain words.
explain_build_failure() {
  local text
  text=$(tr '\r' '\n' <"$build_log" | grep -v '^ *Building \[')
  echo "The build failed." >&2
  case $text in
    *'No space left on device'* | *'os error 28'*)
      fail "The disk is full; the build needs about 3 GB in $target_dir:" "$(df -h "$root")"
      ;;
    *'Could not resolve host'* | *'resolve host'* | *'failed to download'* | *'Could not connect'* | *'network failure'* | *'Connection refused'* | *'Timeout was reached'*)
      fail "The Rust packages could not be downloaded. Is this machine online? Behind a proxy, set HTTPS_PROXY." \
        "The first errors in $build_log:" "$(printf '%s\n' "$text" | grep -iE 'error|warning|caused|resolve|connect' | head -n 5)"
      ;;
    *)
      fail "The end of $build_log:" "$(printf '%s\n' "$text" | tail -n 30)"
      ;;
  esac
}

# progress PID LOG: shows how far cargo has come until it ends.
progress() {
  local begun=$SECONDS shown=0 done_of elapsed
  while kill -0 "$1" 2>/dev/null; do
    sleep 0.2
    elapsed=$((SECONDS - begun))
    done_of=$(tail -c 4000 "$2" 2>/dev/null | tr '\r' '\n' | sed -n '
      s/.*Building \[[^]]*\] *\([0-9]*\)\/\([0-9]*\).*/\1 of \2 packages/p
      s/.*Blocking waiting for file lock.*/waiting for another build in this folder/p' | tail -n 1)
    if [ -t 1 ]; then
      printf '\r  %s, %d:%02d ' "${done_of:-preparing}" $((elapsed / 60)) $((elapsed % 60))
    elif [ $((elapsed - shown)) -ge 30 ]; then
      shown=$elapsed
      printf '  %s, %d:%02d\n' "${done_of:-preparing}" $((elapsed / 60)) $((elapsed % 60))
    fi
  done
  if [ -t 1 ]; then printf '\r\033[K'; fi
}

build() {
  local begun=$SECONDS first=no status
  if [ -n "${LASTMILE_BIN_DIR:-}" ]; then
    if [ ! -x "$bin/lastmile" ] || [ ! -x "$bin/publisher" ]; then
      fail "LASTMILE_BIN_DIR is $bin, but lastmile or publisher is not in it."
    fi
    return
  fi
  check_tools
  # Cargo locks the folder, and this build is the one somebody waits for. The other one is started again.
  if stop_models_build; then :; fi
  if [ ! -x "$bin/lastmile" ] || [ ! -x "$bin/publisher" ]; then
    first=yes
    echo "Building the pipeline. $first_build, later ones seconds."
  else
    echo "Bringing the build up to date ..."
  fi
  (
    cd "$root" || exit 1
    # The progress bar goes into the log, where `progress` reads it.
    export CARGO_TERM_PROGRESS_WHEN=always CARGO_TERM_PROGRESS_WIDTH=80 CARGO_TERM_COLOR=never
    exec cargo build "${profile[@]}" --locked -p lastmile -p publisher
  ) >"$build_log" 2>&1 &
  progress_child=$!
  progress "$progress_child" "$build_log"
  wait "$progress_child"
  status=$?
  progress_child=''
  if [ "$status" != 0 ]; then explain_build_failure; fi
  if [ "$first" = yes ]; then echo "Built in $(((SECONDS - begun) / 60)) min $(((SECONDS - begun) % 60)) s."; fi
}

# build_models: builds lake_ingest in the background unless it is there already.
build_models() {
  [ -n "${LASTMILE_BIN_DIR:-}" ] && return
  if ! models_build_pid >/dev/null; then
    # With nothing to do cargo ends at once; this also rebuilds after a change.
    cd "$root" || return
    detached nice -n 15 cargo build "${profile[@]}" --locked -p lake_ingest >"$models_log" 2>&1
    printf '%s %s\n' "$detached_pid" "$data" >"$models_pid_file"
  fi
  [ -x "$bin/lake_ingest" ] && return
  cat <<TEXT

The SQL models of the lake (DataFusion) now build in the background, some 20 minutes on two cores. The
pipeline does not wait for them: it runs them once they are there. Progress: $models_log
TEXT
}

# --- start --------------------------------------------------------------------------------------------

prepare_data() {
  if ! mkdir -p "$data/run" "$data/logs" 2>/dev/null || [ ! -w "$data/run" ]; then
    fail "The data directory $data cannot be made or written. Give another with --data DIR."
  fi
  if ! { : >"$data/run/.probe" && printf x >"$data/run/.probe"; } 2>/dev/null; then
    fail "Nothing can be written to $data; the disk may be full:" "$(df -h "$data" 2>/dev/null)"
  fi
  rm -f "$data/run/.probe"
  data=$(absolute "$data")
  log=$data/logs/lastmile.log
  out=$data/run/lastmile.out
  pid_file=$data/run/lastmile.pid
  build_log=$data/logs/build.log
  models_log=$data/logs/models-build.log
}

# explain_start_failure: what the program said before it ended.
explain_start_failure() {
  local port address
  rm -f "$pid_file"
  address=$(grep -o 'cannot listen on [0-9.:]*' "$log" | tail -n 1)
  if [ -n "$address" ]; then
    port=${address##*:}
    fail "Port $port is in use by $(holder_of "$port")." \
      "$other_ports"
  fi
  if grep -q 'No space left on device' "$log"; then
    fail "The disk is full:" "$(df -h "$data")"
  fi
  fail "lastmile did not start. The end of $log:" "$(tail -n 20 "$log")"
}

start() {
  local begun=$SECONDS pid
  pid=$(read_pid "$pid_file")
  if [ -n "$pid" ]; then
    echo "lastmile (process $pid) ended without ./stop.sh. Starting it again: it recovers all it acknowledged."
    rm -f "$pid_file"
  fi
  if [ -f "$log" ] && [ "$(wc -c <"$log")" -gt 10000000 ]; then mv -f "$log" "$log.1"; fi
  # The message of a failure must be of this start.
  printf '\n' >>"$log"
  local log_before
  log_before=$(wc -c <"$log")
  : >"$out"
  detached "$bin/lastmile" --data "$data" --port-base "$port_base" >"$out" 2>>"$log"
  pid=$detached_pid
  printf '%s\n' "$pid" >"$pid_file"
  until ready_address http >/dev/null; do
    if ! kill -0 "$pid" 2>/dev/null; then
      tail -c "+$log_before" "$log" >"$data/run/failure.log"
      log=$data/run/failure.log explain_start_failure
    fi
    if [ $((SECONDS - begun)) -ge 60 ]; then
      fail "lastmile (process $pid) is not ready after 60 s. The end of $log:" "$(tail -n 20 "$log")" \
        "It goes on trying; ./stop.sh ends it."
    fi
    sleep 0.1
  done
}

# --- demo and summary ---------------------------------------------------------------------------------

stored_positions() { fetch "$api/api/v1/status" | number_of positions; }

# process_fleet FLAG...: runs the publisher; prints its summary and the last line of its ledger.
process_fleet() {
  local ledger=$data/run/demo-ledger.jsonl
  env -u LASTMILE_CONFIG "$bin/publisher" --mqtt "mqtt://$mqtt" --ledger "$ledger" "$@" && tail -n 1 "$ledger"
}

# run_demo FLEET LOG: lets FLEET send, and shows what became of it.
run_demo() {
  local summary before stored acked order waited=0
  before=$(stored_positions)
  echo
  echo "Demo fleet: $deliverers deliverers, each sends $locations positions, one about every $delay s ..."
  if ! summary=$("$1" --log warn --summary json -n "$deliverers" -l "$locations" -d "$delay"); then
    fail "The demo fleet failed; the pipeline still runs. What it says: $2"
  fi
  acked=$(printf '%s\n' "$summary" | number_of acked)
  while stored=$(($(stored_positions) - ${before:-0})) && [ "$stored" -lt "${acked:-0}" ] && [ "$waited" -lt 100 ]; do
    sleep 0.1
    waited=$((waited + 1))
  done
  order=$(printf '%s\n' "$summary" | sed -n 's/.*"order_id":"\([^"]*\)".*/\1/p' | tail -n 1)
  cat <<TEXT
  published     $(printf '%s\n' "$summary" | number_of published)
  acknowledged  $acked   (on disk before the broker said so)
  stored        $stored

Where is order $order now?
  curl $api/api/v1/orders/$order/location
  $(fetch "$api/api/v1/orders/$order/location")
TEXT
  if [ "$stored" != "$acked" ]; then
    echo "The two last numbers differ; they agree once the pipeline has caught up: curl $api/api/v1/status"
  fi
}

print_places() {
  local stop=./stop.sh shown=''
  if [ "$data" != "$root/data" ]; then stop="./stop.sh --data $data"; fi
  if [ "$port_base" != 0 ]; then shown=" --port-base $port_base"; fi
  cat <<TEXT

API      $api        try it: $api/docs
Metrics  $api/metrics
MQTT     mqtt://$mqtt      topic deliveries/<deliverer_id>/location
Data     $data
Logs     $data/logs
Fleet    $bin/publisher -n 100 -l 60 -d 5$shown
Stop     $stop
TEXT
}

# --- the whole ----------------------------------------------------------------------------------------

# start_docker: the whole with containers.
start_docker() {
  local logs=$root/data/logs running=no
  mkdir -p "$logs" || fail "$logs cannot be made."
  make_env
  if docker_is_up; then running=yes; fi
  docker_build "$logs/docker-build.log"
  docker_up "$logs/docker-up.log"
  api=http://$(docker_address gateway 8080)
  mqtt=$(docker_address broker 1883)
  if [ "$running" = yes ]; then
    echo "lastmile is already running in Docker."
  else
    echo "lastmile is running in Docker."
    if [ "$demo" = yes ]; then run_demo docker_fleet "docker compose logs"; fi
  fi
  docker_places
}

if [ "$mode" = docker ]; then
  docker_works || explain_docker
  start_docker
  exit 0
fi
if [ "$mode" = auto ] && ! is_ours "$(read_pid "$data/run/lastmile.pid")" lastmile "$data" && command -v docker >/dev/null; then
  if docker_works; then
    echo "Docker works here, so the services run as containers (--no-docker: all in one process)."
    start_docker
    exit 0
  fi
  echo "Docker does not work here (./start.sh --docker says why), so all runs in one process."
fi

prepare_data
pid=$(read_pid "$pid_file")
if is_ours "$pid" lastmile "$data" && api=http://$(ready_address http) && ! fetch "$api/healthz" >/dev/null; then
  # It may have been killed a moment ago.
  sleep 1
fi
if is_ours "$pid" lastmile "$data"; then
  if ! api=http://$(ready_address http); then
    fail "lastmile (process $pid) is starting; see $log"
  fi
  mqtt=$(ready_address mqtt)
  echo "lastmile is already running (process $pid)."
  print_places
  exit 0
fi
if [ -n "$pid" ]; then await_end "$pid"; fi

check_ports
build
start
api=http://$(ready_address http)
mqtt=$(ready_address mqtt)
echo "lastmile is running (process $(read_pid "$pid_file"))."
if [ "$demo" = yes ]; then run_demo process_fleet "$log"; fi
print_places
build_models
