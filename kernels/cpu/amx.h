// The matrix unit of Intel's CPUs: eight tiles of 16 rows by 64 bytes, and an instruction that multiplies two of them as BF16 pairs
// (Intel SDM vol. 2, TDPBF16PS). What surrounds it is in amx-inl.h.
#ifndef JEVONS_KERNELS_CPU_AMX_H_
#define JEVONS_KERNELS_CPU_AMX_H_

#include <string>

namespace jevons::cpu {

// Why this process cannot use the unit; empty if it can. The first call asks Linux for the permission that the tiles' state in
// every thread needs (arch_prctl, ARCH_REQ_XCOMP_PERM).
std::string AmxProblem();

// Until the next call AmxProblem() is empty, or says again what is so: for tests, in which a model runs the instructions.
void AssumeAmxForTest(bool assumed);

// GFLOP/s of BF16 products on tiles alone, on `threads` threads at once: the best of several runs, about 50 ms in all. Zero where
// AmxProblem().
double MeasureAmxPeak(int threads);

}  // namespace jevons::cpu

#endif  // JEVONS_KERNELS_CPU_AMX_H_
