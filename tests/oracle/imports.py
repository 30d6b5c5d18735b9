"""Models that transformers made, imported here: the same logits, loss, gradients and greedy continuation; and what is
exported again is what came in."""

import os

import torch

import compare
import models
import publish
from models import Reference, published_config, yarn

# name: (config, tokens [B, S], how the folder is written). "transformers": its own save_pretrained, config in the
# style of version 5 (rope_parameters); "published": rope_theta and rope_scaling, as DeepSeek's.
CASES = {
    "grouped": (published_config(), (2, 24), "transformers"),
    "yarn_two_shared": (published_config(q_lora_rank=None, n_shared_experts=2, n_group=1, topk_group=1,
                                         rope_scaling=yarn(40, 4096), max_position_embeddings=163840),
                        (2, 24), "published"),
    "odd_sizes": (published_config(vocab_size=157, hidden_size=72, num_attention_heads=3, num_key_value_heads=3,
                                   moe_intermediate_size=33, intermediate_size=45, kv_lora_rank=19, q_lora_rank=29,
                                   qk_nope_head_dim=10, qk_rope_head_dim=6, v_head_dim=13, n_routed_experts=15,
                                   n_group=5, topk_group=3, num_experts_per_tok=4), (3, 17), "transformers"),
    "deep": (published_config(num_hidden_layers=8, hidden_size=48, first_k_dense_replace=3, n_routed_experts=32,
                              n_group=8, topk_group=4, num_experts_per_tok=8, moe_intermediate_size=24),
             (2, 32), "published"),
    "long_yarn": (published_config(num_hidden_layers=2, rope_scaling=yarn(40, 64), max_position_embeddings=2560),
                  (1, 1100), "transformers"),
    "long_yarn_mscale": (published_config(num_hidden_layers=2, rope_scaling=yarn(4, 256, mscale=0.707),
                                          qk_rope_head_dim=16, max_position_embeddings=1024), (1, 1024), "published"),
    "all_dense": (published_config(first_k_dense_replace=3), (2, 24), "transformers"),
    "bare_experts": (published_config(first_k_dense_replace=0, n_shared_experts=0, norm_topk_prob=False,
                                      routed_scaling_factor=1.0), (2, 24), "published"),
    "bare_experts_as_saved": (published_config(first_k_dense_replace=0, n_shared_experts=0, norm_topk_prob=False),
                              (2, 24), "transformers"),
    "one_of_each": (published_config(num_experts_per_tok=1, norm_topk_prob=False, n_group=1, topk_group=1,
                                     num_attention_heads=1, num_key_value_heads=1, num_hidden_layers=2), (1, 2), "transformers"),
    "all_experts_chosen": (published_config(num_experts_per_tok=8, n_group=2, topk_group=2, rope_theta=50000.0),
                           (5, 9), "published"),
    "bf16_shards": (published_config(torch_dtype="bfloat16"), (2, 24), "bf16 shards"),
    "bf16_shards_as_saved": (published_config(q_lora_rank=None), (2, 24), "transformers bf16 shards"),
    "fp8_blocks": (published_config(hidden_size=160, intermediate_size=264, moe_intermediate_size=136, kv_lora_rank=132,
                                    q_lora_rank=144, n_routed_experts=4, n_group=2, topk_group=1, qk_nope_head_dim=24,
                                    num_nextn_predict_layers=1,
                                    quantization_config=dict(activation_scheme="dynamic", fmt="e4m3", quant_method="fp8",
                                                             weight_block_size=[128, 128])), (2, 24), "fp8"),
    "mtp": (published_config(num_nextn_predict_layers=1), (2, 24), "published"),
    "mtp_two_yarn": (published_config(num_nextn_predict_layers=2, q_lora_rank=None, n_shared_experts=2,
                                      first_k_dense_replace=3, rope_scaling=yarn(40, 32)), (2, 40), "bf16 shards"),
}
GREEDY = {"grouped", "odd_sizes", "yarn_two_shared", "bare_experts"}


def make(folder, name):
    """Writes the case's model/; the reference (its weights rounded as the files are) and tokens."""
    config, (batch, length), style = CASES[name]
    seed = sorted(CASES).index(name)
    reference = Reference.random({k: v for k, v in config.items() if k != "quantization_config"}, seed)
    if "bf16" in style:
        reference.replace_weights(lambda _, t: t.to(torch.bfloat16).float())
    elif style == "fp8":
        reference.replace_weights(publish.rounded)
    model = os.path.join(folder, "model")
    if style.startswith("transformers"):
        if "bf16" in style:
            copy = reference.double().model.to(torch.bfloat16)  # another object: the reference stays FP32
            for ours, theirs in zip(reference.model.buffers(), copy.buffers()):
                theirs.data = ours.clone()  # gate biases are FP32 in every checkpoint
            copy.save_pretrained(model, max_shard_size="60KB")
        else:
            reference.model.save_pretrained(model)
    else:
        tensors = reference.published_weights()
        if style == "fp8":
            tensors = publish.quantise(tensors)
        elif style == "bf16 shards":
            tensors = {n: t if n.endswith("correction_bias") else t.to(torch.bfloat16) for n, t in tensors.items()}
        publish.write_model(model, config, tensors, shard_bytes=60_000 if style in ("bf16 shards", "fp8") else None)
    return reference, models.safe_tokens(reference, batch, length, seed)


