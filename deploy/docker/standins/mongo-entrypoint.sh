#!/usr/bin/env bash
# The entry of the mongo stand-in: checks what the real image would be given, and starts the server.
set -euo pipefail
[ "${1:-}" = mongod ] || exec "$@"
if [ "$(stat -c '%a %u' /tmp/keyfile)" != "400 $(id -u)" ]; then
  echo "the key file must be readable by its owner only" >&2
  exit 1
fi
exec /opt/secantusdb/secantusdb.scripts/secantusd-rs --host 0.0.0.0 --port 27017 \
  --storage-path /data/db --sync-on-commit --log-file-max 64MB --cache-size 256M
