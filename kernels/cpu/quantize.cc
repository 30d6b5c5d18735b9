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

// Bytes of a row of n codes, and of a tile's.
template <class F>
constexpr int64_t CodeBytes(int64_t n) {
  return sizeof(typename F::Code) == 1 ? n : PackedE5M6Bytes(n);
}
template <class F>
constexpr int64_t kRowBytes = CodeBytes<F>(kTileSize);

}  // namespace
}  // namespace jevons::cpu
#endif  // once

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_SCALAR
void QuantizeRange(const QuantizeDesc&, Range, QuantStats&) {}
void DequantizeRange(const DequantizeDesc&, Range) {}
#else
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
  int64_t next;  // where the next strip begins, from x; 0 if there is none
  S* room;       // for kTileSize numbers
};

// rows x n numbers of a tile that are all finite.
template <class F, bool kCount, typename S>
HWY_INLINE void EncodeTile(const Strip<S>& s, const S* x, int64_t n, float inverse, uint8_t* codes,
                           QuantStats& stats) {
  const Two factors{hn::Set(F32(), inverse), hn::Set(F32(), inverse)};
  const auto factor = [&](int64_t) JEVONS_LANES { return factors; };
  uint8_t part[kRowBytes<F>];
  V32 lost = hn::Zero(U32());
  for (int64_t r = 0; r < s.rows; ++r) {
    const S* row = x + r * s.pitch;
    uint8_t* to = codes + r * s.code_pitch;
    if (s.next != 0) PrefetchRow(row + s.next, n);
    EncodeRow<F, kCount>(WholeRow<kTileSize>(row, n, s.room), factor, n == kTileSize ? to : part, lost);
    if (n < kTileSize) std::copy_n(part, CodeBytes<F>(n), to);
  }
  if constexpr (kCount) stats.underflowed += hn::GetLane(hn::SumOfLanes(U32(), lost));
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
  if constexpr (sizeof(typename F::Code) != 1) {
    std::fill(row + n, row + kTileSize, uint16_t{0});
    for (int64_t c = 0; c < n; c += 8) PackE5M6(row + c, codes + CodeBytes<F>(c));
  }
  return scale;
}

template <class F, bool kCount, typename S>
HWY_INLINE void QuantizeStrip(const Strip<S>& s, QuantStats& stats) {
  const int64_t tiles = TilesOf(s.cols);
  const auto width = [&](int64_t t) { return std::min(kTileSize, s.cols - t * kTileSize); };
  const auto row = [&](int64_t r, int64_t t) JEVONS_LANES {
    return WholeRow<kTileSize>(s.x + r * s.pitch + t * kTileSize, width(t), s.room);
  };
  Maxima<S> maxima[kTilesPerStrip];
  for (int64_t t = 0; t < tiles; ++t)
    maxima[t] = MaximaOfRow(row(0, t), WithoutSign(LoadElements(row(0, t))));
  for (int64_t r = 1; r < s.rows; ++r)
    for (int64_t t = 0; t < tiles; ++t) maxima[t] = MaximaOfRow(row(r, t), maxima[t]);
  uint32_t amax[kTilesPerStrip] = {};
  for (int64_t t = 0; t < tiles; ++t) amax[t] = hn::GetLane(hn::MaxOfLanes(U32(), WidestOf(maxima[t])));
  float scale[kTilesPerStrip], inverse[kTilesPerStrip];
  FindScales<F>(amax, tiles, s.kind, scale, inverse);
  for (int64_t t = 0; t < tiles; ++t) {
    const S* x = s.x + t * kTileSize;
    uint8_t* codes = s.codes + t * kRowBytes<F>;
    if (HWY_LIKELY(amax[t] < kInfinityBits)) {
      EncodeTile<F, kCount>(s, x, width(t), inverse[t], codes, stats);
    } else {
      scale[t] = EncodeTileScalar<F>(s, x, width(t), codes, stats);
    }
  }
  std::copy_n(scale, tiles, s.scales);
}

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

// n <= kTileSize codes with one scale. `room`: bytes from `codes` on that may be read.
template <class F, typename S>
HWY_INLINE void DecodeTileRow(const uint8_t* codes, int64_t n, int64_t room, float scale, S* x) {
  constexpr int64_t kRead =
      kRowBytes<F> + (sizeof(typename F::Code) == 1 ? 0 : kLanes);  // UnpackCodes reads on
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
      DecodeTileRow<F>(codes + begin, std::min(kTileSize, d.x.cols() - c), d.codes.cols() - begin,
                       scales[c / kTileSize], d.x.row<S>(r) + c);
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

void Quantize(const OpContext& ctx, const QuantizeDesc& d) {
  if (!HWY_DYNAMIC_DISPATCH(HasVectors)()) return kRefQuantize.quantize(ctx, d);
  if (d.tiling == Tiling::kColumns128x1) return QuantizeColumns(d);
  const auto run = &HWY_DYNAMIC_DISPATCH(QuantizeRange);
  const bool blocks = d.tiling == Tiling::kBlocks128x128;
  const int64_t tiles = blocks ? kBlocksPerStrip : kTilesPerStrip;
  const int64_t strips = d.scales.rows() * ((d.scales.cols() + tiles - 1) / tiles);
  ParallelCounts(strips, d.x.size(), d.stats, [&](Range range, QuantStats& stats) { run(d, range, stats); });
}

void Dequantize(const OpContext& ctx, const DequantizeDesc& d) {
  if (!HWY_DYNAMIC_DISPATCH(HasVectors)()) return kRefQuantize.dequantize(ctx, d);
  const auto run = &HWY_DYNAMIC_DISPATCH(DequantizeRange);
  ParallelRanges(d.x.rows(), d.x.size(), [&](Range range) { run(d, range); });
}

void Requantize(const OpContext& ctx, std::span<const RequantizeDesc> descs) {
  if (!HWY_DYNAMIC_DISPATCH(HasVectors)()) return kRefQuantize.requantize_transposed(ctx, descs);
  RequantizeColumns(descs);
}

}  // namespace
}  // namespace jevons::cpu

namespace jevons {

const QuantizeTable kCpuQuantize = {
    .quantize = cpu::Quantize, .dequantize = cpu::Dequantize, .requantize_transposed = cpu::Requantize};

}  // namespace jevons
#endif  // HWY_ONCE
