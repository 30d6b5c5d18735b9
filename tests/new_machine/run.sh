#!/usr/bin/env bash
# Both commands of the README on a machine that has nothing: debootstrap makes a new Debian 12 in a folder, of minbase's
# packages alone, and launch/quickstart.sh and launch/test.sh run in it. What launch/setup.sh forgets to install, or has
# only where another package's recommendation brought it, shows here. Needs root; the packages come from the apt sources
# of the machine at hand.
#
#   ./tests/new_machine/run.sh                 # both commands, each to its end
#   ./tests/new_machine/run.sh --quick         # 8 steps of the quick start, and doctor; with --share-ccache
#   ./tests/new_machine/run.sh --share-ccache  # what this machine's compiler cache holds is not compiled again
#   ./tests/new_machine/run.sh --no-ccache     # where apt has no ccache
#   ./tests/new_machine/run.sh --user          # as an ordinary user with sudo, not as root
#   ./tests/new_machine/run.sh --head          # the files of HEAD; without it the working tree's, new files too
#   ./tests/new_machine/run.sh --root DIR      # in DIR, which must not exist yet, instead of a temporary folder
#   ./tests/new_machine/run.sh --keep          # the folder stays
#
# Packages that were downloaded stay in ~/.cache/jevons/packages for the next time.
# Exit codes: 0 all went well, 1 a command failed, 2 command line, 77 this machine cannot do it; one line says why.
set -euo pipefail
script=$(realpath "${BASH_SOURCE[0]}")
cd "$(dirname "$script")/../.."

codename=bookworm
user=root ccache=fresh head=0 keep=0 quick=0 root=
usage() {
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$script"
  exit "$1"
}
arguments=("$@")
while (($# > 0)); do
  case $1 in
    --quick) quick=1; [[ $ccache != fresh ]] || ccache=shared ;;
    --share-ccache) ccache=shared ;;
    --no-ccache) ccache=none ;;
    --user) user=jevons ;;
    --head) head=1 ;;
    --keep) keep=1 ;;
    --root) root=${2:?--root needs a folder}; shift ;;
    -h | --help) usage 0 ;;
    *) echo "new_machine: unknown argument '$1'" >&2; usage 2 >&2 ;;
  esac
  shift
done
packages=${XDG_CACHE_HOME:-$HOME/.cache}/jevons/packages

say() { printf '\n== new machine: %s  [%d s]\n' "$*" "$SECONDS"; }
cannot() { echo "new_machine: cannot: $*" >&2; exit 77; }

# ---- Outside: what is needed, the folder, and its end. All else happens in namespaces of mounts and processes that end
# with their first process: nothing stays mounted, nothing keeps running, and removing the folder reaches no other.

if [[ -z ${JEVONS_NEW_MACHINE:-} ]]; then
  ((EUID == 0)) || cannot "debootstrap and chroot need root: sudo $0"
  command -v apt-get >/dev/null || cannot "no apt here whose sources could be used"
  command -v debootstrap >/dev/null || cannot "no debootstrap here: apt-get install debootstrap"
  unshare --mount --pid --fork --mount-proc true 2>/dev/null ||
    cannot "no permission to mount: run on a machine of its own or in a privileged container"
  if [[ -n $root ]]; then
    mkdir "$root" || exit 2
    root=$(realpath "$root")
  else
    root=$(mktemp -d "${TMPDIR:-/var/tmp}/jevons-new-machine.XXXXXX")
  fi
  inside=
  finish() {
    trap '' INT TERM HUP
    if [[ -n $inside ]]; then
      kill -KILL $(cat "/proc/$inside/task/$inside/children" 2>/dev/null) 2>/dev/null || true
      wait "$inside" 2>/dev/null || true
    fi
    if ((keep)); then echo "new_machine: $root stays"; else rm -rf "$root"; fi
  }
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  set -m  # a process group of its own, in which SIGINT is not ignored: some tests send it
  JEVONS_NEW_MACHINE=$root setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc \
    "$script" "${arguments[@]}" </dev/null &
  inside=$!
  code=0
  wait "$inside" || code=$?
  exit "$code"
fi

# ---- Inside.

root=$JEVONS_NEW_MACHINE
logs=$root/var/log/jevons

indexes() {  # the package indexes of Debian that apt knows: the field $1 of each that matches the rest
  apt-get indextargets --format "\$($1)" 'Origin: Debian' 'Identifier: Packages' "${@:2}"
}

