#!/usr/bin/env bash
# Retrieval from a context of four times the length of pre-training, before and after its extension (configs/presets/context_extension_cpu):
# how often a model finds the digit that stands behind a letter, one of eight, somewhere in 250 others. Minutes on two quiet cores.
#
#   tests/perf/needle.sh JEVONS FOLDER [TRIALS] [--set ...]     # FOLDER is made; TRIALS: 400 by default
set -euo pipefail
jevons=$(realpath "$1") work=$2 trials=${3:-400}
shift $(($# < 3 ? $# : 3))
preset=$(realpath "$(dirname "$0")/../../configs/presets/context_extension_cpu.textproto")
short=64 long=256 boundary=5000
mkdir -p "$work"

# Documents of small letters in which one to eight capitals come again and again, each with its digit, the same in all of a document:
# "...qxB7kfB7z...". In every second one there is nothing else, and a few capitals are learnt before many: so small a model begins to look back.
awk -v documents=60000 -v length_of=300 'BEGIN {
  srand(1)
  for (d = 0; d < documents; ++d) {
    delete digit; known = ""; text = ""; most = 1 + int(8 * rand()); small = d % 2 ? 0 : rand()
    while (length(text) < length_of) {
      if (rand() < small) { text = text sprintf("%c", 97 + int(26 * rand())); continue }
      k = length(known) < most && rand() < 0.5 ? sprintf("%c", 65 + int(26 * rand())) : substr(known, 1 + int(length(known) * rand()), 1)
      if (k == "") continue
      if (!(k in digit)) { digit[k] = int(10 * rand()); known = known k }
      text = text k digit[k]
    }
    print text "\n"
  }
}' > "$work/text.txt"
"$jevons" prepare --input "$work/text.txt" --output "$work/data" --vocab-size 262 --validation-fraction 0.01 --overwrite > "$work/prepare.log"

# Questions of `tokens` tokens: eight capitals, each once, one of which is asked for at the end.
questions() {
  awk -v trials="$trials" -v tokens="$1" 'BEGIN {
    srand(2)
    for (t = 0; t < trials; ++t) {
      delete at; delete used
      for (n = 0; n < 8;) {
        place = 2 * int((tokens / 2 - 2) * rand()); k = sprintf("%c", 65 + int(26 * rand()))
        if (place in at || k in used) continue
        used[k] = int(10 * rand()); at[place] = k used[k]; last = k; ++n
      }
      text = ""
      for (place = 0; place < tokens - 4; place += 2)
        text = text (place in at ? at[place] : sprintf("%c%c", 97 + int(26 * rand()), 97 + int(26 * rand())))
      printf "{\"context\": \"%s%s\", \"continuations\": [\"0\", \"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\", \"9\"], \"answer\": %d}\n", text, last, used[last]
    }
  }' > "$work/in_$1_tokens.jsonl"
}
questions $short
questions $long

export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
mpirun -np 2 --oversubscribe --bind-to none "$jevons" train --config "$preset" --set data.path="$work/data" --output "$work/run" "$@" \
  > "$work/train.log" 2>&1 || { tail -5 "$work/train.log"; exit 1; }

found() {  # WHAT CHECKPOINT TOKENS OVERRIDE...
  local what=$1 checkpoint=$2 tokens=$3
  shift 3
  printf '  %-52s %s\n' "$what" "$("$jevons" score --checkpoint "$checkpoint" --task "$work/in_${tokens}_tokens.jsonl" --set "data.sequence_length=$tokens" "$@" 2> "$work/score.log" |
    awk 'NR == 2 { printf "%.0f%% +- %.0f%%", 100 * $3, 100 * $5 }')"
}
before=$(printf '%s/run/checkpoints/step-%08d' "$work" $boundary)
yarn=(--set model.attention.yarn.factor=4 --set model.attention.yarn.original_length=$short)
echo "digits found, of $trials; by chance 10%"
found "after pre-training on $short tokens, in $short:" "$before" $short
found "the same, in $long:" "$before" $long
found "the same, in $long, with YaRN, not trained with it:" "$before" $long "${yarn[@]}"
found "after the stage of $long tokens with YaRN, in $long:" "$work/run" $long
found "the same, in $short:" "$work/run" $short
