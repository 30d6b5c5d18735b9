// Quantisation by rows and blocks. A tile is read twice: for its largest magnitude, then, from cache, for its codes. Tiles with
// NaN or infinity, found by the first reading, go to the scalar reference.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/quantize.cc"
#include "hwy/foreach_target.h"

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/quantize-inl.h"
#include "kernels/cpu/quantize_columns.h"
#include "kernels/ref/quantize.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

// The largest magnitude of a row as bits: at least those of infinity if there is an infinity or NaN.
template <typename S>
HWY_INLINE V32 RowAmax(const S* x, int64_t n, V32 amax) {
  ForLanes(n, [&](int64_t i, int64_t count)
                  JEVONS_LANES { amax = hn::Max(amax, MagnitudeBits(Load(x + i, count))); });
  return amax;
}

HWY_INLINE uint32_t LargestLane(V32 v) { return hn::GetLane(hn::MaxOfLanes(U32(), v)); }

// n <= 128 finite numbers.
template <class F, bool kCount, typename S>
HWY_INLINE void EncodeRow(const S* x, int64_t n, float inverse, typename F::Code* codes, QuantStats& stats) {
  const VF factor = hn::Set(F32(), inverse);
  ForLanes(n, [&](int64_t i, int64_t count) JEVONS_LANES {
    const VF value = Load(x + i, count), scaled = hn::Mul(value, factor);
    const V32 code = EncodeLanes<F>(scaled);
    if constexpr (kCount) CountLanes<F>(value, scaled, code, stats);
    StoreCodes(code, codes + i, count);
  });
}

// One tile of rows x cols; its codes are `code_pitch` apart. Returns the scale.
template <class F, bool kCount, typename S>
HWY_INLINE float QuantizeTile(int64_t rows, int64_t cols, const S* x, int64_t pitch, ScaleKind kind,
                              typename F::Code* codes, int64_t code_pitch, QuantStats& stats) {
  V32 largest = hn::Zero(U32());
  for (int64_t r = 0; r < rows; ++r) largest = RowAmax(x + r * pitch, cols, largest);
  const uint32_t amax = LargestLane(largest);
  if (HWY_UNLIKELY(amax >= kInfinityBits)) {
    return ref::QuantizeTile<F>(
        rows, cols, kind, stats, [&](int64_t r, int64_t c) { return static_cast<float>(x[r * pitch + c]); },
        [&](int64_t r, int64_t c, typename F::Code code) { codes[r * code_pitch + c] = code; });
  }
  const float scale = ScaleOf<F>(std::bit_cast<float>(amax), kind), inverse = 1.0f / scale;
  for (int64_t r = 0; r < rows; ++r)
    EncodeRow<F, kCount>(x + r * pitch, cols, inverse, codes + r * code_pitch, stats);
  stats.elements += rows * cols;
  return scale;
}

template <class F, bool kCount, typename S>
void QuantizeRows(const QuantizeDesc& d, Range rows, QuantStats& stats) {
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    for (int64_t c = 0; c < d.x.cols(); c += kTileSize) {
      const int64_t n = std::min(kTileSize, d.x.cols() - c);
      float& scale = d.scales.row<float>(r)[c / kTileSize];
      if constexpr (sizeof(typename F::Code) == 1) {
        scale = QuantizeTile<F, kCount>(1, n, d.x.row<S>(r) + c, 0, d.scale_kind, d.codes.row<uint8_t>(r) + c, 0, stats);
      } else {
        uint16_t codes[kTileSize];
        scale = QuantizeTile<F, kCount>(1, n, d.x.row<S>(r) + c, 0, d.scale_kind, codes, 0, stats);
        std::fill(codes + n, codes + (n + 7) / 8 * 8, uint16_t{0});
        for (int64_t i = 0; i < n; i += 8) PackE5M6(codes + i, d.codes.row<uint8_t>(r) + (c + i) / 8 * 12);
      }
    }
  }
}

