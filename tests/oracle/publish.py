"""Writes model folders in the published layout: config.json, safetensors in shards, FP8 blocks."""

import json
import os

import torch
from safetensors.torch import save_file

BLOCK = 128  # rows and columns that share one scale in published FP8 checkpoints
E4M3_MAX = 448.0


def write_model(folder, config, tensors, shard_bytes=None):
    """config: config.json; tensors: name to tensor. With shard_bytes, several files and an index."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)
    shards = _shards(tensors, shard_bytes) if shard_bytes else [tensors]
    names = (["model.safetensors"] if len(shards) == 1 else
             [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))])
    for name, shard in zip(names, shards):
        save_file({n: t.contiguous() for n, t in shard.items()}, os.path.join(folder, name), metadata={"format": "pt"})
    if len(shards) > 1:
        total = sum(t.nbytes for t in tensors.values())
        index = {"metadata": {"total_size": total},
                 "weight_map": {n: name for name, shard in zip(names, shards) for n in shard}}
        with open(os.path.join(folder, "model.safetensors.index.json"), "w", encoding="utf-8") as file:
            json.dump(index, file, indent=1)


def _shards(tensors, limit):
    shards, size = [{}], 0
    for name, t in tensors.items():
        if shards[-1] and size + t.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][name] = t
        size += t.nbytes
    return shards


def is_fp8(name, tensor):
    """Which weights a published checkpoint holds in FP8: the layers' matrices, but not gate, norms, embedding, head
    or eh_proj."""
    kept = ("norm", "mlp.gate.", "embed_tokens", "lm_head", "eh_proj", "shared_head", "e_score")
    return tensor.ndim == 2 and not any(k in name for k in kept)


def quantise(tensors):
    """The tensors of an FP8 checkpoint: e4m3 matrices and their FP32 weight_scale_inv, the rest BF16 (gate bias FP32)."""
    out = {}
    for name, t in tensors.items():
        if is_fp8(name, t):
            out[name], out[name + "_scale_inv"] = quantise_blocks(t)
        else:
            out[name] = t if name.endswith("e_score_correction_bias") else t.to(torch.bfloat16)
    return out


def quantise_blocks(weight):
    """e4m3 values and one scale per 128x128 block: value * scale is the weight."""
    rows, columns = -(-weight.shape[0] // BLOCK), -(-weight.shape[1] // BLOCK)
    scales = torch.empty(rows, columns)
    values = torch.empty(weight.shape, dtype=torch.float8_e4m3fn)
    for i in range(rows):
        for j in range(columns):
            at = (slice(i * BLOCK, (i + 1) * BLOCK), slice(j * BLOCK, (j + 1) * BLOCK))
            scales[i, j] = weight[at].abs().max().clamp(min=1e-30) / E4M3_MAX
            values[at] = (weight[at] / scales[i, j]).to(torch.float8_e4m3fn)
    return values, scales


def dequantise_blocks(values, scales):
    grown = scales.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return values.float() * grown[:values.shape[0], :values.shape[1]]


def rounded(name, tensor):
    """A weight after a trip through an FP8 checkpoint."""
    if is_fp8(name, tensor):
        return dequantise_blocks(*quantise_blocks(tensor))
    return tensor.to(torch.bfloat16).float()
