// Each operator copies its operands to contiguous FP32, calls the scalar template, and stores the result, rounded once.
#include "kernels/ref/ref_ops.h"

#include <algorithm>
#include <vector>

#include "kernels/base/philox.h"
#include "kernels/ref/adamw.h"
#include "kernels/ref/attention.h"
#include "kernels/ref/element.h"
#include "kernels/ref/embedding.h"
#include "kernels/ref/fixed_point.h"
#include "kernels/ref/permute.h"
#include "kernels/ref/rmsnorm.h"
#include "kernels/ref/rope.h"
#include "kernels/ref/router.h"
#include "kernels/ref/softmax_xent.h"
#include "kernels/ref/swiglu.h"

namespace jevons {
namespace {

using ref::Get;
using ref::Put;

// A contiguous FP32 array in scratch: room for the elements of `t`, or (Load) a copy of them.
float* Room(const OpContext& ctx, const Tensor& t) {
  return ctx.scratch->Allocate("ref", DType::kF32, {t.rows(), t.cols()}).as<float>();
}

float* Load(const OpContext& ctx, const Tensor& t) {
  if (!t) return nullptr;
  float* values = Room(ctx, t);
  for (int64_t r = 0; r < t.rows(); ++r)
    for (int64_t c = 0; c < t.cols(); ++c) values[r * t.cols() + c] = Get(t, r, c);
  return values;
}

void Store(const float* values, const Tensor& t, WriteMode mode = WriteMode::kOverwrite) {
  for (int64_t r = 0; r < t.rows(); ++r) {
    for (int64_t c = 0; c < t.cols(); ++c) {
      const float value = values[r * t.cols() + c];
      Put(t, r, c, mode == WriteMode::kAdd ? Get(t, r, c) + value : value);
    }
  }
}

void RefAdamW(const OpContext&, const AdamWDesc& d, std::span<const AdamWSlice> slices) {
  const ref::AdamWFactors factors = ref::MakeAdamWFactors(d.learning_rate, d.beta1, d.beta2, d.eps, d.grad_scale, d.step);
  for (const AdamWSlice& s : slices) {
    const float keep = ref::AdamWKeep(d.learning_rate, s.decay);
    float* master = s.master.as<float>();
    for (int64_t i = 0; i < s.master.size(); ++i) {
      float m = Get(s.m, 0, i), v = Get(s.v, 0, i);
      const float grad =
          s.grad.dtype == DType::kI64 ? ref::FromFixedPoint(s.grad.as<int64_t>()[i], d.grad_unit) : s.grad.as<float>()[i];
      ref::AdamW(factors, keep, grad, master[i], m, v);
      Put(s.m, 0, i, m);
      Put(s.v, 0, i, v);
      if (s.compute) Put(s.compute, 0, i, master[i]);
    }
  }
}

ref::AttentionShape ShapeOf(const AttentionDesc& d) {
  return {.rows = d.q.rows(),
          .sequence_length = d.sequence_length,
          .heads = d.heads,
          .nope = d.nope_dim,
          .rope = d.rope_dim,
          .value = d.value_dim,
          .scale = d.scale,
          .document_start = d.document_start ? d.document_start.as<int32_t>() : nullptr};
}

void RefAttention(const OpContext& ctx, const AttentionDesc& d) {
  ArenaScope scope(*ctx.scratch);
  float *o = Room(ctx, d.o), *lse = Room(ctx, d.lse);
  float* scores = ctx.scratch->Allocate("ref", DType::kF32, {d.sequence_length}).as<float>();
  ref::Attention(ShapeOf(d), Load(ctx, d.q), Load(ctx, d.kv), Load(ctx, d.k_rope), o, lse, scores);
  Store(o, d.o);
  Store(lse, d.lse);
}

void RefAttentionBackward(const OpContext& ctx, const AttentionDesc& d, const AttentionGrad& g) {
  ArenaScope scope(*ctx.scratch);
  float *dq = Room(ctx, g.dq), *dkv = Room(ctx, g.dkv), *dk_rope = Room(ctx, g.dk_rope);
  ref::AttentionBackward(ShapeOf(d), Load(ctx, d.q), Load(ctx, d.kv), Load(ctx, d.k_rope), Load(ctx, d.o), Load(ctx, d.lse),
                         Load(ctx, g.d_o), dq, dkv, dk_rope);
  Store(dq, g.dq);
  Store(dkv, g.dkv);
  Store(dk_rope, g.dk_rope);
}

void RefCopy(const OpContext&, const Tensor& src, const Tensor& dst) {
  for (int64_t r = 0; r < dst.rows(); ++r)
    for (int64_t c = 0; c < dst.cols(); ++c) Put(dst, r, c, Get(src, r, c));
}

void RefCopyParts(const OpContext&, std::span<const CopiedPart> parts) {
  for (const CopiedPart& part : parts) {
    const char* from = static_cast<const char*>(part.from);
    std::copy_n(from, part.bytes, static_cast<char*>(part.to));
  }
}

void RefAdd(const OpContext&, const Tensor& a, const Tensor& b, const Tensor& out) {
  for (int64_t r = 0; r < out.rows(); ++r)
    for (int64_t c = 0; c < out.cols(); ++c) Put(out, r, c, Get(a, r, c) + Get(b, r, c));
}

void RefAddFixedPoint(const OpContext&, const FixedPoint& format, std::span<const FixedPointSum> sums) {
  const double scale = 1 / format.unit();
  for (const FixedPointSum& s : sums) {
    for (int64_t i = 0; i < s.sum.size(); ++i) {
      int64_t& sum = s.sum.as<int64_t>()[i];
      if (s.mode == WriteMode::kOverwrite) sum = 0;
      for (const Tensor& value : s.values) {
        int64_t q;
        if (!ref::ToFixedPoint(value.as<float>()[i], scale, format.limit, q)) *s.flag = 1;
        sum = ref::AddWrapping(sum, q);
      }
    }
  }
}

void RefFillNormal(const OpContext&, uint64_t seed, uint64_t purpose, int64_t offset, float std, const Tensor& dst) {
  for (int64_t i = 0; i < dst.size(); ++i)
    dst.as<float>()[i] = static_cast<float>(double{std} * RandomNormal(seed, purpose, static_cast<uint64_t>(offset + i)));
}

void RefFill(const OpContext&, float value, const Tensor& dst) {
  for (int64_t r = 0; r < dst.rows(); ++r) std::fill_n(dst.row<float>(r), dst.cols(), value);
}

void RefEmbedding(const OpContext& ctx, const Tensor& table, const Tensor& ids, const Tensor& y) {
  ArenaScope scope(*ctx.scratch);
  float* out = Room(ctx, y);
  ref::Embedding(y.rows(), y.cols(), Load(ctx, table), ids.as<int32_t>(), out);
  Store(out, y);
}

void RefEmbeddingBackward(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const Tensor& dtable, WriteMode mode) {
  ArenaScope scope(*ctx.scratch);
  float* sum = Room(ctx, dtable);
  ref::EmbeddingBackward(dy.rows(), dtable.rows(), dtable.cols(), Load(ctx, dy), ids.as<int32_t>(), sum);
  Store(sum, dtable, mode);
}

// The rows of ids that do not occur are zero, which adds nothing.
void RefEmbeddingBackwardFixedPoint(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const FixedPoint& format,
                                    const Tensor& dtable, WriteMode mode, int64_t* flag) {
  ArenaScope scope(*ctx.scratch);
  const Tensor sum = ctx.scratch->Allocate("ref", DType::kF32, {dtable.rows(), dtable.cols()});
  RefEmbeddingBackward(ctx, dy, ids, sum, WriteMode::kOverwrite);
  for (int64_t id = 0; id < dtable.rows(); ++id) {
    const FixedPointSum row = {.values = {sum.Rows(id, 1)}, .sum = dtable.Rows(id, 1), .mode = mode, .flag = flag};
    RefAddFixedPoint(ctx, format, {&row, 1});
  }
}

void RefSortByExpert(const OpContext&, const Tensor& indices, const Tensor& counts, const Tensor& row_of, const Tensor& pair_of) {
  ref::SortByExpert(indices.size(), counts.size(), indices.as<int32_t>(), row_of.as<int32_t>(), pair_of.as<int32_t>());
}

// Moves bytes: any type, value by value.
void RefGatherRows(const OpContext&, const Tensor& x, const Tensor& pair_of, int64_t slots, const Tensor& y) {
  for (int64_t r = 0; r < y.rows(); ++r) {
    const Tensor from = x.Rows(pair_of.as<int32_t>()[r] / slots, 1), to = y.Rows(r, 1);
    std::copy_n(static_cast<const char*>(from.data), from.bytes(), static_cast<char*>(to.data));
  }
}

void RefSumRows(const OpContext& ctx, const Tensor& y, const Tensor& row_of, int64_t slots, const Tensor& out, WriteMode mode) {
  ArenaScope scope(*ctx.scratch);
  float* sum = Room(ctx, out);
  ref::SumRows(out.rows(), out.cols(), Load(ctx, y), row_of.as<int32_t>(), slots, sum);
  Store(sum, out, mode);
}

void RefSumRowsByGroup(const OpContext& ctx, const Tensor& y, const Tensor& row_of, const Tensor& indices,
                       int64_t experts_per_group, const Tensor& out, WriteMode mode) {
  ArenaScope scope(*ctx.scratch);
  float* sum = Room(ctx, out);
  const auto round = [&](float x) { return y.dtype == DType::kBF16 ? float{bf16(x)} : x; };
  ref::SumRowsByGroup(out.rows(), out.cols(), Load(ctx, y), row_of.as<int32_t>(), indices.as<int32_t>(), indices.cols(),
                      experts_per_group, round, sum);
  Store(sum, out, mode);
}

void RefSumSegments(const OpContext& ctx, const Tensor& y, const Tensor& rows, const Tensor& offsets, const Tensor& out,
                    WriteMode mode) {
  ArenaScope scope(*ctx.scratch);
  float* sum = Room(ctx, out);
  ref::SumSegments(out.rows(), out.cols(), Load(ctx, y), rows.as<int32_t>(), offsets.as<int32_t>(), sum);
  Store(sum, out, mode);
}

void RefSumsOfSquares(const OpContext&, std::span<const SquaresSlice> slices, int64_t chunk) {
  for (const SquaresSlice& slice : slices) {
    for (int64_t i = 0; i < slice.x.size(); ++i) {
      if (i % chunk == 0) slice.sums[i / chunk] = 0;
      const float x =
          slice.x.dtype == DType::kI64 ? ref::FromFixedPoint(slice.x.as<int64_t>()[i], slice.unit) : slice.x.as<float>()[i];
      slice.sums[i / chunk] += double{x} * double{x};
    }
  }
}

void RefJoinSums(const OpContext&, std::span<const PartialSums> vectors, std::span<const std::pair<int, int>> order) {
  for (const PartialSums& v : vectors) {
    for (int64_t i = 0; i < v.size; ++i) {
      for (const auto& [left, right] : order) v.values[static_cast<size_t>(left)][i] += v.values[static_cast<size_t>(right)][i];
      v.sum[i] = v.values[0][i] + 0.0f;  // -0 + 0 = +0; everything else stays
    }
  }
}

void RefSum(const OpContext&, const Tensor& x, double* sum) {
  *sum = 0;
  for (int64_t i = 0; i < x.size(); ++i) *sum += double{x.as<float>()[i]};
}

void RefRmsNorm(const OpContext& ctx, const Tensor& x, const Tensor& gamma, float eps, const Tensor& y, const Tensor& rstd) {
  ArenaScope scope(*ctx.scratch);
  float* out = Room(ctx, y);
  ref::RmsNorm(x.rows(), x.cols(), Load(ctx, x), gamma.as<float>(), eps, out, rstd.as<float>());
  Store(out, y);
}

void RefRmsNormBackward(const OpContext& ctx, const RmsNormGrad& g) {
  ArenaScope scope(*ctx.scratch);
  float *dx = Room(ctx, g.dx), *dgamma = Room(ctx, g.dgamma);
  ref::RmsNormBackward(g.x.rows(), g.x.cols(), Load(ctx, g.dy), Load(ctx, g.x), g.gamma.as<float>(), g.rstd.as<float>(), dx,
                       dgamma);
  Store(dx, g.dx, g.dx_mode);
  Store(dgamma, g.dgamma, g.dgamma_mode);
}

void TurnRope(const OpContext& ctx, const RopeDesc& d, int direction) {
  ArenaScope scope(*ctx.scratch);
  float* x = Load(ctx, d.x);
  ref::Rope(d.x.rows(), d.heads, d.head_dim, d.offset, d.cos.cols(), d.sequence_length, Load(ctx, d.cos), Load(ctx, d.sin),
            direction, x);
  Store(x, d.x);
}
void RefRope(const OpContext& ctx, const RopeDesc& d) { TurnRope(ctx, d, 1); }
void RefRopeBackward(const OpContext& ctx, const RopeDesc& d) { TurnRope(ctx, d, -1); }

ref::RouterShape ShapeOf(const RouterDesc& d) {
  return {d.experts, d.top_k, d.groups, d.kept_groups, d.route_scale, d.normalize};
}

ref::RouterBuffers<float> Buffers(const OpContext& ctx, const RouterDesc& d) {
  const Shape shape{d.experts};
  return {ctx.scratch->Allocate("ref", DType::kF32, shape).as<float>(),
          ctx.scratch->Allocate("ref", DType::kF32, shape).as<float>(),
          ctx.scratch->Allocate("ref", DType::kI32, shape).as<int32_t>(),
          ctx.scratch->Allocate("ref", DType::kU8, shape).as<uint8_t>()};
}

void RefRouter(const OpContext& ctx, const RouterDesc& d, const RouterForward& f) {
  ArenaScope scope(*ctx.scratch);
  const ref::RouterBuffers<float> buffers = Buffers(ctx, d);
  int64_t* counts = f.counts.as<int64_t>();
  std::fill_n(counts, d.experts, int64_t{0});
  for (int64_t t = 0; t < f.logits.rows(); ++t) {
    int32_t* indices = f.indices.as<int32_t>() + t * d.top_k;
    ref::RouteRow(ShapeOf(d), f.logits.row<float>(t), f.bias.as<float>(), f.scores.row<float>(t), indices,
                  f.weights.as<float>() + t * d.top_k, buffers);
    for (int64_t k = 0; k < d.top_k; ++k) ++counts[indices[k]];
  }
}

void RefBalanceLoss(const OpContext& ctx, const RouterDesc& d, const Tensor& scores, int64_t sequence_length,
                    const Tensor& fractions, const Tensor& losses) {
  ArenaScope scope(*ctx.scratch);
  const ref::RouterBuffers<float> buffers = Buffers(ctx, d);
  for (int64_t n = 0; n < fractions.rows(); ++n)
    losses.as<float>()[n] = ref::SequenceBalanceLoss(ShapeOf(d), sequence_length, scores.row<float>(n * sequence_length),
                                                     scores.pitch, fractions.row<float>(n), buffers);
}

void RefRouterBackward(const OpContext&, const RouterDesc& d, const RouterGrad& g) {
  const float scale = g.balance_scale / static_cast<float>(std::max<int64_t>(1, g.sequence_length));
  for (int64_t t = 0; t < g.scores.rows(); ++t)
    ref::RouteRowBackward(ShapeOf(d), g.scores.row<float>(t), g.indices.as<int32_t>() + t * d.top_k,
                          g.dweights.as<float>() + t * d.top_k,
                          g.fractions ? g.fractions.row<float>(t / g.sequence_length) : nullptr, scale, g.dlogits.row<float>(t));
}

void RefCrossEntropy(const OpContext& ctx, const Tensor& logits, const Tensor& labels, const Tensor& losses) {
  ArenaScope scope(*ctx.scratch);
  ref::CrossEntropy(logits.rows(), logits.cols(), Load(ctx, logits), labels.as<int32_t>(), losses.as<float>());
}

void RefCrossEntropyWithGrad(const OpContext& ctx, const Tensor& logits, const Tensor& labels, float scale, const Tensor& losses,
                             const Tensor& dlogits) {
  ArenaScope scope(*ctx.scratch);
  float* x = Load(ctx, logits);
  ref::CrossEntropy(logits.rows(), logits.cols(), x, labels.as<int32_t>(), losses.as<float>());
  ref::CrossEntropyBackward(logits.rows(), logits.cols(), x, labels.as<int32_t>(), scale, x);
  Store(x, dlogits);
}

void RefSwiGlu(const OpContext& ctx, const Tensor& gate_up, const Tensor& weight, const Tensor& y) {
  ArenaScope scope(*ctx.scratch);
  float* out = Room(ctx, y);
  ref::SwiGlu(y.rows(), y.cols(), Load(ctx, gate_up), Load(ctx, weight), out);
  Store(out, y);
}

void RefSwiGluBackward(const OpContext& ctx, const SwiGluGrad& g) {
  ArenaScope scope(*ctx.scratch);
  float* dgate_up = Room(ctx, g.dgate_up);
  ref::SwiGluBackward(g.dy.rows(), g.dy.cols(), Load(ctx, g.dy), Load(ctx, g.gate_up), Load(ctx, g.weight), dgate_up,
                      g.dweight ? g.dweight.as<float>() : nullptr);
  Store(dgate_up, g.dgate_up);
}

void RefSwiGluQuantize(const OpContext& ctx, const SwiGluQuantizeDesc& d) {
  ArenaScope scope(*ctx.scratch);
  const Tensor y = ctx.scratch->Allocate("ref", d.gate_up.dtype, d.codes.shape);
  RefSwiGlu(ctx, d.gate_up, d.weight, y);
  ref::Quantize(ctx, {.x = y, .codes = d.codes, .scales = d.scales, .scale_kind = d.scale_kind, .stats = d.stats});
}

}  // namespace

const OpTable kRefOps = {
    .name = "ref",
    .product_implementation = [](DType) { return std::string("ref"); },
    .adamw = RefAdamW,
    .attention = RefAttention,
    .attention_backward = RefAttentionBackward,
    .copy = RefCopy,
    .copy_parts = RefCopyParts,
    .add = RefAdd,
    .add_fixed_point = RefAddFixedPoint,
    .fill_normal = RefFillNormal,
    .fill = RefFill,
    .embedding = RefEmbedding,
    .embedding_backward = RefEmbeddingBackward,
    .embedding_backward_fixed_point = RefEmbeddingBackwardFixedPoint,
    .sort_by_expert = RefSortByExpert,
    .gather_rows = RefGatherRows,
    .sum_rows = RefSumRows,
    .sum_rows_by_group = RefSumRowsByGroup,
    .sum_segments = RefSumSegments,
    .sums_of_squares = RefSumsOfSquares,
    .join_sums = RefJoinSums,
    .sum = RefSum,
    .rms_norm = RefRmsNorm,
    .rms_norm_backward = RefRmsNormBackward,
    .rope = RefRope,
    .rope_backward = RefRopeBackward,
    .router = RefRouter,
    .balance_loss = RefBalanceLoss,
    .router_backward = RefRouterBackward,
    .cross_entropy = RefCrossEntropy,
    .cross_entropy_with_grad = RefCrossEntropyWithGrad,
    .swiglu = RefSwiGlu,
    .swiglu_backward = RefSwiGluBackward,
    .swiglu_quantize = RefSwiGluQuantize,
    .quantize = ref::Quantize,
    .dequantize = ref::Dequantize,
    .requantize_transposed = ref::RequantizeTransposed,
    .quantize_weights = ref::QuantizeWeightsBy<ref::Quantize>,
    .grouped_gemm = ref::GroupedGemm,
    .grouped_fp8_gemm = ref::GroupedFp8Gemm,
};

}  // namespace jevons
