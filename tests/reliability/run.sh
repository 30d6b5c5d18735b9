#!/usr/bin/env bash
# The reliability report card: sixteen goals, each measured, in one table: what was done, how often, with which seeds, what was lost, how far
# from the goal. Rows that cannot be measured here say why.
#
#   tests/reliability/run.sh                # --quick: what a few minutes of two busy cores allow
#   tests/reliability/run.sh --full         # hours: as many trials as the goals ask for, or a hundredth of them where those are millions
#   tests/reliability/run.sh --output DIR   # keeps the programs' logs in DIR, and the table as DIR/card.txt
#   tests/reliability/run.sh --only "R8 R9" # some rows
#   tests/reliability/run.sh --build DIR    # instead of build
#
# As root it has disks and hosts of its own (mount and network namespaces). Measurements are tests' trials (tests/support/trials.h): the
# programs below print them. Distances to figures are told, not judged; the exit code is 1 where anything was lost, damaged or hung.
# Exit codes: 0 nothing was lost, 1 something was, 2 command line.
set -euo pipefail
script=$(realpath "${BASH_SOURCE[0]}")
source_folder=$(realpath "$(dirname "$script")/../..")

full=0 build=$source_folder/build output='' only=''
while (($# > 0)); do
  case $1 in
    --quick) full=0 ;;
    --full) full=1 ;;
    --output) output=${2:?--output needs a folder}; shift ;;
    --only) only=" ${2:?--only needs rows, such as \"R1 R8\"} "; shift ;;
    --build) build=$(realpath "${2:?--build needs a folder}"); shift ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$script"; exit 0 ;;
    *) echo "reliability: unknown argument '$1'" >&2; exit 2 ;;
  esac
  shift
done
scratch=$(mktemp -d /var/tmp/jevons-reliability.XXXXXX)
running=
trap '[[ -z $running ]] || kill -KILL -- "-$running" 2>/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
[[ -z $output ]] || mkdir -p "$output"
output=${output:-$scratch}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive TMPDIR=$scratch
: >"$output/trials"

# ---- The goals: row | goal | trials that the goal asks for | key of the trials | bound of the figure, if it has one, and its unit

rows=(
  "R1|killed in saves: newest good, nothing promised lost|10000|kill||"
  "R2|power lost: what was said to be committed survives|1000000|power||"
  "R2|a save that leaves out fsyncs is noticed|12|teeth||"
  "R3|each I/O call fails once, or from there on|100|errors||"
  "R3|a job on a full disk ends well once there is room|100|full_disk||"
  "R3|a job whose files may not grow|100|file_limit||"
  "R3|a job on a read-only disk says so|1|read_only||"
  "R3|a job on a slow disk is not taken for dead|1|slow_disk||"
  "R4|bits of checkpoints turned: found before use|10000000|bits||"
  "R4|bits of any file of a job turned: found, or no matter|10000|flips||"
  "R5|resumed on another layout: same bits|552|resume||"
  "R6|the same bits on every layout|1000|layouts||"
  "R7|each sample once, in order, after any stop|1000|data||"
  "R8|dead rank noticed (p99)|2000|dead|< 1|s"
  "R8|hung rank noticed (p99)|2000|hung|< 5|s"
  "R8|the right rank is named|2000|blame|> 99|%"
  "R8|slow steps are no hang|1000000|alarm||"
  "R9|from a kill to the next step, from disk (p95)|1000|recovery|< 10|s"
  "R9|from a kill to the next step, from memory (p95)|1000|memory_recovery|< 3|s"
  "R9|steps that a killed rank costs, copied after each (worst)|1000|memory_steps|< 1|steps"
  "R10|signals at random instants: saved and 75|1000|signals|< 25|s"
  "R11|ETTR at a failure every ten minutes; the bits of a calm run|144|soak|> 99|%"
  "R12|hosts cut off: said, resumed, same bits|500|hosts||"
  "R13|simulated: incarnations, power losses, damage, failed calls|100000|incarnations||"
  "R14|hostile input: no crash, no broken promise|1000000000|hostile||"
  "R14|fuzzed with libFuzzer, ASan and UBSan|1000000000|fuzz||"
  "R15|mutated configs: refused by name, or valid|10000|configs||"
  "R15|hardened: PIE, RELRO, no executable stack|3|hardening||"
  "R16|a bit turned in weights that several ranks hold: found in its step|10000|flips_weights|> 100|%"
  "R16|in moments, which are held once|10000|flips_moments|> 100|%"
  "R16|in what a product gives|10000|flips_products|> 99|%"
)
declare -A why=()

