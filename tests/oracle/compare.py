"""Errors between what the program says and what the reference says, and their bounds."""

import os

import torch
from safetensors.torch import load_file

LOGITS_BOUND = 1e-5    # max difference / range of the reference's logits, FP32
LOSS_BOUND = 1e-6      # relative
GRADIENT_BOUND = 1e-5  # per tensor: L2 norm of the difference / L2 norm
GREEDY_TOKENS = 16


def logits_error(ours, reference):
    if ours.shape != reference.shape:
        raise ValueError(f"logits are {list(ours.shape)}, should be {list(reference.shape)}")
    span = (reference.max() - reference.min()).item()
    return ((ours.double() - reference.double()).abs().max() / span).item()


def worst_gradient(ours, reference):
    """(largest error, its name), over tensors that both have: L2 of the difference over the tensor's norm. Where the
    reference is exactly zero (attention to one position has no gradient for its queries), over the whole gradient's."""
    whole = sum(g.double().square().sum() for g in reference.values()).sqrt()
    errors = {}
    for n, g in reference.items():
        if n in ours and ours[n].shape == g.shape:
            difference, norm = (ours[n].double() - g.double()).norm(), g.double().norm()
            errors[n] = (difference / (norm if norm > 0 else whole)).item()
    name = max(errors, key=lambda n: float("inf") if errors[n] != errors[n] else errors[n])
    return errors[name], name


def gradient_names(ours, reference):
    """"" or what is missing, extra or of another shape. MTP modules get exact zeros: they are no part of this loss."""
    missing = sorted(set(reference) - set(ours))
    extra = sorted(n for n in set(ours) - set(reference) if ours[n].any())
    shapes = sorted(n for n in set(ours) & set(reference) if ours[n].shape != reference[n].shape)
    said = [f"{what}: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}"
            for what, names in (("missing", missing), ("extra", extra), ("other shape", shapes)) if names]
    return "; ".join(said)


def expectation(reference, tokens, greedy=0):
    """What a case folder's expected.safetensors holds, computed by the reference."""
    loss, gradients = reference.gradients(tokens)
    out = {"logits": reference.logits(tokens), "loss": loss.reshape(1)}
    out.update({"grad." + n: g for n, g in gradients.items() if g.numel()})
    if reference.mtp is not None:
        out.update({f"mtp_logits.{k + 1}": m for k, m in enumerate(reference.mtp_logits(tokens))})
    if greedy:
        out["greedy"] = reference.greedy(tokens, greedy)
    return {n: t.detach().contiguous() for n, t in out.items()}


def compare_scores(certificate, case, ours, expected, note=""):
    """Rows for logits, loss, log-probabilities, gradients and MTP logits: whatever is expected."""
    certificate.row(case, "logits, share of their range", logits_error(ours["logits"], expected["logits"]), LOGITS_BOUND,
                    note)
    loss = expected["loss"].item()
    certificate.row(case, "loss, relative", abs(ours["loss"].item() - loss) / abs(loss), LOSS_BOUND)
    for name in sorted(n for n in expected if n.startswith("mtp_logits.")):
        certificate.row(case, f"{name}, share of their range", logits_error(ours[name], expected[name]), LOGITS_BOUND)
    gradients = {n.removeprefix("grad."): g for n, g in expected.items() if n.startswith("grad.")}
    if gradients:
        theirs = {n.removeprefix("grad."): g for n, g in ours.items() if n.startswith("grad.")}
        certificate.verdict(case, f"names and shapes of {len(gradients)} gradients", gradient_names(theirs, gradients))
        error, name = worst_gradient(theirs, gradients)
        certificate.row(case, "worst gradient, relative L2", error, GRADIENT_BOUND, name)


def compare_logprobs(certificate, case, ours, tokens):
    """logprobs against log-softmax of the program's own logits, in double precision; loss against their mean."""
    expected = ours["logits"].double()[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    certificate.row(case, "logprobs, absolute", (ours["logprobs"].double() - expected).abs().max().item(), 1e-5)


def compare_folder(certificate, jevons, folder):
    """One case folder: model/, tokens.safetensors, expected.safetensors (logits, loss, grad.NAME, mtp_logits.K,
    greedy [B, S + n]): imports, scores, compares."""
    case = os.path.basename(os.path.normpath(folder))
    tokens = load_file(os.path.join(folder, "tokens.safetensors"))["input_ids"]
    expected = load_file(os.path.join(folder, "expected.safetensors"))
    run = jevons.import_model(os.path.join(folder, "model"))
    ours = jevons.score(run, tokens, gradients=any(n.startswith("grad.") for n in expected),
                        mtp="mtp_logits.1" in expected)
    compare_scores(certificate, case, ours, expected)
    compare_logprobs(certificate, case, ours, tokens)
    if "greedy" in expected:
        count = expected["greedy"].shape[1] - tokens.shape[1]
        differing = (jevons.greedy(run, tokens, count) != expected["greedy"]).sum().item()
        certificate.verdict(case, f"{count} greedy tokens per row",
                            f"{differing} tokens differ" if differing else "")
    return run


def compare_tensors(certificate, case, what, ours, expected):
    """Bit equality of two sets of named tensors."""
    wrong = [n for n, t in expected.items() if n in ours and (
        ours[n].dtype != t.dtype or ours[n].shape != t.shape or not torch.equal(ours[n], t))]
    parts = [f"{label} {len(names)}: {', '.join(sorted(names)[:3])}" for label, names in (
        ("missing", set(expected) - set(ours)), ("extra", set(ours) - set(expected)), ("different", wrong)) if names]
    certificate.verdict(case, what, "; ".join(parts), f"{len(expected)} tensors")


def load_model_folder(folder):
    """All tensors of a published folder, whatever its shards."""
    tensors = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            tensors.update(load_file(os.path.join(folder, name)))
    return tensors
