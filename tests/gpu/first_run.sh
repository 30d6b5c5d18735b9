#!/usr/bin/env bash
# Learns as much as can be learnt of a GPU in some minutes, from a bundle (tests/gpu/bundle.sh) alone: nothing is built, fetched or
# installed. Stages come in the order of what they tell, each with a limit in seconds; what fails or hangs does not stop the rest.
# Every test is a process of its own, four at a time: one that aborts, or breaks its CUDA context, takes no other with it.
#
#   tests/gpu/first_run.sh BUNDLE OUT        # part one, 330 s: facts, correctness, speed, training
#   tests/gpu/first_run.sh BUNDLE OUT 2      # part two, 300 s, when what part one found is mended
#
# BUNDLE is the archive or the folder it was unpacked to. OUT is a folder: table.txt, which is also printed and complete after every
# stage, and a log for each kind of stage, at most 8 files. tests/gpu/READING.md says what the lines of the table decide.
# The exit code is 0 if nothing failed: stages that find no GPU say so, and do not fail.
set -uo pipefail
(($# >= 2)) || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
part=${3:-1}
case "$part" in
  1) budget=330 ;;
  2) budget=300 ;;
  *) echo "first_run: part '$part': say 1 or 2" >&2; exit 2 ;;
esac
[[ -e "$1" ]] || { echo "first_run: $1: no such bundle" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=$(realpath "$1") out=$(realpath -m "$2")
mkdir -p "$out" "$work/run"
if [[ -f "$bundle" ]]; then
  mkdir "$work/bundle"
  tar -C "$work/bundle" -xzf "$bundle" || { echo "first_run: $bundle is no whole .tar.gz" >&2; exit 2; }
  bundle=$work/bundle
fi
run=$bundle/run
cd "$bundle"
export PATH="$PATH:/usr/local/cuda/bin" OMP_WAIT_POLICY=passive
begin=$SECONDS
failures=0
rows=()

left() { echo $((budget - (SECONDS - begin))); }

# row STAGE VERDICT SECONDS TEXT: a line of the table; the file is whole after each.
row() {
  rows+=("$(printf '%-14s %-12s %4s  %s' "$1" "$2" "$3" "$4")")
  case "$2" in FAILED | stopped) ((++failures)) ;; esac
  {
    echo "part $part, $(date -u +%FT%TZ)"
    printf '%-14s %-12s %4s  %s\n' stage verdict s what
    printf '%s\n' "${rows[@]}"
  } >"$out/table.txt"
  echo "${rows[-1]}"
}

no_gpu='no CUDA device: |parallel.backend = CUDA: no |no GPU: '

# limit_of SECONDS: the stage's own limit or what is left of the whole; 0: there is no time for it.
limit_of() { local l; l=$(left); ((l < 3)) && l=0; echo $((l < $1 ? l : $1)); }

# stage NAME LIMIT LOG PATTERN COMMAND...: one command. Of its output, what matches PATTERN goes into the table.
stage() {
  local name=$1 log=$3 pattern=$4 text=$work/text start=$SECONDS verdict=passed limit rc=0
  limit=$(limit_of "$2")
  shift 4
  if ((limit == 0)); then row "$name" "not reached" 0 ""; return; fi
  timeout -s KILL "$limit" "$@" >"$text" 2>&1 </dev/null || rc=$?
  case $rc in
    0) ;;
    137) verdict=stopped ;;
    *) verdict=FAILED ;;
  esac
  if grep -qE "$no_gpu" "$text"; then verdict="no GPU"; fi
  { echo "== $name: $*"; head -c 1500000 "$text"; echo "== $name: $verdict, exit code $rc"; } >>"$out/$log"
  row "$name" "$verdict" $((SECONDS - start)) ""
  [[ -z "$pattern" ]] || grep -E -- "$pattern" "$text" | while IFS= read -r line; do echo "    ${line:0:150}"; done >"$work/lines"
  [[ -n "$pattern" ]] || : >"$work/lines"
  if [[ "$verdict" == FAILED || "$verdict" == stopped ]]; then tail -n 2 "$text" | cut -c 1-150 | sed 's/^/    > /' >>"$work/lines"; fi
  while IFS= read -r line; do rows+=("$line"); echo "$line"; done <"$work/lines"
  printf '%s\n' "${rows[@]}" >"$work/rows"
  { head -n 2 "$out/table.txt"; cat "$work/rows"; } >"$work/table" && mv "$work/table" "$out/table.txt"
}