# ---- What is run: program | how often as many trials (full) | gtest filter, and the rows for which

programs=(
  "R1|tests/faults/kill_test|50|*"
  "R2 R3 R13|tests/faults/disk_faults_test|25|*"
  "R4|tests/trainer/checkpoint/checkpoint_test|1|Corruption.Every*"
  "R5|tests/trainer/step/train_test|1|TrainTest.EveryScheduleGoesOnFromEveryOther"
  "R6|tests/trainer/step/layout_test|1|*"
  "R7|tests/data/data_stream_test|1|SamplerTest.ResumesAfterAnyStop*"
  "R8|tests/reliability/reliability_trials|10|Alarm.*"
  "R8 R9 R11|tests/reliability/reliability_trials|12|Soak.*"
  "R10|tests/reliability/reliability_trials|50|Signals.*"
  "R3|tests/reliability/reliability_trials|15|Disks.*"
  "R3|tests/faults/slow_disk_test|1|*"
  "R4|tests/reliability/reliability_trials|30|Flips.*"
  "R16|tests/trainer/run/step_judge_test|50|Flips.*"
  "R14|tests/fuzz/fuzz_corpus_test|100|*"
  "R15|tests/configs/configs_test|4|Mutation.*"
)
wanted() {  # ROWS
  local row
  [[ -n $only ]] || return 0
  for row in $1; do [[ $only != *" $row "* ]] || return 0; done
  return 1
}

