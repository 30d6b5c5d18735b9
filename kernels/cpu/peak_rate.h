// How the peaks of this CPU's instructions are measured.
#ifndef JEVONS_KERNELS_CPU_PEAK_RATE_H_
#define JEVONS_KERNELS_CPU_PEAK_RATE_H_

#include <omp.h>

#include <algorithm>
#include <chrono>

namespace jevons::cpu {

// GFLOP/s of loop(), which returns the FLOP that it has done, on `threads` threads at once: the best of several runs. A loop of half
// a millisecond is short enough to find a moment without other work.
template <typename Loop>
double PeakRate(int threads, const Loop& loop) {
  constexpr int kRuns = 50;
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    double flop = 0, seconds = 0;
#pragma omp parallel num_threads(threads) reduction(+ : flop) reduction(max : seconds)
    {
#pragma omp barrier
      const auto start = std::chrono::steady_clock::now();
      flop = loop();
      seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    best = std::max(best, flop / seconds * 1e-9);
  }
  return best;
}

}  // namespace jevons::cpu

#endif  // JEVONS_KERNELS_CPU_PEAK_RATE_H_
