#!/usr/bin/env bash
# Rehearses tests/gpu/first_run.sh where there is no GPU: the bundle in a new root of Debian 12, without MPI and without the libraries
# that Jevons is built with. Stages that need no GPU must pass, the others say "no GPU". Takes root, a mirror of Debian, and three minutes.
#
#   tests/gpu/rehearse.sh                 # makes the bundle first
#   tests/gpu/rehearse.sh BUNDLE.tar.gz
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
case "${1:-}" in
  -h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
if ! command -v debootstrap >/dev/null; then
  echo "rehearse: no debootstrap: apt-get install debootstrap" >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
bundle=${1:-$work/bundle.tar.gz}
[[ -n "${1:-}" ]] || tests/gpu/bundle.sh "$bundle"

root=$work/root
debootstrap --variant=minbase bookworm "$root" >"$work/log" 2>&1 || { tail -n 3 "$work/log" >&2; exit 1; }
mkdir -p "$root/rehearsal" "$root/usr/local/cuda/lib64"
cp "$bundle" "$root/rehearsal/bundle.tar.gz"
cp tests/gpu/first_run.sh "$root/rehearsal/"
# What the driver's machine has: CUDA's libraries, here without their driver.
for folder in /usr/local/cuda/lib64 /usr/local/cuda/lib; do
  [[ -d "$folder" ]] || continue
  for library in libcublasLt.so.13 libcudart.so.13 libcudnn.so.9 libnccl.so.2; do
    [[ ! -e "$folder/$library" || -e "$root/usr/local/cuda/lib64/$library" ]] || cp -L "$folder/$library" "$root/usr/local/cuda/lib64/"
  done
done
for program in mpirun python3 nvidia-smi; do
  if chroot "$root" sh -c "command -v $program" >/dev/null; then echo "rehearse: the new root has $program" >&2; exit 1; fi
done
status=0
# In a space of mounts of its own: /proc of the new root goes with it.
unshare --mount sh -c 'mount -t proc proc "$1/proc" && exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
  bash /rehearsal/first_run.sh /rehearsal/bundle.tar.gz /rehearsal/out' sh "$root" || status=$?
files=$(find "$root/rehearsal/out" -type f | wc -l)
if ((files > 8)); then echo "rehearse: $files result files, more than 8" >&2; exit 1; fi
if grep -qE ' (FAILED|stopped|not reached) ' "$root/rehearsal/out/table.txt" || ((status != 0)); then
  echo "rehearse: a stage failed, or was not reached" >&2
  exit 1
fi
for stage in facts train-cpu; do
  grep -qE "^$stage +passed" "$root/rehearsal/out/table.txt" || { echo "rehearse: stage $stage did not pass" >&2; exit 1; }
done
echo "rehearse: in a new root everything that needs no GPU passed"
