// From FP32 or BF16 to scaled codes and back. R x C is the shape of the unquantised matrix, L(n) = ceil(n / 128); the last tile
// of a side may be smaller. What a scale is, and what NaN, infinity and zeros become: scaling.h.
//
//   Tiling           use (report, figure 7)                codes                            scales, FP32
//   kRows1x128       activations and their gradients       [R, C]                           [R, L(C)]
//   kBlocks128x128   weights, `weight_scale_inv`           [R, C]                           [L(R), L(C)]
//   kColumns128x1    activations and gradients in wgrad    [C, R]: transposed               [L(R), C]
//
// Codes are U8 tensors. E5M6 codes are packed (packing.h): [R, 12 ceil(C/8)] bytes, kRows1x128 only. Any pitch everywhere.
// Every implementation gives the same bits on any number of threads. R or C may be zero.
#ifndef JEVONS_KERNELS_FP8_QUANTIZE_H_
#define JEVONS_KERNELS_FP8_QUANTIZE_H_

#include <span>

#include "kernels/fp8/packing.h"
#include "kernels/fp8/scaling.h"
#include "kernels/ops/context.h"

namespace jevons {

enum class Tiling { kRows1x128, kBlocks128x128, kColumns128x1 };
enum class NumberFormat { kE4M3, kE5M2, kE5M6 };

constexpr int64_t TilesOf(int64_t n) { return (n + kTileSize - 1) / kTileSize; }
Shape CodesShape(int64_t rows, int64_t cols, Tiling tiling, NumberFormat format = NumberFormat::kE4M3);
Shape ScalesShape(int64_t rows, int64_t cols, Tiling tiling);

struct QuantizeDesc {
  Tensor x;       // [R, C] FP32 or BF16
  Tensor codes;   // CodesShape(R, C, tiling, format) U8
  Tensor scales;  // ScalesShape(R, C, tiling) FP32
  Tiling tiling = Tiling::kRows1x128;
  ScaleKind scale_kind = ScaleKind::kFp32;
  NumberFormat format = NumberFormat::kE4M3;
  QuantStats* stats = nullptr;  // if given, where the stream works: this call's counts are added to it
};
void Quantize(const OpContext& ctx, const QuantizeDesc& desc);

// x = Decode(codes) * scales, rounded to FP32, then to BF16 if x is. kRows1x128 or kBlocks128x128.
struct DequantizeDesc {
  Tensor codes, scales;  // as above
  Tensor x;              // [R, C] FP32 or BF16
  Tiling tiling = Tiling::kRows1x128;
  NumberFormat format = NumberFormat::kE4M3;
};
void Dequantize(const OpContext& ctx, const DequantizeDesc& desc);

// From kRows1x128 to kColumns128x1: dequantised (FP32), transposed, quantised anew, as wgrad needs the activation that
// forward kept (report, section 3.5.2). With powers of two on both sides only numbers that become subnormal lose bits.
// E4M3 or E5M2, the same on both sides.
struct RequantizeDesc {
  Tensor codes, scales;          // [R, C] U8, [R, L(C)] FP32
  Tensor out_codes, out_scales;  // [C, R] U8, [L(R), C] FP32
  ScaleKind scale_kind = ScaleKind::kFp32;
  NumberFormat format = NumberFormat::kE4M3;
  QuantStats* stats = nullptr;
};
// Any number of matrices, each by itself: the rows of a layer's experts. A device is given hundreds of them in one launch.
void RequantizeTransposed(const OpContext& ctx, std::span<const RequantizeDesc> descs);

// One implementation of the three; they trust their arguments. The one whose table Ops() serves is used (ops/registry.h), so
// JEVONS_OPS=ref forces the scalar one.
struct QuantizeTable {
  decltype(&jevons::Quantize) quantize;
  decltype(&jevons::Dequantize) dequantize;
  decltype(&jevons::RequantizeTransposed) requantize_transposed;
};
extern const QuantizeTable kRefQuantize;  // ref_quantize.cc over kernels/ref/quantize.h
extern const QuantizeTable kCpuQuantize;  // kernels/cpu/quantize.cc

}  // namespace jevons

#endif  // JEVONS_KERNELS_FP8_QUANTIZE_H_
