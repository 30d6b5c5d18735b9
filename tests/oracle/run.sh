#!/usr/bin/env bash
# Certifies this build against transformers, torch and tokenizers; ends with "N passed, M failed", exit code 1 if any failed.
#
#   tests/oracle/run.sh                          # everything, some minutes
#   tests/oracle/run.sh --case DIR               # one folder: model/, tokens.safetensors, expected.safetensors
#   tests/oracle/run.sh --only imports,training  # some sections; --list names them
#
# Python packages go into .oracle/venv (5.6 GB, once), or into the environment that JEVONS_ORACLE_VENV names.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
venv="${JEVONS_ORACLE_VENV:-$root/.oracle/venv}"

build="$root/build" program_needed=1 previous=
for argument in "$@"; do
  case "$argument" in
    -h | --help | --list | --write-golden) program_needed=0 ;;
    --build=*) build="${argument#--build=}" ;;
  esac
  if [[ $previous == --build ]]; then build="$argument"; fi
  previous="$argument"
done
if ((program_needed)) && [[ ! -x $build/jevons ]]; then
  echo "oracle: $build/jevons is missing: run launch/build.sh jevons first, or name a build folder with --build" >&2
  exit 2
fi

if [[ ! -x $venv/bin/python ]]; then
  echo "oracle: making the Python environment $venv" >&2
  python3 -m venv "$venv" || { echo "oracle: no venv module: install python3-venv" >&2; exit 2; }
fi

# What is asked for and there: a line per package of requirements.txt that is not.
missing() {
  "$venv/bin/python" - "$here/requirements.txt" <<'PYTHON'
import importlib.metadata, sys
for line in open(sys.argv[1]):
    name, _, version = line.split("#")[0].strip().partition("==")
    try:
        if name and importlib.metadata.version(name).split("+")[0] != version:
            print(line.strip())
    except importlib.metadata.PackageNotFoundError:
        print(line.strip())
PYTHON
}
wanted="$(missing)"
if [[ -n $wanted ]]; then
  echo "oracle: installing into $venv:" $wanted >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check $wanted \
    || { echo "oracle: pip could not install" $wanted >&2; exit 2; }
fi

cd "$root"
exec "$venv/bin/python" -B "$here/certify.py" "$@"
