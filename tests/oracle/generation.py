"""Greedy text, token by token: a model trained here, exported with its tokenizer, run by transformers' generate."""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tokenizers_check

PROMPTS = ["#include ", "The report says", "// Reads a", "absl::Status", "for (int64_t i = 0;", "A step"]
TOKENS = 40
CASES = {
    "generate": dict(train__steps=60, model__mtp__depth=1),
    "generate_yarn": dict(train__steps=60, model__attention__yarn__factor=4, model__attention__query_rank=0,
                          model__attention__yarn__original_length=16, model__moe__shared_experts=2),
}


def certify(certificate, jevons, corpus):
    for name, fields in CASES.items():
        with certificate.guard(name):
            run = corpus.train(jevons, **fields)
            folder = jevons.export_model(run)
            check(certificate, jevons, name, run, folder)
            tokenizers_check.check_exported(certificate, jevons, name, folder)


def check(certificate, jevons, name, run, folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    wrong, least = [], float("inf")
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=TOKENS,
                             output_logits=True, return_dict_in_generate=True)
        for step in out.logits:
            best = step.topk(2).values[0]
            least = min(least, (best[0] - best[1]).item())
        theirs = tokenizer.decode(out.sequences[0], skip_special_tokens=True)
        ours = jevons.run("generate", "--checkpoint", run, "--prompt", prompt, "--tokens", TOKENS, "--temperature",
                          0).decode(errors="replace").removesuffix("\n")
        if ours != theirs:
            wrong.append(f"{ours!r} here, {theirs!r} there")
    certificate.verdict(name, f"greedy text, {len(PROMPTS)} prompts of {TOKENS} tokens", "; ".join(wrong)[:600],
                        f"least distance of the best two logits: {least:.2g}")
