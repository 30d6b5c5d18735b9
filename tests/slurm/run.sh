#!/usr/bin/env bash
# Training under a real Slurm of two nodes, played by one machine: slurmctld and two slurmd, in namespaces of their own. What they need
# comes from Debian's packages, unpacked into a temporary folder: nothing is installed, and nothing stays. launch/slurm/jevons.sbatch is
# submitted and disturbed: by its time limit, a preemption, a requeue, a node that is taken down, a rank that is killed. Each time the job
# must resume by itself, and end with the hash of a run that nobody disturbed. Prints a table. Needs root, and the packages' archive.
#
#   sudo tests/slurm/run.sh                  # some seven minutes on two cores
#   sudo tests/slurm/run.sh --program FILE   # instead of build/jevons
#
# Exit codes: 0 all went well, 1 something did not, 2 command line, 77 this machine cannot do it; one line says why.
set -euo pipefail
script=$(realpath "${BASH_SOURCE[0]}")
source_folder=$(realpath "$(dirname "$script")/../..")

program=$source_folder/build/jevons
while (($# > 0)); do
  case $1 in
    --program) program=$(realpath "${2:?--program needs a file}"); shift ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$script"; exit 0 ;;
    *) echo "slurm: unknown argument '$1'" >&2; exit 2 ;;
  esac
  shift
done
cannot() { echo "slurm: cannot: $*" >&2; exit 77; }

# ---- Outside: all daemons and jobs live in namespaces that end with their first process.

