#!/usr/bin/env bash
# The rehearsal in small, for CTest: bundle and first_run.sh with an environment of its own and a PATH that has no mpirun.
#
#   tests/gpu/rehearsal_test.sh FOLDER      # of the build
set -euo pipefail
tree=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if command -v nvidia-smi >/dev/null; then echo "this machine may have a GPU: no rehearsal"; exit 0; fi
./bundle.sh "$work/bundle.tar.gz" "$tree"
mkdir "$work/path"
for program in /usr/bin/*; do
  case "${program##*/}" in mpi* | ort* | ompi* | oshm* | python3*) ;; *) ln -s "$program" "$work/path/" ;; esac
done
first_run() { env -i PATH="$work/path" HOME="$work" TMPDIR="$work" bash ./first_run.sh "$work/bundle.tar.gz" "$work/out" "$@"; }
fail() { echo "rehearsal: $1" >&2; exit 1; }

first_run
table=$work/out/table.txt
for stage in facts train-cpu; do grep -qE "^$stage +passed" "$table" || fail "$stage did not pass"; done
for stage in operators cublaslt wgmma attention steps fp8-speed attn-speed step-cublaslt step-wgmma bf16-speed train-gpu mem-speed; do
  grep -qE "^$stage +no GPU" "$table" || fail "$stage does not say that there is no GPU"
done
(($(find "$work/out" -type f | wc -l) <= 8)) || fail "more than 8 result files"

first_run 2
grep -qE '^products +no GPU' "$table" || fail "part two does not say that there is no GPU"
grep -qE '^train-cpu +passed' "$table" || fail "part two does not train"
(($(find "$work/out" -type f | wc -l) <= 8)) || fail "more than 8 result files of part two"

# A program that cannot start is a failure, not a machine without a GPU.
mkdir "$work/unpacked"
tar -C "$work/unpacked" -xzf "$work/bundle.tar.gz"
rm "$work/unpacked/bin/kernels_cuda_test"
! env -i PATH="$work/path" HOME="$work" TMPDIR="$work" bash ./first_run.sh "$work/unpacked" "$work/out" 2 >/dev/null ||
  fail "a program is missing, and nothing fails"
grep -qE '^products +FAILED' "$table" || fail "a program is missing, and its stage does not fail"
! bash ./first_run.sh "$work/none" "$work/out" 2>/dev/null || fail "a bundle that is not there is taken"
