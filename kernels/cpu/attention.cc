#include <cmath>
#include <limits>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

#ifndef JEVONS_KERNELS_CPU_ATTENTION_FORWARD_
#define JEVONS_KERNELS_CPU_ATTENTION_FORWARD_
namespace jevons::cpu {
namespace {

struct ForwardScratch {
  ForwardScratch(const AttentionDesc& d, Pieces& pieces) {
    const AttentionHead head(d, 0);
    const int64_t keys = PaddedKeys(d.sequence_length);
    key_rows = pieces.Take(keys * head.key_pitch);
    key_panels = pieces.Take(keys * head.key_dim);
    values = pieces.Take(keys * head.value_pitch);
    queries = pieces.Take(kQueries * head.key_pitch);
    scores = pieces.Take(kQueries * kScorePitch);
    sums = pieces.Take(kQueries * head.value_pitch);
    largest = pieces.Take(kQueries);
    total = pieces.Take(kQueries);
  }
  float *key_rows, *key_panels, *values;  // [keys, key_pitch], panels, [keys, value_pitch]
  float *queries, *scores, *sums;         // [kQueries, key_pitch], [kQueries, kScorePitch], [kQueries, value_pitch]
  float *largest, *total;                 // [kQueries]: the running maximum, and the sum of exp(score - maximum)
};

}  // namespace
}  // namespace jevons::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

void PackHead(const AttentionHead& h, const ForwardScratch& s) {
  const AttentionDesc& d = h.desc;
  for (int64_t j = 0; j < d.sequence_length; ++j) {
    float* key = s.key_rows + j * h.key_pitch;
    float* value = s.values + j * h.value_pitch;
    LoadColumns(d.kv, h.first_row + j, h.key_column(), d.nope_dim, 1, key);
    LoadColumns(d.k_rope, h.first_row + j, 0, d.rope_dim, 1, key + d.nope_dim);
    LoadColumns(d.kv, h.first_row + j, h.value_column(), d.value_dim, 1, value);
    std::fill(value + d.value_dim, value + h.value_pitch, 0.0f);
  }
  PackPanels(s.key_rows, d.sequence_length, h.key_dim, h.key_pitch, s.key_panels);
}

// Turns the scores of one row against the keys [keys.begin, keys.end) into exp(score - maximum), 0 where the
// row does not see, and brings the running maximum, total and sums along ("online softmax", Milakov and
// Gimelshein 2018).
HWY_INLINE void SoftmaxRow(const AttentionHead& h, const ForwardScratch& s, int64_t r, Range visible, Range keys) {
  float* row = s.scores + r * kScorePitch;
  const int64_t begin = std::max(visible.begin, keys.begin) - keys.begin;
  const int64_t end = std::min(visible.end, keys.end) - keys.begin, width = Padded(keys.size());
  if (begin >= end) {
    std::fill(row, row + width, 0.0f);
    return;
  }
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  std::fill(row, row + begin, kMinusInfinity);
  std::fill(row + end, row + width, kMinusInfinity);
  VF block_max = Load(row);
  for (int64_t i = kLanes; i < width; i += kLanes) block_max = hn::Max(block_max, Load(row + i));
  const float largest = std::max(s.largest[r], hn::GetLane(hn::MaxOfLanes(F32(), block_max)));
  const float shrink = std::exp(s.largest[r] - largest);
  const VF shift = hn::Set(F32(), largest), factor = hn::Set(F32(), shrink);
  const bool bf16_mode = h.desc.q.dtype == DType::kBF16;
  const float total = SumLanes<1>(width, [&](int64_t i, int64_t) JEVONS_LANES {
    const VF p = Exp(hn::Sub(Load(row + i), shift));
    Store(AsStored(p, bf16_mode), row + i);
    return p;
  });
  s.largest[r] = largest;
  s.total[r] = s.total[r] * shrink + total;
  if (shrink == 1.0f) return;
  float* sums = s.sums + r * h.value_pitch;
  for (int64_t i = 0; i < h.value_pitch; i += kLanes) Store(hn::Mul(Load(sums + i), factor), sums + i);
}

void ForwardBlock(const AttentionHead& h, const ForwardScratch& s, Range queries) {
  const AttentionDesc& d = h.desc;
  const int64_t rows = queries.size();
  for (int64_t r = 0; r < rows; ++r)
    LoadColumns(d.q, h.first_row + queries.begin + r, h.query_column(), h.key_dim, d.scale, s.queries + r * h.key_pitch);
  std::fill_n(s.sums, rows * h.value_pitch, 0.0f);
  std::fill_n(s.largest, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(s.total, rows, 0.0f);
  const Range visible = h.VisibleToBlock(queries);
  for (int64_t begin = visible.begin; begin < visible.end; begin += kKeys) {
    const Range keys{begin, std::min(visible.end, begin + kKeys)};
    MultiplyPanels(rows, keys.size(), h.key_dim, s.queries, h.key_pitch, s.key_panels + begin * h.key_dim, s.scores, kScorePitch);
    for (int64_t r = 0; r < rows; ++r) SoftmaxRow(h, s, r, h.Visible(queries.begin + r), keys);
    Multiply(rows, h.value_pitch, keys.size(), {s.scores, kScorePitch, 1}, s.values + begin * h.value_pitch, h.value_pitch,
             s.sums, h.value_pitch, true);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t t = h.first_row + queries.begin + r;
    StoreColumns(s.sums + r * h.value_pitch, 1.0f / s.total[r], d.o, t, h.output_column(), d.value_dim);
    d.lse.row<float>(t)[h.head] = s.largest[r] + std::log(s.total[r]);
  }
}

void ForwardHead(const AttentionDesc& d, int64_t task, const ForwardScratch& scratch) {
  const AttentionHead head(d, task);
  PackHead(head, scratch);
  for (int64_t t = 0; t < d.sequence_length; t += kQueries)
    ForwardBlock(head, scratch, {t, std::min(d.sequence_length, t + kQueries)});
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(ForwardHead);

}  // namespace

void Attention(const OpContext& ctx, const AttentionDesc& d) {
  ArenaScope scope(*ctx.scratch);
  Pieces count(nullptr);
  ForwardScratch(d, count);
  const Tensor scratch = ctx.scratch->Allocate("attention", DType::kF32, {omp_get_max_threads(), count.used()});
  if (ctx.stream.device == Device::kNone) return;
  const auto forward = &HWY_DYNAMIC_DISPATCH(ForwardHead);
  const int64_t tasks = d.q.rows() / d.sequence_length * d.heads;
#pragma omp parallel
  {
    Pieces pieces(scratch.row<float>(omp_get_thread_num()));
    const ForwardScratch mine(d, pieces);
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < tasks; ++task) forward(d, task, mine);
  }
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
