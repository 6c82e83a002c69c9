# shellcheck shell=bash
# What start.sh and stop.sh do with Docker: is it there, bring the stack up, say in words what went wrong.
#
# Needs `root` and tools/lib.sh; where it starts also start.sh's helpers and its `api` and `mqtt`.
# shellcheck disable=SC2154

env_file=$root/.env
# Nothing can be said to Compose without the variables, also when somebody removed .env.
compose() {
  local file=$env_file
  [ -f "$file" ] || file=$root/.env.example
  docker compose --project-directory "$root" --file "$root/docker-compose.yml" --env-file "$file" "$@"
}

# compose_is_new_enough: whether it knows what is used here (2.20, of July 2023).
compose_is_new_enough() {
  local version
  version=$(docker compose version --short 2>/dev/null) || return 1
  [ "$(printf '%s\n' 2.20 "${version#v}" | sort -V | head -n 1)" = 2.20 ]
}

# docker_works: whether containers can be started here.
docker_works() {
  command -v docker >/dev/null && compose_is_new_enough && docker info >/dev/null 2>&1
}

# explain_docker: says precisely what is missing, and how to get it.
explain_docker() {
  local said
  if ! command -v docker >/dev/null; then
    fail "Docker is not installed (there is no docker in PATH): https://docs.docker.com/engine/install/" \
      "Without it: ./start.sh --no-docker"
  fi
  if ! compose_is_new_enough; then
    said=$(docker compose version --short 2>/dev/null)
    fail "Docker's Compose plugin, 2.20 or newer, is missing${said:+ (this is $said)}: https://docs.docker.com/compose/install/linux/" \
      "  Docker's own packages: sudo apt-get install docker-compose-plugin" \
      "  Debian 13:             sudo apt-get install docker-compose" \
      "  Ubuntu:                sudo apt-get install docker-compose-v2"
  fi
  said=$(docker info 2>&1 >/dev/null | head -n 3)
  case $said in
    *'permission denied'*)
      fail "Docker's engine runs, but you may not talk to it. As root: usermod -aG docker $(id -un), then log in again." "$said"
      ;;
    *)
      fail "Docker's engine does not answer. Start it: sudo systemctl start docker, or open Docker Desktop." "$said"
      ;;
  esac
}

# make_env: writes .env with random secrets unless there is one.
make_env() {
  local line name
  [ -f "$env_file" ] && return
  (
    umask 077
    while IFS= read -r line; do
      name=${line%%=*}
      case $name in
        *_PASSWORD | AWS_SECRET_ACCESS_KEY | MONGO_KEY)
          printf '%s=%s\n' "$name" "$(LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 40)"
          ;;
        *) printf '%s\n' "$line" ;;
      esac
    done <"$root/.env.example" >"$env_file.new" && mv "$env_file.new" "$env_file"
  ) || fail "$env_file cannot be written."
  echo "Made .env with random secrets; .env.example tells what else can be set there."
}

# images_not_here: the images that are not on this machine, with the variable that names each.
images_not_here() {
  local variable image
  sed -n 's/^ *image: \${\([A-Z_]*\):-.*/\1/p' "$root/docker-compose.yml" | sort -u | while IFS= read -r variable; do
    image=$(compose_image "$variable")
    if [ -n "$image" ] && ! docker image inspect "$image" >/dev/null 2>&1; then
      printf '  %s   (another one: %s in .env)\n' "$image" "$variable"
    fi
  done
}

# compose_image VARIABLE: the image it stands for among the services that are to run.
compose_image() {
  local default images value
  default=$(sed -n "s/^ *image: \${$1:-\(.*\)}.*/\1/p" "$root/docker-compose.yml" | head -n 1)
  images=$(compose config --images 2>/dev/null)
  value=${!1:-}
  [ -n "$value" ] || value=$(sed -n "s/^$1=//p" "$env_file" 2>/dev/null | tail -n 1)
  value=${value:-$default}
  printf '%s\n' "$images" | grep -qxF "$value" && printf '%s\n' "$value"
}

# explain_docker_failure WHAT LOG: what the output of Docker says, in plain words.
explain_docker_failure() {
  local text port service absent
  text=$(cat "$2")
  echo "$1 failed." >&2
  case $text in
    *'port is already allocated'* | *'address already in use'* | *'ports are not available'* | *'Ports are not available'*)
      port=$(printf '%s\n' "$text" | sed -n 's/.*\(0\.0\.0\.0\|127\.0\.0\.1\|\[::\]\):\([0-9][0-9]*\).*/\2/p' | tail -n 1)
      fail "Port ${port:-of the stack} is in use by $(holder_of "${port:-0}")." \
        "End that program, or set another port in .env: HTTP_PORT, MQTT_PORT, PROMETHEUS_PORT, GRAFANA_PORT, METABASE_PORT." \
        "Is the all-in-one running? ./stop.sh ends it."
      ;;
    *'no space left on device'* | *'No space left on device'*)
      fail "The disk is full. Docker keeps its data in $(docker info --format '{{.DockerRootDir}}' 2>/dev/null); a first build needs about 8 GB:" \
        "$(df -h "$(docker info --format '{{.DockerRootDir}}' 2>/dev/null)" 2>/dev/null)" \
        "What can go: docker system df; docker builder prune"
      ;;
    *'failed to resolve source metadata'* | *'failed to resolve reference'* | *'pull access denied'* | *'manifest unknown'* | *'manifest for '*' not found'* | \
      *'no such host'* | *'TLS handshake'* | *'toomanyrequests'* | *'failed to do request'* | *'error pulling image'* | *'Client.Timeout'*)
      absent=$(images_not_here)
      for service in rust:1.95-bookworm/RUST_IMAGE debian:bookworm-slim/DEBIAN_IMAGE; do
        case $text in *"${service%/*}:"*"resolve"* | *"resolve"*"${service%/*}"*)
          absent+=$'\n'"  ${service%/*}   (another one: ${service#*/} in .env)" ;;
        esac
      done
      fail "An image could not be pulled. Is this machine online, and may it use the registry? Not here are:" "$absent" \
        "The message:" "$(printf '%s\n' "$text" | grep -iE 'error|no such host|denied|unknown|timeout' | head -n 5)"
      ;;
    *' is unhealthy'* | *' exited ('* | *'has no healthcheck'*)
      service=$(printf '%s\n' "$text" | sed -n 's/.*container [a-z0-9_]*-\([a-z0-9_]*\)-[0-9]* .*/\1/p' | tail -n 1)
      fail "$(printf '%s\n' "$text" | tail -n 2)" "The end of its log (docker compose logs ${service:-}):" \
        "$(compose logs --no-color --no-log-prefix --tail 20 ${service:+"$service"} 2>&1)"
      ;;
    *)
      fail "The end of $2:" "$(printf '%s\n' "$text" | tail -n 25)"
      ;;
  esac
}

