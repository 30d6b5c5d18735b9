// AdamW (Loshchilov and Hutter; as torch.optim.AdamW) on slices of parameters:
//   g = grad * grad_scale;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
//   master = master * (1 - lr * decay) - lr * (m / c1) / (sqrt(v / c2) + eps),  c1 = 1 - b1^t, c2 = 1 - b2^t
#ifndef JEVONS_KERNELS_OPS_ADAMW_H_
#define JEVONS_KERNELS_OPS_ADAMW_H_

#include <span>

#include "kernels/ops/context.h"

namespace jevons {

struct AdamWDesc {
  float learning_rate = 0, beta1 = 0, beta2 = 0, eps = 0;
  float grad_scale = 1;
  double grad_unit = 1;  // what 1 of an I64 gradient is worth: q counts as float(double(q) * grad_unit)
  int64_t step = 1;      // t, from 1
};
struct AdamWSlice {
  Tensor master;   // [n] FP32
  Tensor grad;     // [n] FP32, of which -0 counts as +0, or I64: of one type in all slices
  Tensor m, v;     // [n] FP32 or BF16 (rounded to nearest even when stored), of one type in all slices
  Tensor compute;  // [n] BF16 copy of the updated master, or empty
  float decay = 0;
};
// Any number of slices, of any lengths; no two may share memory. A device is given hundreds of them in one launch.
void AdamW(const OpContext& ctx, const AdamWDesc& desc, std::span<const AdamWSlice> slices);

}  // namespace jevons

#endif  // JEVONS_KERNELS_OPS_ADAMW_H_
