// From FP32 or BF16 to scaled codes and back. How these lie, and the names of shapes: fp8/tiling.h.
//
// Every implementation gives the same bits on any number of threads. R or C may be zero.
#ifndef JEVONS_KERNELS_OPS_QUANTIZE_H_
#define JEVONS_KERNELS_OPS_QUANTIZE_H_

#include <span>

#include "kernels/fp8/tiling.h"
#include "kernels/ops/context.h"

namespace jevons {

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

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_QUANTIZE_H_
