"""Where transformers, the DeepSeek-V3 report and other implementations part: cases built to show it, and which one is
followed here."""

import copy

import torch

import compare
import publish
from models import Reference, published_config, safe_tokens, yarn


def certify(certificate, jevons):
    for case in (dropped_groups, group_scores, latent_norms, yarn_scales, mtp_input, mtp_positions):
        with certificate.guard(case.__name__):
            case(certificate, jevons, case.__name__)


def _score(jevons, reference, config, tokens, mtp=False):
    folder = jevons.path("model")
    publish.write_model(folder, config, reference.published_weights())
    return jevons.score(jevons.import_model(folder), tokens, mtp=mtp)


def _gates(reference):
    return [m for m in reference.model.modules() if type(m).__name__ == "DeepseekV3TopkRouter"]


def _other_choices(reference, tokens, choose):
    """The share of tokens for which choose(gate, scores with bias) is another set of experts."""
    counts, handles = [], []

    def look(gate, _, out):
        scores = out[0].sigmoid() + gate.e_score_correction_bias
        counts.append((choose(gate, scores).sort(-1).values != out[2].sort(-1).values).any(-1))

    for gate in _gates(reference):
        handles.append(gate.register_forward_hook(look))
    reference.logits(tokens)
    for handle in handles:
        handle.remove()
    return torch.cat(counts).float().mean().item()


def _chosen(gate, scores, best_in_group, dropped):
    grouped = scores.view(scores.shape[0], gate.num_group, -1)
    kept = grouped.topk(best_in_group, -1).values.sum(-1).topk(gate.topk_group, -1).indices
    mask = torch.zeros(grouped.shape[:2]).scatter_(1, kept, 1).bool()
    return grouped.masked_fill(~mask[..., None], dropped).flatten(1).topk(gate.top_k, -1).indices


def dropped_groups(certificate, jevons, case):
    """Experts of dropped groups count as -inf here, in the released code and in transformers now; older versions wrote 0,
    so that with negative scores an expert of a dropped group is chosen."""
    config = published_config()
    reference = Reference.random(config, 11)
    for gate in _gates(reference):
        gate.e_score_correction_bias -= 2.0
    tokens = safe_tokens(reference, 2, 24, 1)
    ours = _score(jevons, reference, config, tokens)
    certificate.row(case, "all biases at -2: logits", compare.logits_error(ours["logits"], reference.logits(tokens)),
                    compare.LOGITS_BOUND, "followed: dropped groups are -inf")
    certificate.remark(case, "with 0 instead, other experts, share", _other_choices(
        reference, tokens, lambda g, s: _chosen(g, s, 2, 0.0)), "not followed: contradicts the report's group limit")


def group_scores(certificate, jevons, case):
    """A group's score is the sum of its best K_r / M scores in the report, of its best two in every released model and
    in transformers: the same for DeepSeek-V3 (8 / 4). The two differ where K_r / M is not 2."""
    config = published_config(n_routed_experts=16, num_experts_per_tok=8, n_group=4, topk_group=2)
    reference = Reference.random(config, 12)
    tokens = safe_tokens(reference, 2, 24, 1)
    ours = _score(jevons, reference, config, tokens)
    certificate.row(case, "8 experts from 2 of 4 groups: logits",
                    compare.logits_error(ours["logits"], reference.logits(tokens)), compare.LOGITS_BOUND,
                    "followed: the best two, as released weights were trained")
    certificate.remark(case, "with the best K_r/M = 4, other experts, share", _other_choices(
        reference, tokens, lambda g, s: _chosen(g, s, 4, float("-inf"))), "equal where K_r / M = 2, as in the report")


