#!/usr/bin/env bash
# Installs what Jevons needs from the packages of Debian 12 or Ubuntu 24.04: the one place that installs anything.
# Safe to repeat: where everything is there already, it says so at once and needs neither network nor root.
#
#   ./launch/setup.sh            # as root, or with sudo
#   ./launch/setup.sh --list     # only prints the packages that are needed
#   ./launch/setup.sh --cuda     # also what a CUDA build needs beside the toolkit; says what is missing of that
set -euo pipefail

packages=(
  build-essential cmake ninja-build pkg-config            # to build
  openmpi-bin libopenmpi-dev                              # MPI
  libabsl-dev libprotobuf-dev protobuf-compiler           # status, strings, configs
  libhwy-dev                                              # SIMD
  libcli11-dev libspdlog-dev nlohmann-json3-dev           # command line, log, JSON
  libxxhash-dev libzstd-dev zstd zlib1g-dev               # hashes, compression
  libgtest-dev libgmock-dev libpcre2-dev                   # tests
  bible-kjv                                               # the quick start's text
)
helpful=(ccache)                                          # faster rebuilds; not needed

cuda=0
case "${1:-}" in
  "") ;;
  --cuda) cuda=1 ;;
  --list)
    printf '%s\n' "${packages[@]}"
    exit 0
    ;;
  *)
    echo "setup.sh: unknown argument '$1'; usage: ./launch/setup.sh [--list | --cuda]" >&2
    exit 2
    ;;
esac

# Headers of cuDNN's frontend, from NVIDIA's wheel, into .cache/cudnn-frontend. Without them attention on CUDA is slow, not absent:
# so a machine without network goes on.
cudnn_frontend=1.32.0
install_cuda_parts() {
  local folder
  folder="$(dirname "${BASH_SOURCE[0]}")/../.cache/cudnn-frontend"
  PATH="$PATH:/usr/local/cuda/bin" command -v nvcc >/dev/null ||
    echo "setup: no CUDA toolkit (nvcc): install NVIDIA's package cuda-toolkit-13-0, libnccl-dev and libcudnn9-dev-cuda-13" >&2
  if [[ -f "$folder/include/cudnn_frontend.h" ]]; then
    echo "setup: the headers of cuDNN's frontend are in place"
    return
  fi
  local wheel
  wheel=$(mktemp -d)
  if python3 -m pip download -q --disable-pip-version-check --no-deps -d "$wheel" "nvidia-cudnn-frontend==$cudnn_frontend" &&
    python3 -m zipfile -e "$wheel"/*.whl "$wheel/x"; then
    mkdir -p "$folder"
    cp -r "$wheel/x/include" "$folder/"
    echo "setup: installed the headers of cuDNN's frontend $cudnn_frontend"
  else
    echo "setup: no headers of cuDNN's frontend (pip download nvidia-cudnn-frontend failed): attention on CUDA will be slow" >&2
  fi
  rm -rf "$wheel"
}

installed() { [[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]; }

if ! command -v dpkg-query apt-get >/dev/null; then
  echo "setup.sh: this is not a Debian or Ubuntu machine. Install the equivalents of: ${packages[*]}" >&2
  exit 1
fi
if ((cuda)); then install_cuda_parts; fi
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

available() { "${apt[@]}" install --simulate --no-install-recommends "$@" >/dev/null 2>&1; }

# The package lists are fetched only where the ones at hand do not suffice.
available "${missing[@]}" || "${apt[@]}" update
for package in "${helpful[@]}"; do
  if ! installed "$package" && available "$package"; then missing+=("$package"); fi
done
echo "setup: installing ${missing[*]}"
"${apt[@]}" install --no-install-recommends "${missing[@]}"
echo "setup: done"
