#include <cmath>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_backward.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

#ifndef JEVONS_KERNELS_CPU_ATTENTION_BACKWARD_
#define JEVONS_KERNELS_CPU_ATTENTION_BACKWARD_
namespace jevons::cpu {
namespace {

struct BackwardScratch {
  BackwardScratch(const AttentionDesc& d, Pieces& pieces) {
    const AttentionHead head(d, 0);
    const int64_t keys = PaddedKeys(d.sequence_length);
    key_rows = pieces.Take(keys * head.key_pitch);
    key_panels = pieces.Take(keys * head.key_dim);
    value_panels = pieces.Take(keys * d.value_dim);
    dkeys = pieces.Take(keys * head.key_pitch);
    dvalues = pieces.Take(keys * head.value_pitch);
    queries = pieces.Take(kQueries * head.key_pitch);
    dqueries = pieces.Take(kQueries * head.key_pitch);
    doutputs = pieces.Take(kQueries * head.value_pitch);
    p = pieces.Take(kQueries * kScorePitch);
    ds = pieces.Take(kQueries * kScorePitch);
    delta = pieces.Take(kQueries);
  }
  float *key_rows, *key_panels, *value_panels;  // [keys, key_pitch], panels
  float *dkeys, *dvalues;                       // [keys, key_pitch], [keys, value_pitch]
  float *queries, *dqueries, *doutputs;         // [kQueries, key_pitch] twice, [kQueries, value_pitch]
  float *p, *ds;                                // [kQueries, kScorePitch]: probabilities; d(loss) / d(score)
  float* delta;                                 // [kQueries]: dot of d_o and o
};

}  // namespace
}  // namespace jevons::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

void PackHead(const AttentionHead& h, const BackwardScratch& s) {
  const AttentionDesc& d = h.desc;
  const int64_t keys = d.sequence_length;
  float* value_rows = s.dvalues;  // until they lie in panels
  for (int64_t j = 0; j < keys; ++j) {
    float* key = s.key_rows + j * h.key_pitch;
    LoadColumns(d.kv, h.first_row + j, h.key_column(), d.nope_dim, 1, key);
    LoadColumns(d.k_rope, h.first_row + j, 0, d.rope_dim, 1, key + d.nope_dim);
    std::fill(key + h.key_dim, key + h.key_pitch, 0.0f);
    LoadColumns(d.kv, h.first_row + j, h.value_column(), d.value_dim, 1, value_rows + j * h.value_pitch);
  }
  PackPanels(s.key_rows, keys, h.key_dim, h.key_pitch, s.key_panels);
  PackPanels(value_rows, keys, d.value_dim, h.value_pitch, s.value_panels);
  std::fill_n(s.dkeys, keys * h.key_pitch, 0.0f);
  std::fill_n(s.dvalues, keys * h.value_pitch, 0.0f);
}

// Queries carry the scale, so that ds (without it) times them is the gradient of the keys.
void LoadBlock(const AttentionHead& h, const AttentionGrad& g, const BackwardScratch& s, Range queries) {
  const AttentionDesc& d = h.desc;
  for (int64_t r = 0; r < queries.size(); ++r) {
    const int64_t t = h.first_row + queries.begin + r;
    float *query = s.queries + r * h.key_pitch, *dout = s.doutputs + r * h.value_pitch;
    float* out = s.p;  // free until the first product
    LoadColumns(d.q, t, h.query_column(), h.key_dim, d.scale, query);
    std::fill(query + h.key_dim, query + h.key_pitch, 0.0f);
    LoadColumns(g.d_o, t, h.output_column(), d.value_dim, 1, dout);
    std::fill(dout + d.value_dim, dout + h.value_pitch, 0.0f);
    float delta = 0;
    for (int64_t begin = 0; begin < d.value_dim; begin += kKeys) {  // s.p holds kKeys values
      const int64_t n = std::min(kKeys, d.value_dim - begin);
      LoadColumns(d.o, t, h.output_column() + begin, n, 1, out);
      delta += SumLanes(
          n, [&](int64_t i, int64_t count) JEVONS_LANES { return hn::Mul(Load(out + i, count), Load(dout + begin + i, count)); });
    }
    s.delta[r] = delta;
  }
  std::fill_n(s.dqueries, queries.size() * h.key_pitch, 0.0f);
}

// p holds scores and ds the products d_o . value: p = exp(score - lse), ds = p (ds - delta), both 0 where the
// row does not see.
HWY_INLINE void GradRow(const AttentionHead& h, const BackwardScratch& s, int64_t r, int64_t t, Range keys) {
  float *p = s.p + r * kScorePitch, *ds = s.ds + r * kScorePitch;
  const Range visible = h.Visible(t);
  const int64_t begin = std::max(visible.begin, keys.begin) - keys.begin;
  const int64_t end = std::max(begin, std::min(visible.end, keys.end) - keys.begin), width = Padded(keys.size());
  const bool bf16_mode = h.desc.q.dtype == DType::kBF16;
  const VF shift = hn::Set(F32(), h.desc.lse.row<float>(h.first_row + t)[h.head]), delta = hn::Set(F32(), s.delta[r]);
  for (int64_t i = 0; i < width; i += kLanes) {
    const VF probability = Exp(hn::Sub(Load(p + i), shift));
    Store(AsStored(probability, bf16_mode), p + i);
    Store(AsStored(hn::Mul(probability, hn::Sub(Load(ds + i), delta)), bf16_mode), ds + i);
  }
  for (float* row : {p, ds}) {
    std::fill(row, row + std::min(begin, width), 0.0f);
    std::fill(row + std::min(end, width), row + width, 0.0f);
  }
}