# one_test PROGRAM NAME FOLDER EACH END: runs it, and leaves its log and verdict in the folder.
one_test() {
  local program=$1 name=$2 file=$3/${2//\//_} limit=$4 rest=$(($5 - $(date +%s))) rc=0 verdict
  ((rest < limit)) && limit=$rest
  if ((limit < 1)); then echo "not-reached $name" >"$file.verdict"; return; fi
  JEVONS_CUDA_REPEATS=${JEVONS_CUDA_REPEATS:-2} OMP_NUM_THREADS=1 timeout -s KILL "$limit" "$run" "$program" --gtest_filter="$name" \
    >"$file.log" 2>&1 </dev/null || rc=$?
  if grep -qE "$no_gpu" "$file.log"; then verdict=no-gpu
  elif ((rc == 137)); then verdict=hangs
  elif ((rc != 0)); then verdict=failed
  elif grep -q '^\[  SKIPPED \]' "$file.log"; then verdict=skipped
  elif grep -q '^\[  PASSED  \] 1 test' "$file.log"; then verdict=passed
  else verdict=failed; fi
  echo "$verdict $name" >"$file.verdict"
}
export -f one_test
export run no_gpu

# tests NAME LIMIT EACH LOG PROGRAM FILTER: every TEST by itself, four at a time; at most EACH seconds for one.
tests() {
  local name=$1 each=$3 log=$4 program=$5 filter=$6 start=$SECONDS limit folder=$work/tests.$1 verdict=passed names n
  limit=$(limit_of "$2")
  if ((limit == 0)); then row "$name" "not reached" 0 ""; return; fi
  mkdir -p "$folder"
  names=$(timeout -s KILL 20 "$run" "$program" --gtest_list_tests --gtest_filter="$filter" 2>"$work/text" |
    awk '/^[^ ].*\.( |$)/ {suite = $1} /^  / {print suite $1}')
  if [[ -z "$names" ]]; then
    { echo "== $name"; cat "$work/text"; } >>"$out/$log"
    row "$name" FAILED $((SECONDS - start)) "$program lists no tests: $(head -c 120 "$work/text")"
    return
  fi
  xargs -P 4 -I{} bash -c 'one_test "$@"' _ "$program" {} "$folder" "$each" $(($(date +%s) + limit)) <<<"$names"
  cat "$folder"/*.verdict | sort >"$work/verdicts"
  n() { grep -c "^$1 " "$work/verdicts"; }
  local passed failed hangs skipped missed none text
  passed=$(n passed) failed=$(n failed) hangs=$(n hangs) skipped=$(n skipped) missed=$(n not-reached) none=$(n no-gpu)
  text="$passed passed"
  ((failed == 0)) || { verdict=FAILED; text+=", FAILED: $(sed -n 's/^failed //p' "$work/verdicts" | paste -sd ' ')"; }
  ((hangs == 0)) || { verdict=FAILED; text+=", stopped after their limit: $(sed -n 's/^hangs //p' "$work/verdicts" | paste -sd ' ')"; }
  ((skipped == 0)) || text+=", skipped: $(sed -n 's/^skipped //p' "$work/verdicts" | paste -sd ' ')"
  ((missed == 0)) || { text+=", not reached: $missed"; [[ $verdict == FAILED ]] || verdict="not all"; }
  ((none == 0)) || { verdict="no GPU"; text="$none tests start"; }
  {
    echo "== $name: $text"
    # Those that failed first, whole; of the others what they print.
    for v in failed hangs skipped passed; do
      sed -n "s/^$v //p" "$work/verdicts" | while read -r test; do
        echo "-- $test: $v"
        grep -vE '^(Running main|Note: |\[(==|--| RUN|       OK))' "$folder/${test//\//_}.log" | head -c 200000
      done
    done
  } >>"$out/$log"
  row "$name" "$verdict" $((SECONDS - start)) "$text"
  # Who served, and what came near its bound or beyond; all deviations are in the log.
  cat "$folder"/*.log 2>/dev/null | awk '/^served / || /have other bits/ || (/^deviation / && / of its bound$/ && $(NF - 3) > 0.5)' |
    sort -u | head -n 30 | cut -c 1-150 | sed 's/^/    /' >"$work/lines"
  while IFS= read -r line; do rows+=("$line"); echo "$line"; done <"$work/lines"
}

facts() {
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv,noheader 2>&1 ||
    echo "no nvidia-smi, or it sees no GPU"
  uname -srm
  local missing=0
  for program in bin/*; do
    "$run" ldd "$program" | awk -v p="${program##*/}" '/not found/ {print "missing: " p " wants " $1; bad = 1} END {exit bad}' || missing=1
  done
  "$run" ldd bin/jevons | awk '$1 ~ /^lib(cublasLt|mpi)\.so/ {print $1, "at", $3}'
  "$run" jevons version
  "$run" jevons doctor || return 1
  return $missing
}

