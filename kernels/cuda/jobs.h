// One launch for many jobs of different sizes: slices of parameters, segments of experts. The jobs are kernel parameters, which
// travel with the launch: nothing is copied to the device before it and nobody waits. A block of threads works on one job. Plain
// arithmetic, the same on host and device, so that the host tests it.
#ifndef JEVONS_KERNELS_CUDA_JOBS_H_
#define JEVONS_KERNELS_CUDA_JOBS_H_

#include <cstdint>
#include <span>

#include "kernels/base/philox.h"  // JEVONS_HOST_DEVICE

namespace jevons::cuda {

// A job as the host lists it, with the blocks of threads that it needs; without any, there is nothing to do.
template <class Job>
struct SizedJob {
  Job job;
  int64_t blocks;
};

// What a kernel is given: jobs, and the first block of each.
template <class Job, int kCapacity>
struct JobTable {
  Job jobs[kCapacity];
  unsigned first[kCapacity];
  int count;

  // The job of a block: the last that begins with it or before.
  JEVONS_HOST_DEVICE constexpr int IndexOf(unsigned block) const {
    int low = 0, high = count;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first[middle] <= block ? low : high) = middle;
    }
    return low;
  }
};

// A launch carries its whole table, however few jobs are in it: so there are two sizes. Parameters may have 32,764 bytes (from
// compute capability 7.0 and CUDA 12.1 on); some are left for what a kernel is given besides.
inline constexpr int kFewJobs = 4;
template <class Job>
inline constexpr int kManyJobs = (32764 - 256) / static_cast<int>(sizeof(Job) + sizeof(unsigned));

// Moves jobs from the beginning of the list to the table, as many as it holds; returns their blocks.
template <class Job, int kCapacity>
int64_t FillTable(std::span<const SizedJob<Job>>& list, JobTable<Job, kCapacity>& table) {
  int64_t blocks = 0;
  table.count = 0;
  for (; !list.empty() && table.count < kCapacity; list = list.subspan(1)) {
    if (list[0].blocks == 0) continue;
    table.jobs[table.count] = list[0].job;
    table.first[table.count++] = static_cast<unsigned>(blocks);
    blocks += list[0].blocks;
  }
  return blocks;
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_JOBS_H_
