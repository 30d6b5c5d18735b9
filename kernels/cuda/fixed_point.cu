// Exact sums in fixed point: each element by itself, once through memory.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/fixed_point.cuh"
#include "kernels/cuda/launch.cuh"

namespace jevons::cuda {
namespace {

constexpr size_t kValues = 4;  // of a job; a sum of more is added to by several launches
constexpr int kWidth = kWidthOf<float>;
constexpr int kPacks = 4;                                                // of a thread
constexpr int64_t kElements = int64_t{kBlockThreads} * kPacks * kWidth;  // of a block

struct FixedPointJob {
  const float* values[kValues];
  int64_t* sum;
  int64_t* flag;
  int64_t n;
  int16_t count;  // of values
  bool add, vector;
};

template <int kCapacity>
__global__ void __launch_bounds__(kBlockThreads)
    AddFixedPointKernel(const __grid_constant__ JobTable<FixedPointJob, kCapacity> table, double scale, double limit) {
  const int index = table.IndexOf(blockIdx.x);
  const FixedPointJob& job = table.jobs[index];
  const int64_t begin = (blockIdx.x - table.first[index]) * kElements;
  const auto at = [&](int j) { return begin + (j * kBlockThreads + int64_t{threadIdx.x}) * kWidth; };
  IntPack<kWidth> sum[kPacks] = {};
#pragma unroll
  for (int j = 0; j < kPacks; ++j)
    if (job.add) sum[j] = LoadInts<kWidth>(job.sum + at(j), job.n - at(j), job.vector);
  bool within = true;
  for (int k = 0; k < job.count; ++k) {
    RawPack<float, kWidth> value[kPacks];
#pragma unroll
    for (int j = 0; j < kPacks; ++j) value[j] = LoadRaw<kWidth>(job.values[k] + at(j), job.n - at(j), job.vector);
#pragma unroll
    for (int j = 0; j < kPacks; ++j) within &= AddFixedPoint(value[j].Widened(), scale, limit, sum[j]);
  }
#pragma unroll
  for (int j = 0; j < kPacks; ++j) StoreInts(sum[j], job.sum + at(j), job.n - at(j), job.vector);
  if (!within) *job.flag = 1;  // whoever else writes there writes the same
}

// The job for the values [first, first + kValues) of a sum.
FixedPointJob JobOf(const FixedPointSum& s, size_t first) {
  FixedPointJob job = {.values = {},
                       .sum = s.sum.as<int64_t>(),
                       .flag = s.flag,
                       .n = s.sum.size(),
                       .count = 0,
                       .add = first > 0 || s.mode == WriteMode::kAdd,
                       .vector = CanVector(Flat(s.sum, true), kWidth)};
  for (size_t k = first; k < std::min(first + kValues, s.values.size()); ++k) {
    job.values[job.count++] = s.values[k].as<float>();
    job.vector = job.vector && CanVector(Flat(s.values[k], true), kWidth);
  }
  return job;
}

}  // namespace

void AddFixedPoint(const OpContext& ctx, const FixedPoint& format, std::span<const FixedPointSum> sums) {
  std::vector<SizedJob<FixedPointJob>> jobs;
  size_t first = 0;
  do {
    jobs.clear();
    for (const FixedPointSum& s : sums)
      if (first < s.values.size() || (first == 0 && s.mode == WriteMode::kOverwrite))
        jobs.push_back({JobOf(s, first), CeilDiv(s.sum.size(), kElements)});
    LaunchJobs(
        ctx, jobs, kBlockThreads, [](auto capacity) { return AddFixedPointKernel<capacity.value>; }, 1 / format.unit(),
        format.limit);
    first += kValues;
  } while (!jobs.empty());
}

}  // namespace jevons::cuda
