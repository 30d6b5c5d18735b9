#!/usr/bin/env bash
# Trains the quick start's model in BF16 for some steps, and compares the losses of a GPU with the CPU's. The bound on a step's loss
# is 1%: BF16 sums round differently.
#
#   tests/gpu/train.sh PROGRAM WORK cpu        # prepares data in the folder WORK; two ranks, the CPU
#   tests/gpu/train.sh PROGRAM WORK gpu 1      # after that: one rank on the GPU; then the CPU goes on from its checkpoint
#   tests/gpu/train.sh PROGRAM WORK gpu 2      # two NCCL ranks that share it
set -euo pipefail
(($# >= 3)) || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
program=$(realpath "$(command -v "$1")") work=$(realpath -m "$2") backend=$3 ranks=${4:-2}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
steps=20
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
((EUID != 0)) || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

train() {  # NAME RANKS BACKEND STEPS [LAUNCHER...]
  local name=$1 ranks=$2 backend=$3 last=$4
  shift 4
  mpirun -q --bind-to none --oversubscribe -np "$ranks" "$@" "$program" train --config configs/presets/quickstart_cpu.textproto \
    --set data.path="$work/data" --set parallel.ep="$ranks" --set parallel.backend="$backend" --set precision.compute=BF16 \
    --set train.steps="$last" --set train.eval_interval=0 --output "$work/$name" >/dev/null
}
losses() { sed -n 's/.*"loss\/main": *\([^,}]*\).*/\1/p' "$work/$1/metrics.jsonl"; }

case "$backend" in
  cpu)
    mkdir -p "$work"
    if [[ -f corpus.txt ]]; then cp corpus.txt "$work/"; else cat README.md */README.md */*/README.md >"$work/corpus.txt"; fi
    "$program" prepare --input "$work/corpus.txt" --output "$work/data" --vocab-size 512 --validation-fraction 0.1
    train cpu 2 CPU "$steps"
    (($(losses cpu | wc -l) == steps))
    echo "cpu: $steps steps on two ranks, loss $(losses cpu | head -1) to $(losses cpu | tail -1)"
    ;;
  gpu)
    launcher=()
    ((ranks == 1)) || launcher=(sh tests/gpu/nccl_env.sh)
    name=gpu$ranks
    train "$name" "$ranks" CUDA "$steps" "${launcher[@]}"
    paste <(losses cpu) <(losses "$name") | awk -v name="$name" -v steps="$steps" '
      { d = $2 / $1 - 1; if (d < 0) d = -d; if (d > worst) worst = d; ++n }
      END { printf "%s: %d steps, the losses are within %.3f%% of the CPU\x27s\n", name, n, 100 * worst; exit !(n == steps && worst < 0.01) }'
    train "$name" "$ranks" CPU $((steps + 4))
    (($(losses "$name" | wc -l) == steps + 4))
    echo "$name: the CPU went on from the GPU's checkpoint"
    ;;
  *)
    echo "train.sh: '$backend': say cpu or gpu" >&2
    exit 2
    ;;
esac
