// Strips of tiles, quantised together: tiles of a row side by side, or blocks. A tile is read twice: for its largest magnitude,
// then, from cache, for its codes. Included once per instruction set.
#include "kernels/cpu/quantize-inl.h"
#include "kernels/ref/quantize.h"

#ifndef JEVONS_KERNELS_CPU_QUANTIZE_STRIP_ONCE_
#define JEVONS_KERNELS_CPU_QUANTIZE_STRIP_ONCE_
namespace jevons::cpu {

// Tiles side by side whose scales are found together, which hides the latency of reductions and divisions. Of blocks fewer, to
// stay in L2: 128 x 512 FP32 numbers are 256 KiB.
inline constexpr int64_t kTilesPerStrip = 16, kBlocksPerStrip = 4;

// Bytes of a row of n codes, and of a tile's.
template <class F>
constexpr int64_t CodeBytes(int64_t n) {
  return sizeof(typename F::Code) == 1 ? n : PackedE5M6Bytes(n);
}
template <class F>
inline constexpr int64_t kRowBytes = CodeBytes<F>(kTileSize);

}  // namespace jevons::cpu
#endif  // once

#if defined(JEVONS_KERNELS_CPU_QUANTIZE_STRIP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef JEVONS_KERNELS_CPU_QUANTIZE_STRIP_INL_H_
#undef JEVONS_KERNELS_CPU_QUANTIZE_STRIP_INL_H_
#else
#define JEVONS_KERNELS_CPU_QUANTIZE_STRIP_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu::HWY_NAMESPACE {

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

// Any numbers, by the scalar reference. Returns the scale.
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

#if HWY_TARGET == HWY_SCALAR
template <class F, bool kCount, typename S>
void QuantizeStrip(const Strip<S>& s, QuantStats& stats) {
  for (int64_t c = 0; c < s.cols; c += kTileSize)
    s.scales[c / kTileSize] = EncodeTileScalar<F>(s, s.x + c, std::min(kTileSize, s.cols - c), s.codes + CodeBytes<F>(c), stats);
}
#else
// rows x n numbers of a tile that are all finite.
template <class F, bool kCount, typename S>
HWY_INLINE void EncodeTile(const Strip<S>& s, const S* x, int64_t n, float inverse, uint8_t* codes, QuantStats& stats) {
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

// Tiles with NaN or infinity, found by the first reading, go to the scalar reference.
template <class F, bool kCount, typename S>
HWY_INLINE void QuantizeStrip(const Strip<S>& s, QuantStats& stats) {
  const int64_t tiles = TilesOf(s.cols);
  const auto width = [&](int64_t t) { return std::min(kTileSize, s.cols - t * kTileSize); };
  const auto row = [&](int64_t r, int64_t t)
                       JEVONS_LANES { return WholeRow<kTileSize>(s.x + r * s.pitch + t * kTileSize, width(t), s.room); };
  Maxima<S> maxima[kTilesPerStrip];
  for (int64_t t = 0; t < tiles; ++t) maxima[t] = MaximaOfRow(row(0, t), WithoutSign(LoadElements(row(0, t))));
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
#endif  // HWY_SCALAR

}  // namespace jevons::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
