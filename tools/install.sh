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

# apt_install PROGRAM PACKAGE WHY: installs PACKAGE unless PROGRAM is there.
apt_install() {
  local program=$1 package=$2 why=$3
  PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null && return 0
  if ! can_apt; then
    missing+=("$package: $why (not root or no apt-get; install it by hand)")
    return 1
  fi
  say "installing $package: $why"
  if [ "$apt_updated" = no ]; then
    apt_updated=yes
    DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null 2>&1 || say "apt-get update failed (no network?)"
  fi
  if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1; then
    missing+=("$package: $why (apt-get install failed)")
    return 1
  fi
}

# Debian starts a broker on 1883 when mosquitto is installed; ours wants that port.
mosquitto_was_there=no
PATH="$PATH:/usr/sbin" command -v mosquitto >/dev/null && mosquitto_was_there=yes
apt_install mosquitto mosquitto "the broker the benchmark compares with, and a foreign broker for tests"
if [ "$mosquitto_was_there" = no ] && PATH="$PATH:/usr/sbin" command -v mosquitto >/dev/null; then
  if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
    systemctl disable --now mosquitto >/dev/null 2>&1 || say "could not stop the mosquitto service; it may hold port 1883"
  elif [ -x /etc/init.d/mosquitto ]; then
    /etc/init.d/mosquitto stop >/dev/null 2>&1 || true
  fi
fi
apt_install mosquitto_pub mosquitto-clients "foreign MQTT clients for the system tests"
apt_install shellcheck shellcheck "checks the shell scripts"

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

if ! command -v python3 >/dev/null; then
  missing+=("python3: the independent checkers (install Python 3.9 or newer)")
elif ! venv_is_right; then
  say "installing into .venv: $(grep -v '^#' tools/requirements.txt | tr '\n' ' ')(foreign MQTT client, independent readers of the lake)"
  if [ ! -x .venv/bin/pip ]; then
    if ! python3 -c 'import ensurepip' 2>/dev/null; then
      apt_install python3-venv-absent python3-venv "makes .venv" || true
    fi
    python3 -m venv .venv >/dev/null 2>&1
  fi
  if ! .venv/bin/pip install --quiet --disable-pip-version-check -r tools/requirements.txt >/dev/null 2>&1; then
    missing+=("Python packages of tools/requirements.txt: foreign MQTT client, independent readers of the lake (pip install failed; no network?)")
  fi
fi

for name in "${missing[@]}"; do
  say "MISSING $name"
done
exit 0
