# shellcheck shell=bash
# The steps of check.sh that look at the stack. Sourced by check.sh, whose variables it uses.
#
# The stack runs from a copy of the checkout, so that its .env, its images and edits made meanwhile do not
# meet. Every count is compared with what the publisher noted as acknowledged.
# shellcheck disable=SC2154

src=$work/src
api=http://127.0.0.1:8080
services=(broker mongo s3 subscriber api gateway lake_ingest)
# All that was acknowledged so far, in messages.
acknowledged=0

dc() { docker compose --project-directory "$src" --file "$src/docker-compose.yml" --env-file "$src/.env" "$@"; }
get() { inside curl --silent --show-error --fail --max-time 20 "$@"; }
number_of() { sed -n "s/.*\"$1\":\([0-9][0-9]*\).*/\1/p" | head -n 1; }
stored() { get "$api/api/v1/status" | number_of positions; }

stack_state() {
  dc ps --all
  docker stats --no-stream
  dc logs --no-color --tail 40
}

copy_checkout() {
  rm -rf "$src" && mkdir "$src" || return 1
  if git -C "$root" rev-parse >/dev/null 2>&1; then
    # Tracked and new files, without what git ignores.
    (cd "$root" && git ls-files -coz --exclude-standard | while IFS= read -r -d '' file; do
      [ ! -e "$file" ] || printf '%s\0' "$file"
    done | tar --null --files-from - --create) | tar -x -C "$src" || return 1
  else
    cp -r "$root/." "$src/" && rm -rf "$src/target" "$src/data" "$src/.env"
  fi
  # As start.sh makes it, with this run's needs behind it.
  # shellcheck disable=SC2016  # for the other shell
  root=$src bash -c '. "$root/tools/lib.sh" && . "$root/tools/docker.sh" && make_env' >"$logs/env.log" || return 1
  {
    echo "PROFILE=$profile"
    echo "LASTMILE_LAKE_SCHEDULE=* * * * *"
    if [ "$mongo_is_real" = no ]; then
      echo "MONGODB_URI=mongodb://mongo:27017/lastmile?directConnection=true"
    fi
  } >>"$src/.env"
  [ "$(stat -c %a "$src/.env")" = 600 ] || wrong ".env can be read by others" || return 1
  ! grep -q change-me "$src/.env" || wrong ".env has secrets of the example"
}

check_config() {
  dc config --quiet && dc --profile '*' config --quiet || return 1
  # The check can fail: a word misspelt, and a secret left out.
  sed 's/service_healthy/service_helthy/' "$src/docker-compose.yml" >"$src/typo.yml"
  ! docker compose --file "$src/typo.yml" --env-file "$src/.env" config --quiet 2>>"$logs/config.log" ||
    wrong "a misspelt condition passed" || return 1
  rm "$src/typo.yml"
  ! (cd / && env -i PATH="$PATH" DOCKER_CONFIG="$DOCKER_CONFIG" docker compose --project-directory "$work/engine" \
    --file "$src/docker-compose.yml" --env-file /dev/null config --quiet) 2>>"$logs/config.log" ||
    wrong "a stack without secrets passed"
}

build_image() {
  dc --progress plain build >"$logs/build.log" 2>&1 || { tail -n 30 "$logs/build.log" && return 1; }
  say "    $(docker image inspect lastmile:local --format '{{.Size}}' | awk '{ printf "%.0f MB", $1 / 1e6 }')," \
    "$(grep -c ' Compiling ' "$logs/build.log") packages compiled"
}

first_start() {
  # The engine would find this port taken only where this script already runs.
  (cd "$src" && inside ./start.sh --docker -n 10 -l 6 -d 0) >"$logs/start.log" 2>&1
  local status=$?
  sed 's/^/    | /' "$logs/start.log"
  [ "$status" = 0 ] || return 1
  grep -q 'acknowledged  60 ' "$logs/start.log" || wrong "60 acknowledged positions were expected" || return 1
  grep -q 'stored        60$' "$logs/start.log" || wrong "60 stored positions were expected" || return 1
  acknowledged=60
  # Without --docker: it must find by itself that Docker works.
  (cd "$src" && inside ./start.sh) >"$logs/start-again.log" 2>&1 || return 1
  grep '^Docker works here\|already running' "$logs/start-again.log" | sed 's/^/    | again: /'
  grep -q '^Docker works here' "$logs/start-again.log" || wrong "without --docker it does not take Docker" || return 1
  grep -q 'already running' "$logs/start-again.log" || wrong "a second start does not say that it runs" || return 1
  [ "$(stored)" = 60 ] || wrong "a second start sent something"
}

