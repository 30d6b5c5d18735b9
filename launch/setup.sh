#!/usr/bin/env bash
# Installs what Jevons needs from the packages of Debian 12 or Ubuntu 24.04: the one place that installs anything.
# Safe to repeat: where everything is there already, it says so at once and needs neither network nor root.
#
#   ./launch/setup.sh            # as root, or with sudo
#   ./launch/setup.sh --list     # only prints the packages that are needed
set -euo pipefail

packages=(
  build-essential cmake ninja-build pkg-config            # to build
  openmpi-bin libopenmpi-dev                              # MPI
  libabsl-dev libprotobuf-dev protobuf-compiler           # status, strings, configs
  libdnnl-dev libhwy-dev                                  # CPU matrix products, SIMD
  libcli11-dev libspdlog-dev nlohmann-json3-dev           # command line, log, JSON
  libxxhash-dev libzstd-dev zstd                          # hashes, compression
  libgtest-dev libgmock-dev libpcre2-dev # tests
  bible-kjv                                               # the quick start's text
)
helpful=(ccache)                                          # faster rebuilds; not needed

if [[ "${1:-}" == --list ]]; then
  printf '%s\n' "${packages[@]}"
  exit 0
elif (($# > 0)); then
  echo "setup.sh: unknown argument '$1'; usage: ./launch/setup.sh [--list]" >&2
  exit 2
fi

installed() { [[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]; }

if ! command -v dpkg-query apt-get >/dev/null; then
  echo "setup.sh: this is not a Debian or Ubuntu machine. Install the equivalents of: ${packages[*]}" >&2
  exit 1
fi
missing=()
for package in "${packages[@]}"; do installed "$package" || missing+=("$package"); done
if ((${#missing[@]} == 0)); then
  echo "setup: all ${#packages[@]} packages are installed"
  exit 0
fi

root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "setup.sh: needs root to install; run as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  root=(sudo)
fi
apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120)

for package in "${helpful[@]}"; do installed "$package" || missing+=("$package"); done
echo "setup: installing ${missing[*]}"
# The package lists are fetched only where the ones at hand do not suffice.
if ! "${apt[@]}" install --simulate --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
  "${apt[@]}" update
fi
"${apt[@]}" install --no-install-recommends "${missing[@]}"
echo "setup: done"
