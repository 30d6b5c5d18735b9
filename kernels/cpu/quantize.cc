// Quantisation by rows and blocks, in strips of tiles. A tile is read twice: for its largest magnitude, then, from cache, for
// its codes. Tiles with NaN or infinity, found by the first reading, go to the scalar reference.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/quantize.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/quantize-inl.h"
#include "kernels/cpu/quantize_columns.h"
#include "kernels/ref/quantize.h"

#ifndef JEVONS_KERNELS_CPU_QUANTIZE_ONCE_
#define JEVONS_KERNELS_CPU_QUANTIZE_ONCE_
namespace jevons::cpu {
namespace {

// Tiles side by side whose scales are found together, which hides the latency of reductions and divisions. Of blocks fewer, to
// stay in L2: 128 x 512 FP32 numbers are 256 KiB.
constexpr int64_t kTilesPerStrip = 16, kBlocksPerStrip = 4;

}  // namespace
}  // namespace jevons::cpu
#endif  // once

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

// The largest magnitudes by lane, with those of a row: at least infinity's bits if there is an infinity or NaN.
template <typename S>
HWY_INLINE V32 RowAmax(const S* x, int64_t n, V32 amax) {
  ForLanes(n, [&](int64_t i, int64_t count)
                  JEVONS_LANES { amax = hn::Max(amax, MagnitudeBits(Load(x + i, count))); });
  return amax;
}

// n <= 128 finite numbers. Returns how many were lost, if that is asked for.
template <class F, bool kCount, typename S>
HWY_INLINE int64_t EncodeRow(const S* x, int64_t n, float inverse, typename F::Code* codes) {
  const VF factor = hn::Set(F32(), inverse);
  int64_t lost = 0;
  ForLanes(n, [&](int64_t i, int64_t count) JEVONS_LANES {
    const VF value = Load(x + i, count), scaled = hn::Mul(value, factor);
    if constexpr (kCount) lost += CountLost<F>(value, scaled);
    StoreCodes(EncodeLanes<F>(scaled), codes + i, count);
  });
  return lost;
}

// The tiles of a strip: rows x cols elements, and where their codes and scales go.
template <typename S>
struct Strip {
  int64_t rows, cols;
  const S* x;
  int64_t pitch;
  uint8_t* codes;
  int64_t code_pitch;
  float* scales;
  ScaleKind kind;
  int64_t next;  // where the next strip of the same rows begins, from x; 0 if there is none or one row
};

// rows x n numbers of a tile that are all finite.
template <class F, bool kCount, typename S>
HWY_INLINE void EncodeTile(const Strip<S>& s, const S* x, int64_t n, float inverse, uint8_t* codes,
                           QuantStats& stats) {
  for (int64_t r = 0; r < s.rows; ++r) {
    if (s.next != 0) PrefetchRow(x + r * s.pitch + s.next, n);
    if constexpr (sizeof(typename F::Code) == 1) {
      stats.underflowed += EncodeRow<F, kCount>(x + r * s.pitch, n, inverse, codes + r * s.code_pitch);
    } else {
      uint16_t row[kTileSize];
      stats.underflowed += EncodeRow<F, kCount>(x + r * s.pitch, n, inverse, row);
      PackRow(row, n, codes + r * s.code_pitch);
    }
  }
  stats.elements += s.rows * n;
}

// Returns the scale.
template <class F, typename S>
float EncodeTileScalar(const Strip<S>& s, const S* x, int64_t n, uint8_t* codes, QuantStats& stats) {
  uint16_t row[kTileSize];  // of E5M6, whose tiles have one row
  const float scale = ref::QuantizeTile<F>(
      s.rows, n, s.kind, stats, [&](int64_t r, int64_t c) { return static_cast<float>(x[r * s.pitch + c]); },
      [&](int64_t r, int64_t c, typename F::Code code) {
        if constexpr (sizeof(code) == 1) {
          codes[r * s.code_pitch + c] = code;
        } else {
          row[c] = code;
        }
      });
  if constexpr (sizeof(typename F::Code) != 1) PackRow(row, n, codes);
  return scale;
}

