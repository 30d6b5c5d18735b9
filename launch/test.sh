#!/usr/bin/env bash
# Installs what is missing, builds everything and runs all tests. Arguments go to ctest:
#
#   ./launch/test.sh
#   ./launch/test.sh -R architecture
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Where there is a toolkit the CUDA backend is built, and its tests run as far as the machine lets them.
if PATH="$PATH:/usr/local/cuda/bin" command -v nvcc >/dev/null; then ./launch/setup.sh --cuda; else ./launch/setup.sh; fi
./launch/build.sh
echo "test: running the tests"
exec ctest --test-dir build --output-on-failure -j2 "$@"
