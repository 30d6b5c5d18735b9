// Reductions with the bits of the CPU's: sixteen sums in FP64 for each block of 16,384 elements, the blocks over the fixed tree.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/fixed_point.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/ops/reduce.h"

namespace jevons::cuda {
namespace {

constexpr int64_t kBlock = kSquaresBlock;
constexpr int kSums = 16;     // of a block, element i in sum i % kSums
constexpr int kStage = 4096;  // elements that are in shared memory at a time
constexpr int kTreeThreads = 128;

struct SquaresJob {
  const void* x;  // FP32; where it has a unit, integers in fixed point
  double unit;
  int64_t n;
  double *partial, *sums;  // one for each kBlock elements; one for each chunk
  bool vector;
};

// One block for kBlock elements: all threads bring a stage into shared memory, kSums of them add it.
template <int kCapacity>
__global__ void __launch_bounds__(kBlockThreads) SquaresKernel(const __grid_constant__ JobTable<SquaresJob, kCapacity> table) {
  constexpr int kWidth = kWidthOf<float>;
  alignas(16) __shared__ float stage[kStage];
  const int index = table.IndexOf(blockIdx.x);
  const SquaresJob& job = table.jobs[index];
  const int64_t block = blockIdx.x - table.first[index], begin = block * kBlock, end = min(job.n, begin + kBlock);
  double sum = 0;
  for (int64_t first = begin; first < end; first += kStage) {
    const int64_t count = min(end - first, int64_t{kStage});
    RawPack<float, kWidth> raw[kStage / (kBlockThreads * kWidth)];
#pragma unroll
    for (int j = 0; j < kStage / (kBlockThreads * kWidth); ++j) {
      const int64_t i = (j * kBlockThreads + int64_t{threadIdx.x}) * kWidth;
      if (job.unit == 0) {
        raw[j] = LoadRaw<kWidth>(static_cast<const float*>(job.x) + first + i, count - i, job.vector);
      } else {
        const Pack<kWidth> numbers =
            LoadNumbers<kWidth>(static_cast<const int64_t*>(job.x) + first + i, job.unit, count - i, job.vector);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) raw[j].words.w[k] = __float_as_uint(numbers.v[k]);
      }
    }
    __syncthreads();  // the stage before has been added
#pragma unroll
    for (int j = 0; j < kStage / (kBlockThreads * kWidth); ++j)
      *reinterpret_cast<Words<kWidth>*>(stage + (j * kBlockThreads + threadIdx.x) * kWidth) = raw[j].words;
    __syncthreads();
    if (threadIdx.x >= kSums) continue;
#pragma unroll 16
    for (int64_t i = threadIdx.x; i < count; i += kSums) sum += double{stage[i]} * double{stage[i]};
  }
  if (threadIdx.x >= 32) return;
  double total = 0;
  for (int j = 0; j < kSums; ++j) total += __shfl_sync(0xFFFFFFFFu, sum, j);
  if (threadIdx.x == 0) job.partial[block] = total;
}

// One block for a chunk: its share of the partial sums, of_chunk of them, over the fixed tree (TreeSum). The node that covers
// [i, i + 2 step) replaces its left half at i, and the last of an odd number stays as it is.
template <int kCapacity>
__global__ void __launch_bounds__(kTreeThreads)
    TreeKernel(const __grid_constant__ JobTable<SquaresJob, kCapacity> table, int64_t of_chunk) {
  const int index = table.IndexOf(blockIdx.x);
  const SquaresJob& job = table.jobs[index];
  const int64_t chunk = blockIdx.x - table.first[index], first = chunk * of_chunk;
  const int64_t n = min(of_chunk, (job.n + kBlock - 1) / kBlock - first);
  double* const nodes = job.partial + first;
  for (int64_t step = 1; step < n; step *= 2) {
    for (int64_t i = threadIdx.x * 2 * step; i + step < n; i += kTreeThreads * 2 * step) nodes[i] += nodes[i + step];
    __syncthreads();
  }
  if (threadIdx.x == 0) job.sums[chunk] = nodes[0];
}

struct JoinJob {
  const float *left, *right;  // right: null at the root that nothing is added to
  float* sum;
  int64_t n;
  bool vector;
};
constexpr int64_t kJoinElements = kBlockThreads * 4 * kWidthOf<float>;  // of a block

// sum = left + right + 0. The zero makes +0 of -0, which shows in no sum but one that is -0 itself.
template <int kCapacity>
__global__ void __launch_bounds__(kBlockThreads) JoinKernel(const __grid_constant__ JobTable<JoinJob, kCapacity> table) {
  constexpr int kWidth = kWidthOf<float>, kPacks = kJoinElements / (kBlockThreads * kWidth);
  const int index = table.IndexOf(blockIdx.x);
  const JoinJob& job = table.jobs[index];
  const int64_t begin = (blockIdx.x - table.first[index]) * kJoinElements;
  const auto at = [&](int j) { return begin + (j * kBlockThreads + int64_t{threadIdx.x}) * kWidth; };
  RawPack<float, kWidth> left[kPacks], right[kPacks] = {};
#pragma unroll
  for (int j = 0; j < kPacks; ++j) {
    left[j] = LoadRaw<kWidth>(job.left + at(j), job.n - at(j), job.vector);
    if (job.right != nullptr) right[j] = LoadRaw<kWidth>(job.right + at(j), job.n - at(j), job.vector);
  }
#pragma unroll
  for (int j = 0; j < kPacks; ++j) {
    Pack<kWidth> sum = left[j].Widened();
    const Pack<kWidth> other = right[j].Widened();
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum.v[i] = sum.v[i] + other.v[i] + 0.0f;
    Store(sum, job.sum + at(j), job.n - at(j), job.vector);
  }
}

// One thread adds, in order, what the others bring.
__global__ void SumKernel(const float* x, int64_t n, double* out) {
  __shared__ float stage[kStage];
  double sum = 0;
  for (int64_t first = 0; first < n; first += kStage) {
    const int64_t count = min(n - first, int64_t{kStage});
    __syncthreads();
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) stage[i] = x[first + i];
    __syncthreads();
    if (threadIdx.x == 0)
      for (int64_t i = 0; i < count; ++i) sum += double{stage[i]};
  }
  if (threadIdx.x == 0) *out = sum;
}

}  // namespace