template <class F, bool kCount, typename S>
void QuantizeBlocks(const QuantizeDesc& d, Range blocks, QuantStats& stats) {
  const int64_t across = TilesOf(d.x.cols());
  for (int64_t b = blocks.begin; b < blocks.end; ++b) {
    const int64_t i = b / across, j = b % across, r = i * kTileSize, c = j * kTileSize;
    d.scales.row<float>(i)[j] = QuantizeTile<F, kCount>(
        std::min(kTileSize, d.x.rows() - r), std::min(kTileSize, d.x.cols() - c), d.x.row<S>(r) + c, d.x.pitch,
        d.scale_kind, d.codes.row<uint8_t>(r) + c, d.codes.pitch, stats);
  }
}

template <class F, bool kCount, typename S>
void QuantizeAs(const QuantizeDesc& d, Range range, QuantStats& stats) {
  if constexpr (sizeof(typename F::Code) == 1) {
    if (d.tiling == Tiling::kBlocks128x128) return QuantizeBlocks<F, kCount, S>(d, range, stats);
  }
  QuantizeRows<F, kCount, S>(d, range, stats);
}

template <class F>
void QuantizeFormat(const QuantizeDesc& d, Range range, QuantStats& stats) {
  const bool count = d.stats != nullptr;
  if (d.x.dtype == DType::kBF16)
    return count ? QuantizeAs<F, true, bf16>(d, range, stats) : QuantizeAs<F, false, bf16>(d, range, stats);
  return count ? QuantizeAs<F, true, float>(d, range, stats) : QuantizeAs<F, false, float>(d, range, stats);
}

void QuantizeRange(const QuantizeDesc& d, Range range, QuantStats& stats) {
  switch (d.format) {
    case NumberFormat::kE4M3: return QuantizeFormat<E4M3>(d, range, stats);
    case NumberFormat::kE5M2: return QuantizeFormat<E5M2>(d, range, stats);
    case NumberFormat::kE5M6: return QuantizeFormat<E5M6>(d, range, stats);
  }
}

template <class F, typename S>
HWY_INLINE void DecodeRow(const typename F::Code* codes, int64_t n, float scale, S* x) {
  const VF factor = hn::Set(F32(), scale);
  ForLanes(n, [&](int64_t i, int64_t count) JEVONS_LANES {
    Store(hn::Mul(DecodeLanes<F>(LoadCodes(codes + i, count)), factor), x + i, count);
  });
}

template <class F, typename S>
void DequantizeRows(const DequantizeDesc& d, Range rows) {
  const int64_t height = d.tiling == Tiling::kRows1x128 ? 1 : kTileSize;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    for (int64_t c = 0; c < d.x.cols(); c += kTileSize) {
      const int64_t n = std::min(kTileSize, d.x.cols() - c);
      const float scale = d.scales.row<float>(r / height)[c / kTileSize];
      if constexpr (sizeof(typename F::Code) == 1) {
        DecodeRow<F>(d.codes.row<uint8_t>(r) + c, n, scale, d.x.row<S>(r) + c);
      } else {
        uint16_t codes[kTileSize];
        for (int64_t i = 0; i < n; i += 8) UnpackE5M6(d.codes.row<uint8_t>(r) + (c + i) / 8 * 12, codes + i);
        DecodeRow<F>(codes, n, scale, d.x.row<S>(r) + c);
      }
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

}  // namespace
}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

HWY_EXPORT(QuantizeRange);
HWY_EXPORT(DequantizeRange);

void Quantize(const OpContext& ctx, const QuantizeDesc& d) {
  if (d.tiling == Tiling::kColumns128x1) return QuantizeColumns(ctx, d);
  const auto run = &HWY_DYNAMIC_DISPATCH(QuantizeRange);
  const int64_t tasks = d.tiling == Tiling::kRows1x128 ? d.x.rows() : d.scales.size();
  ParallelCounts(tasks, d.x.size(), d.stats, [&](Range range, QuantStats& stats) { run(d, range, stats); });
}

void Dequantize(const OpContext&, const DequantizeDesc& d) {
  const auto run = &HWY_DYNAMIC_DISPATCH(DequantizeRange);
  ParallelRanges(d.x.rows(), d.x.size(), [&](Range range) { run(d, range); });
}

}  // namespace
}  // namespace jevons::cpu

namespace jevons {

const QuantizeTable kCpuQuantize = {.quantize = cpu::Quantize,
                                    .dequantize = cpu::Dequantize,
                                    .requantize_transposed = cpu::RequantizeColumns};

}  // namespace jevons
#endif  // HWY_ONCE