def latent_norms(certificate, jevons, case):
    """The norms of the two latents have epsilon 1e-6 in the released code and in transformers, whatever rms_norm_eps."""
    config = published_config(rms_norm_eps=1e-3)
    reference = Reference.random(config, 13)
    with torch.no_grad():  # small latents, so that the epsilon counts
        for name, p in reference.model.named_parameters():
            if "kv_a_proj" in name or "q_a_proj" in name:
                p *= 0.01
    tokens = safe_tokens(reference, 2, 24, 1)
    ours = _score(jevons, reference, config, tokens)
    expected = reference.logits(tokens)
    certificate.row(case, "rms_norm_eps 1e-3, small latents: logits",
                    compare.logits_error(ours["logits"], expected), compare.LOGITS_BOUND,
                    "followed: 1e-6 for the latents; the report names no epsilon")
    other = Reference(copy.deepcopy(reference.model))
    for module in other.model.modules():
        if hasattr(module, "kv_a_layernorm"):
            module.kv_a_layernorm.variance_epsilon = module.q_a_layernorm.variance_epsilon = 1e-3
    certificate.remark(case, "with 1e-3 for the latents too, logits move by",
                       compare.logits_error(other.logits(tokens), expected))


def yarn_scales(certificate, jevons, case):
    """Where mscale and mscale_all_dim differ, cosines and sines are scaled by the ratio; published configs have them
    equal, and the report gives the scores' factor only."""
    scaling = dict(yarn(40, 32), mscale=1.0, mscale_all_dim=0.5)
    config = published_config(rope_scaling=scaling)
    reference = Reference.random(config, 14)
    tokens = safe_tokens(reference, 2, 40, 1)
    ours = _score(jevons, reference, config, tokens)
    expected = reference.logits(tokens)
    certificate.row(case, "mscale 1, mscale_all_dim 0.5: logits", compare.logits_error(ours["logits"], expected),
                    compare.LOGITS_BOUND, "followed: the ratio")
    reference.model.model.rotary_emb.attention_scaling = 1.0
    certificate.remark(case, "without the ratio, logits move by", compare.logits_error(reference.logits(tokens), expected))


def mtp_input(certificate, jevons, case):
    """The report's h^0 is "the representation given by the main model": before or after its final norm? transformers
    (and every implementation of speculative decoding) feeds what comes after it."""
    config = published_config(num_nextn_predict_layers=1)
    reference = Reference.random(config, 15)
    tokens = safe_tokens(reference, 2, 24, 1)
    ours = _score(jevons, reference, config, tokens, mtp=True)["mtp_logits.1"]
    expected = reference.mtp_logits(tokens)[0]
    certificate.row(case, "MTP logits", compare.logits_error(ours, expected), compare.LOGITS_BOUND,
                    "followed: after the final norm")
    reference.model.model.norm, norm = torch.nn.Identity(), reference.model.model.norm
    certificate.remark(case, "before the final norm, logits move by",
                       compare.logits_error(reference.mtp_logits(tokens)[0], expected))
    reference.model.model.norm = norm


def mtp_positions(certificate, jevons, case):
    """transformers numbers the positions of module K from K on, here they begin at 0: rotary positions count by their
    differences only. It also goes on to the end with tokens that it drafted; here a module ends where labels do."""
    config = published_config(num_nextn_predict_layers=2)
    reference = Reference.random(config, 16)
    tokens = safe_tokens(reference, 2, 24, 1)
    ours = _score(jevons, reference, config, tokens, mtp=True)
    expected = reference.mtp_logits(tokens)
    for k in (1, 2):
        certificate.row(case, f"MTP logits of module {k}",
                        compare.logits_error(ours[f"mtp_logits.{k}"], expected[k - 1]), compare.LOGITS_BOUND)
    with torch.no_grad():
        hidden = reference.model.model(input_ids=tokens, use_cache=False).last_hidden_state
        moved = reference.mtp._project_to_logits(reference.mtp.forward_layer(
            0, hidden[:, :-1], torch.arange(tokens.shape[1] - 1)[None], None, input_ids=tokens[:, 1:]))
    certificate.remark(case, "torch, positions from 0 or from 1", compare.logits_error(moved, expected[0]),
                       "rounding only")
