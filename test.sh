#!/usr/bin/env bash
# Checks everything this project promises, the same here and in continuous integration.
#
# Needs a Rust toolchain, Python 3 and the package registries; the rest it installs (tools/install.sh
# says what and why). What cannot be installed is named, and the tests that need it are skipped by
# name. Every step runs even when one before it failed; the summary at the end says what each did.
#
#   ./test.sh                 all steps
#   ./test.sh fmt clippy      only these
#
# Settings: LASTMILE_KILL_CYCLES (kill -9 cycles of the gate), LASTMILE_DOOR2DOOR (the sample of fleet
# events, tested only where present), CARGO_TARGET_DIR.
# shellcheck disable=SC2317  # the functions are called through `step`
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1

all_steps=(tools fmt clippy doc build test shell deploy readme)
wanted=("${@:-${all_steps[@]}}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for name in "${wanted[@]}"; do
  case " ${all_steps[*]} " in
    *" $name "*) ;;
    *) echo "There is no step '$name'; the steps are: ${all_steps[*]}" >&2 && exit 2 ;;
  esac
done

names=() results=() seconds=() skipped=()
failed=0

# is_wanted STEP
is_wanted() {
  local step
  for step in "${wanted[@]}"; do [ "$step" = "$1" ] && return 0; done
  return 1
}

# step NAME COMMAND...: runs and times it; its output is shown and kept in $work/NAME.log.
step() {
  local name=$1 start status
  shift
  is_wanted "$name" || return 0
  printf '\n=== %s: %s\n' "$name" "$*"
  start=$SECONDS
  # Warnings of a step that names what it skips are collected from its output below.
  "$@" 2>&1 | tee "$work/$name.log"
  status=${PIPESTATUS[0]}
  names+=("$name")
  seconds+=("$((SECONDS - start))")
  if [ "$status" = 0 ]; then
    results+=(ok)
  else
    results+=("FAILED ($status)")
    failed=1
  fi
  printf '=== %s: %s after %d s\n' "$name" "${results[-1]}" "${seconds[-1]}"
  mapfile -t -O "${#skipped[@]}" skipped < <(sed -n 's/.*\(SKIPPED .*\)$/\1/p' "$work/$name.log")
  return "$status"
}

# skip_step NAME WHY: for a step that cannot run.
skip_step() {
  is_wanted "$1" || return 0
  names+=("$1") results+=("NOT RUN") seconds+=(0)
  skipped+=("SKIPPED step $1: $2")
}

# Clippy and doc only check; tests and the binaries they start share one development build, made with
# the test targets so that cargo chooses the same features for both.
lint() { cargo clippy --locked --workspace --all-targets -- -D warnings; }
document() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps; }
build() { cargo build --locked --workspace --bins --examples --tests; }
run_tests() { LASTMILE_BIN_DIR=$bin_dir cargo test --locked --workspace --no-fail-fast; }

# Every tracked script that says it is one.
check_scripts() {
  local scripts
  mapfile -t scripts < <(git ls-files -co --exclude-standard | while IFS= read -r file; do
    [ -f "$file" ] && head -n 1 "$file" 2>/dev/null | grep -aqE '^#!.*\b(ba)?sh\b' && printf '%s\n' "$file"
  done)
  printf '%s\n' "${scripts[@]}"
  shellcheck --external-sources "${scripts[@]}"
}

# The folder of the development binaries, wherever the target folder is.
bin_dir=$(cargo metadata --format-version 1 --no-deps --locked --offline 2>/dev/null |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])' 2>/dev/null)
bin_dir=${bin_dir:-${CARGO_TARGET_DIR:-$PWD/target}}/debug

step tools tools/install.sh
step fmt cargo fmt --all --check
step clippy lint
step doc document
built=yes
step build build || built=no
# Also after a failed build: a broken crate must not hide the failures of the others.
step test run_tests
if command -v shellcheck >/dev/null; then
  step shell check_scripts
else
  skip_step shell "shellcheck is not installed"
fi
if [ "$built" = yes ]; then
  step deploy env LASTMILE_BIN_DIR="$bin_dir" tools/check_deploy.sh
else
  skip_step deploy "the binaries were not built"
fi
if [ "$built" = yes ]; then
  step readme env LASTMILE_BIN_DIR="$bin_dir" LASTMILE_BUILD_PROFILE=dev python3 tools/readme_commands.py README.md
else
  skip_step readme "the binaries were not built"
fi

printf '\n=== summary (load average %s)\n' "$(cut -d' ' -f1-3 /proc/loadavg 2>/dev/null || echo unknown)"
for i in "${!names[@]}"; do
  printf '%-8s %-12s %5d s\n' "${names[i]}" "${results[i]}" "${seconds[i]}"
done
printf 'total %29d s\n' "$SECONDS"
if [ "${#skipped[@]}" -gt 0 ]; then
  printf '\nskipped:\n'
  printf '%s\n' "${skipped[@]}" | sort -u
fi
if [ -f "$work/test.log" ]; then
  # A test that skips itself returns, which cargo counts as passed.
  awk -v skipped="$(grep -ao 'SKIPPED .*' "$work/test.log" | sort -u | wc -l)" '
    /^test result:/ { for (i = 1; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1) } }
    END { printf "\ntests: %d passed, %d failed, %d skipped\n", p - skipped, f, skipped }' "$work/test.log"
fi
exit "$failed"
