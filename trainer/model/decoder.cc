#include "trainer/model/decoder.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "absl/strings/str_format.h"
#include "kernels/base/philox.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/permute.h"
#include "kernels/ops/swiglu.h"
#include "trainer/model/linear.h"
#include "trainer/model/norm.h"

namespace jevons {
namespace {

constexpr int64_t kWorkspace = int64_t{1} << 34;    // address space for the rows in work; pages are taken when written
constexpr int64_t kScoreBytes = int64_t{64} << 20;  // of the heads whose scores are in memory at once; one head may need more

int64_t CacheBytes(const ModelConfig& model, DType compute, int64_t max_length) {
  const int64_t rope = model.attention().rope_dim();
  return model.layers() * (Arena::SliceBytes(compute, {max_length, model.attention().kv_rank()}) +
                           Arena::SliceBytes(compute, {max_length, rope})) +
         2 * Arena::SliceBytes(DType::kF32, {max_length, rope / 2}) + Arena::SliceBytes(DType::kF32, {1, model.vocab_size()}) +
         Arena::SliceBytes(compute, {1, model.hidden_size()});
}

// values = softmax(scale * values)
void Softmax(std::span<float> values, float scale) {
  for (float& v : values) v *= scale;
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
      memory_("decoder activations", kWorkspace),
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
          .memory = &memory_,
          .dtype = compute_,
          .timer = nullptr,
          .non_finite = &non_finite_};
}

absl::StatusOr<std::span<const float>> Decoder::Logits() {
  LinearForward(Context(), hidden_, weights_.head, logits_);
  const std::span<const float> logits(logits_.as<float>(), static_cast<size_t>(logits_.size()));
  const bool finite = std::all_of(logits.begin(), logits.end(), [](float v) { return std::isfinite(v); });
  if (finite && non_finite_.tensor == nullptr) return logits;
  const std::string where = non_finite_.tensor == nullptr
                                ? "in the output head"
                                : absl::StrFormat("in layer %d: %s", non_finite_.layer, non_finite_.tensor);
  return NumericalError(absl::StrFormat("logits after %d tokens: NaN or Inf, first seen %s", length_, where));
}

void Decoder::Append(std::span<const int32_t> tokens) {
  const auto count = static_cast<int64_t>(tokens.size());
  JEVONS_CHECK(length_ + count <= max_length_, "the cache holds %lld tokens", static_cast<long long>(max_length_));
  for (int64_t begin = 0; begin < count; begin += kRowsAtOnce)
    AppendRows(tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(std::min(kRowsAtOnce, count - begin))));
}