# docker_progress PID LOG: shows what the build does until it ends.
docker_progress() {
  local begun=$SECONDS shown=0 elapsed
  while kill -0 "$1" 2>/dev/null; do
    sleep 0.5
    elapsed=$((SECONDS - begun))
    if [ -t 1 ]; then
      printf '\r\033[K  %s packages compiled, %d:%02d ' "$(grep -c ' Compiling ' "$2")" $((elapsed / 60)) $((elapsed % 60))
    elif [ $((elapsed - shown)) -ge 60 ]; then
      shown=$elapsed
      printf '  %s packages compiled, %d:%02d\n' "$(grep -c ' Compiling ' "$2")" $((elapsed / 60)) $((elapsed % 60))
    fi
  done
  if [ -t 1 ]; then printf '\r\033[K'; fi
}

# docker_build: builds the image; quick when nothing changed.
docker_build() {
  local log=$1 begun=$SECONDS first=no status
  if ! docker image inspect "$(compose_image LASTMILE_IMAGE)" >/dev/null 2>&1; then
    first=yes
    echo "Building the image. The first time takes about half an hour on two cores, later ones only the changes."
  else
    echo "Bringing the image up to date ..."
  fi
  # The folder has no .git inside the build.
  LASTMILE_REVISION=$(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null || echo unknown) \
    compose --progress plain build >"$log" 2>&1 &
  progress_child=$!
  docker_progress "$progress_child" "$log"
  wait "$progress_child"
  status=$?
  progress_child=''
  if [ "$status" != 0 ]; then explain_docker_failure "The build of the image" "$log"; fi
  if [ "$first" = yes ]; then echo "Built in $(((SECONDS - begun) / 60)) min $(((SECONDS - begun) % 60)) s."; fi
}

# docker_up: starts everything and waits until all of it is healthy.
docker_up() {
  local log=$1
  shift
  echo "Starting the services and waiting until each is ready ..."
  if ! compose up --detach --wait --wait-timeout 300 "$@" >"$log" 2>&1; then
    explain_docker_failure "The start" "$log"
  fi
}

# docker_is_up: whether the stack runs.
docker_is_up() { [ -n "$(compose --profile '*' ps --quiet --status running 2>/dev/null)" ]; }

# docker_address SERVICE PORT: where it is published on this machine.
docker_address() {
  local address
  address=$(compose port "$1" "$2" 2>/dev/null | head -n 1)
  printf '%s\n' "${address/#0.0.0.0:/127.0.0.1:}"
}

# docker_fleet FLAG...: runs the publisher; prints its summary and the last line of its ledger.
docker_fleet() {
  # shellcheck disable=SC2016  # for the shell in the container
  compose --progress quiet run --rm --no-deps -T publisher sh -c 'publisher --ledger /data/demo.jsonl "$@" && tail -n 1 /data/demo.jsonl' sh "$@"
}

# docker_places: where everything is.
docker_places() {
  cat <<TEXT

API      $api        try it: $api/docs
MQTT     mqtt://$mqtt      topic deliveries/<deliverer_id>/location
Lake     $(compose config --format json 2>/dev/null | sed -n 's/.*"LASTMILE_LAKE": "\([^"]*\)".*/\1/p' | head -n 1), every run: docker compose logs lake_ingest
Settings .env
Logs     docker compose logs --follow
Fleet    docker compose run --rm publisher publisher -n 100 -l 60 -d 5
More     docker compose up --detach --wait --scale api=3 --scale subscriber=2
Look     docker compose --profile observability up --detach --wait      Prometheus and Grafana
Stop     ./stop.sh          with all data: docker compose --profile '*' down --volumes
TEXT
}

# docker_stop: ends the stack, keeps its volumes.
docker_stop() {
  echo "Stopping the containers: each finishes the messages it has taken ..."
  compose --profile '*' down --remove-orphans >/dev/null 2>&1 ||
    fail "docker compose down failed; try it by hand in $root."
  echo "Stopped. The data stays in Docker's volumes (docker volume ls); ./start.sh goes on with it."
}
