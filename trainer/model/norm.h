// RMSNorm as a layer: weight gamma [H] FP32, and the per-row 1/rms that backward needs.
#ifndef JEVONS_TRAINER_MODEL_NORM_H_
#define JEVONS_TRAINER_MODEL_NORM_H_

#include "trainer/model/context.h"

namespace jevons {

struct NormSite {
  int layer;           // for naming a non-finite input
  const char* tensor;  // what is normalised
  float eps;
};

// y = norm(x). rstd: [T] FP32. Records the first non-finite row of x in ctx.non_finite.
void NormForward(const LayerContext& ctx, const NormSite& site, const Tensor& x, const Weight& gamma, const Tensor& y,
                 const Tensor& rstd);

// dx (=|+=) gradient; gamma's gradient is written at once: it is no matrix product.
void NormBackward(const LayerContext& ctx, const Tensor& dy, const Tensor& x, const Weight& gamma, const Tensor& rstd,
                  const Tensor& dx, WriteMode mode);

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_NORM_H_