void Decoder::AppendRows(std::span<const int32_t> tokens) {
  const LayerContext ctx = Context();
  const MicroScope memory_scope(memory_);
  const ArenaScope scratch_scope(scratch_);
  const int64_t T = static_cast<int64_t>(tokens.size()), H = config_.hidden_size();
  const auto eps = static_cast<float>(config_.norm_eps());
  const Tensor x = ctx.Temp("x", {T, H}), normed = ctx.Temp("normed", {T, H}), y = ctx.Temp("y", {T, H});
  const Tensor rstd = ctx.TempAs("rstd", DType::kF32, {T});
  Embedding(ctx.ops, weights_.embedding.value, Tensor::Of(const_cast<int32_t*>(tokens.data()), {T}), x);  // only read
  for (int layer = 0; layer < config_.layers(); ++layer) {
    const MicroScope memory_layer(memory_);
    const ArenaScope scratch_layer(scratch_);
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
  NormForward(ctx, {static_cast<int>(config_.layers()), "final", eps}, x.Rows(T - 1, 1), weights_.final_norm, hidden_,
              Tensor(rstd.data, DType::kF32, {1}));
  length_ += T;
}

void Decoder::Attention(const LayerContext& ctx, const MlaWeights& w, int layer, const Tensor& x, const Tensor& y) {
  const AttentionConfig& a = config_.attention();
  const LayerCache& cache = cache_[static_cast<size_t>(layer)];
  const int64_t T = x.rows(), head_dim = a.nope_dim() + a.rope_dim();
  const Tensor rstd = ctx.TempAs("rstd", DType::kF32, {T});
  const Tensor q = ctx.Temp("q", {T, a.heads() * head_dim});
  if (a.query_rank() > 0) {
    const Tensor latent = ctx.Temp("q_latent", {T, a.query_rank()}), normed = ctx.Temp("q_normed", {T, a.query_rank()});
    LinearForward(ctx, x, w.q_a, latent);
    NormForward(ctx, {layer, "q_a", kLatentNormEps}, latent, w.q_a_norm, normed, rstd);
    LinearForward(ctx, normed, w.q_b, q);
  } else {
    LinearForward(ctx, x, w.q, q);
  }
  const Tensor kv_latent = ctx.Temp("kv_latent", {T, a.kv_rank() + a.rope_dim()});
  LinearForward(ctx, x, w.kv_a, kv_latent);
  NormForward(ctx, {layer, "kv_a", kLatentNormEps}, kv_latent.Columns(0, a.kv_rank()), w.kv_a_norm, cache.latent.Rows(length_, T),
              rstd);
  Copy(ctx.ops, kv_latent.Columns(a.kv_rank(), a.rope_dim()), cache.k_rope.Rows(length_, T));
  // The rows are one sequence, with a table that begins at its first position.
  const Tensor cos = rope_cos_.Rows(length_, T), sin = rope_sin_.Rows(length_, T);
  Rope(ctx.ops,
       {.x = q, .heads = a.heads(), .head_dim = head_dim, .offset = a.nope_dim(), .cos = cos, .sin = sin, .sequence_length = T});
  Rope(ctx.ops, {.x = cache.k_rope.Rows(length_, T),
                 .heads = 1,
                 .head_dim = a.rope_dim(),
                 .offset = 0,
                 .cos = cos,
                 .sin = sin,
                 .sequence_length = T});

  const Tensor o = ctx.Temp("o", {T, a.heads() * a.value_dim()});
  const int64_t head_bytes = T * (length_ + T) * SizeOf(DType::kF32);
  const int64_t at_once = std::clamp<int64_t>(kScoreBytes / head_bytes, 1, a.heads());
  for (int64_t begin = 0; begin < a.heads(); begin += at_once)
    Heads(ctx, w.kv_b.value, cache, {begin, std::min(begin + at_once, a.heads())}, q, o);
  LinearForward(ctx, o, w.o, y);
}

void Decoder::Heads(const LayerContext& ctx, const Tensor& kv_b, const LayerCache& cache, Range heads, const Tensor& q,
                    const Tensor& o) const {
  ArenaScope scope(*ctx.ops.scratch);
  const AttentionConfig& a = config_.attention();
  const int64_t T = q.rows(), n = length_ + T, head_dim = a.nope_dim() + a.rope_dim(), kv_dim = a.nope_dim() + a.value_dim();
  const int64_t rows = heads.size() * T;  // head by head
  const Tensor q_latent = ctx.Temp("heads.q_latent", {rows, a.kv_rank()}), mixed = ctx.Temp("heads.mixed", {rows, a.kv_rank()});
  const Tensor scores = ctx.TempAs("heads.scores", DType::kF32, {rows, n}), weights = ctx.Temp("heads.weights", {rows, n});
  std::vector<GemmDesc> into_latent, latent_scores, rope_scores, mixes, values;
  for (int64_t h = heads.begin; h < heads.end; ++h) {
    const int64_t row = (h - heads.begin) * T;
    const Tensor query = q.Columns(h * head_dim, head_dim), w = kv_b.Rows(h * kv_dim, kv_dim);
    into_latent.push_back({.a = query.Columns(0, a.nope_dim()), .b = w.Rows(0, a.nope_dim()), .c = q_latent.Rows(row, T)});
    latent_scores.push_back(
        {.a = q_latent.Rows(row, T), .b = cache.latent.Rows(0, n), .c = scores.Rows(row, T), .b_form = Form::kTransposed});
    rope_scores.push_back({.a = query.Columns(a.nope_dim(), a.rope_dim()),
                           .b = cache.k_rope.Rows(0, n),
                           .c = scores.Rows(row, T),
                           .b_form = Form::kTransposed,
                           .mode = WriteMode::kAdd});
    mixes.push_back({.a = weights.Rows(row, T), .b = cache.latent.Rows(0, n), .c = mixed.Rows(row, T)});
    values.push_back({.a = mixed.Rows(row, T),
                      .b = w.Rows(a.nope_dim(), a.value_dim()),
                      .c = o.Columns(h * a.value_dim(), a.value_dim()),
                      .b_form = Form::kTransposed});
  }
  GroupedGemm(ctx.ops, into_latent);
  GroupedGemm(ctx.ops, latent_scores);
  GroupedGemm(ctx.ops, rope_scores);
  // A row sees the tokens up to its own; the weights of later ones are zero, which adds nothing to a sum.
  const float scale = AttentionScale(a);
  const int64_t before = length_;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scores.row<float>(r);
    const int64_t seen = before + r % T + 1;
    Softmax({row, static_cast<size_t>(seen)}, scale);
    std::fill(row + seen, row + n, 0.0f);
  }
  Copy(ctx.ops, scores, weights);
  GroupedGemm(ctx.ops, mixes);
  GroupedGemm(ctx.ops, values);
}

