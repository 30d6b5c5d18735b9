#!/usr/bin/env bash
# Installs what is missing, builds everything and runs all tests. Arguments go to ctest:
#
#   ./launch/test.sh
#   ./launch/test.sh -R architecture
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

./launch/setup.sh
./launch/build.sh
echo "test: running the tests"
exec ctest --test-dir build --output-on-failure -j2 "$@"
