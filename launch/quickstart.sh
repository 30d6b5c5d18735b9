#!/usr/bin/env bash
# From nothing to a trained model: installs and builds, makes a corpus of the King James Bible, trains a tokenizer and a
# small DeepSeek-style mixture of experts on four MPI workers, stops them half way with SIGTERM, resumes from the
# checkpoint, samples text and prints a summary. Five minutes on two fast cores, a quarter of an hour on two slow ones.
#
#   ./launch/quickstart.sh                     # a new folder runs/quickstart-DATE-TIME at every call
#   ./launch/quickstart.sh --output DIR        # DIR instead; it must not exist yet
#   ./launch/quickstart.sh --steps 100         # fewer steps than the preset's
#   ./launch/quickstart.sh --short             # a few steps only: that everything works, not that the model is good
#
# Ctrl-C at any time leaves nothing running.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=configs/presets/quickstart_cpu.textproto
workers=4
steps=
output=runs/quickstart-$(date +%Y%m%d-%H%M%S)
extra=()

usage() {
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' launch/quickstart.sh
  exit "$1"
}
while (($# > 0)); do
  case $1 in
    --steps) steps=${2:?--steps needs a number}; shift ;;
    --output) output=${2:?--output needs a folder}; shift ;;
    --short) steps=${steps:-16}; extra+=(--set log.interval=2 --set train.eval_sequences=8) ;;
    -h | --help) usage 0 ;;
    *) echo "quickstart.sh: unknown argument '$1'" >&2; usage 2 >&2 ;;
  esac
  shift
done
if [[ -e $output ]]; then
  echo "quickstart.sh: $output exists already; name another folder with --output, or remove it" >&2
  exit 2
fi

say() { printf '\n== %s  [%d s]\n' "$*" "$SECONDS"; }
fail() { echo "quickstart.sh: $*" >&2; exit 1; }

launcher=
stop_launcher() {
  [[ -n $launcher ]] || return 0
  kill -TERM "$launcher" 2>/dev/null || true  # mpirun ends its ranks
  wait "$launcher" 2>/dev/null || true
  launcher=
}
trap stop_launcher EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

ranks() {  # the processes that mpirun has started here
  awk -v parent="$1" 'FNR == 1 { pid = "" } $1 == "Pid:" { pid = $2 } $1 == "PPid:" && $2 == parent { print pid }' \
    /proc/[0-9]*/status 2>/dev/null || true
}
last_step() {  # of the run's metrics, 0 before the first
  local step
  step=$(tail -n 1 "$output/run/metrics.jsonl" 2>/dev/null | sed -n 's/.*"step": *\([0-9]*\).*/\1/p')
  echo "${step:-0}"
}

say "packages and build"
./launch/setup.sh
./launch/build.sh jevons

say "corpus: the King James Bible, a verse a line, a blank line between books"
mkdir -p "$output"
bible -f gen1:1-rev22:21 </dev/null | awk '
  { book = $1; sub(/[0-9]+:[0-9]+$/, "", book); sub(/^[^ ]+ /, "") }
  NR > 1 && book != last { print "" }
  { print; last = book }' >"$output/corpus.txt"
wc -lc "$output/corpus.txt"

say "tokenizer and token files"
build/jevons prepare --input "$output/corpus.txt" --output "$output/data" --vocab-size 2048 \
  --validation-fraction 0.05

total=${steps:-$(build/jevons inspect --config "$preset" --print-config | sed -n 's/^ *steps: //p')}
train=(mpirun -q --bind-to none -np "$workers" build/jevons train --config "$preset" --set data.path="$output/data"
  --set parallel.ep="$workers" --set train.steps="$total" "${extra[@]}" --output "$output/run")
(($(nproc) >= workers)) || train=("${train[0]}" --oversubscribe "${train[@]:1}")
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
((EUID != 0)) || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

say "training on $workers workers, $total steps; SIGTERM comes half way"
echo "${train[*]}"
setsid "${train[@]}" &  # in a session of its own, so that Ctrl-C comes once, from here
launcher=$!
while (($(last_step) < total / 2)); do
  kill -0 "$launcher" 2>/dev/null || break
  sleep 0.2
done
mapfile -t pids < <(ranks "$launcher")
((${#pids[@]} > 0)) && kill -TERM "${pids[@]}"
code=0
wait "$launcher" || code=$?
launcher=
((code == 75)) || fail "expected exit code 75 (stopped with a committed checkpoint), got $code"
echo "stopped at step $(last_step) with a committed checkpoint (exit code 75)"

say "the same command again: it resumes"
setsid "${train[@]}" >"$output/summary.txt" &
launcher=$!
code=0
wait "$launcher" || code=$?
launcher=
((code == 0)) || fail "the resumed run ended with exit code $code"

say "a sample"
build/jevons generate --checkpoint "$output/run" --prompt "And God said"

say "validation"
build/jevons eval --checkpoint "$output/run"

say "summary"
cat "$output/summary.txt"
echo "all files: $output (corpus.txt, data, run)"
