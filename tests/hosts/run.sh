#!/usr/bin/env bash
# Training on several hosts, played by one machine: network namespaces on a bridge, each with an address, a host name, a /dev/shm and
# a folder of its own. mpirun starts its daemons there by an agent, as it does by ssh elsewhere; ranks of different hosts talk by TCP,
# of one host by shared memory. launch/README.md, "On several machines", is what this script does. It trains one small run
# - on layouts over 1, 2 and 4 hosts: all must have one hash;
# - over slow links (tbf), and says how long a step takes;
# - through a link that fails for two seconds, one that is cut, and a SIGTERM, and resumes: the same hash again;
# - under `jevons supervise`, through a host that is lost and one on which ranks die again and again;
# and asks `jevons doctor --hosts` about all of this. Prints a table. Needs root.
#
#   sudo tests/hosts/run.sh                  # all of it, some six minutes on two cores
#   sudo tests/hosts/run.sh --quick          # two hosts, few steps, no slow links: what ctest runs
#   sudo tests/hosts/run.sh --program FILE   # instead of build/jevons
#
# Exit codes: 0 all went well, 1 something did not, 2 command line, 77 this machine cannot do it; one line says why.
set -euo pipefail
script=$(realpath "${BASH_SOURCE[0]}")
source_folder=$(realpath "$(dirname "$script")/../..")

quick=0 program=$source_folder/build/jevons
arguments=("$@")
while (($# > 0)); do
  case $1 in
    --quick) quick=1 ;;
    --program) program=$(realpath "${2:?--program needs a file}"); shift ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$script"; exit 0 ;;
    *) echo "hosts: unknown argument '$1'" >&2; exit 2 ;;
  esac
  shift
done
cannot() { echo "hosts: cannot: $*" >&2; exit 77; }

# ---- Outside: all happens in namespaces that end with their first process. Nothing stays mounted or configured, nothing keeps running.

if [[ -z ${JEVONS_HOSTS:-} ]]; then
  ((EUID == 0)) || cannot "namespaces need root: sudo $0"
  for tool in ip tc nsenter unshare setpriv pgrep pkill mpirun; do command -v "$tool" >/dev/null || cannot "no $tool here"; done
  [[ -x $program ]] || cannot "no program $program: ./launch/build.sh"
  unshare --net --mount --uts --pid --fork --kill-child --mount-proc sh -c 'ip link add switch type bridge &&
    ip link add port type veth peer name cable' 2>/dev/null || cannot "no permission to make networks (namespaces, bridge, veth)"
  ((quick)) || unshare --net tc qdisc replace dev lo root tbf rate 1gbit burst 256kb latency 100ms 2>/dev/null ||
    cannot "the kernel does not shape links (tbf)"
  root=$(mktemp -d /var/tmp/jevons-hosts.XXXXXX)
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
  JEVONS_HOSTS=$root setpriv --pdeathsig KILL unshare --net --mount --uts --pid --fork --kill-child --mount-proc \
    "$script" "${arguments[@]}" </dev/null &
  inside=$!
  code=0
  wait "$inside" || code=$?
  exit "$code"
fi

# ---- Inside: the hosts.

root=$JEVONS_HOSTS
shared=$root/shared  # a folder that all hosts have; $root/own is another one on each
declare -A pid
hosts=$((quick ? 2 : 4))
say() { printf '\n== hosts: %s  [%d s]\n' "$*" "$SECONDS"; }
failures=0
fail() { echo "hosts: FAILED: $*" >&2; failures=$((failures + 1)); }
on() { nsenter --target "${pid[$1]}" --net --uts --mount "${@:2}"; }

make_hosts() {
  local i name
  mkdir "$shared" "$root/own" "$TMPDIR"
  ip link add switch type bridge
  ip link set switch up
  echo "127.0.0.1 localhost" >"$root/hosts"
  for ((i = 1; i <= hosts; ++i)); do echo "10.77.0.$i jevons-h$i" >>"$root/hosts"; done
  for ((i = 1; i <= hosts; ++i)); do
    name=jevons-h$i
    mkdir "$root/$name"
    unshare --net --uts --mount sleep infinity &
    pid[$name]=$!
    echo $! >"$root/$name.pid"
    until [[ $(readlink "/proc/$!/ns/mnt") != "$(readlink /proc/self/ns/mnt)" ]]; do sleep 0.01; done
    ip link add "$name" type veth peer name eth0 netns $!
    ip link set "$name" master switch up
    on "$name" sh -ec "hostname $name; mount --bind $root/hosts /etc/hosts; mount --bind $root/$name $root/own
      mount -t tmpfs tmpfs /dev/shm; ip link set lo up; ip address add 10.77.0.$i/24 dev eth0; ip link set eth0 up"
  done
  cat >"$root/agent" <<END
#!/bin/sh
host=\$1
shift
exec nsenter --target "\$(cat "$root/\$host.pid")" --net --uts --mount sh -c "\$*"
END
  chmod +x "$root/agent"
}

