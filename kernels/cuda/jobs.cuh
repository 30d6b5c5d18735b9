// One launch for many jobs of different sizes: slices of parameters, segments of experts. The jobs are kernel parameters, which
// travel with the launch: nothing is copied to the device before it and nobody waits. A block of threads works on one job.
#ifndef JEVONS_KERNELS_CUDA_JOBS_CUH_
#define JEVONS_KERNELS_CUDA_JOBS_CUH_

#include <span>
#include <type_traits>
#include <vector>

#include "kernels/cuda/launch.cuh"

namespace jevons::cuda {

// A launch carries its whole table, however few jobs are in it: so there are two sizes. Parameters may have 32,764 bytes from
// compute capability 7.0 on (CUDA 12.1); some are left for what a kernel is given besides.
inline constexpr int kFewJobs = 4;
template <class Job>
inline constexpr int kManyJobs = (32764 - 256) / static_cast<int>(sizeof(Job) + sizeof(unsigned));

template <class Job, int kCapacity>
struct JobTable {
  Job jobs[kCapacity];
  unsigned first[kCapacity];  // of each job's blocks of threads
  int count;

  // The index of the job of a block: the last that begins at it or before.
  JEVONS_HOST_DEVICE constexpr int IndexOf(unsigned block) const {
    int low = 0, high = count;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first[middle] <= block ? low : high) = middle;
    }
    return low;
  }
};

// A job for the host: with the blocks of threads that it needs. None: there is nothing to do.
template <class Job>
struct SizedJob {
  Job job;
  int64_t blocks;
};

// Takes jobs from the beginning of `jobs` until the table is full; returns their blocks.
template <class Job, int kCapacity>
int64_t FillTable(std::span<const SizedJob<Job>>& jobs, JobTable<Job, kCapacity>& table) {
  int64_t blocks = 0;
  table.count = 0;
  for (; !jobs.empty() && table.count < kCapacity; jobs = jobs.subspan(1)) {
    if (jobs[0].blocks == 0) continue;
    table.jobs[table.count] = jobs[0].job;
    table.first[table.count++] = static_cast<unsigned>(blocks);
    blocks += jobs[0].blocks;
  }
  return blocks;
}

// Launches kernel_of(capacity), an std::integral_constant, whose kernel takes `const __grid_constant__ JobTable<Job, capacity>`
// and the arguments: once for every kManyJobs jobs.
template <class Job, class KernelOf, typename... Arguments>
void LaunchJobs(const OpContext& ctx, const std::vector<SizedJob<Job>>& list, dim3 threads, const KernelOf& kernel_of,
                const Arguments&... args) {
  const auto launch = [&](auto capacity, std::span<const SizedJob<Job>>& jobs) {
    JobTable<Job, capacity.value> table;
    if (const int64_t blocks = FillTable(jobs, table); blocks > 0)
      Launch(ctx, kernel_of(capacity), blocks, threads, 0, table, args...);
  };
  for (std::span<const SizedJob<Job>> jobs = list; !jobs.empty();) {
    if (jobs.size() <= kFewJobs) {
      launch(std::integral_constant<int, kFewJobs>(), jobs);
    } else {
      launch(std::integral_constant<int, kManyJobs<Job>>(), jobs);
    }
  }
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_JOBS_CUH_