template <class F, bool kCount, typename S>
HWY_INLINE void QuantizeStrip(const Strip<S>& s, QuantStats& stats) {
  constexpr int64_t kCodeBytes = sizeof(typename F::Code) == 1 ? kTileSize : PackedE5M6Bytes(kTileSize);
  const int64_t tiles = TilesOf(s.cols);
  V32 lanes[kTilesPerStrip];
  for (int64_t t = 0; t < tiles; ++t) lanes[t] = hn::Zero(U32());
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t t = 0, c = 0; t < tiles; ++t, c += kTileSize)
      lanes[t] = RowAmax(s.x + r * s.pitch + c, std::min(kTileSize, s.cols - c), lanes[t]);
  }
  float inverse[kTilesPerStrip];
  for (int64_t t = 0; t < tiles; ++t) {
    const uint32_t amax = hn::GetLane(hn::MaxOfLanes(U32(), lanes[t]));
    s.scales[t] = ScaleOf<F>(std::bit_cast<float>(amax), s.kind);
    inverse[t] = amax < kInfinityBits ? 1.0f / s.scales[t] : 0.0f;
  }
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t c = t * kTileSize, n = std::min(kTileSize, s.cols - c);
    if (HWY_LIKELY(inverse[t] != 0)) {
      EncodeTile<F, kCount>(s, s.x + c, n, inverse[t], s.codes + t * kCodeBytes, stats);
    } else {
      s.scales[t] = EncodeTileScalar<F>(s, s.x + c, n, s.codes + t * kCodeBytes, stats);
    }
  }
}

// `strips` counts strips of the matrix, row by row.
template <class F, bool kCount, typename S>
void QuantizeStrips(const QuantizeDesc& d, Range strips, QuantStats& stats) {
  const bool blocks = d.tiling == Tiling::kBlocks128x128;
  const int64_t height = blocks ? kTileSize : 1, tiles = blocks ? kBlocksPerStrip : kTilesPerStrip;
  const int64_t width = tiles * kTileSize, across = (d.x.cols() + width - 1) / width;
  for (int64_t i = strips.begin; i < strips.end; ++i) {
    const int64_t band = i / across, r = band * height, tile = i % across * tiles, c = tile * kTileSize;
    const int64_t code = sizeof(typename F::Code) == 1 ? c : PackedE5M6Bytes(c);
    const Strip<S> strip{.rows = std::min(height, d.x.rows() - r),
                         .cols = std::min(width, d.x.cols() - c),
                         .x = d.x.row<S>(r) + c,
                         .pitch = d.x.pitch,
                         .codes = d.codes.row<uint8_t>(r) + code,
                         .code_pitch = d.codes.pitch,
                         .scales = d.scales.row<float>(band) + tile,
                         .kind = d.scale_kind,
                         .next = blocks && c + width < d.x.cols() ? width : 0};
    QuantizeStrip<F, kCount>(strip, stats);
  }
}

template <class F>
void QuantizeFormat(const QuantizeDesc& d, Range range, QuantStats& stats) {
  const bool count = d.stats != nullptr;
  if (d.x.dtype == DType::kBF16)
    return count ? QuantizeStrips<F, true, bf16>(d, range, stats)
                 : QuantizeStrips<F, false, bf16>(d, range, stats);
  return count ? QuantizeStrips<F, true, float>(d, range, stats)
               : QuantizeStrips<F, false, float>(d, range, stats);
}

void QuantizeRange(const QuantizeDesc& d, Range range, QuantStats& stats) {
  switch (d.format) {
    case NumberFormat::kE4M3:
      return QuantizeFormat<E4M3>(d, range, stats);
    case NumberFormat::kE5M2:
      return QuantizeFormat<E5M2>(d, range, stats);
    case NumberFormat::kE5M6:
      return QuantizeFormat<E5M6>(d, range, stats);
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
        UnpackRow(d.codes.row<uint8_t>(r) + PackedE5M6Bytes(c), n, codes);
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
    case NumberFormat::kE4M3:
      return DequantizeFormat<E4M3>(d, rows);
    case NumberFormat::kE5M2:
      return DequantizeFormat<E5M2>(d, rows);
    case NumberFormat::kE5M6:
      return DequantizeFormat<E5M6>(d, rows);
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
  const bool blocks = d.tiling == Tiling::kBlocks128x128;
  const int64_t tiles = blocks ? kBlocksPerStrip : kTilesPerStrip;
  const int64_t strips = d.scales.rows() * ((d.scales.cols() + tiles - 1) / tiles);
  ParallelCounts(strips, d.x.size(), d.stats, [&](Range range, QuantStats& stats) { run(d, range, stats); });
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