# What a user sets on real hosts too, but for the agent: which network, no binding where ranks share cores.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
export OMPI_MCA_plm_rsh_agent=$root/agent OMPI_MCA_btl_tcp_if_include=eth0 OMPI_MCA_oob_tcp_if_include=eth0
export OMPI_MCA_hwloc_base_binding_policy=none
export TMPDIR=$root/tmp  # processes of another such script, in its namespace, may have our numbers

hostfile() {  # of $1 hosts with $2 ranks each
  local i
  for ((i = 1; i <= $1; ++i)); do echo "jevons-h$i slots=$2"; done >"$root/hostfile"
}
# The switch's end of host $1's cable: up or down. The kernel takes up to a second to notice; up is when the first host is answered again.
link() {
  local i
  ip link set "jevons-h$1" "$2"
  [[ $2 == up ]] || return 0
  for ((i = 0; i < 100; ++i)); do
    [[ $(on jevons-h1 timeout 1 bash -c "exec 3<>/dev/tcp/10.77.0.$1/9" 2>&1) != *refused* ]] || return 0
    sleep 0.1
  done
  fail "jevons-h$1 does not answer, though its link is up"
}
shape() {  # every host's link, both ways; "" takes the limit away that there is
  local i
  for ((i = 1; i <= hosts; ++i)); do
    if [[ -n $1 ]]; then
      # A small bucket: a large one would save up, while ranks compute, what a link of that speed could not carry later. Packets smaller than it:
      # whatever is larger is taken apart, sent late and again, at half the speed.
      tc qdisc replace dev "jevons-h$i" root tbf rate "$1" burst 32kb latency 100ms
      on "jevons-h$i" sh -ec "ip link set eth0 gso_max_size 16000; tc qdisc replace dev eth0 root tbf rate $1 burst 32kb latency 100ms"
    else
      tc qdisc del dev "jevons-h$i" root
      on "jevons-h$i" tc qdisc del dev eth0 root
    fi
  done
}

# ---- The run.

steps=$((quick ? 6 : 12))
model=(model.hidden_size=64 model.dense_intermediate_size=128 model.moe.intermediate_size=32 data.sequence_length=64
  train.batch_sequences=16 train.micro_batch_sequences=2 train.eval_sequences=4 "train.steps=$steps" checkpoint.interval=2
  log.interval=1 parallel.threads=1 parallel.watchdog_seconds=60 cost.peak_tflops=1)

prepare() {
  local i
  for ((i = 0; i < 300; ++i)); do printf 'In the beginning there were %d cats, and each of them sat on a mat.\n\n' "$i"; done >"$shared/text.txt"
  "$program" prepare --input "$shared/text.txt" --output "$shared/data" --vocab-size 300 --validation-fraction 0.1 >"$root/log" 2>&1 ||
    { cat "$root/log" >&2; exit 1; }
}

