"""Small case folders for the tests that run without Python: tests/golden/interop (see the README there)."""

import os
import shutil

import torch
from safetensors.torch import save_file

import compare
import publish
from models import Reference, published_config, safe_tokens, yarn

TINY = dict(vocab_size=61, hidden_size=24, intermediate_size=40, moe_intermediate_size=8, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, kv_lora_rank=12, q_lora_rank=10, qk_rope_head_dim=4,
            v_head_dim=6, qk_nope_head_dim=6)
FP8 = dict(activation_scheme="dynamic", fmt="e4m3", quant_method="fp8", weight_block_size=[128, 128])
CASES = {
    "grouped_mtp": (published_config(**TINY, num_nextn_predict_layers=2), "fp32"),
    "yarn_bf16_shards": (published_config(**{**TINY, "q_lora_rank": None}, n_shared_experts=2, n_group=1, topk_group=1,
                                          rope_scaling=yarn(40, 16), torch_dtype="bfloat16"), "bf16"),
    "bare_experts": (published_config(**TINY, first_k_dense_replace=0, n_shared_experts=0, norm_topk_prob=False), "fp32"),
    "fp8_blocks": (published_config(**{**TINY, "hidden_size": 136, "intermediate_size": 132}, n_routed_experts=4,
                                    n_group=2, topk_group=1, torch_dtype="bfloat16"), "fp8"),
}


def write(folder):
    for seed, (name, (config, kind)) in enumerate(CASES.items()):
        write_case(os.path.join(folder, name), config, kind, seed + 1)
    write_adamw(os.path.join(folder, "adamw.safetensors"))
    size = sum(os.path.getsize(os.path.join(at, f)) for at, _, files in os.walk(folder) for f in files)
    print(f"{folder}: {size / 2**20:.2f} MiB")


def write_case(folder, config, kind, seed):
    shutil.rmtree(folder, ignore_errors=True)
    reference = Reference.random(config, seed)
    if kind == "bf16":
        reference.replace_weights(lambda _, t: t.to(torch.bfloat16).float())
    elif kind == "fp8":
        reference.replace_weights(publish.rounded)
    tokens = safe_tokens(reference, 2, 14, seed)
    tensors = reference.published_weights()
    if kind == "fp8":
        tensors, config = publish.quantise(tensors), {**config, "quantization_config": FP8}
    elif kind == "bf16":
        tensors = {n: t if n.endswith("correction_bias") else t.to(torch.bfloat16) for n, t in tensors.items()}
    publish.write_model(os.path.join(folder, "model"), config, tensors, 20_000 if kind == "bf16" else None)
    save_file({"input_ids": tokens}, os.path.join(folder, "tokens.safetensors"))
    save_file(compare.expectation(reference, tokens), os.path.join(folder, "expected.safetensors"))


def write_adamw(path):
    """torch.optim.AdamW on one vector with gradients of all sizes, zeros among them: 20 steps, with and without decay."""
    generator = torch.Generator().manual_seed(1)
    steps, size = 20, 48
    start = torch.randn(size, generator=generator)
    gradients = torch.randn(steps, size, generator=generator) * 10.0 ** torch.linspace(-10, 4, size)
    gradients[:, :4] = 0
    gradients[::3, 4:8] = 0
    hyper = dict(lr=2e-3, betas=(0.9, 0.95), eps=1e-8)
    tensors = {"start": start, "gradients": gradients,
               "lr_beta1_beta2_eps": torch.tensor([2e-3, 0.9, 0.95, 1e-8], dtype=torch.float64)}
    for decay in (0.1, 0.0):
        for dtype in (torch.float32, torch.float64):
            parameter = torch.nn.Parameter(start.to(dtype))
            optimizer = torch.optim.AdamW([parameter], weight_decay=decay, foreach=False, **hyper)
            after = []
            for gradient in gradients:
                parameter.grad = gradient.to(dtype)
                optimizer.step()
                after.append(parameter.detach().clone())
            tensors[f"after.decay_{decay}.{'f32' if dtype == torch.float32 else 'f64'}"] = torch.stack(after)
    save_file(tensors, path)
