// SwiGLU and the quantisation of its result in one pass: what a down projection in FP8 reads.
#ifndef JEVONS_KERNELS_OPS_SWIGLU_QUANTIZE_H_
#define JEVONS_KERNELS_OPS_SWIGLU_QUANTIZE_H_

#include "kernels/ops/quantize.h"

namespace jevons {

// The E4M3 codes, scales and counts of SwiGlu (swiglu.h) into a tensor of gate_up's type followed by Quantize in 1x128 tiles, bit
// for bit under the same implementation, but the tensor is never in memory: 5 bytes an element move instead of 9 (BF16).
struct SwiGluQuantizeDesc {
  Tensor gate_up;  // [R, 2I] FP32 or BF16
  Tensor weight;   // [R] FP32, or empty for 1
  Tensor codes;    // [R, I] U8
  Tensor scales;   // [R, L(I)] FP32
  ScaleKind scale_kind = ScaleKind::kFp32;
  QuantStats* stats = nullptr;  // as QuantizeDesc's
};
void SwiGluQuantize(const OpContext& ctx, const SwiGluQuantizeDesc& desc);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_SWIGLU_QUANTIZE_H_
