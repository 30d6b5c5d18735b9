#!/usr/bin/env bash
# mpirun as a supervisor wants it. Takes mpirun's arguments, hands on its output, exits with the ranks' code:
#
#   launch/mpirun.sh --hostfile hosts -np 32 build/jevons train --config run.textproto --output /shared/run
#
# What mpirun alone does otherwise:
# - SIGTERM and Ctrl-C: it kills the ranks, checkpoint or not. Here they get SIGUSR1, which mpirun hands on, commit a checkpoint and
#   exit with 75. Ctrl-C again after three seconds kills.
# - A host is cut off: the ranks end when the watchdog's deadline has passed, each with a line "jevons: lost peer: ..."; but mpirun
#   waits for its daemon on that host as long as TCP tries to reach it, a quarter of an hour. Here it ends ten seconds after the first
#   such line, and the exit code is 5.
set -uo pipefail
grace=10    # seconds in which mpirun may end by itself: it needs two or three
patience=3  # between Ctrl-C and the one that kills

lost=$(mktemp)  # not empty: a rank has lost a peer
exec {errors}> >(trap '' INT TERM USR1; exec sed -u "/^jevons: lost peer: /w $lost" >&2)
reader=$!
set -m  # a process group of its own: a terminal's Ctrl-C reaches this script alone
mpirun "$@" </dev/null 2>&"$errors" {errors}>&- &
job=$! asked='' told=''
exec {errors}>&-
trap 'rm -rf "$lost" "${TMPDIR:-/tmp}/ompi.$(hostname).$EUID/pid.$job"' EXIT  # a killed mpirun leaves its folder behind

stop() {
  told=1
  if [[ $1 == INT && -n $asked ]] && ((SECONDS - asked >= patience)); then kill -TERM "$job"; else kill -USR1 "$job"; fi
  asked=${asked:-$SECONDS}
} 2>/dev/null
trap 'stop TERM' TERM USR1
trap 'stop INT' INT

end_when_lost() {
  until [[ -s $lost ]]; do sleep 1; done
  sleep "$grace"
  kill -KILL "$job" $(cat "/proc/$job/task/$job/children")  # its ssh, too
} 2>/dev/null
end_when_lost &
watch=$!
disown "$watch"

code=''
while :; do  # a signal ends a wait early; mpirun may have ended before the first
  told=''
  wait "$job" 2>/dev/null
  status=$?
  ((status == 127)) && [[ -n $code ]] || code=$status  # 127: it has been waited for
  [[ -n $told ]] || break
done
for _ in {1..20}; do  # what was said last; not for ever: a child of mpirun's may hold the stream
  kill -0 "$reader" 2>/dev/null || break
  sleep 0.05
done
kill -KILL "$reader" -- -"$watch" 2>/dev/null
[[ ! -s $lost ]] || code=5
exit "$code"
