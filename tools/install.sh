#!/usr/bin/env bash
# Installs the third-party programs the tests check this project against, and says what each is for.
#
# Debian packages are installed where this runs as root, Python packages into .venv. Whatever cannot
# be installed is named; the tests that need it then report themselves as skipped, by name. Running
# it again changes nothing. Exit status: 0, also when something is missing.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

say() { printf 'tools: %s\n' "$*"; }

missing=()
apt_updated=no

# Tells whether this machine lets us install Debian packages.
can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# Programs of administrators are not in everybody's PATH.
PATH=$PATH:/usr/sbin:/sbin

has() { command -v "$1" >/dev/null; }

# apt_install PACKAGE WHY CHECK...: installs PACKAGE unless the command CHECK succeeds.
apt_install() {
  local package=$1 why=$2
  shift 2
  "$@" && return 0
  if ! can_apt; then
    missing+=("$package: $why (not root or no apt-get; install it by hand)")
    return 1
  fi
  say "installing $package: $why"
  if [ "$apt_updated" = no ]; then
    apt_updated=yes
    apt-get update -qq >/dev/null 2>&1 || say "apt-get update failed (no network?)"
  fi
  if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1; then
    missing+=("$package: $why (apt-get install failed)")
    return 1
  fi
}

apt_install build-essential "links Rust programs and compiles SQLite and zstd" has cc
apt_install curl "the commands of the README" has curl
apt_install shellcheck "checks the shell scripts" has shellcheck
apt_install mosquitto-clients "foreign MQTT clients for the system tests" has mosquitto_pub
if ! has mosquitto && apt_install mosquitto "the broker the benchmark compares with" has mosquitto; then
  # Debian starts it on port 1883, which ours wants.
  if has systemctl && [ -d /run/systemd/system ]; then
    systemctl disable --now mosquitto >/dev/null 2>&1 || say "could not stop the mosquitto service; it may hold port 1883"
  elif [ -x /etc/init.d/mosquitto ]; then
    /etc/init.d/mosquitto stop >/dev/null 2>&1 || say "could not stop mosquitto; it may hold port 1883"
  fi
fi

# Tells whether .venv holds exactly the pinned versions.
venv_is_right() {
  [ -x .venv/bin/python ] || return 1
  .venv/bin/python - tools/requirements.txt <<'PYTHON'
import sys
from importlib import metadata

for line in open(sys.argv[1]):
    line = line.split("#")[0].strip()
    if line:
        name, version = line.split("==")
        try:
            if metadata.version(name) != version:
                sys.exit(1)
        except metadata.PackageNotFoundError:
            sys.exit(1)
PYTHON
}

if ! has python3; then
  missing+=("python3: the independent checkers (install Python 3.9 or newer)")
elif ! venv_is_right; then
  say "installing into .venv: $(grep -v '^#' tools/requirements.txt | tr '\n' ' ')(foreign MQTT client, independent readers of the lake)"
  if [ ! -x .venv/bin/pip ]; then
    apt_install python3-venv "makes .venv" python3 -c 'import ensurepip' 2>/dev/null
    python3 -m venv .venv >/dev/null 2>&1
  fi
  if ! .venv/bin/pip install --quiet --disable-pip-version-check -r tools/requirements.txt >/dev/null 2>&1; then
    missing+=("Python packages of tools/requirements.txt: foreign MQTT client, independent readers of the lake (pip install failed; no network?)")
  fi
fi

# The MongoDB-protocol server of the tests: a beta whose releases come and go, so any near version
# will do. A program of its own (GPL): never linked, kept out of the venv's packages and of this
# repository. It needs none of its Python dependencies.
secantusdb=.venv/secantusdb
install_secantusdb() {
  local server=$secantusdb/secantusdb.scripts/secantusd-rs version python
  [ -x "$server" ] && "$server" --help >/dev/null 2>&1 && return 0
  [ -x .venv/bin/pip ] || return 1
  say "installing SecantusDB into $secantusdb: a MongoDB-protocol server for the tests of the MongoDB store"
  for version in 0.6.0b17 0.6.0b18 0.6.0b19 0.6.0b16 0.6.0b15 0.6.0b14 0.6.0b12; do
    for python in 3.11 3.12 3.10 3.13; do
      rm -rf "$secantusdb.part"
      .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --target "$secantusdb.part" \
        --python-version "$python" --only-binary=:all: "SecantusDB==$version" >/dev/null 2>&1 || continue
      chmod +x "$secantusdb.part/secantusdb.scripts/secantusd-rs" 2>/dev/null
      if "$secantusdb.part/secantusdb.scripts/secantusd-rs" --help >/dev/null 2>&1; then
        rm -rf "$secantusdb" && mv "$secantusdb.part" "$secantusdb" && return 0
      fi
    done
  done
  rm -rf "$secantusdb.part"
  return 1
}
if ! install_secantusdb; then
  missing+=("SecantusDB: a MongoDB-protocol server for the tests of the MongoDB store (no release with a server that runs here; give the tests MONGODB_URI instead)")
fi

# newman runs the Postman collection. In .venv, which no checkout holds; the lock file is deploy/postman's.
install_newman() {
  local home=.venv/postman
  cmp -s deploy/postman/package-lock.json "$home/package-lock.json" && [ -x "$home/node_modules/.bin/newman" ] && return 0
  has npm || return 1
  say "installing newman into $home: runs the Postman collection"
  mkdir -p "$home" && cp deploy/postman/package.json deploy/postman/package-lock.json "$home/" &&
    npm ci --prefix "$home" --ignore-scripts --no-audit --no-fund >/dev/null 2>&1
}
if ! install_newman; then
  missing+=("newman: runs the Postman collection (npm ci failed, or there is no npm; install Node.js 16 or newer)")
fi

# MQTT.js is one of the foreign clients the broker is held to. In .venv; the lock file is the broker's tests'.
install_mqttjs() {
  local home=.venv/mqttjs clients=broker/tests/clients
  cmp -s "$clients/package-lock.json" "$home/package-lock.json" && [ -d "$home/node_modules/mqtt" ] && return 0
  has npm || return 1
  say "installing MQTT.js into $home: a foreign MQTT client"
  mkdir -p "$home" && cp "$clients/package.json" "$clients/package-lock.json" "$home/" &&
    npm ci --prefix "$home" --ignore-scripts --no-audit --no-fund >/dev/null 2>&1
}
if ! install_mqttjs; then
  missing+=("MQTT.js: a foreign MQTT client (npm ci failed, or there is no npm; install Node.js 16 or newer)")
fi

for name in "${missing[@]}"; do
  say "MISSING $name"
done
exit 0