void BackwardBlock(const AttentionHead& h, const AttentionGrad& g, const BackwardScratch& s, Range queries) {
  const AttentionDesc& d = h.desc;
  const int64_t rows = queries.size();
  LoadBlock(h, g, s, queries);
  const Range visible = h.VisibleToBlock(queries);
  for (int64_t begin = visible.begin; begin < visible.end; begin += kKeys) {
    const Range keys{begin, std::min(visible.end, begin + kKeys)};
    const int64_t n = keys.size();
    MultiplyPanels(rows, n, h.key_dim, s.queries, h.key_pitch, s.key_panels + begin * h.key_dim, s.p, kScorePitch);
    MultiplyPanels(rows, n, d.value_dim, s.doutputs, h.value_pitch, s.value_panels + begin * d.value_dim, s.ds, kScorePitch);
    for (int64_t r = 0; r < rows; ++r) GradRow(h, s, r, queries.begin + r, keys);
    Multiply(n, h.value_pitch, rows, {s.p, 1, kScorePitch}, s.doutputs, h.value_pitch, s.dvalues + begin * h.value_pitch,
             h.value_pitch, true);
    Multiply(n, h.key_pitch, rows, {s.ds, 1, kScorePitch}, s.queries, h.key_pitch, s.dkeys + begin * h.key_pitch, h.key_pitch,
             true);
    Multiply(rows, h.key_pitch, n, {s.ds, kScorePitch, 1}, s.key_rows + begin * h.key_pitch, h.key_pitch, s.dqueries, h.key_pitch,
             true);
  }
  for (int64_t r = 0; r < rows; ++r)
    StoreColumns(s.dqueries + r * h.key_pitch, d.scale, g.dq, h.first_row + queries.begin + r, h.query_column(), h.key_dim);
}

// dk_rope: [rows, rope] FP32, this head's part.
void BackwardHead(const AttentionDesc& d, const AttentionGrad& g, int64_t task, const BackwardScratch& s, const Tensor& dk_rope) {
  const AttentionHead h(d, task);
  PackHead(h, s);
  for (int64_t t = 0; t < d.sequence_length; t += kQueries)
    BackwardBlock(h, g, s, {t, std::min(d.sequence_length, t + kQueries)});
  for (int64_t j = 0; j < d.sequence_length; ++j) {
    const float* dkey = s.dkeys + j * h.key_pitch;
    StoreColumns(dkey, 1, g.dkv, h.first_row + j, h.key_column(), d.nope_dim);
    StoreColumns(dkey + d.nope_dim, 1, dk_rope, h.first_row + j, 0, d.rope_dim);
    StoreColumns(s.dvalues + j * h.value_pitch, 1, g.dkv, h.first_row + j, h.value_column(), d.value_dim);
  }
}

// dk_rope = the heads' parts [heads, rows, rope] added in order.
void SumHeads(const Tensor& parts, const Tensor& dk_rope, Range rows) {
  const int64_t rope = dk_rope.cols(), head = dk_rope.rows() * rope;
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    float* sum = parts.as<float>() + t * rope;  // head 0's part becomes the sum
    for (int64_t h = 1; h < parts.shape[0]; ++h)
      ForLanes(rope, [&](int64_t i, int64_t n)
                         JEVONS_LANES { Store(hn::Add(Load(sum + i, n), Load(sum + h * head + i, n)), sum + i, n); });
    StoreColumns(sum, 1, dk_rope, t, 0, rope);
  }
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(BackwardHead);
HWY_EXPORT(SumHeads);

}  // namespace

void AttentionBackward(const OpContext& ctx, const AttentionDesc& d, const AttentionGrad& g) {
  ArenaScope scope(*ctx.scratch);
  Pieces count(nullptr);
  BackwardScratch(d, count);
  const int64_t rows = d.q.rows(), tasks = rows / d.sequence_length * d.heads;
  const Tensor scratch = ctx.scratch->Allocate("attention", DType::kF32, {omp_get_max_threads(), count.used()});
  const Tensor dk_rope = ctx.scratch->Allocate("attention.dk_rope", DType::kF32, {d.heads, rows, d.rope_dim});
  if (ctx.stream.device == Device::kNone) return;
  const auto backward = &HWY_DYNAMIC_DISPATCH(BackwardHead);
#pragma omp parallel
  {
    Pieces pieces(scratch.row<float>(omp_get_thread_num()));
    const BackwardScratch mine(d, pieces);
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < tasks; ++task) backward(d, g, task, mine, dk_rope.Index(task % d.heads));
  }
  const auto sum = &HWY_DYNAMIC_DISPATCH(SumHeads);
  ParallelRanges(rows, dk_rope.size(), [&](Range range) { sum(dk_rope, g.dk_rope, range); });
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