launched=("$program")  # what mpirun starts
train() {  # NAME HOSTS RANKS OVERRIDE...: trains $shared/NAME with RANKS ranks on each of HOSTS hosts, from the first one
  local name=$1 setting
  local command=("${launched[@]}" train --config "$source_folder/configs/presets/quickstart_cpu.textproto" --output "$shared/$name")
  hostfile "$2" "$3"
  for setting in "data.path=$shared/data" "${model[@]}" "${@:4}"; do command+=(--set "$setting"); done
  on jevons-h1 "$source_folder/launch/mpirun.sh" --hostfile "$root/hostfile" -np $(($2 * $3)) "${command[@]}" >"$root/$name.log" 2>&1
}
hash_of() { "$program" inspect "$shared/$1" --hash 2>/dev/null | cut -c1-12 || echo "none"; }
all_step_seconds() {  # ascending, from the tokens of a step
  sed -n 's/.*"tokens":\([0-9.e+]*\),"tokens_per_second":\([0-9.e+]*\),.*/\1 \2/p' "$shared/$1/metrics.jsonl" |
    awk '{ print ($1 - before) / $2; before = $1 }' | sort -g
}
step_seconds() { all_step_seconds "$1" | awk '{ t[NR] = $1 } END { if (NR) printf "%.3f", t[int((NR + 1) / 2)] }'; }
spread() {  # half of what lies between the quartiles of a step's seconds
  all_step_seconds "$1" | awk '{ t[NR] = $1 } END { if (NR) printf "%.3f", (t[int((3 * NR + 3) / 4)] - t[int((NR + 3) / 4)]) / 2 }'
}
imbalance() {  # RUN HOSTS: the rows of the fullest host, relative to the mean, over layers and steps
  sed 's/.*"loads":\[\[//; s/\]\]}//; s/\],\[/\n/g' "$shared/$1/experts.jsonl" | awk -F, -v hosts="$2" '{ fullest = sum = 0
    for (h = 0; h < hosts; ++h) { own = 0; for (e = 1 + h * NF / hosts; e <= (h + 1) * NF / hosts; ++e) own += $e
      sum += own; if (own > fullest) fullest = own }
    all += fullest * hosts / sum; ++lines } END { printf "%.3f", lines ? all / lines : 1 }'
}
sent() { awk '$1 == "jevons-h1:" { print $2 }' /proc/net/dev; }  # by the first host so far

# Which forms of the dispatch the program has.
forms=(-)
if "$program" inspect --fields | grep -q '^ *parallel\.dispatch '; then forms=(FLAT FORWARDING); fi
dispatch() { [[ $1 == - ]] || echo "parallel.dispatch=$1"; }

expected=
row() { printf '%-6s %-6s %-30s %-10s %-10s %-13s %7s %8s %-11s  %s\n' "$@"; }
head_row() { row hosts ranks layout link dispatch hash "step s" "MB/step" "rows/token" "what happened"; }
# Over the network, as counted where they were sent, and by the formula for choices that are even.
rows_of() { sed -n 's/^between nodes *\([0-9.]*\) rows a token over the network.* if choices were even, \([0-9.]*\) over the network$/\1 (\2)/p' "$root/$1.log"; }
check_hash() {  # NAME: must be that of all others
  local hash
  hash=$(hash_of "$1")
  expected=${expected:-$hash}
  [[ $hash == "$expected" && $hash != none ]] || fail "$1 has the hash $hash, the first run $expected"
}

