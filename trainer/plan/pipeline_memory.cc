#include "trainer/plan/pipeline_memory.h"

#include <algorithm>

namespace jevons {
namespace {

constexpr double kMaster = 4;
constexpr double kE5M6 = 1.5, kScales = 4.0 / 128;
constexpr double kBlockScales = 4.0 / (128 * 128);

struct TokenBytes {
  double until_b = 0, until_w = 0, stash = 0;
};

double Kept(const Layout& layout, double elements) {
  return (IsFp8(layout.precision) ? 1 + kScales : layout.value_bytes) * elements;
}

// Per token of the tensor-parallel group. What a product reads waits for its weight gradient.
TokenBytes AttentionBytes(const ModelShape& m, const Layout& l) {
  const double H = static_cast<double>(m.hidden), Q = static_cast<double>(m.query_width), KV = static_cast<double>(m.kv_width);
  const double out = static_cast<double>(m.heads * m.v_dim), latents = static_cast<double>(m.latent_width);
  const double v = l.value_bytes;
  const bool fp8 = l.precision == Precision::kFp8Block;
  TokenBytes bytes;
  bytes.until_w = v * (H + latents) + (fp8 ? (kE5M6 + kScales) : v) * out;
  bytes.until_b = 4 * static_cast<double>(m.heads);
  if (l.recompute == Recompute::kNone) bytes.until_w += v * (H + latents);  // normed values
  if (l.recompute != Recompute::kSelective) bytes.until_b += v * (Q + KV);
  bytes.stash = Kept(l, H + Q + KV + latents);
  return bytes;
}

TokenBytes FfnBytes(const Layout& l, double width, double hidden, double input_kept) {
  const double inner = l.recompute == Recompute::kNone ? 3 * width : 2 * width;  // with SwiGLU's output
  return {.until_b = 0, .until_w = Kept(l, inner) + input_kept, .stash = Kept(l, 2 * width + hidden)};
}

void Add(TokenBytes& sum, const TokenBytes& bytes, double rows) {
  sum.until_b += rows * bytes.until_b;
  sum.until_w += rows * bytes.until_w;
  sum.stash += rows * bytes.stash;
}

TokenBytes BlockBytes(const ModelShape& m, const Layout& l, bool dense, double imbalance) {
  const double H = static_cast<double>(m.hidden), K = static_cast<double>(m.top_k), v = l.value_bytes;
  if (l.recompute == Recompute::kFull) return {.until_b = 0, .until_w = v * H, .stash = 0};
  TokenBytes sum = AttentionBytes(m, l);
  sum.until_w += v * H;  // the residual stream between attention and FFN
  const double normed = l.recompute == Recompute::kNone ? v * H : 0;
  if (dense) {
    Add(sum, FfnBytes(l, static_cast<double>(m.dense_width), H, normed), 1);
    return sum;
  }
  const double rows = K * (l.ep > 1 ? imbalance : 1);
  sum.until_b += 4 * static_cast<double>(m.experts) + 4 * 4 * K;  // scores; indices, weights and the two maps of rows
  Add(sum, FfnBytes(l, static_cast<double>(m.expert_width), H, Kept(l, H) + 4), rows);
  if (m.shared_width > 0) Add(sum, FfnBytes(l, static_cast<double>(m.shared_width), H, normed), 1);
  return sum;
}

}  // namespace

StageParameters ParametersOf(const StageContent& s, const ModelShape& m, const Layout& l) {
  const auto tp = static_cast<double>(l.tp);
  const double moe = static_cast<double>(s.moe_blocks + (s.tail ? m.mtp_modules : 0));
  const double blocks = static_cast<double>(s.dense_blocks) + moe;
  StageParameters p;
  const double products =
      (blocks * static_cast<double>(m.attention_parameters()) + static_cast<double>(s.dense_blocks * m.dense_parameters()) +
       moe * static_cast<double>(m.shared_parameters())) /
      tp;
  p.dense = products + moe * static_cast<double>(m.experts * m.hidden) +
            static_cast<double>((s.embedding ? 1 : 0) + (s.tail ? 1 : 0)) * static_cast<double>(m.head_parameters()) / tp;
  if (s.tail) p.dense += static_cast<double>(m.mtp_modules * m.mtp_projection_parameters());
  p.experts = moe * static_cast<double>(m.experts / std::max<int64_t>(l.ep, 1) * m.expert_parameters());
  p.coded = IsFp8(l.precision) ? products + p.experts : 0;
  return p;
}

StageActivations ActivationsOf(const StageContent& s, const ModelShape& m, const Layout& l, double imbalance) {
  const double tokens = static_cast<double>(l.micro_batch_tokens()) / static_cast<double>(l.tp),
               H = static_cast<double>(m.hidden), v = l.value_bytes;
  TokenBytes sum;
  Add(sum, BlockBytes(m, l, true, imbalance), static_cast<double>(s.dense_blocks));
  Add(sum, BlockBytes(m, l, false, imbalance), static_cast<double>(s.moe_blocks + (s.tail ? m.mtp_modules : 0)));
  if (s.embedding) sum.until_w += 4;
  if (s.tail) sum.until_w += v * H + 4 + static_cast<double>(m.mtp_modules) * (3 * v * H + 4);
  return {.until_b = tokens * sum.until_b, .until_w = tokens * sum.until_w, .stash = tokens * sum.stash};
}

double TemporaryOf(const StageContent& s, const ModelShape& m, const Layout& l, double imbalance) {
  const double tokens = static_cast<double>(l.micro_batch_tokens()) / static_cast<double>(l.tp),
               H = static_cast<double>(m.hidden), v = l.value_bytes;
  const bool fp8 = IsFp8(l.precision);
  const double dense = s.dense_blocks > 0 ? static_cast<double>(m.dense_width) : static_cast<double>(m.shared_width);
  // A block's backward: gradients of the residual stream, of attention's inside and of the FFN's, before they are dropped.
  const double up = l.recompute == Recompute::kSelective ? 1 : 0;
  double row = v * (5 * H + static_cast<double>(m.heads * m.v_dim) * (fp8 ? 2 : 1) +
                    (1 + up) * static_cast<double>(m.query_width + m.kv_width)) +
               (4 * v + (fp8 ? 2 : 0)) * dense;
  if (s.moe_blocks > 0 || s.tail) {
    const double rows = static_cast<double>(m.top_k) * (l.ep > 1 ? imbalance : 1), width = static_cast<double>(m.expert_width);
    // Rows travel sorted by expert, and lie by source before they lie by expert.
    row += rows * ((l.ep > 1 ? 3 : 1) * (fp8 ? 1 : v) * H + (l.ep > 1 ? 3 : 1) * v * H + (4 * v + (fp8 ? 5 : 0)) * width);
  }
  double peak = tokens * row;
  if (l.recompute == Recompute::kFull) {  // one block at a time as if nothing ran again
    Layout kept = l;
    kept.recompute = Recompute::kElementwise;
    const StageActivations one =
        ActivationsOf({.dense_blocks = s.moe_blocks > 0 ? 0 : 1, .moe_blocks = s.moe_blocks > 0 ? 1 : 0}, m, kept, imbalance);
    peak += one.total();
  }
  return peak;
}

MemoryPlan StateMemory(const StageParameters& p, const Layout& l, int copies) {
  const double moments = l.bf16_moments ? 4 : 8, master = l.value_bytes < kMaster ? kMaster : 0;  // FP32 weights are their own
  const auto state = [&](double parameters, int64_t ranks) {
    return parameters / static_cast<double>(ranks) * (master + moments);
  };
  MemoryPlan memory;
  memory.weights =
      l.value_bytes * (p.dense + p.experts - (l.values_of_codes ? 0 : p.coded)) + l.weight_codes * (1 + kBlockScales) * p.coded;
  memory.gradients = l.gradient_bytes * (p.dense + p.experts);
  memory.optimizer = state(p.dense, l.dp() * l.cp * copies) + state(p.experts, std::max<int64_t>(l.edp(), 1) * copies);
  return memory;
}

}  // namespace jevons