# one_container SERVICE: the first of it.
one_container() { dc ps --quiet "$1" | head -n 1; }

check_hardening() {
  local service id pid caps state
  for service in "${services[@]}"; do
    id=$(one_container "$service")
    pid=$(docker inspect --format '{{.State.Pid}}' "$id")
    caps=$(sed -n 's/^CapEff:\t//p' "/proc/$pid/status")
    state="uid $(awk '/^Uid:/ { print $2 }' "/proc/$pid/status"), capabilities $caps, no new privileges $(sed -n 's/^NoNewPrivs:\t//p' "/proc/$pid/status"), read-only root $(docker inspect --format '{{.HostConfig.ReadonlyRootfs}}' "$id"), memory $(docker inspect --format '{{.HostConfig.Memory}}' "$id")"
    say "    $service: $state"
    case $state in
      *"capabilities 0000000000000000, no new privileges 1, read-only root true"*) ;;
      *) wrong "$service may do more than it needs" || return 1 ;;
    esac
  done
  # Only what is meant to be reached, and only from this machine.
  docker ps --format '{{.Ports}}' | tr ',' '\n' | grep -- '->' >"$logs/ports.log"
  ! grep -v '127\.0\.0\.1:\(1883\|8080\)->' "$logs/ports.log" || wrong "more is published than two ports of this machine"
}

# publish NAME FLAG...: loads the broker through its published port; notes what was acknowledged.
publish() {
  local name=$1 acked
  shift
  docker run --rm --network host --volume lastmile_publisher:/data lastmile:local \
    publisher --mqtt mqtt://127.0.0.1:1883 --log warn --summary json --ledger "/data/$name.jsonl" "$@" \
    >"$logs/publish-$name.json" 2>"$logs/publish-$name.log" || wrong "the publisher failed: see $logs/publish-$name.log" || return 1
  acked=$(number_of acked <"$logs/publish-$name.json")
  acknowledged=$((acknowledged + acked))
  say "    $name: $acked acknowledged"
}

# settle: waits until as much is stored as was acknowledged, as long as it becomes more within two minutes; more
# than acknowledged would be something counted twice.
settle() {
  local now='' before='' quiet=$SECONDS
  while [ $((SECONDS - quiet)) -lt 120 ]; do
    now=$(stored 2>/dev/null)
    [ "${now:-0}" -lt "$acknowledged" ] || break
    if [ "$now" != "$before" ]; then before=$now quiet=$SECONDS; fi
    sleep 0.5
  done
  say "    stored $now, acknowledged $acknowledged"
  [ "$now" = "$acknowledged" ] || wrong "stored is not what was acknowledged"
}

# verify NAME: asks the API, through its published port, for every message of a ledger.
verify() {
  docker run --rm --network host --volume lastmile_publisher:/data lastmile:local \
    publisher verify --log warn --ledger "/data/$1.jsonl" --api "$api" >"$logs/verify-$1.log" 2>&1 ||
    wrong "not all of $1 can be read back: $(tail -n 3 "$logs/verify-$1.log")" || return 1
  say "    $1: $(grep -E 'missing|found twice' "$logs/verify-$1.log" | tr -s ' ' | paste -sd' ')"
}

check_burst() {
  publish burst --burst 5000 --connections 16 && settle && verify burst
}

check_postman() {
  local runner=$root/deploy/postman/run.sh status
  if [ ! -x "$runner" ]; then
    skip "postman: there is no deploy/postman/run.sh"
    return
  fi
  inside "$runner" "$api" >"$logs/postman.log" 2>&1
  status=$?
  if [ "$status" = 69 ]; then
    skip "postman: newman is not installed (tools/install.sh)"
    return
  fi
  grep -E 'executed|requests|assertions|problem|^postman' "$logs/postman.log" | sed 's/^/    | /'
  [ "$status" = 0 ] || wrong "see $logs/postman.log" || return 1
  # Its requests store positions of their own: count from here.
  local before=-1 now
  now=$(stored)
  while [ "$before" != "$now" ]; do
    before=$now
    sleep 3
    now=$(stored)
  done
  acknowledged=$now
}

# addresses SERVICE: of its containers, as the network namespace reaches them.
addresses() {
  local id
  for id in $(dc ps --quiet "$1"); do
    docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$id"
  done
}

