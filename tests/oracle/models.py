"""Small DeepSeek-V3-style models with random weights, made and run by transformers."""

import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.modeling_layers import MtpModel

SAFE_MARGIN = 1e-4  # no routing choice may hang on rounding: about 1,000 times FP32's

BASE = dict(
    vocab_size=160, hidden_size=64, intermediate_size=96, moe_intermediate_size=40, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=4, n_shared_experts=1, n_routed_experts=8, routed_scaling_factor=2.5,
    kv_lora_rank=24, q_lora_rank=32, qk_rope_head_dim=8, v_head_dim=16, qk_nope_head_dim=16, n_group=4, topk_group=2,
    num_experts_per_tok=2, first_k_dense_replace=1, norm_topk_prob=True, hidden_act="silu",
    max_position_embeddings=128, initializer_range=0.02, rms_norm_eps=1e-6, bos_token_id=0, eos_token_id=1,
    tie_word_embeddings=False, attention_bias=False, attention_dropout=0.0, num_nextn_predict_layers=0,
    rope_theta=10000, rope_scaling=None)


def yarn(factor, original, mscale=1.0):
    """rope_scaling as published configs write it."""
    return dict(type="yarn", factor=factor, original_max_position_embeddings=original, beta_fast=32, beta_slow=1,
                mscale=mscale, mscale_all_dim=mscale)


def published_config(**changes):
    """config.json of a published checkpoint: BASE with changes and the keys that transformers does not read."""
    return {**BASE, "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "scoring_func": "sigmoid",
            "topk_method": "noaux_tc", "moe_layer_freq": 1, "torch_dtype": "float32", **changes}


def randomise(module, generator):
    """Weights of unit gain, norms between 0.5 and 1.5, gate biases all different."""
    with torch.no_grad():
        for name, p in list(module.named_parameters()) + list(module.named_buffers()):
            if name.endswith("e_score_correction_bias"):
                p.copy_(0.05 * torch.randn(p.shape, generator=generator))
            elif name.startswith("rotary_emb") or "inv_freq" in name:
                continue
            elif p.ndim == 1:
                p.copy_(0.5 + torch.rand(p.shape, generator=generator))
            elif "embed_tokens" in name:
                p.copy_(torch.randn(p.shape, generator=generator))
            elif p.numel():
                p.copy_(torch.randn(p.shape, generator=generator) * p.shape[-1] ** -0.5)


class Reference:
    """A transformers model in FP32 (eager attention and experts) and its MTP modules, if it has some."""

    def __init__(self, model, mtp=None):
        self.model, self.mtp = model.eval(), mtp.eval() if mtp is not None else None
        self.config = model.config

    @staticmethod
    def random(config, seed):
        """A model of this config (a dict as in config.json) with random weights."""
        cfg = DeepseekV3Config(**config)
        cfg._attn_implementation, cfg._experts_implementation = "eager", "eager"
        model = DeepseekV3ForCausalLM(cfg).float()
        generator = torch.Generator().manual_seed(seed)
        randomise(model, generator)
        mtp = None
        if cfg.num_mtp_layers > 0:
            mtp = MtpModel(model, cfg.num_mtp_layers).float()
            for layer in mtp.layers:
                randomise(layer, generator)
        return Reference(model, mtp)

    @staticmethod
    def load(folder, dtype=torch.float32):
        """What transformers reads from a published folder; fails where a tensor is missing."""
        model, info = DeepseekV3ForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager", output_loading_info=True)
        # A model without shared experts has shared experts of width 0 there, which no checkpoint holds.
        missing = [n for n in info["missing_keys"] if model.config.n_shared_experts or "shared_experts" not in n]
        layers, depth = model.config.num_hidden_layers, model.config.num_mtp_layers
        modules = tuple(f"model.layers.{layers + k}." for k in range(depth))
        unexpected = [n for n in info["unexpected_keys"] if not n.startswith(modules)]
        if missing or unexpected or info["mismatched_keys"]:
            raise ValueError(f"{folder}: transformers misses {sorted(missing)[:5]}, does not expect "
                             f"{sorted(unexpected)[:5]}, mismatched {sorted(info['mismatched_keys'])[:5]}")
        mtp = None
        if depth > 0:
            # The class knows the published model's MTP layer, 61, only.
            model._keys_to_ignore_on_load_unexpected = [rf"model\.layers\.{layers + k}\." for k in range(depth)]
            mtp = MtpModel.from_pretrained(model)
        return Reference(model, mtp)

    def double(self):
        """The same weights in FP64, for the yardstick. (Norms and gate stay FP32 inside transformers.)"""
        import copy
        return Reference(copy.deepcopy(self.model).double())

    def logits(self, tokens):
        with torch.no_grad():
            return self.model(input_ids=tokens, use_cache=False).logits

    def loss(self, tokens):
        """Mean next-token cross-entropy over B * (S - 1)."""
        logits = self.model(input_ids=tokens, use_cache=False).logits[:, :-1]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    def gradients(self, tokens):
        """The loss, and d loss / d NAME for every parameter, under published names."""
        self.model.zero_grad()
        loss = self.loss(tokens)
        loss.backward()
        grads = {n: p.grad if p.grad is not None else torch.zeros_like(p) for n, p in self.model.named_parameters()}
        return loss.detach(), split_experts(grads)

    def mtp_logits(self, tokens):
        """Per module K = 1, 2, ...: [B, S-K, V]. Position i reads h_i and token i+K."""
        length, out = tokens.shape[1], []
        with torch.no_grad():
            hidden = self.model.model(input_ids=tokens, use_cache=False).last_hidden_state
            for k in range(1, len(self.mtp.layers) + 1):
                hidden = self.mtp.forward_layer(k - 1, hidden[:, :length - k], torch.arange(k, length)[None], None,
                                                input_ids=tokens[:, k:])
                out.append(self.mtp._project_to_logits(hidden))
        return out

    def greedy(self, tokens, count):
        for _ in range(count):
            tokens = torch.cat([tokens, self.logits(tokens)[:, -1].argmax(-1, keepdim=True)], dim=1)
        return tokens

    def published_weights(self):
        """Every tensor of the published layout: one per expert, MTP modules as layers after the last one."""
        tensors = {n: p.detach() for n, p in self.model.named_parameters()}
        tensors.update({n: b for n, b in self.model.named_buffers() if n.endswith("e_score_correction_bias")})
        for k, layer in enumerate(self.mtp.layers if self.mtp is not None else []):
            prefix = f"model.layers.{self.config.num_hidden_layers + k}."
            for name, p in list(layer.named_parameters()) + list(layer.named_buffers()):
                tensors[prefix + name.replace("mtp_block.", "").replace("post_norm", "shared_head.norm")] = p.detach()
            tensors[prefix + "embed_tokens.weight"] = tensors["model.embed_tokens.weight"]
            tensors[prefix + "shared_head.head.weight"] = tensors["lm_head.weight"]
        return {n: t.contiguous().clone() for n, t in split_experts(tensors).items() if t.numel()}

    def replace_weights(self, change):
        """Puts change(published name, tensor) in place of every matrix, as a rounded file would."""
        with torch.no_grad():
            for module, prefix in self._modules():
                for name, p in module.named_parameters():
                    if p.ndim == 3:
                        for expert in range(p.shape[0]):
                            for part in p[expert].chunk(2) if "gate_up" in name else [p[expert]]:
                                part.copy_(change(prefix + name, part))
                    elif p.numel():
                        p.copy_(change(prefix + name, p))

    def margins(self, tokens):
        """The least routing margin of each token: [B, S]. It is charged to the token that an MTP module reads."""
        seen, handles = [], []
        for module, _ in self._modules():
            for part in module.modules():
                if type(part).__name__ == "DeepseekV3TopkRouter":
                    handles.append(part.register_forward_hook(lambda gate, _, out: seen.append(margin(gate, out[0]))))
        if self.mtp is not None:
            self.mtp_logits(tokens)
        else:
            self.logits(tokens)
        for handle in handles:
            handle.remove()
        batch, length = tokens.shape
        least = torch.full((batch, length), float("inf"))
        for m in seen:
            m = m.view(batch, -1)
            least[:, length - m.shape[1]:] = torch.minimum(least[:, length - m.shape[1]:], m)
        return least

    def _modules(self):
        yield self.model, ""
        for k, layer in enumerate(self.mtp.layers if self.mtp is not None else []):
            yield layer, f"mtp.{k}."


