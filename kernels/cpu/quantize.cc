// Quantisation by rows and blocks, in strips of tiles, and back.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/quantize.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/quantize_columns.h"
#include "kernels/cpu/quantize_strip-inl.h"
#include "kernels/ref/ref_ops.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_SCALAR
void QuantizeRange(const QuantizeDesc&, Range, QuantStats&) {}
void DequantizeRange(const DequantizeDesc&, Range) {}
#else
// `strips` counts strips of the matrix, row by row.
template <class F, bool kCount, typename S>
void QuantizeStrips(const QuantizeDesc& d, Range strips, QuantStats& stats) {
  const bool blocks = d.tiling == Tiling::kBlocks128x128;
  const int64_t height = blocks ? kTileSize : 1, tiles = blocks ? kBlocksPerStrip : kTilesPerStrip;
  const int64_t width = tiles * kTileSize, across = (d.x.cols() + width - 1) / width;
  S room[kTileSize];
  for (int64_t i = strips.begin; i < strips.end; ++i) {
    const int64_t band = i / across, r = band * height, tile = i % across * tiles, c = tile * kTileSize;
    const int64_t ahead = c + width < d.x.cols() ? width : height * d.x.pitch - c;
    const Strip<S> strip{.rows = std::min(height, d.x.rows() - r),
                         .cols = std::min(width, d.x.cols() - c),
                         .x = d.x.row<S>(r) + c,
                         .pitch = d.x.pitch,
                         .codes = d.codes.row<uint8_t>(r) + CodeBytes<F>(c),
                         .code_pitch = d.codes.pitch,
                         .scales = d.scales.row<float>(band) + tile,
                         .kind = d.scale_kind,
                         .next = i + 1 < strips.end ? ahead : 0,
                         .room = room};
    QuantizeStrip<F, kCount>(strip, stats);
  }
}

template <class F>
void QuantizeFormat(const QuantizeDesc& d, Range range, QuantStats& stats) {
  const bool count = d.stats != nullptr;
  if (d.x.dtype == DType::kBF16)
    return count ? QuantizeStrips<F, true, bf16>(d, range, stats) : QuantizeStrips<F, false, bf16>(d, range, stats);
  return count ? QuantizeStrips<F, true, float>(d, range, stats) : QuantizeStrips<F, false, float>(d, range, stats);
}

void QuantizeRange(const QuantizeDesc& d, Range range, QuantStats& stats) {
  switch (d.format) {
    case NumberFormat::kE4M3: return QuantizeFormat<E4M3>(d, range, stats);
    case NumberFormat::kE5M2: return QuantizeFormat<E5M2>(d, range, stats);
    case NumberFormat::kE5M6: return QuantizeFormat<E5M6>(d, range, stats);
  }
}

// n <= kTileSize codes with one scale. `room`: bytes from `codes` on that may be read.
template <class F, typename S>
HWY_INLINE void DecodeTileRow(const uint8_t* codes, int64_t n, int64_t room, float scale, S* x) {
  constexpr int64_t kRead = kRowBytes<F> + (sizeof(typename F::Code) == 1 ? 0 : kLanes);  // UnpackCodes reads on
  const VF factor = hn::Set(F32(), scale);
  if (HWY_LIKELY(n == kTileSize && room >= kRead)) return DecodeRow<F>(codes, factor, x);
  uint8_t whole[kRead] = {};
  std::copy_n(codes, CodeBytes<F>(n), whole);
  S part[kTileSize];
  DecodeRow<F>(whole, factor, part);
  std::copy_n(part, n, x);
}

template <class F, typename S>
void DequantizeRows(const DequantizeDesc& d, Range rows) {
  const int64_t height = d.tiling == Tiling::kRows1x128 ? 1 : kTileSize;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const uint8_t* codes = d.codes.row<uint8_t>(r);
    const float* scales = d.scales.row<float>(r / height);
    for (int64_t c = 0; c < d.x.cols(); c += kTileSize) {
      const int64_t begin = CodeBytes<F>(c);
      DecodeTileRow<F>(codes + begin, std::min(kTileSize, d.x.cols() - c), d.codes.cols() - begin, scales[c / kTileSize],
                       d.x.row<S>(r) + c);
    }
  }
}

template <class F>
void DequantizeFormat(const DequantizeDesc& d, Range rows) {
  d.x.dtype == DType::kBF16 ? DequantizeRows<F, bf16>(d, rows) : DequantizeRows<F, float>(d, rows);
}

void DequantizeRange(const DequantizeDesc& d, Range rows) {
  switch (d.format) {
    case NumberFormat::kE4M3: return DequantizeFormat<E4M3>(d, rows);
    case NumberFormat::kE5M2: return DequantizeFormat<E5M2>(d, rows);
    case NumberFormat::kE5M6: return DequantizeFormat<E5M6>(d, rows);
  }
}

#endif  // HWY_SCALAR

// Whether the two above do anything: without vectors the reference does.
bool HasVectors() { return HWY_TARGET != HWY_SCALAR; }

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(QuantizeRange);
HWY_EXPORT(DequantizeRange);
HWY_EXPORT(HasVectors);

}  // namespace

void Quantize(const OpContext& ctx, const QuantizeDesc& d) {
  if (!HWY_DYNAMIC_DISPATCH(HasVectors)()) return ref::Quantize(ctx, d);
  if (d.tiling == Tiling::kColumns128x1) return QuantizeColumns(d);
  const auto run = &HWY_DYNAMIC_DISPATCH(QuantizeRange);
  const bool blocks = d.tiling == Tiling::kBlocks128x128;
  const int64_t tiles = blocks ? kBlocksPerStrip : kTilesPerStrip;
  const int64_t strips = d.scales.rows() * ((d.scales.cols() + tiles - 1) / tiles);
  ParallelCounts(strips, d.x.size(), d.stats, [&](Range range, QuantStats& stats) { run(d, range, stats); });
}

void Dequantize(const OpContext& ctx, const DequantizeDesc& d) {
  if (!HWY_DYNAMIC_DISPATCH(HasVectors)()) return ref::Dequantize(ctx, d);
  const auto run = &HWY_DYNAMIC_DISPATCH(DequantizeRange);
  ParallelRanges(d.x.rows(), d.x.size(), [&](Range range) { run(d, range); });
}

void RequantizeTransposed(const OpContext& ctx, std::span<const RequantizeDesc> descs) {
  if (!HWY_DYNAMIC_DISPATCH(HasVectors)()) return ref::RequantizeTransposed(ctx, descs);
  RequantizeColumns(descs);
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
