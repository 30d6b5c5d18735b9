#!/usr/bin/env python3
"""Three tasks for `jevons score --task`, made from the validation set of a data folder: what a model has not been trained on.

    launch/make_tasks.py --data runs/data --output runs/tasks [--questions 200] [--seed 1]

A line of the text is its unit (in the quick start's corpus a verse), a document what blank lines part (a book):

    next_line.jsonl   lines in a row; the line that follows, among four of the same document
    word_order.jsonl  half a line; the other half, and three times the same with two words swapped
    same_text.jsonl   lines in a row; another line of their document, among those of other documents

The same folder, seed and number of questions give the same bytes. Needs Python 3 alone, and build/jevons (or --jevons).
"""
import argparse
import json
import random
import struct
import subprocess
import sys
from pathlib import Path

CHOICES = 4  # continuations of a question
CONTEXT = 3  # lines of a context
LINES = CONTEXT + 2 * CHOICES  # of a document that is asked about, at least
TOKEN_TYPES = {1: "B", 2: "b", 3: "h", 4: "i", 5: "q", 8: "H"}  # of an .idx: data/index/FORMAT.md


def read_documents(prefix):
    """The tokens of each document of PREFIX.bin and PREFIX.idx."""
    index, tokens = Path(f"{prefix}.idx").read_bytes(), Path(f"{prefix}.bin").read_bytes()
    if index[:9] != b"MMIDIDX\0\0":
        sys.exit(f"make_tasks.py: {prefix}.idx: it is no index of tokens")
    code, sequences, bounds = struct.unpack_from("<BQQ", index, 17)
    lengths = struct.unpack_from(f"<{sequences}i", index, 34)
    documents = struct.unpack_from(f"<{bounds}q", index, 34 + 12 * sequences)
    kind = TOKEN_TYPES[code]
    every = struct.unpack(f"<{len(tokens) // struct.calcsize('<' + kind)}{kind}", tokens)
    begin = [0]
    for length in lengths:
        begin.append(begin[-1] + length)
    return [every[begin[first] : begin[last]] for first, last in zip(documents, documents[1:])]


def decode(jevons, tokenizer, documents):
    lines = "".join(json.dumps(list(document)) + "\n" for document in documents)
    run = subprocess.run([jevons, "tokenize", "--tokenizer", tokenizer, "--decode"], input=lines, text=True, stdout=subprocess.PIPE)
    if run.returncode != 0:
        sys.exit("make_tasks.py: the tokens could not be turned into text")
    return [json.loads(line) for line in run.stdout.splitlines()]


def lines_of(text):
    return [line.strip() for line in text.split("\n") if line.strip()]


def question(rng, context, right, wrong):
    """With the right continuation at a place drawn by lot."""
    continuations = list(wrong)
    answer = rng.randrange(len(continuations) + 1)
    continuations.insert(answer, right)
    return {"context": context, "continuations": continuations, "answer": answer}


def next_line(rng, documents):
    lines = rng.choice(documents)
    at = rng.randrange(CONTEXT, len(lines))
    near = set(range(at - CONTEXT, at + 1))
    others = [lines[i] for i in range(len(lines)) if i not in near and lines[i] != lines[at]]
    return question(rng, "\n".join(lines[at - CONTEXT : at]) + "\n", lines[at], rng.sample(others, CHOICES - 1))


def swapped(rng, words):
    i, j = rng.sample(range(len(words)), 2)
    words = list(words)
    words[i], words[j] = words[j], words[i]
    return words


def halves(line):
    words = line.split()
    return words[: len(words) // 2], words[len(words) // 2 :]


def word_order(rng, documents):
    begin, end = halves(rng.choice([line for d in documents for line in d if len(set(halves(line)[1])) > CHOICES]))
    wrong = []
    while len(wrong) < CHOICES - 1:
        other = swapped(rng, end)
        if other != end and other not in wrong:
            wrong.append(other)
    return question(rng, " ".join(begin), " " + " ".join(end), [" " + " ".join(words) for words in wrong])


def same_text(rng, documents):
    lines = rng.choice(documents)
    at = rng.randrange(CONTEXT, len(lines) - 1)
    right = rng.choice(lines[: at - CONTEXT] + lines[at + 1 :])
    others = [line for d in documents if d is not lines for line in d if line not in lines]
    return question(rng, "\n".join(lines[at - CONTEXT : at]) + "\n", right, rng.sample(others, CHOICES - 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder that `jevons prepare` made, with a validation set")
    parser.add_argument("--output", required=True, type=Path, help="folder to write the tasks to")
    parser.add_argument("--questions", type=int, default=200, help="in each task (200)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jevons", default=str(Path(__file__).resolve().parent.parent / "build/jevons"))
    options = parser.parse_args()
    if not (options.data / "validation.idx").exists():
        sys.exit(f"make_tasks.py: --data {options.data}: there is no validation set (validation.idx); "
                 "make one: `jevons prepare --validation-fraction`")
    documents = [tokens[:-1] for tokens in read_documents(options.data / "validation")]  # the last token is a document's end
    documents = [lines_of(text) for text in decode(options.jevons, options.data / "tokenizer.json", documents)]
    documents = [lines for lines in documents if len(set(lines)) >= LINES]
    if len(documents) < 2 or not any(len(set(halves(line)[1])) > CHOICES for d in documents for line in d):
        sys.exit(f"make_tasks.py: --data {options.data}: the validation set is too small: two documents of {LINES} lines are needed, "
                 "and words in them; prepare more text, or with a larger --validation-fraction")
    options.output.mkdir(parents=True, exist_ok=True)
    for make in (next_line, word_order, same_text):
        rng = random.Random(f"{make.__name__} {options.seed}")
        with open(options.output / f"{make.__name__}.jsonl", "w", encoding="utf-8") as file:
            for _ in range(options.questions):
                file.write(json.dumps(make(rng, documents), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
