#!/usr/bin/env bash
# Runs the Postman collection unattended against a running service, and reads its streams.
#
#   deploy/postman/run.sh [BASE_URL]        BASE_URL: http://127.0.0.1:8080 unless given
#
# Needs newman (`npm ci --prefix deploy/postman`, or tools/install.sh), curl and Python 3. May be repeated on the same
# service: every run has ids of its own. What newman cannot do, hold a stream of events open, is done
# with curl here. Exit status: 0 all well, 1 something is wrong, 69 newman is not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
base_url=${1:-http://127.0.0.1:8080}
base_url=${base_url%/}

newman=
for candidate in .venv/postman/node_modules/.bin/newman deploy/postman/node_modules/.bin/newman "$(command -v newman || true)"; do
  if [ -x "$candidate" ]; then
    newman=$candidate
    break
  fi
done
if [ -z "$newman" ]; then
  echo "postman: newman is not installed; tools/install.sh or 'npm ci --prefix deploy/postman' installs it" >&2
  exit 69
fi

echo "postman: every route of $base_url has a request"
python3 tools/check_postman.py "$base_url/openapi.json"

echo "postman: the collection"
"$newman" run deploy/postman/lastmile.postman_collection.json \
  --environment deploy/postman/local.postman_environment.json \
  --env-var "base_url=$base_url" --env-var unattended=yes \
  --timeout-request 30000 --color off --reporters cli --reporter-cli-no-banner --reporter-cli-no-success-assertions

# A position of the order $order at second $1 of the current minute.
position() {
  printf '{"order_id":"%s","deliverer_id":"%s","event_time":"%s","lat":52.%d,"lon":4.89,"seq":%d}' \
    "$order" "$order-rider" "$(date -u +%Y-%m-%dT%H:%M:00Z)" "$1" "$1"
}

post() {
  curl -fsS --max-time 30 -o "$work/posted" -H 'Content-Type: application/json' -d "$(position "$1")" "$base_url/api/v1/locations"
}

# streamed PATTERN: waits, 30 s at most, for a line in what the stream has sent so far.
streamed() {
  for _ in {1..300}; do
    grep -aqE "$1" "$work/stream" && return 0
    sleep 0.1
  done
  echo "postman: the stream did not send '$1' within 30 s; it sent:" >&2
  cat "$work/stream" >&2
  return 1
}

echo "postman: a stream sends the last position, then a newer one"
order=stream-$(date -u +%s)-$$
work=$(mktemp -d)
reader=
trap '[ -z "$reader" ] || kill "$reader" 2>/dev/null; rm -rf "$work"' EXIT
: >"$work/stream"
post 1
curl -sN --max-time 90 "$base_url/api/v1/orders/$order/stream" >"$work/stream" &
reader=$!
streamed '"seq":1,'
post 2
streamed '"seq":2,'
grep -aqx 'event: location' "$work/stream"
echo "postman: ok"