# sum_of URL METRIC: the sum of its series.
sum_of() { get "$1" | awk -v name="$2" 'index($1, name) == 1 { sum += $2 } END { printf "%.0f\n", sum }'; }

check_scale() {
  local address count before=() _ n=0
  dc up --detach --wait --wait-timeout 180 --no-recreate --scale api=3 --scale subscriber=2 >"$logs/scale.log" 2>&1 ||
    wrong "see $logs/scale.log" || return 1
  [ "$(addresses api | wc -l)" = 3 ] && [ "$(addresses subscriber | wc -l)" = 2 ] || wrong "not as many as asked for" || return 1
  # The gateway's answers from DNS are at most two seconds old.
  sleep 3
  for address in $(addresses api); do
    before+=("$(sum_of "http://$address:8080/metrics" 'api_requests_total{route="/api/v1/status"')")
  done
  publish scale --burst 5000 --connections 16 || return 1
  for _ in {1..90}; do get "$api/api/v1/status" >/dev/null || return 1; done
  for address in $(addresses api); do
    count=$(($(sum_of "http://$address:8080/metrics" 'api_requests_total{route="/api/v1/status"') - before[n]))
    n=$((n + 1))
    say "    api at $address answered $count of the 90 and more"
    [ "$count" -gt 0 ] || wrong "a replica of api answered nothing" || return 1
  done
  for address in $(addresses subscriber); do
    count=$(sum_of "http://$address:9102/metrics" subscriber_received_total)
    say "    subscriber at $address received $count"
    [ "$count" -gt 0 ] || wrong "a replica of subscriber received nothing" || return 1
  done
  settle && verify scale
}

# healthy ID: waits until the container is.
healthy() {
  local _
  for _ in {1..240}; do
    [ "$(docker inspect --format '{{.State.Health.Status}}' "$1" 2>/dev/null)" = healthy ] && return 0
    sleep 0.5
  done
  return 1
}

check_kills() {
  local service id pid begun load restarts over=''
  local begun_all=$SECONDS
  publish kills --rate 100 --duration 150s --connections 8 --give-up 120s &
  load=$!
  sleep 3
  for service in "${services[@]}"; do
    if [ "$service" = s3 ] && [ "$s3_is_real" = no ]; then
      skip "kill -9 of s3: its stand-in keeps objects in memory"
      continue
    fi
    for id in $(dc ps --quiet "$service"); do
      restarts=$(docker inspect --format '{{.RestartCount}}' "$id")
      pid=$(docker inspect --format '{{.State.Pid}}' "$id")
      begun=$SECONDS
      kill -0 "$load" 2>/dev/null || over=' (the load was over)'
      kill -KILL "$pid" || return 1
      # Docker must have seen the death before its health counts.
      until [ "$(docker inspect --format '{{.RestartCount}}' "$id")" -gt "$restarts" ]; do
        [ $((SECONDS - begun)) -lt 60 ] || wrong "$service was not started again" || return 1
        sleep 0.2
      done
      healthy "$id" || wrong "$service did not become healthy again" || return 1
      say "    $service (process $pid) killed, healthy again after $((SECONDS - begun)) s$over"
    done
  done
  wait "$load" || return 1
  # It ran in a process of its own: its count must be taken over here.
  acknowledged=$((acknowledged + $(number_of acked <"$logs/publish-kills.json")))
  say "    load and kills took $((SECONDS - begun_all)) s"
  settle && verify kills
}

# in_lake TABLE: rows of it, as lake_ingest's own query engine counts them.
in_lake() {
  dc exec -T lake_ingest lake_ingest --log warn query --format csv "SELECT count(*) AS n FROM $1" 2>>"$logs/lake.log" | sed -n 2p | tr -cd 0-9
}

check_lake() {
  local now='' _
  for _ in {1..60}; do
    now=$(in_lake raw.deliverer_location)
    [ "${now:-0}" -lt "$acknowledged" ] || break
    sleep 3
  done
  say "    in the lake $now, stored $acknowledged"
  [ "$now" = "$acknowledged" ] || wrong "the lake has not what is stored: $(tail -n 3 "$logs/lake.log")"
}

check_observability() {
  local name
  if [ "$prometheus_is" = no ]; then
    skip "prometheus: no image and no stand-in"
    return
  fi
  # By name: the rest is not touched, so the replicas stay.
  dc up --detach --wait --wait-timeout 120 --no-recreate prometheus >"$logs/prometheus.log" 2>&1 ||
    wrong "see $logs/prometheus.log" || return 1
  for _ in {1..60}; do
    get "http://127.0.0.1:9090/api/v1/query?query=up" >"$logs/up.json"
    [ "$(grep -o '"job":"\(broker\|subscriber\|api\|lake_ingest\)"' "$logs/up.json" | wc -l)" = 7 ] && ! grep -q ',"0"\]' "$logs/up.json" && break
    sleep 1
  done
  say "    up: $(grep -o '"job":"[a-z_]*"' "$logs/up.json" | sort | uniq -c | sed 's/"job"://' | tr -s ' \n' ' ')"
  [ "$(grep -o '"job":"\(broker\|subscriber\|api\|lake_ingest\)"' "$logs/up.json" | wc -l)" = 7 ] || wrong "seven replicas were expected" || return 1
  ! grep -q ',"0"\]' "$logs/up.json" || wrong "a replica is down" || return 1
  dc exec -T prometheus promtool check rules /etc/lastmile/alerts.yml >"$logs/rules.log" 2>&1 || wrong "see $logs/rules.log" || return 1
  # Of every metric there is an announcement, also before its first series.
  {
    for name in broker:9101 subscriber:9102 api:8080 lake_ingest:9104; do
      get "http://$(addresses "${name%:*}" | head -n 1):${name#*:}/metrics"
    done
  } | awk '/^# TYPE / { print $3 }' | sort -u >"$logs/metrics.log"
  python3 "$root/tools/check_metrics.py" "$logs/metrics.log" >"$logs/names.log" 2>&1
  local status=$?
  sed 's/^/    | /' "$logs/names.log"
  [ "$status" = 0 ] || return 1
  if [ "$grafana_is" = no ]; then
    skip "grafana: no image; its dashboard is checked as text only"
  else
    dc up --detach --wait --no-recreate grafana >"$logs/grafana.log" 2>&1 || wrong "see $logs/grafana.log" || return 1
  fi
  if [ "$metabase_is" = no ]; then
    skip "metabase: no image; profile bi is checked by docker compose config only"
  else
    dc up --detach --wait --no-recreate metabase >"$logs/metabase.log" 2>&1 || wrong "see $logs/metabase.log"
  fi
}

check_down_and_up() {
  local begun=$SECONDS
  dc --profile '*' down >"$logs/down.log" 2>&1 || return 1
  say "    down in $((SECONDS - begun)) s"
  [ -z "$(docker ps --quiet --all)" ] || wrong "containers stayed behind" || return 1
  begun=$SECONDS
  dc up --detach --wait --wait-timeout 180 >"$logs/up-again.log" 2>&1 || wrong "see $logs/up-again.log" || return 1
  say "    up in $((SECONDS - begun)) s"
  settle && verify burst && verify kills || return 1
  publish after --burst 2000 --connections 4 && settle && verify after && check_lake
}

# check_early: on new volumes, what devices send before the first subscriber ever came is not lost.
check_early() {
  dc --profile '*' down --volumes >"$logs/early.log" 2>&1 || return 1
  acknowledged=0
  dc up --detach --wait --wait-timeout 60 broker >>"$logs/early.log" 2>&1 || wrong "see $logs/early.log" || return 1
  [ "$(docker ps --quiet | wc -l)" = 1 ] || wrong "more than the broker runs" || return 1
  # Its volume is made as Compose makes it.
  dc run --rm --no-deps -T publisher publisher --version >>"$logs/early.log" 2>&1 || wrong "see $logs/early.log" || return 1
  publish early --burst 1000 --connections 4 || return 1
  dc up --detach --wait --wait-timeout 300 >>"$logs/early.log" 2>&1 || wrong "see $logs/early.log" || return 1
  settle && verify early
}

check_stop() {
  (cd "$src" && inside ./stop.sh) >"$logs/stop.log" 2>&1 || return 1
  sed 's/^/    | /' "$logs/stop.log"
  [ -z "$(docker ps --quiet --all)" ] || wrong "containers stayed behind" || return 1
  (cd "$src" && inside ./stop.sh) >>"$logs/stop.log" 2>&1 || wrong "a second stop fails" || return 1
  [ -n "$(docker volume ls --quiet)" ] || wrong "the data is gone" || return 1
  dc --profile '*' down --volumes >"$logs/down-volumes.log" 2>&1 || return 1
  [ -z "$(docker volume ls --quiet --filter label=com.docker.compose.project=lastmile)" ] || wrong "volumes stayed behind"
}
