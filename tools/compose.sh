#!/usr/bin/env bash
# Puts Docker's Compose and buildx plugins, pinned, into a folder, from Debian's packages, without
# installing anything: the packages of Debian's next release, in lists apart from this machine's.
#
#   tools/compose.sh DIR        docker-compose works by itself, without an engine: DIR/docker-compose config
#
# Exit status: 0 they are there, 1 they could not be had (no apt, no network).
set -euo pipefail
[ $# = 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2 && exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
if "$dir/docker-compose" version --short 2>/dev/null | grep -q '^v\{0,1\}2\.40\.' && [ -x "$dir/docker-buildx" ]; then exit 0; fi
command -v apt-get >/dev/null || { echo "compose: this machine has no apt-get" >&2 && exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/out"
: >"$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${DEBIAN_MIRROR:-http://deb.debian.org/debian} sid main" >"$work/sources.list"
options=(
  -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::Etc::preferencesparts=-
  -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o "Dir::State::status=$work/status"
  -o APT::Sandbox::User=root
)
apt-get "${options[@]}" update -qq
(cd "$work" && apt-get "${options[@]}" download -qq docker-compose docker-buildx)
for package in "$work"/*.deb; do dpkg -x "$package" "$work/out"; done
install -m 755 "$work"/out/usr/libexec/docker/cli-plugins/docker-{compose,buildx} "$dir/"
"$dir/docker-compose" version --short
