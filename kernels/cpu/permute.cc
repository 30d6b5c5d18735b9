#include <cstring>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/permute.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

// out = [out +] sum over k of y[rows[k]], in this order.
template <typename A, typename B>
HWY_INLINE void SumRow(const Tensor& y, const int32_t* rows, int64_t slots, WriteMode mode, B* out) {
  ForLanes(y.cols(), [&](int64_t i, int64_t n) JEVONS_LANES {
    VF sum = Load(y.row<A>(rows[0]) + i, n);
    for (int64_t k = 1; k < slots; ++k) sum = hn::Add(sum, Load(y.row<A>(rows[k]) + i, n));
    if (mode == WriteMode::kAdd) sum = hn::Add(Load(out + i, n), sum);
    Store(sum, out + i, n);
  });
}

template <typename A, typename B>
HWY_INLINE void SumRange(const Tensor& y, const int32_t* row_of, int64_t slots, const Tensor& out, WriteMode mode, Range range) {
  for (int64_t t = range.begin; t < range.end; ++t) SumRow<A>(y, row_of + t * slots, slots, mode, out.row<B>(t));
}

void Sums(const Tensor& y, const int32_t* row_of, int64_t slots, const Tensor& out, WriteMode mode, Range range) {
  const bool from_bf16 = y.dtype == DType::kBF16, to_bf16 = out.dtype == DType::kBF16;
  if (from_bf16 && to_bf16) SumRange<bf16, bf16>(y, row_of, slots, out, mode, range);
  if (from_bf16 && !to_bf16) SumRange<bf16, float>(y, row_of, slots, out, mode, range);
  if (!from_bf16 && to_bf16) SumRange<float, bf16>(y, row_of, slots, out, mode, range);
  if (!from_bf16 && !to_bf16) SumRange<float, float>(y, row_of, slots, out, mode, range);
}

// One token: order holds the rows of its slots group after group, the last of each group as its complement.
template <typename A, typename B>
HWY_INLINE void SumGroups(const Tensor& y, const int32_t* order, int64_t slots, WriteMode mode, B* out) {
  ForLanes(y.cols(), [&](int64_t i, int64_t n) JEVONS_LANES {
    const auto of_group = [&](int64_t& k) JEVONS_LANES {  // the sum of the group that begins at k; then k is the next's
      const auto row = [&] { return y.row<A>(order[k] < 0 ? ~order[k] : order[k]) + i; };
      VF sum = Load(row(), n);
      while (order[k] >= 0) {
        ++k;
        sum = hn::Add(sum, Load(row(), n));
      }
      ++k;
      return RoundedTo<A>(sum);
    };
    int64_t k = 0;
    VF sum = of_group(k);
    while (k < slots) sum = hn::Add(sum, of_group(k));
    if (mode == WriteMode::kAdd) sum = hn::Add(Load(out + i, n), sum);
    Store(sum, out + i, n);
  });
}

void GroupSums(const Tensor& y, const int32_t* order, int64_t slots, const Tensor& out, WriteMode mode, int64_t token) {
  const bool from_bf16 = y.dtype == DType::kBF16, to_bf16 = out.dtype == DType::kBF16;
  if (from_bf16 && to_bf16) SumGroups<bf16>(y, order, slots, mode, out.row<bf16>(token));
  if (from_bf16 && !to_bf16) SumGroups<bf16>(y, order, slots, mode, out.row<float>(token));
  if (!from_bf16 && to_bf16) SumGroups<float>(y, order, slots, mode, out.row<bf16>(token));
  if (!from_bf16 && !to_bf16) SumGroups<float>(y, order, slots, mode, out.row<float>(token));
}

void SegmentSums(const Tensor& y, const int32_t* rows, const int32_t* offsets, const Tensor& out, WriteMode mode, Range range) {
  for (int64_t s = range.begin; s < range.end; ++s) {
    const int64_t terms = offsets[s + 1] - offsets[s];
    if (terms > 0)
      Sums(y, rows + offsets[s], terms, out.Rows(s, 1), mode, {0, 1});
    else if (mode == WriteMode::kOverwrite)
      Zero(out.Rows(s, 1));
  }
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(Sums);
HWY_EXPORT(GroupSums);
HWY_EXPORT(SegmentSums);

// The rows of a token's slots in the order of their groups, stably; the last of each group as its complement.
void OrderByGroup(const int32_t* row_of, const int32_t* experts, int64_t slots, int64_t experts_per_group, int32_t* group,
                  int32_t* order) {
  for (int64_t k = 0; k < slots; ++k) {  // sorted by insertion
    const int32_t of_slot = experts[k] / static_cast<int32_t>(experts_per_group);
    int64_t at = k;
    for (; at > 0 && group[at - 1] > of_slot; --at) {
      group[at] = group[at - 1];
      order[at] = order[at - 1];
    }
    group[at] = of_slot;
    order[at] = row_of[k];
  }
  for (int64_t k = 0; k < slots; ++k)
    if (k + 1 == slots || group[k + 1] != group[k]) order[k] = ~order[k];
}

}  // namespace

