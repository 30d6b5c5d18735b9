#!/usr/bin/env bash
# Trains the quickstart model on the CPU and on the GPU, alone and on two NCCL ranks that share it, and compares the losses; then
# goes on on the CPU from the GPU's checkpoint. The bound on a step's loss is 1%: BF16 sums round differently.
#
#   tests/gpu/train.sh FOLDER      # of the build
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tree=${1:?the folder of the build is not given}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
steps=40
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
((EUID != 0)) || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

cat README.md */README.md */*/README.md >"$work/corpus.txt"
"$tree/jevons" prepare --input "$work/corpus.txt" --output "$work/data" --vocab-size 512 --validation-fraction 0.1

train() {  # NAME RANKS BACKEND STEPS [LAUNCHER...]
  local name=$1 ranks=$2 backend=$3 last=$4
  shift 4
  mpirun -q --bind-to none --oversubscribe -np "$ranks" "$@" "$tree/jevons" train --config configs/presets/quickstart_cpu.textproto \
    --set data.path="$work/data" --set parallel.ep="$ranks" --set parallel.backend="$backend" --set precision.compute=BF16 \
    --set train.steps="$last" --set train.eval_interval=0 --output "$work/$name" >/dev/null
}
losses() { sed -n 's/.*"loss\/main": *\([^,}]*\).*/\1/p' "$work/$1/metrics.jsonl"; }
compare() {  # NAME: its losses against the CPU's
  paste <(losses cpu) <(losses "$1") | awk -v name="$1" -v steps="$2" '
    { d = $2 / $1 - 1; if (d < 0) d = -d; if (d > worst) worst = d; ++n }
    END { printf "%s: %d steps, the losses are within %.3f%% of the CPU\x27s\n", name, n, 100 * worst; exit !(n == steps && worst < 0.01) }'
}

train cpu 1 CPU "$steps"
train gpu 1 CUDA "$steps"
compare gpu "$steps"
train gpu2 2 CUDA "$steps" sh tests/gpu/nccl_env.sh
compare gpu2 "$steps"
train gpu 1 CPU $((steps + 4))
(($(losses gpu | wc -l) == steps + 4))
echo "the CPU went on from the GPU's checkpoint"
