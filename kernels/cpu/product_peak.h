// The most that matrix products could reach on this CPU, in the instructions that serve them here.
#ifndef JEVONS_KERNELS_CPU_PRODUCT_PEAK_H_
#define JEVONS_KERNELS_CPU_PRODUCT_PEAK_H_

#include "kernels/tensor/dtype.h"

namespace jevons {

// GFLOP/s on registers alone of the instruction that the chosen implementation of products of type `in` is made of (see
// GemmImplementation), on `threads` threads at once; about 50 ms. AMX's tiles, BF16 pairs, or else FP32 fused
// multiply-adds.
double MeasureProductPeak(DType in, int threads);

}  // namespace jevons

#endif  // JEVONS_KERNELS_CPU_PRODUCT_PEAK_H_
