// How a tile of numbers gets its scale (DeepSeek-V3 report, section 3.3.2: online, from the tile's own largest magnitude, no
// history; clamp and rounding as in DeepSeek's TileKernels, torch/cast.py):
//
//   amax  = max(1e-4, largest magnitude among the tile's finite elements)
//   scale = amax / Format::kMax in FP32; a power of two: rounded up to one, so nothing overflows
//   code  = Encode(x * (1 / scale)), both operations rounded to FP32         value = Decode(code) * scale
//
// (With FP32 scales TileKernels multiplies by kMax / amax and DeepSeek-V3's inference code divides by the scale: measured, one
// code in six million differs on normal numbers. Here codes depend on x and the stored scale alone. Powers of two leave no
// difference.)
// scale is what checkpoints call weight_scale_inv: the factor from code to value. An all-zero tile has amax 1e-4 and codes
// zero. NaN and infinity never touch the scale and become the NaN code, so that a broken step is seen, and the rest of the tile
// is what it would be without them.
#ifndef JEVONS_KERNELS_FP8_SCALING_H_
#define JEVONS_KERNELS_FP8_SCALING_H_

#include "kernels/fp8/formats.h"

namespace jevons {

inline constexpr int64_t kTileSize = 128;   // elements along a scaled side: the N_C of the report
inline constexpr float kAmaxFloor = 1e-4f;  // keeps 1 / scale finite

enum class ScaleKind { kFp32, kPowerOfTwo };

// amax: finite, not negative. Normal FP32 for every such amax, and so is its reciprocal.
template <class F>
JEVONS_HOST_DEVICE constexpr float ScaleOf(float amax, ScaleKind kind) {
  const float scale = (amax > kAmaxFloor ? amax : kAmaxFloor) / F::kMax;
  if (kind == ScaleKind::kFp32) return scale;
  return std::bit_cast<float>((std::bit_cast<uint32_t>(scale) + 0x007FFFFFu) & 0x7F800000u);
}

// What a quantisation lost. Sums of integers, so no thread or order shows in them.
struct QuantStats {
  int64_t elements = 0;
  int64_t saturated = 0;    // finite, but beyond the largest number by more than half a step: zero, as scales are online
  int64_t underflowed = 0;  // not zero, but its code is
  int64_t nonfinite = 0;    // NaN or infinity

  QuantStats& operator+=(const QuantStats& other) {
    elements += other.elements;
    saturated += other.saturated;
    underflowed += other.underflowed;
    nonfinite += other.nonfinite;
    return *this;
  }
  bool operator==(const QuantStats&) const = default;
};

}  // namespace jevons

#endif  // JEVONS_KERNELS_FP8_SCALING_H_