if [[ -z ${JEVONS_SLURM:-} ]]; then
  ((EUID == 0)) || cannot "namespaces need root: sudo $0"
  for tool in ip unshare setpriv apt-get dpkg mpirun; do command -v "$tool" >/dev/null || cannot "no $tool here"; done
  [[ -x $program ]] || cannot "no program $program: ./launch/build.sh"
  unshare --net --mount --uts --pid --fork --kill-child --mount-proc true 2>/dev/null || cannot "no permission to make namespaces"
  root=$(mktemp -d /var/tmp/jevons-slurm.XXXXXX)
  inside=
  finish() {
    trap '' INT TERM HUP
    if [[ -n $inside ]]; then  # it may have ended by itself: then there is nothing to end
      kill -KILL $(cat "/proc/$inside/task/$inside/children" 2>/dev/null) 2>/dev/null || true
      wait "$inside" 2>/dev/null || true
    fi
    rm -rf "$root"
  }
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP

  # The packages that are not here, and what they need that is not here.
  mkdir "$root/archives" "$root/packages"
  missing() { apt-get install --simulate --no-install-recommends --reinstall slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge 2>/dev/null | awk '/^Inst/ { print $2 }'; }
  [[ -n $(missing) ]] || apt-get -qq update >/dev/null 2>&1 || true
  (cd "$root/archives" && apt-get -qq download $(missing) >/dev/null 2>&1) || cannot "Slurm's packages cannot be fetched: apt-get download slurmctld slurmd munge"
  for archive in "$root/archives"/*.deb; do dpkg -x "$archive" "$root/packages"; done

  JEVONS_SLURM=$root setpriv --pdeathsig KILL unshare --net --mount --uts --pid --fork --kill-child --mount-proc \
    "$script" --program "$program" </dev/null &
  inside=$!
  code=0
  wait "$inside" || code=$?
  exit "$code"
fi

# ---- Inside: the cluster.

root=$JEVONS_SLURM
packages=$root/packages
libraries=$packages/usr/lib/$(uname -m)-linux-gnu
export PATH=$packages/usr/bin:$(dirname "$program"):$PATH LD_LIBRARY_PATH=$libraries:$libraries/slurm-wlm SLURM_CONF=$root/slurm.conf
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_WAIT_POLICY=passive OMPI_MCA_btl_tcp_if_include=cable TMPDIR=$root/tmp
failures=0
say() { printf '\n== slurm: %s  [%d s]\n' "$*" "$SECONDS"; }
fail() { echo "slurm: FAILED: $*" >&2; failures=$((failures + 1)); }
wait_for() {  # SECONDS COMMAND...: until the command succeeds
  local end=$((SECONDS + $1))
  until "${@:2}" >/dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

start_cluster() {
  local node
  ip link set lo up
  ip link add cable type veth peer name end  # an address that is not the loopback's: names are not resolved where there is no other
  ip link set cable up
  ip link set end up
  ip address add 10.78.0.1/24 dev cable
  hostname jevons-slurm
  mkdir "$root"/{tmp,state,log,spool,run}
  printf '127.0.0.1 localhost\n10.78.0.1 jevons-slurm\n' >"$root/hosts"
  mount --bind "$root/hosts" /etc/hosts
  dd if=/dev/urandom of="$root/key" bs=1024 count=1 status=none
  chmod 400 "$root/key"
  cat >"$SLURM_CONF" <<END
ClusterName=jevons
SlurmctldHost=jevons-slurm(10.78.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$root/run/munge
CredType=cred/munge
PluginDir=$libraries/slurm-wlm
StateSaveLocation=$root/state
SlurmctldPidFile=$root/run/slurmctld.pid
SlurmctldLogFile=$root/log/slurmctld
TmpFS=$root/tmp/%n
SlurmdSpoolDir=$root/spool/%n
SlurmdPidFile=$root/run/slurmd-%n.pid
SlurmdLogFile=$root/log/%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
KillWait=30
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName=n1 NodeAddr=10.78.0.1 NodeHostname=jevons-slurm Port=17001 CPUs=4 State=UNKNOWN
NodeName=n2 NodeAddr=10.78.0.1 NodeHostname=jevons-slurm Port=17002 CPUs=4 State=UNKNOWN
PartitionName=low Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=n[1-2] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
END
  printf 'CgroupPlugin=cgroup/v1\nConstrainCores=no\nConstrainRAMSpace=no\n' >"$root/cgroup.conf"
  "$packages/usr/sbin/munged" --force --key-file="$root/key" --socket="$root/run/munge" --pid-file="$root/run/munged" --log-file="$root/log/munged" --seed-file="$root/run/seed"
  "$packages/usr/sbin/slurmctld-wlm"
  for node in n1 n2; do
    mkdir "$root/spool/$node" "$root/tmp/$node"
    "$packages/usr/sbin/slurmd-wlm" -N "$node" -d "$packages/usr/sbin/slurmstepd-wlm"
  done
  wait_for 30 both_idle || { tail -n 20 "$root"/log/* >&2; cannot "Slurm's nodes did not come up"; }
  srun --mpi=list 2>&1 | grep -q pmix || cannot "this Slurm does not speak PMIx"
}
both_idle() { [[ $(sinfo -h -p low -o '%D %t') == "2 idle" ]]; }

# ---- The run.

ranks=2
short=300  # steps
model=(model.hidden_size=32 model.dense_intermediate_size=32 model.moe.intermediate_size=16 data.sequence_length=32 train.batch_sequences=8
  train.micro_batch_sequences=2 train.eval_sequences=4 checkpoint.interval=50 log.interval=1 cost.peak_tflops=1)
declare -A expected  # hash of the undisturbed run of so many steps

prepare() {
  local i
  for ((i = 0; i < 100; ++i)); do printf 'In the beginning there were %d cats, and each of them sat on a mat.\n\n' "$i"; done >"$root/text.txt"
  "$program" prepare --input "$root/text.txt" --output "$root/data" --vocab-size 300 --validation-fraction 0.1 >"$root/log/prepare" 2>&1 ||
    { cat "$root/log/prepare" >&2; exit 1; }
}
undisturbed() {  # STEPS: describes such a run, and trains it on one rank
  local setting command=("$program" inspect --config "$source_folder/configs/presets/quickstart_cpu.textproto" --print-config)
  for setting in "${model[@]}" "data.path=$root/data" "train.steps=$1"; do command+=(--set "$setting"); done
  "${command[@]}" >"$root/run-$1.textproto"
  OMP_NUM_THREADS=1 "$program" train --config "$root/run-$1.textproto" --output "$root/calm-$1" >"$root/log/calm-$1" 2>&1 || { tail "$root/log/calm-$1" >&2; exit 1; }
  expected[$1]=$(hash_of "calm-$1")
}
hash_of() { "$program" inspect "$root/$1" --hash 2>/dev/null || echo none; }

nobody_trains() { ! pgrep -f -- "jevons train .*--output $root/$1" >/dev/null; }
job=  # the one of Slurm's that is tried
state() { squeue -h -j "$job" -o %T 2>/dev/null || true; }
in_state() { [[ $(state) == "$1" ]]; }
over() { scontrol show job "$job" | grep -qE 'JobState=(COMPLETED|FAILED|CANCELLED|TIMEOUT|OUT_OF_MEMORY) '; }  # where nobody answers it is not
has_step() { grep -q "\"step\":$2," "$root/$1/metrics.jsonl"; }
stopped_at() { sed -n 's/.*stopped by a signal after step \([0-9]*\).*/\1/p' "$root/log/job-$1" | head -n 1; }