void SortByExpert(const OpContext& ctx, const Tensor& indices, const Tensor& counts, const Tensor& row_of,
                  const Tensor& pair_of) {
  ArenaScope scope(*ctx.scratch);
  const int64_t experts = counts.size();
  int64_t* next = ctx.scratch->Allocate("permute.next", DType::kI64, {experts}).as<int64_t>();  // row of the next pair
  if (ctx.stream.device == Device::kNone) return;
  int64_t rows = 0;
  for (int64_t e = 0; e < experts; ++e) {
    next[e] = rows;
    rows += counts.as<int64_t>()[e];
  }
  JEVONS_CHECK(rows == indices.size(), "counts add up to %lld of %lld pairs", static_cast<long long>(rows),
               static_cast<long long>(indices.size()));
  for (int64_t p = 0; p < indices.size(); ++p) {
    const int64_t row = next[indices.as<int32_t>()[p]]++;
    JEVONS_CHECK(row < rows, "counts do not belong to these indices");
    row_of.as<int32_t>()[p] = static_cast<int32_t>(row);
    pair_of.as<int32_t>()[row] = static_cast<int32_t>(p);
  }
}

void GatherRows(const OpContext&, const Tensor& x, const Tensor& pair_of, int64_t slots, const Tensor& y) {
  const int64_t size = SizeOf(y.dtype), bytes = y.cols() * size;
  const char* from = static_cast<const char*>(x.data);
  char* to = static_cast<char*>(y.data);
  ParallelRanges(y.rows(), y.size(), [&](Range rows) {
    for (int64_t r = rows.begin; r < rows.end; ++r)
      std::memcpy(to + r * y.pitch * size, from + pair_of.as<int32_t>()[r] / slots * x.pitch * size, static_cast<size_t>(bytes));
  });
}

void SumRows(const OpContext&, const Tensor& y, const Tensor& row_of, int64_t slots, const Tensor& out, WriteMode mode) {
  const auto sums = &HWY_DYNAMIC_DISPATCH(Sums);
  ParallelRanges(out.rows(), out.size() * slots, [&](Range rows) { sums(y, row_of.as<int32_t>(), slots, out, mode, rows); });
}

void SumRowsByGroup(const OpContext& ctx, const Tensor& y, const Tensor& row_of, const Tensor& indices, int64_t experts_per_group,
                    const Tensor& out, WriteMode mode) {
  ArenaScope scope(*ctx.scratch);
  const int64_t slots = indices.cols();
  const Tensor room = ctx.scratch->Allocate("permute.groups", DType::kI32, {omp_get_max_threads(), 2 * slots});
  if (ctx.stream.device == Device::kNone) return;
  const auto sums = &HWY_DYNAMIC_DISPATCH(GroupSums);
  ParallelRanges(out.rows(), out.size() * slots, [&](Range tokens) {
    int32_t *group = room.row<int32_t>(omp_get_thread_num()), *order = group + slots;
    for (int64_t t = tokens.begin; t < tokens.end; ++t) {
      OrderByGroup(row_of.as<int32_t>() + t * slots, indices.as<int32_t>() + t * slots, slots, experts_per_group, group, order);
      sums(y, order, slots, out, mode, t);
    }
  });
}

void SumSegments(const OpContext&, const Tensor& y, const Tensor& rows, const Tensor& offsets, const Tensor& out,
                 WriteMode mode) {
  const auto sums = &HWY_DYNAMIC_DISPATCH(SegmentSums);
  ParallelRanges(out.rows(), rows.size() * out.cols(),
                 [&](Range segments) { sums(y, rows.as<int32_t>(), offsets.as<int32_t>(), out, mode, segments); });
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
