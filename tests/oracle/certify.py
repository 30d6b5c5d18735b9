"""The certificate: Jevons against transformers, torch.optim.AdamW and the tokenizers package. Run through run.sh."""

import argparse
import os
import sys

os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1", HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")

import torch
import transformers

import compare
import differences
import exports
import generation
import golden
import imports
import tokenizers_check
import training
from jevons import Jevons
from report import Certificate

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NEED_CORPUS = {"exports", "training", "tokenizers", "generation"}
SECTIONS = {
    "imports": (imports.certify, "models made by transformers: logits, loss, gradients, greedy, MTP, exported again"),
    "exports": (exports.certify, "models trained here: logits, loss, MTP logits"),
    "training": (training.certify, "20 AdamW steps against torch.optim.AdamW"),
    "generation": (generation.certify, "greedy text, AutoTokenizer on exported folders"),
    "tokenizers": (tokenizers_check.certify, "ids, texts and speed against the tokenizers package"),
    "differences": (differences.certify, "where implementations part, and which one is followed"),
}


def arguments():
    parser = argparse.ArgumentParser(prog="tests/oracle/run.sh", description="Certifies this build against transformers.",
                                     epilog="Sections: " + "; ".join(f"{n}: {s[1]}" for n, s in SECTIONS.items()))
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help="folder with the program jevons")
    parser.add_argument("--case", action="append", metavar="DIR",
                        help="check this folder (model/, tokens.safetensors, expected.safetensors) only; may be repeated")
    parser.add_argument("--only", metavar="NAME,...", help="these sections only")
    parser.add_argument("--list", action="store_true", help="name the sections and end")
    parser.add_argument("--keep", metavar="DIR", help="keep all files that are made, in this folder")
    parser.add_argument("--write-golden", action="store_true",
                        help="rewrite tests/golden/interop, which the tests without Python read, and end")
    return parser.parse_args()


def run_sections(certificate, jevons, names):
    corpus = None
    for name in names:
        certify = SECTIONS[name][0]
        if name in NEED_CORPUS:
            corpus = corpus or exports.Corpus(jevons, ROOT)
            certify(certificate, jevons, corpus)
        else:
            certify(certificate, jevons)


def main():
    options = arguments()
    torch.set_num_threads(2)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if options.list:
        for name, (_, what) in SECTIONS.items():
            print(f"{name:<12} {what}")
        return 0
    if options.write_golden:
        golden.write(os.path.join(ROOT, "tests", "golden", "interop"))
        return 0
    names = options.only.split(",") if options.only else list(SECTIONS)
    if unknown := [n for n in names if n not in SECTIONS]:
        print(f"--only: no section {unknown[0]!r}; there are {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    if options.keep:
        os.makedirs(options.keep, exist_ok=True)

    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {options.build}/jevons")
    certificate, jevons = Certificate(), Jevons(options.build, options.keep)
    try:
        for folder in options.case or []:
            with certificate.guard(os.path.basename(os.path.normpath(folder))):
                compare.compare_folder(certificate, jevons, folder)
        if not options.case:
            run_sections(certificate, jevons, names)
    finally:
        jevons.close()
    return certificate.finish()


if __name__ == "__main__":
    sys.exit(main())
