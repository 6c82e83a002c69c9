# shellcheck shell=bash
# The engine of check.sh: packages, a Docker Engine in a network namespace of its own, base images, and
# stand-ins for images that no registry serves. Sourced by check.sh, whose variables it uses.
# shellcheck disable=SC2154,SC2034  # the variables are those of check.sh, and read by stack.sh

netns=/run/netns/$ns
# inside COMMAND...: where the stack's ports are published.
inside() { nsenter --net="$netns" "$@"; }

install_packages() {
  local package wanted=()
  for package in docker.io iptables slirp4netns debootstrap curl; do
    dpkg -s "$package" >/dev/null 2>&1 || wanted+=("$package")
  done
  {
    if [ "${#wanted[@]}" -gt 0 ]; then
      apt-get update -qq
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}"
    fi
  } >"$logs/packages.log" 2>&1 || wrong "apt-get install ${wanted[*]}: see $logs/packages.log" || return 1
  command -v docker >/dev/null || wrong "there is no docker command" || return 1
  "$root/tools/compose.sh" "$work/cli/cli-plugins" >>"$logs/packages.log" 2>&1 ||
    wrong "Compose and buildx could not be had: see $logs/packages.log" || return 1
  say "    $(docker compose version)"
}

# clear_stack: removes what a run leaves in the engine; one that was cut off did not do it itself.
clear_stack() {
  docker ps --quiet --all | xargs --no-run-if-empty docker rm --force --volumes >/dev/null 2>&1
  docker volume ls --quiet --filter label=com.docker.compose.project=lastmile | xargs --no-run-if-empty docker volume rm >/dev/null 2>&1
}

# unmount_all: what an engine has mounted under the folder, deepest first.
unmount_all() {
  local mount
  awk -v under="$work/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r | while IFS= read -r mount; do
    umount "$mount" 2>/dev/null
  done
}

start_engine() {
  local _
  unmount_all
  ip netns add "$ns" || return 1
  inside ip link set lo up
  rm -f "$work/engine/docker.pid"
  # In a network of its own: neither this machine's firewall nor its ports change.
  nsenter --net="$netns" setsid dockerd --data-root "$work/engine/data" --exec-root "$work/engine/run" \
    --pidfile "$work/engine/docker.pid" --host "$DOCKER_HOST" >"$logs/dockerd.log" 2>&1 </dev/null &
  setsid slirp4netns --netns-type=path --configure --mtu=65520 --disable-host-loopback "$netns" tap0 \
    >"$logs/slirp4netns.log" 2>&1 </dev/null &
  slirp_pid=$!
  for _ in {1..120}; do
    docker info >"$logs/docker-info.log" 2>&1 && break
    sleep 0.5
  done
  docker info >/dev/null 2>&1 || wrong "the engine does not answer: $(tail -n 3 "$logs/dockerd.log")" || return 1
  clear_stack
  say "    Docker Engine $(docker version --format '{{.Server.Version}}')"
}

slirp_pid=''
# stop_engine: ends what start_engine began; harmless when it did not get far.
stop_engine() {
  local pid _
  pid=$(cat "$work/engine/docker.pid" 2>/dev/null)
  if [ -n "$pid" ] && grep -qa dockerd "/proc/$pid/cmdline" 2>/dev/null; then
    # A run that failed leaves its stack.
    clear_stack
    kill "$pid"
    for _ in {1..150}; do
      [ -e "/proc/$pid/root" ] || break
      sleep 0.2
    done
    [ ! -e "/proc/$pid/root" ] || kill -KILL "$pid"
  fi
  [ -z "$slirp_pid" ] || kill "$slirp_pid" 2>/dev/null
  unmount_all
  ip netns del "$ns" 2>/dev/null
  say "    engine stopped"
}

registry=unknown
# real_image IMAGE: pulls it; after the first no of a machine without a registry it is not asked again.
real_image() {
  [ "$registry" = no ] && return 1
  if timeout 900 docker pull --quiet "$1" >"$logs/pull.log" 2>&1; then
    registry=yes
    return 0
  fi
  cat "$logs/pull.log" >>"$logs/pulls.log"
  if [ "$registry" = unknown ]; then
    registry=no
    say "    no image registry can be reached: $(tail -n 1 "$logs/pull.log" | cut -c 1-160)"
  fi
  return 1
}