def yardstick(reference, tokens, expected):
    """torch in FP32 against itself in FP64: what no FP32 program can be asked to beat."""
    double = reference.double()
    gradients = {n.removeprefix("grad."): g for n, g in expected.items() if n.startswith("grad.")}
    return (compare.logits_error(expected["logits"], double.logits(tokens)),
            compare.worst_gradient(gradients, double.gradients(tokens)[1])[0])


def certify(certificate, jevons):
    for name in CASES:
        folder = jevons.path(name)
        reference, tokens = make(folder, name)
        expected = compare.expectation(reference, tokens)
        with certificate.guard(name):
            check(certificate, jevons, name, folder, reference, tokens, expected)


def check(certificate, jevons, name, folder, reference, tokens, expected):
    run = jevons.import_model(os.path.join(folder, "model"))
    ours = jevons.score(run, tokens, gradients=True, mtp=reference.mtp is not None)
    logits, gradient = yardstick(reference, tokens, expected)
    compare.compare_scores(certificate, name, ours, expected, f"torch FP32 against its FP64: {logits:.2g}")
    certificate.remark(name, "torch FP32 against its FP64, worst gradient", gradient)
    compare.compare_logprobs(certificate, name, ours, tokens)
    if name in GREEDY:
        check_greedy(certificate, jevons, name, run, reference, tokens)
    check_round_trip(certificate, jevons, name, folder, run, reference)


def check_greedy(certificate, jevons, name, run, reference, tokens):
    """Continuations on which no choice, of a token or of an expert, hangs on rounding."""
    theirs = reference.greedy(tokens, compare.GREEDY_TOKENS)
    best = reference.logits(theirs)[:, tokens.shape[1] - 1:-1].topk(2).values
    rows = (reference.margins(theirs).amin(1) > 1e-5) & ((best[..., 0] - best[..., 1]).amin(1) > 1e-4)
    differing = (jevons.greedy(run, tokens[rows], compare.GREEDY_TOKENS) != theirs[rows]).sum().item()
    certificate.verdict(name, f"{compare.GREEDY_TOKENS} greedy tokens in {rows.sum().item()} rows",
                        f"{differing} tokens differ" if differing else "" if rows.any() else "no row is safe")


def check_round_trip(certificate, jevons, name, folder, run, reference):
    """Exported again, every tensor has its bits; for FP8, in FP8 as in the file that came in."""
    style = CASES[name][2]
    precision = "fp8" if style == "fp8" else "bf16" if "bf16" in style else "fp32"
    theirs = compare.load_model_folder(os.path.join(folder, "model"))
    ours = compare.load_model_folder(jevons.export_model(run, precision))
    ours, theirs = ({n: t for n, t in tensors.items() if t.numel()} for tensors in (ours, theirs))
    if style == "fp8":
        compare_fp8(certificate, name, ours, theirs)
    else:
        compare.compare_tensors(certificate, name, f"exported again as {precision}, bits", ours, theirs)


def compare_fp8(certificate, name, ours, theirs):
    """Scales may differ where two of them hold the same weights; the weights may not, by more than e4m3 rounds."""
    same = {n: t.dtype for n, t in ours.items()} == {n: t.dtype for n, t in theirs.items()}
    certificate.verdict(name, "exported again as fp8, names and types", "" if same else "they differ: " + ", ".join(
        sorted(n for n in set(ours) | set(theirs)
               if n not in ours or n not in theirs or ours[n].dtype != theirs[n].dtype)[:6]))
    worst = 0.0
    for n, t in theirs.items():
        if n + "_scale_inv" in theirs and n in ours:
            expected = publish.dequantise_blocks(t, theirs[n + "_scale_inv"])
            got = publish.dequantise_blocks(ours[n], ours[n + "_scale_inv"])
            worst = max(worst, ((got - expected).abs() / expected.abs().clamp(min=1e-6 * expected.abs().max())).max().item())
    certificate.row(name, "exported again as fp8, worst weight, relative", worst, 1e-6)