submit() {  # NAME STEPS OPTION...: and waits until it trains
  job=$(cd "$root" && CONFIG=$root/run-$2.textproto RUN=$root/$1 sbatch --parsable --nodes=2 --ntasks-per-node=$((ranks / 2)) --cpus-per-task=1 \
    --output="$root/log/job-$1" "${@:3}" "$source_folder/launch/slurm/jevons.sbatch")
  wait_for 60 has_step "$1" 60 || fail "$1: the run did not come to step 60"
}
resume_now() {  # who was requeued waits for two minutes, unless told otherwise
  wait_for 120 in_state PENDING || { fail "$1: not requeued: $(state)"; return; }
  wait_for 60 both_idle || fail "$1: the nodes are not idle: $(sinfo -h -p low -o '%D %t')"  # what Slurm still ends there would end the next start too
  scontrol update JobId="$job" StartTime=now TimeLimit=60
}
row() { printf '%-30s %8s %9s %11s  %-9s %s\n' "$@"; }
end_row() {  # NAME STEPS WHAT EVENT: the job runs to its end by itself
  local hash restarts again
  restarts=$(scontrol show job "$job" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p')
  wait_for 300 over || fail "$1: the job did not end: $(state)"
  hash=$(hash_of "$1")
  [[ $hash == "${expected[$2]}" && $hash != none ]] || { fail "$1 has the hash $hash, the undisturbed run ${expected[$2]}"; tail -n 30 "$root/log/job-$1" >&2; }
  again=$(sed -n 's/.*got to step \([0-9]*\); its work after step \([0-9]*\) was in no checkpoint.*/\1 \2/p' "$root/log/job-$1" | awk '{ n += $1 - $2 } END { print n + 0 }')
  row "$3" "$(stopped_at "$1")" "$restarts" "$again" "${hash:0:8}" "$4"
}

# Slurm's limits are minutes, and it looks twice a minute whether one is near: the run is to take that long.
time_limit() {
  local long
  long=$(awk -F'[:,]' '/"loss\/main"/ { if (!first) first = $4; last = $4; n = $2 } END { printf "%d", 100 * n / (last - first) }' "$root/killed/metrics.jsonl")
  undisturbed "$long"
  submit limit "$long" --time=1 --signal=B:USR1@20
  resume_now limit
  end_row limit "$long" "time limit" "USR1 ahead of it; requeued by the script"
}
preemption() {
  submit preempted "$short" --time=60
  (cd "$root" && sbatch --quiet --partition=high --nodes=2 --ntasks-per-node=4 --time=1 --output="$root/log/high" --wrap "sleep 3")
  resume_now preempted
  end_row preempted "$short" "preemption" "a job of a partition that goes ahead; a minute's grace"
}
requeue() {
  submit requeued "$short" --time=60
  scontrol requeue "$job"
  resume_now requeued
  end_row requeued "$short" "scontrol requeue" ""
}
node_down() {
  submit down "$short" --time=60
  scontrol update NodeName=n2 State=DOWN Reason=test
  wait_for 120 in_state PENDING || fail "down: not requeued: $(state)"
  wait_for 60 nobody_trains down || fail "down: ranks are still there"  # as after a failure of a real node
  scontrol update NodeName=n2 State=RESUME
  resume_now down
  end_row down "$short" "scontrol: a node is down" "requeued by Slurm"
}
rank_killed() {
  submit killed "$short" --time=60
  kill -KILL "$(pgrep -f -- "jevons train .*--output $root/killed" | tail -n 1)"
  end_row killed "$short" "kill -9 of a rank" "supervise starts the ranks again, in the same job"
}

say "two nodes"
start_cluster
sinfo
prepare
undisturbed "$short"
say "the same run, disturbed; undisturbed ${expected[$short]:0:8}"
row "what happened" "saved at" "requeues" "made twice" "hash" ""
requeue
preemption
node_down
rank_killed
time_limit
if ((failures > 0)); then say "$failures failures"; exit 1; fi
say "all went well"
