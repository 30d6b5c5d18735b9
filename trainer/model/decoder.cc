#include "trainer/model/decoder.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "absl/strings/str_format.h"
#include "kernels/base/philox.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/swiglu.h"
#include "trainer/model/linear.h"
#include "trainer/model/norm.h"

namespace jevons {
namespace {

constexpr int64_t kWorkspace = int64_t{1} << 32;  // address space for the one row; pages are taken when written

int64_t CacheBytes(const ModelConfig& model, DType compute, int64_t max_length) {
  const int64_t rope = model.attention().rope_dim();
  return model.layers() * (Arena::SliceBytes(compute, {max_length, model.attention().kv_rank()}) +
                           Arena::SliceBytes(compute, {max_length, rope})) +
         2 * Arena::SliceBytes(DType::kF32, {max_length, rope / 2}) +
         Arena::SliceBytes(DType::kF32, {1, model.vocab_size()}) + Arena::SliceBytes(compute, {1, model.hidden_size()});
}

// values = softmax(values)
void Softmax(std::span<float> values) {
  const float highest = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (float& v : values) sum += v = std::exp(v - highest);
  for (float& v : values) v = static_cast<float>(v / sum);
}

}  // namespace

Decoder::Decoder(const ModelConfig& model, const ModelWeights& weights, DType compute, int64_t max_length)
    : config_(model),
      weights_(weights),
      compute_(compute),
      max_length_(max_length),
      router_{.experts = model.moe().routed_experts(),
              .top_k = model.moe().top_k(),
              .groups = model.moe().groups(),
              .kept_groups = model.moe().kept_groups(),
              .route_scale = static_cast<float>(model.moe().route_scale()),
              .normalize = model.moe().normalize_weights()},
      cache_arena_("decoder cache", CacheBytes(model, compute, max_length)),
      saved_("decoder activations", kWorkspace),
      scratch_("decoder scratch", kWorkspace) {
  const AttentionConfig& a = model.attention();
  rope_cos_ = cache_arena_.Allocate("rope.cos", DType::kF32, {max_length, a.rope_dim() / 2});
  rope_sin_ = cache_arena_.Allocate("rope.sin", DType::kF32, {max_length, a.rope_dim() / 2});
  FillRopeTable(a.rope_theta(), a.rope_dim(), RopeScalingOf(a.yarn()), rope_cos_, rope_sin_);
  hidden_ = cache_arena_.Allocate("hidden", compute, {1, model.hidden_size()});
  logits_ = cache_arena_.Allocate("logits", DType::kF32, {1, model.vocab_size()});
  for (int64_t layer = 0; layer < model.layers(); ++layer)
    cache_.push_back({cache_arena_.Allocate("latent", compute, {max_length, a.kv_rank()}),
                      cache_arena_.Allocate("k_rope", compute, {max_length, a.rope_dim()})});
}

LayerContext Decoder::Context() {
  return {.ops = {.stream = {}, .scratch = &scratch_},
          .saved = &saved_,
          .dtype = compute_,
          .wgrad = &unused_,
          .timer = nullptr,
          .non_finite = &non_finite_};
}

std::span<const float> Decoder::Logits() {
  LinearForward(Context(), hidden_, weights_.head, logits_);
  return {logits_.as<float>(), static_cast<size_t>(logits_.size())};
}

absl::Status Decoder::CheckFinite() const {
  const std::span<const float> logits(logits_.as<float>(), static_cast<size_t>(logits_.size()));
  if (std::all_of(logits.begin(), logits.end(), [](float v) { return std::isfinite(v); })) return absl::OkStatus();
  const std::string place =
      non_finite_.tensor ? absl::StrFormat("layer %d: %s", non_finite_.layer, non_finite_.tensor) : std::string("the output head");
  return NumericalError(absl::StrFormat("token %d: NaN or Inf, first seen in %s", length_ - 1, place));
}

void Decoder::Append(int32_t token) {
  JEVONS_CHECK(length_ < max_length_, "the cache holds %lld tokens", static_cast<long long>(max_length_));
  const LayerContext ctx = Context();
  ArenaScope saved_scope(saved_), scratch_scope(scratch_);
  const int64_t H = config_.hidden_size();
  const auto eps = static_cast<float>(config_.norm_eps());
  const Tensor x = ctx.Temp("x", {1, H}), normed = ctx.Temp("normed", {1, H}), y = ctx.Temp("y", {1, H});
  const Tensor rstd = ctx.TempAs("rstd", DType::kF32, {1});
  Embedding(ctx.ops, weights_.embedding.value, Tensor::Of(&token, {1}), x);
  for (int layer = 0; layer < config_.layers(); ++layer) {
    ArenaScope saved_layer(saved_), scratch_layer(scratch_);
    const BlockWeights& w = weights_.blocks[static_cast<size_t>(layer)];
    NormForward(ctx, {layer, "input", eps}, x, w.input_norm, normed, rstd);
    Attention(ctx, w.attention, layer, normed, y);
    Add(ctx.ops, y, x, x);
    NormForward(ctx, {layer, "attention output", eps}, x, w.post_attention_norm, normed, rstd);
    FfnSaved saved;
    if (layer < config_.dense_layers()) {
      FfnForward(ctx, w.ffn, normed, y, WriteMode::kOverwrite, saved);
    } else {
      if (config_.moe().shared_experts() > 0)
        FfnForward(ctx, w.moe.shared, normed, y, WriteMode::kOverwrite, saved);
      else
        Zero(y);
      Experts(ctx, w.moe, normed, y);
    }
    Add(ctx.ops, y, x, x);
  }
  NormForward(ctx, {static_cast<int>(config_.layers()), "final", eps}, x, weights_.final_norm, hidden_, rstd);
  ++length_;
}

void Decoder::Attention(const LayerContext& ctx, const MlaWeights& w, int layer, const Tensor& x, const Tensor& y) {
  const AttentionConfig& a = config_.attention();
  const LayerCache& cache = cache_[static_cast<size_t>(layer)];
  const int64_t head_dim = a.nope_dim() + a.rope_dim();
  const Tensor rstd = ctx.TempAs("rstd", DType::kF32, {1});
  const Tensor q = ctx.Temp("q", {1, a.heads() * head_dim});
  if (a.query_rank() > 0) {
    const Tensor latent = ctx.Temp("q_latent", {1, a.query_rank()}), normed = ctx.Temp("q_normed", {1, a.query_rank()});
    LinearForward(ctx, x, w.q_a, latent);
    NormForward(ctx, {layer, "q_a", kLatentNormEps}, latent, w.q_a_norm, normed, rstd);
    LinearForward(ctx, normed, w.q_b, q);
  } else {
    LinearForward(ctx, x, w.q, q);
  }
  const Tensor kv_latent = ctx.Temp("kv_latent", {1, a.kv_rank() + a.rope_dim()});
  LinearForward(ctx, x, w.kv_a, kv_latent);
  NormForward(ctx, {layer, "kv_a", kLatentNormEps}, kv_latent.Columns(0, a.kv_rank()), w.kv_a_norm, cache.latent.Rows(length_, 1), rstd);
  Copy(ctx.ops, kv_latent.Columns(a.kv_rank(), a.rope_dim()), cache.k_rope.Rows(length_, 1));
  // One row with a table of one position: this one.
  const Tensor cos = rope_cos_.Rows(length_, 1), sin = rope_sin_.Rows(length_, 1);
  Rope(ctx.ops, {.x = q, .heads = a.heads(), .head_dim = head_dim, .offset = a.nope_dim(), .cos = cos, .sin = sin,
                 .sequence_length = 1});
  Rope(ctx.ops, {.x = cache.k_rope.Rows(length_, 1), .heads = 1, .head_dim = a.rope_dim(), .offset = 0, .cos = cos,
                 .sin = sin, .sequence_length = 1});

  const Tensor o = ctx.Temp("o", {1, a.heads() * a.value_dim()});
  const int64_t kv_dim = a.nope_dim() + a.value_dim();
  for (int64_t h = 0; h < a.heads(); ++h)
    Head(ctx, w.kv_b.value.Rows(h * kv_dim, kv_dim), cache, q.Columns(h * head_dim, head_dim),
         o.Columns(h * a.value_dim(), a.value_dim()));
  LinearForward(ctx, o, w.o, y);
}

// kv_b: [nope + value, kv_rank] of this head; q: [1, nope + rope]; o: [1, value].
void Decoder::Head(const LayerContext& ctx, const Tensor& kv_b, const LayerCache& cache, const Tensor& q,
                   const Tensor& o) const {
  ArenaScope scope(*ctx.ops.scratch);
  const AttentionConfig& a = config_.attention();
  const int64_t n = length_ + 1;
  const Tensor q_latent = ctx.Temp("head.q_latent", {1, a.kv_rank()});
  const Tensor scores = ctx.TempAs("head.scores", DType::kF32, {1, n});
  const Tensor weights = ctx.Temp("head.weights", {1, n});
  const Tensor mixed = ctx.Temp("head.mixed", {1, a.kv_rank()});
  Gemm(ctx.ops, {.a = q.Columns(0, a.nope_dim()), .b = kv_b.Rows(0, a.nope_dim()), .c = q_latent});
  Gemm(ctx.ops, {.a = q_latent, .b = cache.latent.Rows(0, n), .c = scores, .b_form = Form::kTransposed});
  Gemm(ctx.ops, {.a = q.Columns(a.nope_dim(), a.rope_dim()),
                 .b = cache.k_rope.Rows(0, n),
                 .c = scores,
                 .b_form = Form::kTransposed,
                 .mode = WriteMode::kAdd});
  const std::span<float> values(scores.as<float>(), static_cast<size_t>(n));
  const float scale = AttentionScale(a);
  for (float& v : values) v *= scale;
  Softmax(values);
  Copy(ctx.ops, scores, weights);
  Gemm(ctx.ops, {.a = weights, .b = cache.latent.Rows(0, n), .c = mixed});
  Gemm(ctx.ops, {.a = mixed, .b = kv_b.Rows(a.nope_dim(), a.value_dim()), .c = o, .b_form = Form::kTransposed});
}

void Decoder::Experts(const LayerContext& ctx, const MoeWeights& w, const Tensor& x, const Tensor& y) const {
  const int64_t E = router_.experts, K = router_.top_k, width = config_.moe().intermediate_size();
  const Tensor x_fp32 = ctx.TempAs("x_fp32", DType::kF32, x.shape);
  const Tensor logits = ctx.TempAs("gate.logits", DType::kF32, {1, E}), scores = ctx.TempAs("gate.scores", DType::kF32, {1, E});
  const Tensor indices = ctx.TempAs("gate.indices", DType::kI32, {1, K});
  const Tensor weights = ctx.TempAs("gate.weights", DType::kF32, {1, K});
  const Tensor counts = ctx.TempAs("gate.counts", DType::kI64, {E});
  Copy(ctx.ops, x, x_fp32);
  LinearForward(ctx, x_fp32, w.gate, logits);
  Router(ctx.ops, router_,
         {.logits = logits, .bias = w.bias, .scores = scores, .indices = indices, .weights = weights, .counts = counts});
  const Tensor gate_up = ctx.Temp("expert.gate_up", {1, 2 * width}), activated = ctx.Temp("expert.activated", {1, width});
  for (int64_t k = 0; k < K; ++k) {
    const int64_t e = indices.as<int32_t>()[k];
    Gemm(ctx.ops, {.a = x, .b = w.gate_up.value.Index(e), .c = gate_up, .b_form = Form::kTransposed});
    SwiGlu(ctx.ops, gate_up, weights.Columns(k, 1).Reshape({1}), activated);
    Gemm(ctx.ops, {.a = activated,
                   .b = w.down.value.Index(e),
                   .c = y,
                   .b_form = Form::kTransposed,
                   .mode = WriteMode::kAdd});
  }
}

int32_t SampleToken(std::span<const float> logits, const Sampling& sampling, uint64_t index) {
  if (sampling.temperature <= 0)
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  std::vector<double> weight(order.size());
  double total = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const double above = logits[static_cast<size_t>(order[i])] - logits[static_cast<size_t>(order[0])];
    total += weight[i] = std::exp(above / sampling.temperature);
  }
  // The shortest prefix of the ordered tokens that holds top_p of the probability; then one draw from it.
  size_t kept = 0;
  double mass = 0;
  while (kept < order.size() && (kept == 0 || mass < sampling.top_p * total)) mass += weight[kept++];
  double draw = RandomUniform(sampling.seed, 0, index) * mass;
  for (size_t i = 0; i < kept; ++i) {
    draw -= weight[i];
    if (draw < 0) return order[i];
  }
  return order[kept - 1];
}

}  // namespace jevons
