"""Models trained here for a few steps, exported, loaded by transformers: the same logits, loss and MTP logits."""

import os

import compare
from models import Reference, safe_tokens

# What differs from the base config below: together they cover query compression or none, shared experts 0, 1, 2,
# groups 1 and 4, dense layers none, one, all, YaRN of factor 4 and 40, unnormalised weights, two norm epsilons, MTP.
BASE = """
model {
  hidden_size: 64  layers: 3  dense_layers: 1  dense_intermediate_size: 96
  attention { heads: 4 query_rank: 32 kv_rank: 24 nope_dim: 16 rope_dim: 8 value_dim: 16 }
  moe { routed_experts: 8 shared_experts: 1 top_k: 2 groups: 4 kept_groups: 2 intermediate_size: 40 }
  init_std: 0.15
}
data { sequence_length: 32 }
train { steps: 8 batch_sequences: 4 micro_batch_sequences: 2 }
optimizer { learning_rate { peak: 1e-2 } }
balance { bias_speed { tokens: 0 value: 0.02 } }
log { tensorboard: false }
"""
CASES = {
    "plain": {},
    "no_query_compression": dict(model__attention__query_rank=0, model__moe__shared_experts=2),
    "no_shared_expert": dict(model__moe__shared_experts=0, model__dense_layers=0),
    "one_group": dict(model__moe__groups=1, model__moe__kept_groups=1, model__moe__top_k=3),
    "all_dense": dict(model__dense_layers=3, model__attention__query_rank=0),
    "yarn_4": dict(model__attention__yarn__factor=4, model__attention__yarn__original_length=32,
                   model__moe__shared_experts=2),
    "yarn_40": dict(model__attention__yarn__factor=40, model__attention__yarn__original_length=16,
                    model__attention__query_rank=0, model__moe__groups=1, model__moe__kept_groups=1),
    "unnormalised": dict(model__moe__normalize_weights="false", model__moe__route_scale=1.5),
    "eps_1e-5": dict(model__norm_eps=1e-5),
    "eps_1e-5_unnormalised_yarn": dict(model__norm_eps=1e-5, model__moe__normalize_weights="false",
                                       model__moe__shared_experts=0, model__attention__yarn__factor=4,
                                       model__attention__yarn__original_length=16, model__attention__query_rank=0),
    "trained_mtp": dict(model__mtp__depth=1),
    "trained_mtp_two": dict(model__mtp__depth=2, model__moe__groups=1, model__moe__kept_groups=1),
}


class Corpus:
    """A small corpus, its tokenizer trained here, its token files; made once."""

    def __init__(self, jevons, root):
        self.text = jevons.path("corpus.txt")
        with open(self.text, "w", encoding="utf-8") as out:
            for folder, _, names in sorted(os.walk(root)):
                relative = os.path.relpath(folder, root)
                if relative.startswith((".", "build", "run")) and relative != ".":
                    continue
                for name in sorted(n for n in names if n.endswith((".md", ".h", ".cc"))):
                    with open(os.path.join(folder, name), encoding="utf-8") as file:
                        out.write(file.read() + "\n\n")
        self.data = jevons.path("data")
        jevons.run("prepare", "--input", self.text, "--output", self.data, "--vocab-size", "600")
        self.tokenizer = os.path.join(self.data, "tokenizer.json")
        self.config = jevons.path("run.textproto")
        with open(self.config, "w", encoding="utf-8") as out:
            out.write(BASE)

    def train(self, jevons, **fields):
        run = jevons.path("run")
        jevons.train(self.config, run, data__path=self.data, **fields)
        return run


def certify(certificate, jevons, corpus):
    for name, fields in CASES.items():
        with certificate.guard(name):
            run = corpus.train(jevons, **fields)
            check(certificate, jevons, name, run)


def check(certificate, jevons, name, run):
    reference = Reference.load(jevons.export_model(run))
    tokens = safe_tokens(reference, 2, 48, seed=1)
    ours = jevons.score(run, tokens, mtp=reference.mtp is not None)
    expected = {"logits": reference.logits(tokens), "loss": reference.loss(tokens).detach().reshape(1)}
    if reference.mtp is not None:
        expected.update({f"mtp_logits.{k + 1}": m for k, m in enumerate(reference.mtp_logits(tokens))})
    compare.compare_scores(certificate, name, ours, expected)