kernels=kernels_cuda_test
first_part() {
  stage facts 20 facts.txt '^(NVIDIA|no nvidia|missing|libcublasLt)|(gpu|cuda backend|nccl|attention|mpi self-test)  ' bash -c "$(declare -f facts); run=$run; facts"
  tests operators 60 20 tests.txt $kernels '-*/cublaslt:*/wgmma:*Wgmma*:*Attention*'
  tests cublaslt 30 20 tests.txt $kernels '*/cublaslt'
  tests wgmma 30 20 tests.txt $kernels '*/wgmma:*Wgmma*'
  tests attention 30 20 tests.txt $kernels '*Attention*'
  tests steps 40 30 tests.txt cuda_train_test '*'
  stage fp8-speed 25 bench.txt 'peak|FP8' "$run" cuda_bench FP8
  stage attn-speed 10 bench.txt '^attention' "$run" cuda_bench attention
  for gemm in cublaslt wgmma; do
    stage "step-$gemm" 25 step.txt 'tokens/s|MFLOP|served|waits|memory|FAILED|error' env JEVONS_CUDA_GEMM=$gemm "$run" \
      jevons bench step --config configs/presets/small_h100.textproto --steps 4
  done
  stage bf16-speed 15 bench.txt 'BF16' "$run" cuda_bench BF16
  stage train-cpu 60 train.txt '^cpu:' "$run" bash tests/gpu/train.sh jevons "$work/run" cpu
  stage train-gpu 40 train.txt '^gpu' "$run" bash tests/gpu/train.sh jevons "$work/run" gpu 1
  stage mem-speed 20 bench.txt 'GB/s' "$run" cuda_bench ''
}

second_part() {
  stage facts 10 facts.txt '^(NVIDIA|no nvidia|missing)' bash -c "$(declare -f facts); run=$run; facts"
  tests products 40 20 tests.txt $kernels '*/cublaslt:*/wgmma:*Wgmma*:*Attention*'
  stage nccl 40 nccl.txt 'PASSED|FAILED|ok' "$run" mpirun -np 2 sh tests/gpu/nccl_env.sh nccl_gpu_2_test
  stage train-cpu 60 train.txt '^cpu:' "$run" bash tests/gpu/train.sh jevons "$work/run" cpu
  stage train-nccl 40 train.txt '^gpu' "$run" bash tests/gpu/train.sh jevons "$work/run" gpu 2
  if command -v compute-sanitizer >/dev/null; then
    stage racecheck 60 sanitizer.txt 'RACECHECK SUMMARY|hazard' env JEVONS_CUDA_REPEATS=1 "$run" compute-sanitizer --tool racecheck \
      --report-api-errors no --error-exitcode 1 bin/kernels_cuda_test --gtest_filter='-*/cublaslt:*/wgmma:*Wgmma*:*Attention*:*Zero*'
  else
    row racecheck "left out" 0 "there is no compute-sanitizer"
  fi
  if command -v ncu >/dev/null; then
    stage ncu 40 ncu.txt 'Duration|Throughput|Pipe|stall' "$run" ncu --clock-control none --set basic --section WarpStateStats \
      --kernel-name regex:WgmmaKernel --launch-count 4 bin/cuda_bench 'FP8 1 x 4096 x 4096'
  else
    row ncu "left out" 0 "there is no ncu"
  fi
  if python3 -c 'import torch; torch.cuda.current_device()' 2>/dev/null; then
    stage torch 60 bench.txt 'TFLOP/s|refused' python3 tests/gpu/torch_bench.py
  else
    row torch "left out" 0 "python3 has no torch that sees a GPU"
  fi
  stage speed 60 bench.txt 'TFLOP/s|GB/s' "$run" cuda_bench ''
}

rm -f "$out"/{table,facts,tests,bench,step,train,nccl,sanitizer,ncu}.txt
if ((part == 1)); then first_part; else second_part; fi
echo "first_run: part $part, $((SECONDS - begin)) s, $failures stages failed; $out/table.txt"
((failures == 0))
