"""Twenty AdamW steps from the same weights on the same tokens, here and in torch: losses and final weights.

The yardstick is torch in FP32 against torch in FP64. Adam divides each gradient by its own size, so where a gradient is
all rounding error, so is its step: errors grow with the steps in any program. The bounds are about ten times what the
yardstick shows on these cases (1.5e-6 and 4e-5), and the yardstick of the run stands beside them."""

import os
import struct

import numpy as np
import torch

import compare
import publish
from jevons import metrics
from models import Reference, published_config, safe_tokens

STEPS, WARMUP, RATE, BETAS, EPS, DECAY, CLIP = 20, 5, 3e-3, (0.9, 0.95), 1e-8, 0.1, 1.0
LOSS_BOUND = 1e-5     # relative, at every step
WEIGHT_BOUND = 4e-4   # per tensor: L2 of the difference / L2 of the way it went in 20 steps
SEQUENCES, LENGTH = 2, 24
CASES = {
    "adamw_grouped": published_config(vocab_size=640),
    "adamw_uncompressed": published_config(vocab_size=640, q_lora_rank=None, n_shared_experts=2, n_group=1,
                                           topk_group=1, num_hidden_layers=2),
}


def write_dataset(prefix, tokens):
    """One document in Megatron's .bin and .idx (data/index/FORMAT.md)."""
    tokens.numpy().astype(np.uint16).tofile(prefix + ".bin")
    with open(prefix + ".idx", "wb") as file:
        file.write(b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8, 1, 2))
        file.write(struct.pack("<i", tokens.numel()) + struct.pack("<q", 0) + struct.pack("<qq", 0, 1))


def train_torch(reference, document):
    """Losses of the steps; the reference holds the final weights. The least routing margin seen on the way."""
    model = reference.model
    inputs, labels = document.view(SEQUENCES, LENGTH), document.roll(-1)
    norms = [p for n, p in model.named_parameters() if "norm" in n]
    others = [p for n, p in model.named_parameters() if "norm" not in n]
    optimizer = torch.optim.AdamW([{"params": others, "weight_decay": DECAY}, {"params": norms, "weight_decay": 0.0}],
                                  lr=RATE, betas=BETAS, eps=EPS)
    losses, least = [], float("inf")
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARMUP)
        least = min(least, reference.margins(inputs).min().item())
        optimizer.zero_grad()
        logits = model(input_ids=inputs, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        losses.append(loss.item())
    return losses, least


def safe_start(config, first_seed):
    """Weights and tokens whose routing margins stay wide over all steps; with what torch makes of them."""
    for seed in range(first_seed, first_seed + 50):
        reference = Reference.random(config, seed)
        document = safe_tokens(reference, SEQUENCES, LENGTH, seed).flatten()
        start, double = reference.published_weights(), reference.double()
        losses, least = train_torch(reference, document)
        if least > 1e-5:
            return reference, double, start, document, losses
    raise RuntimeError("no seed keeps its routing margins")


def worst_weight(ours, theirs, start):
    """(largest error, its name): the distance of the final weights over the way they went."""
    errors = {n: ((ours[n].double() - t.double()).norm() / (t.double() - start[n].double()).norm()).item()
              for n, t in theirs.items() if not n.endswith("correction_bias")}
    name = max(errors, key=errors.get)
    return errors[name], name


def certify(certificate, jevons, corpus):
    for seed, (name, config) in enumerate(CASES.items()):
        with certificate.guard(name):
            check(certificate, jevons, corpus, name, config, 100 * (seed + 1))


def check(certificate, jevons, corpus, name, config, seed):
    reference, double, start, document, losses = safe_start(config, seed)
    theirs = reference.published_weights()
    losses_64, _ = train_torch(double, document)
    certificate.remark(name, "torch FP32 against its FP64, losses",
                       max(abs(a - b) / b for a, b in zip(losses, losses_64)))
    certificate.remark(name, "torch FP32 against its FP64, worst weight",
                       worst_weight(theirs, double.published_weights(), start)[0])

    ours, exported = train_here(jevons, corpus, name, config, start, document)
    certificate.row(name, f"losses of {STEPS} steps, relative",
                    max(abs(a - b) / b for a, b in zip(ours, losses, strict=True)), LOSS_BOUND,
                    f"from {losses[0]:.3f} to {losses[-1]:.3f}")
    error, weight = worst_weight(exported, theirs, start)
    certificate.row(name, "worst final weight, share of its way", error, WEIGHT_BOUND, weight)
    biases = {n: t for n, t in start.items() if n.endswith("correction_bias")}
    compare.compare_tensors(certificate, name, "gate biases stay, bits", {n: exported[n] for n in biases}, biases)


def train_here(jevons, corpus, name, config, start, document):
    """Losses of the steps and the exported final weights."""
    model, prefix = jevons.path(name), jevons.path("tokens")
    publish.write_model(model, config, start)
    write_dataset(prefix, document)
    run = jevons.import_model(model)
    jevons.train(os.path.join(run, "config.textproto"), run, **{
        "data__mixture[0].prefix": prefix, "data__tokenizer": corpus.tokenizer, "data__sequence_length": LENGTH, "train__steps": STEPS,
        "train__batch_sequences": SEQUENCES, "train__micro_batch_sequences": 1, "optimizer__beta1": BETAS[0],
        "optimizer__beta2": BETAS[1], "optimizer__eps": EPS, "optimizer__weight_decay": DECAY,
        "optimizer__clip_norm": CLIP, "optimizer__learning_rate__peak": RATE,
        "optimizer__learning_rate__warmup_steps": WARMUP, "log__interval": 1,
        "balance__bias_speed": "[{tokens: 0 value: 0}]", "balance__sequence_loss": 0, "precision__compute": "FP32"})
    losses = [record["loss/main"] for record in metrics(run)]
    return losses, compare.load_model_folder(jevons.export_model(run))
