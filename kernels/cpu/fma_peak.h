// The most that this CPU's vector units can do, as the yardstick of GEMM figures.
#ifndef JEVONS_KERNELS_CPU_FMA_PEAK_H_
#define JEVONS_KERNELS_CPU_FMA_PEAK_H_

namespace jevons {

// GFLOP/s of FP32 fused multiply-adds on registers alone, with the widest instruction set that this program
// uses, on `threads` threads at once: the best of several runs, about 50 ms in all. One fused multiply-add
// counts as 2 FLOP.
double MeasureFmaPeak(int threads);

}  // namespace jevons

#endif  // JEVONS_KERNELS_CPU_FMA_PEAK_H_
