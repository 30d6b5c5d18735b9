"""Writes tests/golden/tokenizer: small tokenizers of every known family, and what the PyPI package tokenizers makes of texts.

    python tests/oracle/make_tokenizer_golden.py     # in an environment with tokenizers 0.23.3
"""
import json
import pathlib
import random
import zlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "golden" / "tokenizer"

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
PREFIX = r"[^\r\n\p{L}\p{N}]?"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SYMBOLS, SPACES = r" ?[^\s\p{L}\p{N}]+", r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = rf"{CONTRACTIONS}|{PREFIX}\p{{L}}+|\p{{N}}{{1,3}}|{SYMBOLS}[\r\n]*|{SPACES}"
QWEN2 = rf"{CONTRACTIONS}|{PREFIX}\p{{L}}+|\p{{N}}|{SYMBOLS}[\r\n]*|{SPACES}"
QWEN35 = rf"{CONTRACTIONS}|{PREFIX}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{SPACES}"
O200K = (rf"{PREFIX}{UPPER}*{LOWER}+{CONTRACTIONS}?|{PREFIX}{UPPER}+{LOWER}*{CONTRACTIONS}?"
         rf"|\p{{N}}{{1,3}}|{SYMBOLS}[\r\n/]*|{SPACES}")
TEKKEN = rf"{PREFIX}{UPPER}*{LOWER}+|{PREFIX}{UPPER}+{LOWER}*|\p{{N}}|{SYMBOLS}[\r\n/]*|{SPACES}"
DEEPSEEK = [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
            " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]

DEEPSEEK_V2 = ["[\r\n]",
               "\\s?[A-Za-z\xb5\xc0-\xd6\xd8-\xf6\xf8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
               "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481"
               "\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-"
               "\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57"
               "\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-"
               "\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-"
               "\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184"
               "\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-"
               "\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-"
               "\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
               "\U000118a0-\U000118df\U0001e900-\U0001e943]+",
               "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"]
UPPER_NOT_HAN, LOWER_NOT_HAN = UPPER[:-1] + r"&&[^\p{Han}]]", LOWER[:-1] + r"&&[^\p{Han}]]"
KIMI = (rf"[\p{{Han}}]+|{PREFIX}{UPPER_NOT_HAN}*{LOWER_NOT_HAN}+{CONTRACTIONS}?|{PREFIX}{UPPER_NOT_HAN}+{LOWER_NOT_HAN}*{CONTRACTIONS}?"
        rf"|\p{{N}}{{1,3}}|{SYMBOLS}[\r\n]*|{SPACES}")


def possessive(digits):
    """cl100k as OpenAI writes it."""
    return (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}" + digits +
            r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")


TRAINING = ["In the beginning God created the heaven and the earth. And the earth was without form, and void;",
            "I'm it's we'll THEY'RE don't he'd 12345 1984 caf\u00e9 cafe\u0301 \uac00\uac01 \u4f60\u597d \u4e16\u754c",
            "  def f(x):\r\n    return x != 10;\n\n/* ... */ //\n \u0301a \u0391\u03b2\u03b3 \u0416\u0438\u0437\u043d\u044c"] * 3

# Where a code point is alone, between letters, before another of its kind and a letter, and amid punctuation.
CONTEXTS = ["{0}", "a{0}B", "'{0}{0} e!{0}\n"]


def special(content, **flags):
    return AddedToken(content, **({"normalized": False, "special": True} | flags))


ADDED = [special("<x>"), special("<x><y"), special("<left>", lstrip=True), special("<right>", rstrip=True),
         special("<both>", lstrip=True, rstrip=True), special("\u00e9", special=False),
         special("e\u0301x", special=False, normalized=True), special("a<x", special=False, normalized=True),
         special(" s ", special=False, lstrip=True), special("the", special=False, normalized=True)]


def split(*patterns, then=(), **how):
    stages = [pre_tokenizers.Split(Regex(p), **({"behavior": "isolated"} | how)) for p in patterns] + list(then)
    return pre_tokenizers.Sequence(stages + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def around(before, after=""):
    def processor(tokenizer):
        ids = [(t, tokenizer.token_to_id(t)) for t in (before, after) if t]
        template = processors.TemplateProcessing(single=f"{before} $A {after}".strip(), special_tokens=ids)
        return processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return processor


def byte_level(_):
    return processors.ByteLevel(trim_offsets=False)


ALPHABET = pre_tokenizers.ByteLevel.alphabet()
# Without the bytes that no character has, C0, C1 and F5 to FF, which stand for themselves: as DeepSeek-V2's own.
UTF8_ALPHABET = [c for c in ALPHABET if c not in {chr(b) for b in [0xC0, 0xC1, *range(0xF5, 0x100)]}]


def make(pre_tokenizer, names, processor=byte_level, nfc=False, ignore_merges=False, added=ADDED, alphabet=ALPHABET):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoders.ByteLevel()
    tokenizer.train_from_iterator(TRAINING, trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    if ignore_merges:  # a token that no merge makes
        state = json.loads(tokenizer.to_str())
        state["model"]["vocab"]["Ġzyx"] = len(state["model"]["vocab"])
        tokenizer = Tokenizer.from_str(json.dumps(state))
    for token in [special(n) for n in names] + added:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    tokenizer.post_processor = processor(tokenizer)
    return tokenizer


def families():
    byte = pre_tokenizers.ByteLevel
    return {
        "deepseek_v3": make(split(*DEEPSEEK), ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]),
        "deepseek_v2": make(split(*DEEPSEEK_V2, then=[pre_tokenizers.Digits(individual_digits=True)]),
                            ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"], alphabet=UTF8_ALPHABET),
        "cl100k": make(split(possessive("{1,3}")), ["<|endoftext|>"]),
        "nanochat": make(split(possessive("{1,2}")), ["<|endoftext|>"]),
        "ling": make(split(possessive("")), ["<|endoftext|>"]),
        "kimi": make(split(KIMI), ["[BOS]", "[EOS]"]),
        "smollm": make(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte(add_prefix_space=False)]),
                       ["<|endoftext|>"]),
        "digit_runs": make(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), byte(add_prefix_space=False)]),
                           ["<|endoftext|>"]),
        "gpt2": make(byte(add_prefix_space=False), ["<|endoftext|>"]),
        "gpt2_prefix": make(byte(add_prefix_space=True), ["<|endoftext|>"]),
        "llama3": make(split(LLAMA3), ["<|begin_of_text|>", "<|end_of_text|>"], around("<|begin_of_text|>"),
                       ignore_merges=True),
        "qwen2": make(split(QWEN2), ["<|endoftext|>"], nfc=True),
        "qwen35": make(split(QWEN35), ["<|endoftext|>"], nfc=True),
        "o200k": make(split(O200K, behavior="removed", invert=True), ["<|endoftext|>"]),
        "tekken": make(split(TEKKEN), ["<s>", "</s>"], around("<s>", "</s>")),
    }


