// How a quantised matrix lies in memory. R x C is the shape of the unquantised one, L(n) = ceil(n / 128); the last tile of a side may be
// smaller. What a scale is, and what NaN, infinity and zeros become: scaling.h.
//
//   Tiling           use (report, figure 7)                codes                            scales, FP32
//   kRows1x128       activations and their gradients       [R, C]                           [R, L(C)]
//   kBlocks128x128   weights, `weight_scale_inv`           [R, C]                           [L(R), L(C)]
//   kColumns128x1    activations and gradients in wgrad    [C, R]: transposed               [L(R), C]
//
// Codes are U8 tensors. E5M6 codes are packed (packing.h): [R, 12 ceil(C/8)] bytes, kRows1x128 only. Any pitch everywhere.
#ifndef JEVONS_KERNELS_FP8_TILING_H_
#define JEVONS_KERNELS_FP8_TILING_H_

#include "kernels/fp8/packing.h"
#include "kernels/fp8/scaling.h"
#include "kernels/tensor/tensor.h"

namespace jevons {

enum class Tiling { kRows1x128, kBlocks128x128, kColumns128x1 };
enum class NumberFormat { kE4M3, kE5M2, kE5M6 };

constexpr int64_t TilesOf(int64_t n) { return (n + kTileSize - 1) / kTileSize; }

inline Shape CodesShape(int64_t rows, int64_t cols, Tiling tiling, NumberFormat format = NumberFormat::kE4M3) {
  if (format == NumberFormat::kE5M6) return {rows, PackedE5M6Bytes(cols)};
  return tiling == Tiling::kColumns128x1 ? Shape{cols, rows} : Shape{rows, cols};
}

inline Shape ScalesShape(int64_t rows, int64_t cols, Tiling tiling) {
  return {tiling == Tiling::kRows1x128 ? rows : TilesOf(rows), tiling == Tiling::kColumns128x1 ? cols : TilesOf(cols)};
}

}  // namespace jevons

#endif  // JEVONS_KERNELS_FP8_TILING_H_
