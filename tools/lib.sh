# shellcheck shell=bash
# What start.sh and stop.sh share: where things are, and which processes are ours.
#
# A process id from a file is believed only when the command line of that process names our program and
# our data directory, so that nobody else's process is ever signalled.

# fail MESSAGE...: says every line of it and ends with 1.
fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

# absolute PATH: the path from the root; a folder that exists is named in the one way that has no links.
absolute() {
  if [ -d "$1" ]; then
    (cd "$1" && pwd -P)
    return
  fi
  case $1 in
    /*) printf '%s\n' "$1" ;;
    *) printf '%s\n' "$PWD/$1" ;;
  esac
}

# command_line PID: its command and arguments; nothing when it has ended.
command_line() {
  if [ -d /proc/self ]; then
    tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline"
  else
    ps -o args= -p "$1" 2>/dev/null
  fi
}

# is_ours PID WORD...: whether the process lives and its command line has every word.
is_ours() {
  local line word
  case $1 in '' | *[!0-9]*) return 1 ;; esac
  line=$(command_line "$1") || return 1
  shift
  for word in "$@"; do
    case $line in *"$word"*) ;; *) return 1 ;; esac
  done
}

# await_end PID: waits, 10 s at most, while the process is on its way out. Its command line is gone before its
# ports and locks are, so a start right after a kill would find those still taken.
await_end() {
  local state _
  for _ in {1..100}; do
    state=$(sed 's/.*) \(.\).*/\1/' "/proc/$1/stat" 2>/dev/null)
    case $state in '' | Z | X) return 0 ;; esac
    [ -z "$(command_line "$1")" ] || return 0
    sleep 0.1
  done
}

# read_pid FILE: the first word of it, or nothing.
read_pid() {
  local pid=''
  [ -r "$1" ] && read -r pid _ <"$1"
  printf '%s\n' "$pid"
}

# detached COMMAND...: runs it in the background, away from this terminal, in a process group of its own
# where the system can; sets `detached_pid`. The caller redirects.
detached() {
  if command -v setsid >/dev/null; then
    setsid "$@" </dev/null &
  else
    nohup "$@" </dev/null &
  fi
  detached_pid=$!
  disown "$detached_pid" 2>/dev/null || true
}

# The background build of the SQL models. One per checkout, because cargo locks the target folder; the
# file holds its process id and the data directory it was started for.
target_dir=${CARGO_TARGET_DIR:-$root/target}
models_pid_file=$target_dir/models-build.pid

# models_build_pid: its process id while it runs; fails when it does not.
models_build_pid() {
  local pid
  pid=$(read_pid "$models_pid_file")
  is_ours "$pid" cargo lake_ingest || return 1
  printf '%s\n' "$pid"
}

# stop_models_build: ends it; what was compiled so far is kept by cargo.
stop_models_build() {
  local pid
  pid=$(models_build_pid) || return 1
  # As a group, with the compilers it started, when it has one of its own.
  kill -TERM -- "-$pid" 2>/dev/null || kill -TERM "$pid" 2>/dev/null
  rm -f "$models_pid_file"
}