def margin(gate, router_logits):
    """How far each row's choice of groups and experts is from another one."""
    scores = router_logits.float().sigmoid() + gate.e_score_correction_bias
    rows, experts = scores.shape
    grouped = scores.view(rows, gate.num_group, -1)
    totals, order = grouped.topk(min(2, grouped.shape[2]), dim=-1)[0].sum(-1).sort(dim=-1, descending=True)
    least = torch.full((rows,), float("inf"))
    if gate.topk_group < gate.num_group:
        least = totals[:, gate.topk_group - 1] - totals[:, gate.topk_group]
    kept = torch.zeros_like(totals).scatter_(1, order[:, :gate.topk_group], 1).bool()
    inside = grouped.masked_fill(~kept[..., None], float("-inf")).view(rows, experts).sort(-1, descending=True)[0]
    if gate.top_k < experts // gate.num_group * gate.topk_group:
        least = torch.minimum(least, inside[:, gate.top_k - 1] - inside[:, gate.top_k])
    return least


def safe_tokens(reference, batch, length, seed, threshold=SAFE_MARGIN):
    """Random tokens for which no routing choice is near another: the first token of a row with a narrow margin is
    replaced until none is left. (What comes before it does not change: attention is causal.)"""
    generator = torch.Generator().manual_seed(seed)
    vocab = reference.config.vocab_size
    tokens = torch.randint(vocab, (batch, length), generator=generator)
    for _ in range(1000):
        narrow = reference.margins(tokens) < threshold
        if not narrow.any():
            return tokens
        for row in narrow.any(1).nonzero().flatten():
            tokens[row, narrow[row].nonzero()[0]] = torch.randint(vocab, (1,), generator=generator)
    raise RuntimeError(f"no tokens with margins above {threshold} found")


def split_experts(tensors):
    """transformers keeps a layer's experts in one tensor; published checkpoints hold one tensor each."""
    out = {}
    for name, t in tensors.items():
        if name.endswith(".experts.gate_up_proj"):
            stem = name.removesuffix("gate_up_proj")
            for e in range(t.shape[0]):
                out[f"{stem}{e}.gate_proj.weight"], out[f"{stem}{e}.up_proj.weight"] = t[e].chunk(2)
        elif name.endswith(".experts.down_proj"):
            stem = name.removesuffix("down_proj")
            out.update({f"{stem}{e}.down_proj.weight": t[e] for e in range(t.shape[0])})
        else:
            out[name] = t
    return out