failures=0
fail() { echo "reliability: FAILED: $*" >&2; failures=$((failures + 1)); }
limited() {  # SECONDS LOG COMMAND...: in a process group of its own, which ends with it
  local code=0
  setsid --wait timeout --kill-after=10 "$1" "${@:3}" >"$2" 2>&1 </dev/null &
  running=$!
  wait "$running" || code=$?
  running=
  return "$code"
}
run_program() {  # PROGRAM TIMES FILTER
  local name=${1##*/} log code=0
  log=$output/$name-${3//[^a-zA-Z]/}.log
  echo "reliability: $name $3  [$SECONDS s]" >&2
  JEVONS_TRIALS=$((full ? $2 : 1)) limited $((full ? 14400 : 300)) "$log" "$build/$1" --gtest_filter="$3" || code=$?
  grep '^trials|' "$log" >>"$output/trials" || true
  ((code == 0)) || { fail "$name $3: exit code $code: $log"; grep -A8 'Failure$' "$log" | head -n 40 >&2 || true; }
}
# One line as the tests print them: KEY TRIALS SEEDS SEEN FIGURE LOST
trials() { printf 'trials|%s|%s|%s|%s|%s|%s\n' "$@" >>"$output/trials"; }

cd "$source_folder"
targets=()
! wanted "R12 R15" || targets+=(jevons)
for program in "${programs[@]}"; do
  IFS='|' read -r for_rows path _ _ <<<"$program"
  ! wanted "$for_rows" || targets+=("${path##*/}")
done
((${#targets[@]} == 0)) || cmake --build "$build" -j2 --target "${targets[@]}" >"$output/build.log" 2>&1 || { tail -n 20 "$output/build.log" >&2; exit 1; }
SECONDS=0
for program in "${programs[@]}"; do
  IFS='|' read -r for_rows path times filter <<<"$program"
  ! wanted "$for_rows" || run_program "$path" "$times" "$filter"
done

# Hosts that are cut off from each other, as network namespaces.
if wanted R12; then
  code=0
  echo "reliability: hosts  [$SECONDS s]" >&2
  limited 1200 "$output/hosts.log" tests/hosts/run.sh $( ((full)) || echo --quick) --program "$build/jevons" || code=$?
  if ((code == 77)); then why[R12]=$(tail -n 1 "$output/hosts.log")
  else
    trials hosts "$(grep -cE ' (cut|flap) ' "$output/hosts.log" || true)" all "links cut and links that fail for a while" "" $((code != 0))
    ((code == 0)) || fail "tests/hosts/run.sh: exit code $code: $output/hosts.log"
  fi
fi

# A minute of libFuzzer for each parser, where preset `fuzz` is built.
if wanted R14; then
  if ((!full)); then why[R14]="--full: a minute for each parser"
  elif [[ ! -x build-fuzz/tests/fuzz/fuzz ]]; then why[R14]="not built: cmake --preset fuzz && cmake --build --preset fuzz"
  else
    for corpus in tests/fuzz/corpus/*; do
      name=${corpus##*/} code=0
      mkdir "$scratch/$name"
      limited 120 "$output/fuzz-$name.log" build-fuzz/tests/fuzz/fuzz "$name" "$scratch/$name" "$corpus" -max_total_time=60 -timeout=5 -rss_limit_mb=1024 -artifact_prefix="$output/" -print_final_stats=1 || code=$?
      trials fuzz "$(awk '/number_of_executed_units/ { print $2 }' "$output/fuzz-$name.log")" "random" "a minute for each parser" "" $((code != 0))
      ((code == 0)) || fail "fuzz $name: exit code $code: $output/fuzz-$name.log"
    done
  fi
fi

if wanted R15; then
  facts=$(readelf -hldW "$build/jevons")
  good=0
  ! grep -q 'Type: *DYN' <<<"$facts" || good=$((good + 1))
  ! grep -q GNU_RELRO <<<"$facts" || good=$((good + 1))
  ! grep -q 'GNU_STACK.* RW ' <<<"$facts" || good=$((good + 1))
  trials hardening 3 all "$good of 3" "" $((3 - good))
fi

# ---- The table.

table() {
  local row goal asked key bound unit count seeds seen figure lost distance line
  printf '%-4s %-62s %9s %-12s %-42s %5s  %s\n' goal "what" trials "seeds" "distance to the goal" lost "seen"
  for row in "${rows[@]}"; do
    IFS='|' read -r goal what asked key bound unit <<<"$row"
    wanted "$goal" || continue
    # Lines of one key are parts of one measurement.
    line=$(awk -F'|' -v key="$key" '$2 == key { n += $3; lost += $7; figure = $6; if (!(seen_before[$4]++)) seeds = seeds (seeds == "" ? "" : ", ") $4
        if (!(said[$5]++)) seen = seen (seen == "" ? "" : "; ") $5 } END { if (NR) printf "%d|%s|%s|%s|%d", n, seeds, seen, figure, lost }' "$output/trials")
    IFS='|' read -r count seeds seen figure lost <<<"$line"
    if [[ -z $count || $count == 0 ]]; then
      printf '%-4s %-62s %9s %-12s %-42s %5s  %s\n' "$goal" "$what" - - - - "${why[$goal]:-not run}"
      continue
    fi
    distance=$(awk -v n="$count" -v asked="$asked" -v figure="$figure" -v bound="$bound" -v unit="$unit" 'BEGIN {
        if (bound != "") { split(bound, b, " "); met = b[1] == "<" ? (figure + 0 <= b[2] + 0) : (figure + 0 >= b[2] + 0)
          printf "%s %s (%s= %s): %s; ", figure, unit, b[1], b[2], met ? "met" : "missed" }
        if (n >= asked) printf "trials met"; else printf "%.2g of the trials", n / asked }')
    printf '%-4s %-62s %9d %-12s %-42s %5d  %s\n' "$goal" "$what" "$count" "$seeds" "$distance" "$lost" "$seen"
  done
}
lost=$(awk -F'|' '{ n += $7 } END { print n + 0 }' "$output/trials")
echo
{
  echo "revision $(git -C "$source_folder" describe --always --dirty 2>/dev/null || echo unknown), $(date -u +%F), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc --all) cores, load $(cut -d' ' -f1 /proc/loadavg), $SECONDS s"
  table
  echo "lost: $lost; programs that failed: $failures"
} | tee "$scratch/card.txt"
[[ $output == "$scratch" ]] || cp "$scratch/card.txt" "$output/card.txt"
((lost == 0 && failures == 0))
