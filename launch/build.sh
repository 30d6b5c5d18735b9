#!/usr/bin/env bash
# Configures and builds in build/: everything, or the targets that are named.
#
#   ./launch/build.sh            # all, with the tests
#   ./launch/build.sh jevons     # the program only
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# One compiler takes up to 1.5 GiB: as many at a time as there are cores and memory for.
cores=$(nproc)
memory_gib=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
jobs=$((memory_gib * 2 / 3))
jobs=$((jobs < 1 ? 1 : jobs > cores ? cores : jobs))

mkdir -p build
echo "build: configuring build/"
if ! cmake --preset default >build/configure.log 2>&1; then
  cat build/configure.log >&2
  exit 1
fi
echo "build: compiling ${*:-everything} with $jobs jobs"
cmake --build build --parallel "$jobs" ${1:+--target "$@"}
