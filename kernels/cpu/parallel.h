// How an operator is shared among the threads of the OpenMP team. What a range computes may not depend on
// where the ranges are cut, so results never depend on the number of threads.
#ifndef JEVONS_KERNELS_CPU_PARALLEL_H_
#define JEVONS_KERNELS_CPU_PARALLEL_H_

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/base/partition.h"

namespace jevons::cpu {

inline constexpr int64_t kSerialElements = 1 << 14;  // below this, waking the team (some us) costs more than it gains

// Calls body(range) on contiguous ranges that cover [0, n), one per thread. `elements` is the size of the
// whole job.
template <class Body>
void ParallelRanges(int64_t n, int64_t elements, const Body& body) {
  if (elements < kSerialElements) {
    body(Range{0, n});
    return;
  }
#pragma omp parallel
  {
    const Range range = BlockOf(n, omp_get_num_threads(), omp_get_thread_num());
    if (!range.empty()) body(range);
  }
}

// For jobs of different sizes, shared as one line of units: body(job, range of its units), perhaps several times for a job.
template <class Body>
void ParallelJobs(std::span<const int64_t> sizes, int64_t elements, const Body& body) {
  int64_t total = 0;
  for (int64_t size : sizes) total += size;
  ParallelRanges(total, elements, [&](Range line) {
    int64_t begin = 0;  // of the job on the line
    for (size_t job = 0; job < sizes.size() && begin < line.end; begin += sizes[job++]) {
      const Range units = {std::max(line.begin - begin, int64_t{0}), std::min(line.end - begin, sizes[job])};
      if (units.begin < units.end) body(job, units);
    }
  });
}

}  // namespace jevons::cpu

#endif  // JEVONS_KERNELS_CPU_PARALLEL_H_