layout() {  # HOSTS RANKS LAYOUT LINK FORM: one run from its begin to its end
  local name=run-$1x$2-${3//[^a-zA-Z0-9]/}-$4-$5 before code=0 megabytes
  before=$(sent)
  train "$name" "$1" "$2" ${3//,/ } $(dispatch "$5") || code=$?
  megabytes=$(awk -v bytes=$(($(sent) - before)) -v steps="$steps" 'BEGIN { printf "%.2f", bytes / steps / 1e6 }')
  ((code == 0)) || { fail "$name: exit code $code"; tail -n 5 "$root/$name.log" >&2; }
  check_hash "$name"
  row "$1" $(($1 * $2)) "$(sed 's/parallel\.//g' <<<"$3")" "$4" "$5" "$(hash_of "$name")" "$(step_seconds "$name")" "$megabytes" "$(rows_of "$name")" ""
}

# By how much forwarding shortens a step over such links: as measured, with the spread of a step, and as planned with a table of these hosts, measured
# over the same links, where the experts' rows lie as unevenly as they did. More than 15% off is a failure where MUST.
saving() {  # HOSTS RANKS LAYOUT LINK [MUST]
  local name=${3//[^a-zA-Z0-9]/} uneven table=$shared/machine-$1x$2-$4.textproto setting form command=(--config "$source_folder/configs/presets/quickstart_cpu.textproto")
  local -A measured planned apart
  for setting in model.vocab_size=300 "${model[@]}" ${3//,/ }; do command+=(--set "$setting"); done
  hostfile "$1" "$2"
  on jevons-h1 "$source_folder/launch/mpirun.sh" --hostfile "$root/hostfile" -np $(($1 * $2)) "$program" bench calibrate "${command[@]}" \
    --output "$table" >"$root/log" 2>&1 || { fail "bench calibrate over $1 hosts"; tail -n 5 "$root/log" >&2; return; }
  uneven=$(imbalance "run-$1x$2-$name-$4-FLAT" "$1")
  for form in FLAT FORWARDING; do
    measured[$form]=$(step_seconds "run-$1x$2-$name-$4-$form")
    planned[$form]=$("$program" plan "${command[@]}" --set "parallel.dispatch=$form" --cluster "$table" --imbalance "$uneven" --json | sed -n 's/^ *"step_seconds_of_train": \([0-9.e-]*\),$/\1/p')
    apart[$form]=$(spread "run-$1x$2-$name-$4-$form")
  done
  awk -v link="$4" -v hosts="$1" -v a="${measured[FLAT]}" -v b="${measured[FORWARDING]}" -v c="${planned[FLAT]}" -v d="${planned[FORWARDING]}" \
    -v e="${apart[FLAT]}" -v f="${apart[FORWARDING]}" -v uneven="$uneven" -v must="${5:-}" 'BEGIN {
    off = (c - d) / (a - b) - 1
    printf "%s hosts, %s: forwarding shortens a step by %.3f s (+-%.3f) of %.3f, planned %.3f of %.3f", hosts, link, a - b, sqrt(e * e + f * f), a, c - d, c
    printf " (%+.0f%%); rows of the fullest host %.2f times the mean\n", 100 * off, uneven
    exit must != "" && (off > 0.15 || off < -0.15) }' || fail "the saving planned over $1 hosts at $4 is more than 15% off"
}

# Rows of 4 KB for eight experts, in two groups: so wide that at 1 Gbit/s they make most of a step's time, as in large models; and one rank on a host, so that
# on two cores none computes while another's rows travel. Of this run the saving has to be as planned.
wide() {
  local expected= form
  local model=("${model[@]}" model.hidden_size=1024 model.layers=2 model.moe.top_k=8 model.moe.groups=2 model.moe.kept_groups=2)
  [[ ${#forms[@]} == 2 ]] || return 0
  say "rows of 4 KB over links of 1 Gbit/s"
  shape 1gbit
  head_row
  for form in "${forms[@]}"; do layout 2 1 parallel.ep=2 1gbit-wide "$form"; done
  saving 2 1 parallel.ep=2 1gbit-wide must
}

# Waits until $shared/$1 has made $2 steps.
until_step() {
  local i
  for ((i = 0; i < 1200; ++i)); do
    grep -q "\"step\":$2," "$shared/$1/metrics.jsonl" 2>/dev/null && return
    sleep 0.05
  done
  fail "$1 did not come to step $2"
}
# The processes of the run on all hosts. pgrep says 1 where there are none, and more where it could not look.
ranks_left() { pgrep -cf -- "^$program train .*--output $shared/$1( |$)" || (($? == 1)); }
resume() {  # NAME HOSTS RANKS LAYOUT LINK FORM EVENT: the same command again; FORM as in `layout`
  local code=0
  train "$1" "$2" "$3" ${4//,/ } $(dispatch "$6") || code=$?
  ((code == 0)) || { fail "$1: exit code $code where it should have resumed"; tail -n 5 "$root/$1.log" >&2; }
  check_hash "$1"
  row "$2" $(($2 * $3)) "$(sed 's/parallel\.//g' <<<"$4")" "$5" "$6" "$(hash_of "$1")" "" "" "" "$7"
}

# The last host's link is cut in the middle of a step and stays so: every rank, on either side of the cut, says whom it waited for and
# ends with exit code 5; so does mpirun. Then the link is whole again.
cut_off() {  # HOSTS RANKS LAYOUT FORM
  local deadline=5 begin job code=0 seconds ranks=$(($1 * $2)) ended
  cat >"$root/rank" <<END
#!/bin/bash
"\$@"
code=\$?
echo "\$OMPI_COMM_WORLD_RANK \$code" >>"$root/codes"
exit \$code
END
  chmod +x "$root/rank"
  launched=("$root/rank" "$program")
  train cut "$1" "$2" ${3//,/ } $(dispatch "$4") "parallel.watchdog_seconds=$deadline" &
  job=$!
  launched=("$program")
  until_step cut 3
  link "$1" down
  begin=$SECONDS
  while (($(ranks_left cut) > 0 && SECONDS - begin < deadline + 60)); do sleep 0.1; done
  (($(ranks_left cut) == 0)) || fail "$(ranks_left cut) ranks are still there $((SECONDS - begin)) s after the link was cut"
  seconds=$((SECONDS - begin))
  wait "$job" || code=$?
  ((code == 5)) || fail "mpirun ended with exit code $code where a link was cut"
  ((SECONDS - begin < 120)) || fail "mpirun ended $((SECONDS - begin)) s after the link was cut"
  # mpirun ends ranks beside one that has just ended: those say nothing of themselves. Nobody ends the ranks of the host that is cut off.
  ended=$(sort -u "$root/codes" | tr '\n' ';')
  ! grep -qv ' 5$' "$root/codes" || fail "exit codes of ranks where a link was cut: $ended"
  for ((rank = ranks - $2; rank < ranks; ++rank)); do
    grep -q "^$rank 5$" "$root/codes" || fail "rank $rank, cut off, did not end with 5: $ended"
  done
  grep -Eq "lost peer: rank [0-9]+ .* for rank ([0-9]+, )*($(seq -s '|' $((ranks - $2)) $((ranks - 1))))\b" "$root/cut.log" ||
    { fail "no line names a rank of the host that was cut off"; grep 'lost peer' "$root/cut.log" >&2; }
  local launcher=$((SECONDS - begin))
  link "$1" up
  resume cut "$1" "$2" "$3" cut "$4" "after step 3: $(wc -l <"$root/codes") of $ranks ranks said 5 after $seconds s, mpirun after $launcher s; resumed"
}

# A link that fails for less than the watchdog's deadline costs that time and nothing else: TCP sends again.
flap() {  # HOSTS RANKS LAYOUT FORM
  local code=0 job
  train flap "$1" "$2" ${3//,/ } $(dispatch "$4") &
  job=$!
  until_step flap 3
  link "$1" down
  sleep 2
  link "$1" up
  wait "$job" || { fail "a link that was down for 2 s ended the run"; tail -n 5 "$root/flap.log" >&2; }
  check_hash flap
  row "$1" $(($1 * $2)) "$(sed 's/parallel\.//g' <<<"$3")" flap "$4" "$(hash_of flap)" "" "" "" "down for 2 s after step 3; went on"
}

# SIGTERM to what started the job: a checkpoint, and the rest later.
stop_and_resume() {  # HOSTS RANKS LAYOUT FORM
  local code=0 job
  train stop "$1" "$2" ${3//,/ } $(dispatch "$4") &
  job=$!
  until_step stop 3
  pkill -TERM -f "^bash $source_folder/launch/mpirun.sh "
  wait "$job" || code=$?
  ((code == 75)) || fail "SIGTERM: exit code $code"
  resume stop "$1" "$2" "$3" - "$4" "SIGTERM after step 3: exit code $code; resumed"
}

# Supervised runs. NAME HOSTS RANKS OVERRIDE...: as `train`, by a supervisor on the first host.
supervise() {
  local name=$1 setting
  local command=(supervise --hosts "$root/hostfile" train --config "$source_folder/configs/presets/quickstart_cpu.textproto" --output "$shared/$name")
  hostfile "$2" "$3"
  for setting in "data.path=$shared/data" "${model[@]}" "${@:4}"; do command+=(--set "$setting"); done
  on jevons-h1 "$program" "${command[@]}" >"$root/$name.log" 2>&1
}
events() { grep -E "\"event\":\"($2)\"" "$shared/$1/supervise.jsonl" || true; }  # NAME EVENT|EVENT...
until_training() {  # NAME COUNT: until that many jobs of it have trained
  local i
  for ((i = 0; i < 1200; ++i)); do
    (($(events "$1" training 2>/dev/null | wc -l) < $2)) || return 0
    sleep 0.05
  done
  fail "$1 did not train $2 times"
}
ends_well() {  # NAME JOB: the supervisor, and with the hash of all others
  local code=0
  wait "$2" || code=$?
  ((code == 0)) || { fail "$1: exit code $code where the supervisor should have gone on"; tail -n 20 "$root/$1.log" >&2; }
  check_hash "$1"
}
from_loss() {  # NAME: seconds from the first job's end until the next one trains
  awk '{ time = $0; sub(/.*"time":/, "", time); time += 0 }
    /"event":"(lost|died|hung)"/ && !gone { gone = time }
    /"event":"training"/ && gone { printf "%.1f", time - gone; exit }' "$shared/$1/supervise.jsonl"
}

# Asked on any host, the first one or another, which does not see the others' processes: `status` knows all ranks and where they are.
status_on() { on "$1" unshare --pid --fork --mount-proc "$program" status "$shared/$2"; }
check_status() {  # NAME HOSTS RANKS: while it trains
  local host i told
  for host in jevons-h1 "jevons-h$2"; do
    for ((i = 0; i < 100; ++i)); do
      told=$(status_on "$host" "$1")
      (($(grep -Ec "^rank .* on jevons-h[0-9]+, in step" <<<"$told") < $2 * $3)) || break
      sleep 0.1
    done
    for ((i = 1; i <= $2; ++i)); do
      (($(grep -Ec "^rank .* on jevons-h$i, in step" <<<"$told") == $3)) || { fail "status on $host does not tell of $3 ranks on jevons-h$i"; echo "$told" >&2; }
    done
    [[ $(sed -n 1p <<<"$told") == *", running" && $told == *" training "* ]] || { fail "status on $host does not tell of a run that trains"; echo "$told" >&2; }
  done
}
check_status_after() {  # NAME HOSTS EVENT
  local host told
  for host in jevons-h1 "jevons-h$2"; do
    told=$(status_on "$host" "$1")
    [[ $(sed -n 1p <<<"$told") == *", not running" && $told != *$'\n'rank* && $told == *"$3"* && $told == *"end       exit code 0" ]] ||
      { fail "status on $host, after the run, does not tell of '$3' and its end"; echo "$told" >&2; }
  done
}

# A host is lost: all that runs there ends at once and its link is down, as when the power fails. The run goes on with the others, from
# what they have of its state in memory: nothing is on disk yet.
lose_host() {  # HOSTS RANKS LAYOUT FORM
  local job process lost step
  supervise lose "$1" "$2" ${3//,/ } $(dispatch "$4") checkpoint.interval=0 checkpoint.memory_interval=1 &
  job=$!
  until_step lose 3
  lost=$(readlink "/proc/${pid[jevons-h$1]}/ns/net")
  link "$1" down
  for process in /proc/[0-9]*; do
    [[ ${process#/proc/} == "${pid[jevons-h$1]}" || $(readlink "$process/ns/net" 2>/dev/null) != "$lost" ]] || kill -KILL "${process#/proc/}" 2>/dev/null || true
  done
  ends_well lose "$job"
  link "$1" up
  events lose "lost|died|hung" | grep -q "\"host\":\"jevons-h$1\"" || { fail "no event names jevons-h$1"; cat "$shared/lose/supervise.jsonl" >&2; }
  step=$(events lose from_memory | sed -n 's/.*"step":\([0-9]*\).*/\1/p')
  ((${step:-0} >= 1)) || { fail "the run went on from step ${step:-0} in memory"; cat "$shared/lose/supervise.jsonl" >&2; }
  row "$1" $(($1 * $2)) "$(sed 's/parallel\.//g' <<<"$3")" lost "$4" "$(hash_of lose)" "" "" "" "host $1 lost; went on after $(from_loss lose) s, from step $step in memory"
}

# A rank of the last host dies, and again after the restart: the run goes on without that host, in a layout for the others.
quarantine() {  # HOSTS RANKS LAYOUT FORM
  local job time name=jevons-h$1 layout
  supervise twice "$1" "$2" ${3//,/ } $(dispatch "$4") &
  job=$!
  for time in 1 2; do
    until_training twice "$time"
    ((time == 2)) || check_status twice "$1" "$2"
    pkill -KILL --newest --ns "${pid[$name]}" --nslist net -f -- "^$program train .*--output $shared/twice( |$)" || fail "no rank on $name to kill"
  done
  ends_well twice "$job"
  [[ $(events twice "died|hung|lost" | grep -c "\"event\":\"died\".*\"host\":\"$name\"") == 2 ]] || { fail "not two ranks of $name died"; events twice "died|hung|lost" >&2; }
  [[ $(events twice quarantine) == *"\"host\":\"$name\""* ]] || { fail "$name is not in quarantine"; cat "$shared/twice/supervise.jsonl" >&2; }
  layout=$(events twice layout | sed -n '$s/.*"detail":"\(.*\)"}/\1/p')
  [[ -n $layout && $layout != *"$name"* ]] || fail "the last layout has $name: $layout"
  check_status_after twice "$1" "quarantine on $name failed 2 times"
  row "$1" $(($1 * $2)) "$(sed 's/parallel\.//g' <<<"$3")" - "$4" "$(hash_of twice)" "" "" "" "a rank of host $1 killed twice; went on with $layout"
}

# Cores are shared by the ranks of one host: as many threads for one rank on each of two hosts as for one alone.
count_local_ranks() {
  local hosts threads=()
  for hosts in 1 2; do
    (unset OMP_NUM_THREADS; train "threads-$hosts" "$hosts" 1 parallel.threads=0 train.steps=1) || fail "threads-$hosts: exit code $?"
    threads+=("$(sed -n 's/.* ranks\? of \([0-9]*\) threads.*/\1/p' "$root/threads-$hosts.log")")
  done
  [[ -n ${threads[0]} && ${threads[0]} == "${threads[1]}" ]] || fail "a rank alone on its host has ${threads[0]} threads, on each of two hosts ${threads[1]}"
}

# doctor CODE ARGUMENT... and the words that it must say, one a line, on stdin
doctor() {
  local code=0 words
  on jevons-h1 "$program" doctor --hosts "$root/hostfile" "${@:2}" >"$root/doctor" 2>&1 || code=$?
  ((code == $1)) || { fail "doctor --hosts ${*:2}: exit code $code"; cat "$root/doctor" >&2; }
  while read -r words; do grep -Eq -- "$words" "$root/doctor" || { fail "doctor does not say: $words"; cat "$root/doctor" >&2; }; done
}

doctors() {
  hostfile "$hosts" 2
  ((quick)) || shape 200mbit  # below what processors that are busy pass on, so that pairs are alike
  doctor 0 --output "$shared" --data "$shared/data" <<<"$hosts host\(s\): they can train together"
  ((quick)) || { say "doctor --hosts"; cat "$root/doctor"; }
  doctor 1 --output "$root/own" <<<"^bad +output .*jevons-h2.* is another folder than the first host's"
  if ((quick)); then return; fi
  link "$hosts" down
  doctor 1 <<<"^ +jevons-h$hosts: (no answer|exit code)"
  link "$hosts" up
  tc qdisc replace dev jevons-h3 root tbf rate 20mbit burst 256kb latency 100ms
  doctor 1 <<<"compare cable.* of jevons-h3, which is in every slow pair"
  shape ""
}

# ---- What is run.

say "$hosts hosts on one machine"
make_hosts
prepare
doctors
say "the same run on all layouts"
head_row
layout 1 1 parallel.ep=1 - "${forms[0]}"
for form in "${forms[@]}"; do layout 2 2 parallel.ep=4 - "$form"; done
count_local_ranks
((quick)) || {
  layout 1 4 parallel.ep=4 - "${forms[0]}"
  layout 2 1 parallel.ep=1 - "${forms[0]}"
  layout 2 2 parallel.ep=2,parallel.pp=2 - "${forms[0]}"
  for form in "${forms[@]}"; do
    layout 4 2 parallel.ep=8 - "$form"
    layout 4 1 parallel.ep=4 - "$form"
    layout 4 2 parallel.ep=4 - "$form"
  done
  layout 4 2 parallel.ep=2,parallel.pp=4,parallel.schedule=ZB_H1 - "${forms[0]}"
  for rate in 1gbit 200mbit 50mbit; do
    shape "$rate"
    for form in "${forms[@]}"; do
      layout 2 2 parallel.ep=4 "$rate" "$form"
      layout 4 2 parallel.ep=8 "$rate" "$form"
    done
    if [[ ${#forms[@]} == 2 ]]; then
      saving 2 2 parallel.ep=4 "$rate"
      saving 4 2 parallel.ep=8 "$rate"
    fi
  done
  wide
  shape ""
  flap 4 2 parallel.ep=8 "${forms[-1]}"
  stop_and_resume 4 2 parallel.ep=8 "${forms[-1]}"
}
quarantine "$hosts" $((quick ? 1 : 2)) "parallel.ep=$((quick ? 2 : 8))" "${forms[-1]}"
lose_host "$hosts" $((quick ? 1 : 2)) "parallel.ep=$((quick ? 2 : 8))" "${forms[-1]}"
cut_off "$hosts" $((quick ? 1 : 2)) "parallel.ep=$((quick ? 2 : 8))" "${forms[-1]}"

if ((failures > 0)); then say "$failures failures"; exit 1; fi
say "all went well"