PIECES = ["'s", "'S", "'\u017f", "'Re", "'vE", "'LL", "'", "''", "'r", " ", "  ", "\t", "\n", "\r\n", "\u0085", "\u00a0", "\u180e",
          "\u200b", "\u2028", "\u3000", "12345", "\u00b2\u2167", "7", "abc", " the", "The", "XYZ", "aB", "\u01c5", "\u02b0\u02b1", "\u00aa",
          "\u4f60\u597d", "\u3007", "\u2e80!", "a\u3005b", "\u00b5m", "\ud7ff",
          "\u30ab\u3099", "\u1100\u1161\u11a8", "\uac00\u11a8", "\u0301", "\u0323\u0301", "e\u0301", "\u1e69", "s\u0307\u0323", "\u212b", "\uf900", "\u0344", "\u0958",
          "\U0001d15e", "\U00011131\U00011127", "\U00011935\U00011930", "\u0897", "\u0f71\u0f72", "\U0001f468\u200d\U0001f469", "\u2764\ufe0f", "...", "!?", "//\n/",
          "<x>", "<x><y", "<left>", " <right> ", " <both>", "e\u0301x", "\u00e9x", "a<x", "s ", " s ", "zyx", " zyx", "\x00", "\x7f", "\ufffd",
          "<|endoftext|>", "<s>"]


def texts():
    rng = random.Random(1)
    return ["".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 14))) for _ in range(160)]


def code_points():
    return [c for c in list(range(0x20000)) + list(range(0x20000, 0x110000, 97)) if not 0xD800 <= c <= 0xDFFF]


def checksum(tokenizer, context):
    """CRC-32 of the ids, one line a code point."""
    encoded = tokenizer.encode_batch([context.format(chr(c)) for c in code_points()], add_special_tokens=False)
    return zlib.crc32("".join(",".join(map(str, e.ids)) + "\n" for e in encoded).encode())


def decodings(tokenizer):
    rng = random.Random(2)
    ids = [[rng.randrange(tokenizer.get_vocab_size()) for _ in range(rng.randrange(1, 8))] for _ in range(40)]
    return [[i, tokenizer.decode(i, skip_special_tokens=False)] for i in ids]


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    cases = {"contexts": CONTEXTS, "texts": texts(), "families": {}}
    for name, tokenizer in families().items():
        tokenizer.save(str(FOLDER / f"{name}.json"), pretty=False)
        tokenizer = Tokenizer.from_file(str(FOLDER / f"{name}.json"))
        cases["families"][name] = {
            "ids": [tokenizer.encode(t, add_special_tokens=False).ids for t in cases["texts"]],
            "with_template": tokenizer.encode("the end").ids,
            "decoded": decodings(tokenizer),
            "checksums": [checksum(tokenizer, context) for context in CONTEXTS],
        }
    (FOLDER / "cases.json").write_text(json.dumps(cases, separators=(",", ":")), encoding="utf-8")


if __name__ == "__main__":
    main()
