#!/usr/bin/env bash
# Everything that wants a GPU, in one go of under ten minutes: builds, tests, runs the tests under compute-sanitizer, measures.
# The report is build-cuda/gpu-report.txt; the last line says whether all passed.
#
#   tests/gpu/run.sh              # builds in build-cuda/ first
#   tests/gpu/run.sh FOLDER       # takes a tree that is built, say one that was carried to a machine without packages
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

case "${1:-}" in
  -h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
tree=${1:-build-cuda}
export PATH="$PATH:/usr/local/cuda/bin"
if ! gpus=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1); then
  echo "gpu: no GPU: nvidia-smi says: ${gpus:-nothing, it is not installed}" >&2
  exit 1
fi
if [[ -z "${1:-}" ]]; then
  ./launch/setup.sh --cuda && cmake --preset cuda >/dev/null && cmake --build --preset cuda --parallel || exit 1
fi

report=$tree/gpu-report.txt
failed=()
# step NAME SECONDS COMMAND...: into the report, with its time and verdict; what fails does not stop the rest.
step() {
  local name=$1 limit=$2 begin=$SECONDS verdict=passed
  shift 2
  echo "== $name: $*" | tee -a "$report"
  if ! timeout "$limit" "$@" >>"$report" 2>&1; then
    verdict=FAILED
    failed+=("$name")
  fi
  echo "== $name: $verdict, $((SECONDS - begin)) s" | tee -a "$report"
}

printf '%s\n%s\n%s\n' "$(date -u +%F)" "$gpus" "$(nvcc --version | tail -1)" | tee "$report"
tests=($tree/tests/kernels/cuda/kernels_cuda_test $tree/tests/trainer/cuda_train_test)
step doctor 60 "$tree/jevons" doctor
step tests 180 ctest --test-dir "$tree" -L gpu --output-on-failure
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck initcheck; do
    for test in "${tests[@]}"; do
      JEVONS_CUDA_REPEATS=1 step "$tool" 120 compute-sanitizer --tool "$tool" --error-exitcode 1 "$test"
    done
  done
else
  echo "== memcheck, initcheck: left out, there is no compute-sanitizer" | tee -a "$report"
  failed+=(compute-sanitizer)
fi
step train 120 tests/gpu/train.sh "$tree"
step bench 120 "$tree/tests/kernels/cuda/cuda_bench"
if python3 -c 'import torch; torch.cuda.current_device()' 2>/dev/null; then
  step torch 90 python3 tests/gpu/torch_bench.py
else
  echo "== torch: left out, python3 has none that sees the GPU" | tee -a "$report"
fi
step step 90 "$tree/jevons" bench step --config configs/presets/small_h100.textproto --steps 4

if ((${#failed[@]})); then
  echo "gpu: FAILED: ${failed[*]}; see $report" | tee -a "$report"
  exit 1
fi
echo "gpu: all passed; $report" | tee -a "$report"
