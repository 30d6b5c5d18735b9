// SwiGLU with the routing weight inside: y = silu(gate) * up * weight (the weight is applied before the down projection, so
// that combine is a plain sum). gate_up: [R, 2I], gate in columns [0,I), up in [I,2I). y: [R,I].
// weight: [R] FP32, or an empty tensor for 1.
#ifndef JEVONS_KERNELS_OPS_SWIGLU_H_
#define JEVONS_KERNELS_OPS_SWIGLU_H_

#include "kernels/ops/context.h"

namespace jevons {

void SwiGlu(const OpContext& ctx, const Tensor& gate_up, const Tensor& weight, const Tensor& y);

struct SwiGluGrad {
  Tensor dy, gate_up, weight;  // [R,I], [R,2I], [R] or empty
  Tensor dgate_up;             // [R,2I]
  Tensor dweight;              // [R] FP32 = sum over I of dy * silu(gate) * up; empty where weight is
};
void SwiGluBackward(const OpContext& ctx, const SwiGluGrad& grad);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_SWIGLU_H_