void Decoder::Experts(const LayerContext& ctx, const MoeWeights& w, const Tensor& x, const Tensor& y) const {
  const int64_t T = x.rows(), E = router_.experts, K = router_.top_k, width = config_.moe().intermediate_size();
  const Tensor x_fp32 = ctx.TempAs("x_fp32", DType::kF32, x.shape);
  const Tensor logits = ctx.TempAs("gate.logits", DType::kF32, {T, E}), scores = ctx.TempAs("gate.scores", DType::kF32, {T, E});
  const Tensor indices = ctx.TempAs("gate.indices", DType::kI32, {T, K});
  const Tensor weights = ctx.TempAs("gate.weights", DType::kF32, {T, K});
  const Tensor counts = ctx.TempAs("gate.counts", DType::kI64, {E});
  Copy(ctx.ops, x, x_fp32);
  LinearForward(ctx, x_fp32, w.gate, logits);
  Router(ctx.ops, router_,
         {.logits = logits, .bias = w.bias, .scores = scores, .indices = indices, .weights = weights, .counts = counts});

  const int64_t R = T * K;
  const Tensor row_of = ctx.TempAs("experts.row_of", DType::kI32, {R}), pair_of = ctx.TempAs("experts.pair_of", DType::kI32, {R});
  const Tensor rows = ctx.Temp("experts.rows", {R, x.cols()}), results = ctx.Temp("experts.results", {R, x.cols()});
  const Tensor row_weights = ctx.TempAs("experts.weights", DType::kF32, {R, 1});
  const Tensor gate_up = ctx.Temp("experts.gate_up", {R, 2 * width}), activated = ctx.Temp("experts.activated", {R, width});
  SortByExpert(ctx.ops, indices, counts, row_of, pair_of);
  GatherRows(ctx.ops, x, pair_of, K, rows);
  GatherRows(ctx.ops, weights.Reshape({R, 1}), pair_of, 1, row_weights);
  std::vector<ExpertSegment> segments;
  int64_t begin = 0;
  for (int64_t e = 0; e < E; ++e) {
    const int64_t count = counts.as<int64_t>()[e];
    if (count > 0) segments.push_back({e, {begin, begin + count}});
    begin += count;
  }
  ExpertsForward(ctx, segments, rows, w.gate_up, gate_up);
  SwiGlu(ctx.ops, gate_up, row_weights.Reshape({R}), activated);
  ExpertsForward(ctx, segments, activated, w.down, results);
  SumRowsByGroup(ctx.ops, results, row_of, indices, E / router_.groups, y, WriteMode::kAdd);
}

int32_t SampleToken(std::span<const float> logits, const Sampling& sampling, uint64_t index) {
  if (sampling.temperature <= 0) return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const size_t candidates = sampling.top_k > 0 ? std::min(order.size(), static_cast<size_t>(sampling.top_k)) : order.size();
  const auto likelier = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(candidates), order.end(), likelier);
  std::vector<double> weight(candidates);
  double total = 0;
  for (size_t i = 0; i < candidates; ++i) {
    const double above = logits[static_cast<size_t>(order[i])] - logits[static_cast<size_t>(order[0])];
    total += weight[i] = std::exp(above / sampling.temperature);
  }
  // The shortest prefix of the ordered tokens that holds top_p of the probability; then one draw from it.
  size_t kept = 0;
  double mass = 0;
  while (kept < candidates && (kept == 0 || mass < sampling.top_p * total)) mass += weight[kept++];
  double draw = RandomUniform(sampling.seed, sampling.sample, index) * mass;
  for (size_t i = 0; i < kept; ++i) {
    draw -= weight[i];
    if (draw < 0) return order[i];
  }
  return order[kept - 1];
}

}  // namespace jevons
