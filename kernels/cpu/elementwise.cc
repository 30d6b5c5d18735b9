#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

template <typename A, typename B>
HWY_INLINE void CopyRow(const A* src, int64_t n, B* dst) {
  ForLanes(n, [&](int64_t i, int64_t count) JEVONS_LANES { Store(Load(src + i, count), dst + i, count); });
}

void CopyRows(const Tensor& src, const Tensor& dst) {
  const int64_t n = dst.cols();
  for (int64_t r = 0; r < dst.rows(); ++r) {
    if (src.dtype == dst.dtype) {
      const Tensor from = src.Rows(r, 1);
      std::memmove(dst.Rows(r, 1).data, from.data, static_cast<size_t>(from.bytes()));
    } else if (src.dtype == DType::kBF16) {
      CopyRow(src.row<bf16>(r), n, dst.row<float>(r));
    } else {
      CopyRow(src.row<float>(r), n, dst.row<bf16>(r));
    }
  }
}

template <typename S>
HWY_INLINE void AddRow(const S* a, const S* b, int64_t n, S* out) {
  ForLanes(
      n, [&](int64_t i, int64_t count) JEVONS_LANES { Store(hn::Add(Load(a + i, count), Load(b + i, count)), out + i, count); });
}

void AddRows(const Tensor& a, const Tensor& b, const Tensor& out) {
  for (int64_t r = 0; r < out.rows(); ++r) {
    if (out.dtype == DType::kBF16) {
      AddRow(a.row<bf16>(r), b.row<bf16>(r), out.cols(), out.row<bf16>(r));
    } else {
      AddRow(a.row<float>(r), b.row<float>(r), out.cols(), out.row<float>(r));
    }
  }
}

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(CopyRows);
HWY_EXPORT(AddRows);

// How a tensor is cut for a thread: contiguous ones as one long row, so that one row also has two halves.
Tensor Flat(const Tensor& t, bool flat) { return flat ? t.Reshape({1, t.size()}) : t; }
Tensor Part(const Tensor& t, bool flat, Range range) {
  return flat ? t.Columns(range.begin, range.size()) : t.Rows(range.begin, range.size());
}

}  // namespace

void Copy(const OpContext&, const Tensor& src, const Tensor& dst) {
  const auto copy = &HWY_DYNAMIC_DISPATCH(CopyRows);
  const bool flat = src.contiguous() && dst.contiguous();
  const Tensor from = Flat(src, flat), to = Flat(dst, flat);
  ParallelRanges(flat ? to.size() : to.rows(), to.size(),
                 [&](Range range) { copy(Part(from, flat, range), Part(to, flat, range)); });
}

void CopyParts(const OpContext&, std::span<const CopiedPart> parts) {
  std::vector<int64_t> sizes;
  int64_t total = 0;
  for (const CopiedPart& part : parts) total += sizes.emplace_back(part.bytes);
  ParallelJobs(sizes, total / static_cast<int64_t>(sizeof(float)), [&](size_t i, Range bytes) {
    std::memcpy(static_cast<char*>(parts[i].to) + bytes.begin, static_cast<const char*>(parts[i].from) + bytes.begin,
                static_cast<size_t>(bytes.size()));
  });
}

void Add(const OpContext&, const Tensor& a, const Tensor& b, const Tensor& out) {
  const auto add = &HWY_DYNAMIC_DISPATCH(AddRows);
  const bool flat = a.contiguous() && b.contiguous() && out.contiguous();
  const Tensor x = Flat(a, flat), y = Flat(b, flat), to = Flat(out, flat);
  ParallelRanges(flat ? to.size() : to.rows(), to.size(),
                 [&](Range range) { add(Part(x, flat, range), Part(y, flat, range), Part(to, flat, range)); });
}

void FillNormal(const OpContext&, uint64_t seed, uint64_t purpose, int64_t offset, float std, const Tensor& dst) {
  float* out = dst.as<float>();
  ParallelRanges(dst.size(), 16 * dst.size(), [&](Range range) {  // a draw costs as much as many copies
    for (int64_t i = range.begin; i < range.end; ++i)
      out[i] = static_cast<float>(double{std} * RandomNormal(seed, purpose, static_cast<uint64_t>(offset + i)));
  });
}

void Fill(const OpContext&, float value, const Tensor& dst) {
  for (int64_t r = 0; r < dst.rows(); ++r) std::fill_n(dst.row<float>(r), dst.cols(), value);
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
