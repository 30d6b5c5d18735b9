#!/usr/bin/env bash
# Retrieval from a context of four times the length of pre-training, before and after its extension (configs/presets/context_extension_cpu):
# how often a model names the digit that stands behind a letter somewhere in 500 others. Minutes on two quiet cores.
#
#   tests/perf/needle.sh JEVONS FOLDER [TRIALS] [--set ...]     # FOLDER is made; TRIALS: 100 by default
set -euo pipefail
jevons=$(realpath "$1") work=$2 trials=${3:-100}
shift $(($# < 3 ? $# : 3))
preset=$(realpath "$(dirname "$0")/../../configs/presets/context_extension_cpu.textproto")
long=512 boundary=3000
mkdir -p "$work"

# Documents of small letters in which eight capitals have digits, the same in all of a document: "...qxB7kf...". Behind a question mark a
# capital that was there comes again: "?B7". Every second document has no small letters: where they are nearly all, so small a model does
# not begin to look back within these steps.
awk -v documents=14000 -v length_of=600 'BEGIN {
  srand(1)
  for (d = 0; d < documents; ++d) {
    delete digit; known = ""; text = ""; dense = d % 2 ? 1.25 : rand()
    while (length(text) < length_of) {
      x = rand()
      if (x < 0.3 * dense) {
        k = length(known) < 8 ? sprintf("%c", 65 + int(26 * rand())) : substr(known, 1 + int(8 * rand()), 1)
        if (!(k in digit)) { digit[k] = int(10 * rand()); known = known k }
        text = text k digit[k]
      } else if (x < 0.8 * dense && known != "") {
        k = substr(known, 1 + int(length(known) * rand()), 1)
        text = text "?" k digit[k]
      } else text = text sprintf("%c", 97 + int(26 * rand()))
    }
    print text "\n"
  }
}' > "$work/text.txt"
"$jevons" prepare --input "$work/text.txt" --output "$work/data" --vocab-size 262 --validation-fraction 0.01 --overwrite > "$work/prepare.log"

# Prompts of `long` - 1 tokens: eight capitals, one of which is asked for at the end; its digit beside them.
rm -rf "$work/prompts"
mkdir -p "$work/prompts"
awk -v trials="$trials" -v tokens=$((long - 1)) -v folder="$work/prompts" 'BEGIN {
  srand(2)
  for (t = 0; t < trials; ++t) {
    delete at; delete used
    for (n = 0; n < 8;) {
      place = 2 * int((tokens / 2 - 2) * rand()); k = sprintf("%c", 65 + int(26 * rand()))
      if (place in at || k in used) continue
      used[k] = int(10 * rand()); at[place] = k used[k]; last = k; ++n
    }
    text = ""
    for (place = 0; place < tokens - 2; place += 2)
      text = text (place in at ? at[place] : sprintf("%c%c", 97 + int(26 * rand()), 97 + int(26 * rand())))
    printf "%s?%s", substr(text, 1, tokens - 2), last > (folder "/" t ".txt")
    print t, used[last] > (folder "/answers")
  }
}'

train() { mpirun -np 2 --oversubscribe --bind-to none "$jevons" train --config "$preset" --set data.path="$work/data" --output "$work/run" "$@"; }
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
train "$@" > "$work/train.log" 2>&1 || { tail -5 "$work/train.log"; exit 1; }

accuracy() {  # of a step's checkpoint, with overrides
  local checkpoint=$1 hits=0 name digit
  shift
  while read -r name digit; do
    [[ $("$jevons" generate --checkpoint "$checkpoint" --prompt-file "$work/prompts/$name.txt" --tokens 1 --temperature 0 "$@" 2> /dev/null) == *"$digit" ]] &&
      hits=$((hits + 1))
  done < "$work/prompts/answers"
  echo "$((100 * hits / trials))% of $trials"
}
before=$(printf '%s/run/checkpoints/step-%08d' "$work" $boundary)
echo "digits found in $long tokens, by chance 10%"
echo "  at the end of pre-training on 128 tokens:   $(accuracy "$before" --set data.sequence_length=$long)"
echo "  the same with YaRN, not trained with it:    $(accuracy "$before" --set data.sequence_length=$long --set model.attention.yarn.factor=4 --set model.attention.yarn.original_length=128)"
echo "  after the stage of $long tokens with YaRN:    $(accuracy "$work/run")"