void SumsOfSquares(const OpContext& ctx, std::span<const SquaresSlice> slices, int64_t chunk) {
  ArenaScope scope(*ctx.scratch);
  double* partial = SquaresParts(ctx, slices);
  std::vector<SizedJob<SquaresJob>> squares, trees;
  for (const auto& [x, sums, unit] : slices) {
    const SquaresJob job = {.x = x.data,
                            .unit = x.dtype == DType::kI64 ? unit : 0,
                            .n = x.size(),
                            .partial = partial,
                            .sums = sums,
                            .vector = CanVector(Flat(x, true), kWidthOf<float>)};
    squares.push_back({job, CeilDiv(x.size(), kBlock)});
    trees.push_back({job, CeilDiv(squares.back().blocks, chunk / kBlock)});
    partial += squares.back().blocks;
  }
  LaunchJobs(ctx, squares, kBlockThreads, [](auto capacity) { return SquaresKernel<capacity.value>; });
  LaunchJobs(
      ctx, trees, kTreeThreads, [](auto capacity) { return TreeKernel<capacity.value>; }, chunk / kBlock);
}

void JoinSums(const OpContext& ctx, std::span<const PartialSums> vectors, std::span<const std::pair<int, int>> order) {
  const auto join = [&](int left, int right, bool last) {
    std::vector<SizedJob<JoinJob>> jobs;
    for (const PartialSums& v : vectors) {
      const auto value = [&](int i) { return i < 0 ? nullptr : v.values[static_cast<size_t>(i)]; };
      JoinJob job = {value(left), value(right), last ? v.sum : value(left), v.size, false};
      const auto bits = [](const float* p) { return reinterpret_cast<uintptr_t>(p); };
      job.vector = WordOf(bits(job.left) | bits(job.right) | bits(job.sum)) == 16;
      jobs.push_back({job, CeilDiv(v.size, kJoinElements)});
    }
    LaunchJobs(ctx, jobs, kBlockThreads, [](auto capacity) { return JoinKernel<capacity.value>; });
  };
  for (size_t i = 0; i < order.size(); ++i) join(order[i].first, order[i].second, i + 1 == order.size());
  if (order.empty()) join(0, -1, true);
}

void Sum(const OpContext& ctx, const Tensor& x, double* sum) {
  Launch(ctx, SumKernel, 1, dim3(kBlockThreads), 0, x.as<float>(), x.size(), sum);
}

}  // namespace jevons::cuda