# stand_in IMAGE WHAT: remembers it.
stand_in() {
  standins+=("$1: $2")
  say "    STAND-IN $1: $2"
}

base_images() {
  local toolchain
  if ! real_image debian:bookworm-slim; then
    if ! docker image inspect debian:bookworm-slim >/dev/null 2>&1; then
      rm -rf "$work/rootfs"
      nice debootstrap --variant=minbase bookworm "$work/rootfs" >"$logs/debootstrap.log" 2>&1 ||
        wrong "debootstrap: see $logs/debootstrap.log" || return 1
      rm -rf "$work"/rootfs/var/cache/apt/archives/*.deb "$work"/rootfs/var/lib/apt/lists/*
      tar -C "$work/rootfs" -c . | docker import --change 'CMD ["bash"]' - debian:bookworm-slim >/dev/null || return 1
      rm -rf "$work/rootfs"
    fi
    stand_in debian:bookworm-slim "debootstrap, minbase"
  fi
  real_image rust:1.95-bookworm && return 0
  if ! docker image inspect rust:1.95-bookworm >/dev/null 2>&1; then
    command -v rustc >/dev/null || wrong "no registry and no Rust toolchain to stand in with" || return 1
    toolchain=$(rustc --print sysroot) || return 1
    mkdir -p "$work/rust"
    cp /etc/ssl/certs/ca-certificates.crt "$work/rust/"
    tar -C "$toolchain" --exclude=./share -cf "$work/rust/toolchain.tar" bin lib libexec || return 1
    docker build --tag rust:1.95-bookworm --file "$root/deploy/docker/standins/rust.Dockerfile" "$work/rust" \
      >"$logs/rust-standin.log" 2>&1 || wrong "see $logs/rust-standin.log" || return 1
    rm -rf "$work/rust"
  fi
  stand_in rust:1.95-bookworm "this machine's $(rustc --version | cut -d' ' -f1-2) on debian:bookworm-slim"
}

# default_image VARIABLE: the image docker-compose.yml pins.
default_image() { sed -n "s/^ *image: \${$1:-\(.*\)}\$/\1/p" "$root/docker-compose.yml" | head -n 1; }

mongo_is_real=yes s3_is_real=yes prometheus_is=yes grafana_is=yes metabase_is=yes
stack_images() {
  local context=$work/standins image
  rm -rf "$context"
  cp -r "$root/deploy/docker/standins" "$context"
  cp /etc/ssl/certs/ca-certificates.crt "$context/"
  image=$(default_image MONGO_IMAGE)
  if ! real_image "$image"; then
    mongo_is_real=no
    if [ ! -x "$root/.venv/secantusdb/secantusdb.scripts/secantusd-rs" ]; then
      "$root/tools/install.sh" >"$logs/install.log" 2>&1
    fi
    mkdir "$context/secantusdb"
    cp -r "$root"/.venv/secantusdb/secantusdb.{scripts,libs} "$context/secantusdb/" || wrong "SecantusDB is missing" || return 1
    build_stand_in mongo "$image" "SecantusDB, no users, no replica set to initiate" || return 1
  fi
  image=$(default_image S3_IMAGE)
  if ! real_image "$image"; then
    s3_is_real=no
    build_stand_in s3 "$image" "moto, in memory: written to its volume when it is stopped in order, never killed here" || return 1
  fi
  image=$(default_image GATEWAY_IMAGE)
  real_image "$image" || build_stand_in nginx "$image" "Debian's nginx 1.22" || return 1
  image=$(default_image PROMETHEUS_IMAGE)
  real_image "$image" || build_stand_in prometheus "$image" "Debian's Prometheus 2.42" || prometheus_is=no
  real_image "$(default_image GRAFANA_IMAGE)" || grafana_is=no
  real_image "$(default_image METABASE_IMAGE)" || metabase_is=no
}

# build_stand_in NAME IMAGE WHAT
build_stand_in() {
  docker build --tag "$2" --file "$work/standins/$1.Dockerfile" "$work/standins" >"$logs/standin-$1.log" 2>&1 ||
    wrong "the stand-in of $2: see $logs/standin-$1.log" || return 1
  stand_in "$2" "$3"
}
