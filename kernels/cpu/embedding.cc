#include <algorithm>
#include <atomic>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/embedding.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/fixed_point-inl.h"
#include "kernels/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

// dtable[id] = [dtable[id] +] the sum of the rows of dy in the list that starts at `first`.
template <typename S>
HWY_INLINE void SumList(const Tensor& dy, int32_t first, const int32_t* next, WriteMode mode, float* out) {
  ForLanes(dy.cols(), [&](int64_t i, int64_t n) JEVONS_LANES {
    VF sum = Load(dy.row<S>(first) + i, n);
    for (int32_t r = next[first]; r >= 0; r = next[r]) sum = hn::Add(sum, Load(dy.row<S>(r) + i, n));
    if (mode == WriteMode::kAdd) sum = hn::Add(Load(out + i, n), sum);
    Store(sum, out + i, n);
  });
}

void SumRowsOfId(const Tensor& dy, int32_t first, const int32_t* next, WriteMode mode, float* out) {
  if (dy.dtype == DType::kBF16) {
    SumList<bf16>(dy, first, next, mode, out);
  } else {
    SumList<float>(dy, first, next, mode, out);
  }
}

// out = [out +] a row of FP32 in fixed point; whether no value was refused.
bool AddRow(const FixedPoint& format, const float* row, int64_t n, WriteMode mode, int64_t* out) {
  return AddFixedPoint(
      format, 1, [&](int64_t) JEVONS_LANES { return row; }, mode == WriteMode::kAdd, n, out);
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(SumRowsOfId);
HWY_EXPORT(AddRow);

// The rows of an id form a list in row order; each id is one task, so that its sum has one order. body(id, first row, next of each).
template <class Body>
void ForIds(const OpContext& ctx, const Tensor& ids, int64_t vocab, const Body& body) {
  ArenaScope scope(*ctx.scratch);
  const int64_t rows = ids.size();
  int32_t* first = ctx.scratch->Allocate("embedding.first", DType::kI32, {vocab}).as<int32_t>();
  int32_t* next = ctx.scratch->Allocate("embedding.next", DType::kI32, {rows}).as<int32_t>();
  if (ctx.stream.device == Device::kNone) return;
  std::fill_n(first, vocab, -1);
  for (int64_t r = rows - 1; r >= 0; --r) {
    const int32_t id = ids.as<int32_t>()[r];
    next[r] = first[id];
    first[id] = static_cast<int32_t>(r);
  }
#pragma omp parallel for schedule(dynamic, 64)
  for (int64_t id = 0; id < vocab; ++id) body(id, first[id], next);
}

}  // namespace

void Embedding(const OpContext& ctx, const Tensor& table, const Tensor& ids, const Tensor& y) {
  cpu::GatherRows(ctx, table, ids, 1, y);
}

void EmbeddingBackward(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const Tensor& dtable, WriteMode mode) {
  const auto sum = &HWY_DYNAMIC_DISPATCH(SumRowsOfId);
  ForIds(ctx, ids, dtable.rows(), [&](int64_t id, int32_t first, const int32_t* next) {
    if (first >= 0) {
      sum(dy, first, next, mode, dtable.row<float>(id));
    } else if (mode == WriteMode::kOverwrite) {
      std::fill_n(dtable.row<float>(id), dtable.cols(), 0.0f);
    }
  });
}

void EmbeddingBackward(const OpContext& ctx, const Tensor& dy, const Tensor& ids, const FixedPoint& format, const Tensor& dtable,
                       WriteMode mode, int64_t* flag) {
  ArenaScope scope(*ctx.scratch);
  const auto sum = &HWY_DYNAMIC_DISPATCH(SumRowsOfId);
  const auto add = &HWY_DYNAMIC_DISPATCH(AddRow);
  const int64_t cols = dtable.cols();
  const Tensor of_thread = ctx.scratch->Allocate("embedding.row", DType::kF32, {omp_get_max_threads(), cols});
  ForIds(ctx, ids, dtable.rows(), [&](int64_t id, int32_t first, const int32_t* next) {
    if (first >= 0) {
      float* row = of_thread.row<float>(omp_get_thread_num());
      sum(dy, first, next, WriteMode::kOverwrite, row);
      if (!add(format, row, cols, mode, dtable.row<int64_t>(id))) std::atomic_ref(*flag).store(1, std::memory_order_relaxed);
    } else if (mode == WriteMode::kOverwrite) {
      std::fill_n(dtable.row<int64_t>(id), cols, int64_t{0});
    }
  });
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
