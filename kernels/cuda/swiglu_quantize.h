// SwiGLU and the quantisation of its result in one pass: what the down projection of an expert takes in FP8.
#ifndef JEVONS_KERNELS_CUDA_SWIGLU_QUANTIZE_H_
#define JEVONS_KERNELS_CUDA_SWIGLU_QUANTIZE_H_

#include "kernels/fp8/quantize.h"

namespace jevons::cuda {

// The codes, scales and counts of SwiGlu (ops/swiglu.h) into a tensor of gate_up's type followed by Quantize in 1x128 tiles, bit
// for bit, but the tensor is never in memory: 5 bytes an element move instead of 9 (BF16, E4M3). Checks its arguments.
struct SwiGluQuantizeDesc {
  Tensor gate_up;  // [R, 2I] FP32 or BF16
  Tensor weight;   // [R] FP32, or empty
  Tensor codes;    // [R, I] U8
  Tensor scales;   // [R, L(I)] FP32
  ScaleKind scale_kind = ScaleKind::kFp32;
  NumberFormat format = NumberFormat::kE4M3;  // or kE5M2
  QuantStats* stats = nullptr;                // if given, on the device: counts are added to it
};
void SwiGluQuantize(const OpContext& ctx, const SwiGluQuantizeDesc& desc);

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_SWIGLU_QUANTIZE_H_
