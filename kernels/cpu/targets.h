// The instruction sets that the operators are compiled for; the best that the machine has is chosen at run
// time. Those left out would only add code: they bring nothing to FP32 loops. Include before any Highway
// header.
#ifndef JEVONS_KERNELS_CPU_TARGETS_H_
#define JEVONS_KERNELS_CPU_TARGETS_H_

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)

#endif  // JEVONS_KERNELS_CPU_TARGETS_H_