make_root() {  # a Debian as debootstrap makes it, with this machine's way to the packages
  local main=("Codename: $codename" "Component: main") mirror sources keys keyring
  [[ -n $(indexes REPO_URI "${main[@]}") ]] || apt-get -qq update || true
  mirror=$(indexes REPO_URI "${main[@]}" | sed -n 1p)
  [[ -n $mirror ]] || cannot "the apt sources of this machine have no Debian $codename"
  mapfile -t sources < <(indexes SOURCESENTRY | sed 's/:[0-9]*$//' | sort -u)
  mapfile -t keys < <(sed -nE 's/.*signed-by[:=] *(\/[^] ,]+).*/\1/Ip' "${sources[@]}" | sort -u)
  keyring=$(printf '%s\n' "${keys[@]}" | grep -m 1 '\.gpg$' || true)

  local http_proxy=${http_proxy:-} https_proxy=${https_proxy:-}
  eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
  [[ $http_proxy != DIRECT ]] || http_proxy=
  [[ $https_proxy != DIRECT ]] || https_proxy=
  mkdir -p "$packages"
  chmod 755 "$root"  # the new machine's /
  if ! http_proxy=$http_proxy https_proxy=$https_proxy debootstrap --variant=minbase --cache-dir="$packages" \
    ${keyring:+--keyring="$keyring"} "$codename" "$root" "$mirror" >"$root/debootstrap.out" 2>&1; then
    cannot "debootstrap failed: $(tail -n 1 "$root/debootstrap.out")"
  fi
  rm "$root/debootstrap.out" "$root/etc/apt/sources.list"

  cp -a --parents "${sources[@]}" "${keys[@]}" "$root"
  local file
  for file in /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d /etc/apt/auth.conf /etc/apt/auth.conf.d; do
    [[ ! -e $file ]] || cp -a --parents "$file" "$root"
  done
  apt-config dump Acquire | sed -E '/^Acquire::(IndexTargets|Changelogs)/d' >"$root/etc/apt/apt.conf.d/00machine"
  while read -r file; do [[ ! -f $file ]] || cp -aL --parents "$file" "$root"; done \
    < <(sed -n 's/^[^"]*"\(\/[^"]*\)";$/\1/p' "$root/etc/apt/apt.conf.d/00machine")  # certificates, a proxy's finder
  if grep -q https: "${sources[@]}"; then cp -L --parents /etc/ssl/certs/ca-certificates.crt "$root"; fi
  cp -L /etc/hosts "$root/etc/hosts"
  echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"  # no power cut that it must survive
  [[ $ccache != none ]] || printf 'Package: ccache\nPin: release *\nPin-Priority: -1\n' >"$root/etc/apt/preferences.d/no-ccache"
  mkdir -p "$logs"
}

checkout() {  # the files of the checkout as a tar stream, without what a build or a run left
  if ((head)); then git archive HEAD; return; fi
  git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    [[ ! -e $file && ! -L $file ]] || printf '%s\0' "$file"
  done | tar c --null --no-recursion -T -
}

settings=()  # of the environment in there, which is a new login's otherwise
mount_all() {
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
  mount -t tmpfs tmpfs "$root/dev/shm"
  mount --bind "$packages" "$root/var/cache/apt/archives"
  local cache
  cache=$(ccache --get-config cache_dir 2>/dev/null || true)
  if [[ $ccache == shared && -d $cache ]]; then
    mkdir "$root/var/cache/ccache"
    mount --bind "$cache" "$root/var/cache/ccache"
    settings+=(CCACHE_DIR=/var/cache/ccache CCACHE_TEMPDIR=/tmp)
    [[ $user == root ]] || settings+=(CCACHE_READONLY=1)  # its files are root's
    local name
    for name in LANG LC_ALL LC_CTYPE LC_MESSAGES; do  # the language of messages is part of what the cache compares
      [[ -z ${!name:-} ]] || settings+=("$name=${!name}")
    done
  fi
}

make_user() {
  [[ $user != root ]] || return 0
  chroot "$root" env DEBIAN_FRONTEND=noninteractive bash -c "apt-get -qq update &&
    apt-get -qq -y install --no-install-recommends sudo && useradd --create-home --shell /bin/bash $user" >"$logs/user" 2>&1 ||
    { tail "$logs/user"; exit 1; }
  echo "$user ALL=(ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/$user"
}

command_of_readme() {  # $1 in the checkout; all that it prints goes to a log, its last lines to the terminal
  local log begin=$SECONDS code=0
  log=$logs/$(basename "${1%% *}").log
  say "$1, as $user"
  chroot --userspec="$user" "$root" env -i "${settings[@]}" HOME="$home" USER="$user" TERM=dumb \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash -c "cd ~/jevons && $1" >"$log" 2>&1 || code=$?
  tail -n "$((code == 0 ? 12 : 60))" "$log"
  echo "new_machine: $1: exit code $code, $((SECONDS - begin)) s"
  ((code == 0)) || exit 1
}

say "Debian $codename in $root"
make_root
mount_all
make_user
home=$([[ $user == root ]] && echo /root || echo "/home/$user")
mkdir "$root$home/jevons"
checkout | tar x --no-same-owner -C "$root$home/jevons"
chroot "$root" chown -R "$user:" "$home/jevons"
if ((quick)); then
  command_of_readme "./launch/quickstart.sh --steps 8 --short"
  command_of_readme "build/jevons doctor"
else
  command_of_readme "./launch/quickstart.sh"
  command_of_readme "./launch/test.sh"
fi
say "all went well"
