// Launching kernels, and choosing their instantiation.
#ifndef JEVONS_KERNELS_CUDA_LAUNCH_CUH_
#define JEVONS_KERNELS_CUDA_LAUNCH_CUH_

#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/grid.h"
#include "kernels/cuda/jobs.h"
#include "kernels/ops/context.h"

namespace jevons::cuda {

inline cudaStream_t StreamOf(const OpContext& ctx) { return static_cast<cudaStream_t>(ctx.stream.handle); }

inline void CheckLaunch(cudaError_t state, const void* kernel) {
  if (state == cudaSuccess) return;
  const char* name = nullptr;
  if (cudaFuncGetName(&name, kernel) != cudaSuccess) name = "unknown";
  CheckFailed(__FILE__, __LINE__, "kernel launch", "%s: %s: %s", name, cudaGetErrorName(state), cudaGetErrorString(state));
}

// Launches the kernel on the context's stream, `cluster` neighbouring blocks together.
template <typename... Parameters, typename... Arguments>
void LaunchCluster(const OpContext& ctx, void (*kernel)(Parameters...), int64_t blocks, int cluster, dim3 threads,
                   int64_t shared_bytes, const Arguments&... args) {
  JEVONS_CHECK(blocks > 0 && blocks <= INT32_MAX, "%lld blocks", static_cast<long long>(blocks));
  const void* function = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > 48 << 10)  // more must be asked for
    CheckLaunch(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
                function);
  cudaLaunchAttribute dimension = {};
  dimension.id = cudaLaunchAttributeClusterDimension;
  dimension.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = threads;
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = StreamOf(ctx);
  config.attrs = &dimension;
  config.numAttrs = cluster > 1 ? 1 : 0;
  CheckLaunch(cudaLaunchKernelEx(&config, kernel, Parameters(args)...), function);
}
template <typename... Parameters, typename... Arguments>
void Launch(const OpContext& ctx, void (*kernel)(Parameters...), int64_t blocks, dim3 threads, int64_t shared_bytes,
            const Arguments&... args) {
  LaunchCluster(ctx, kernel, blocks, 1, threads, shared_bytes, args...);
}

// For kernels over a RowGrid, whose first argument it is.
template <typename... Parameters, typename... Arguments>
void LaunchRows(const OpContext& ctx, void (*kernel)(RowGrid, Parameters...), int64_t rows, int64_t packs,
                const Arguments&... args) {
  const RowGrid grid = PlanRows(rows, packs);
  Launch(ctx, kernel, grid.blocks(), dim3(static_cast<unsigned>(grid.threads_x), static_cast<unsigned>(grid.threads_y)), 0, grid,
         args...);
}

// For kernels over a JobTable, of which kernel_of(capacity) gives one, capacity being an std::integral_constant: its first argument
// is `const __grid_constant__ JobTable<Job, capacity>`. One launch for every kManyJobs jobs.
template <class Job, class KernelOf, typename... Arguments>
void LaunchJobs(const OpContext& ctx, const std::vector<SizedJob<Job>>& jobs, int threads, const KernelOf& kernel_of,
                const Arguments&... args) {
  const auto launch = [&](auto capacity, std::span<const SizedJob<Job>>& list) {
    JobTable<Job, capacity.value> table;
    if (const int64_t blocks = FillTable(list, table); blocks > 0)
      Launch(ctx, kernel_of(capacity), blocks, dim3(static_cast<unsigned>(threads)), 0, table, args...);
  };
  for (std::span<const SizedJob<Job>> list = jobs; !list.empty();) {
    if (list.size() <= kFewJobs) {
      launch(std::integral_constant<int, kFewJobs>(), list);
    } else {
      launch(std::integral_constant<int, kManyJobs<Job>>(), list);
    }
  }
}

// For each pack of this thread: finish(row, pack, load(row, pack)). kBatch packs are loaded before the first of them is stored:
// outputs may be inputs, so the compiler could not do that by itself.
template <int kBatch, class LoadPack, class FinishPack>
__device__ __forceinline__ void ForPacks(const RowGrid& grid, const LoadPack& load, const FinishPack& finish) {
  static_assert(RowGrid::kPacks % kBatch == 0);
  const int64_t row = grid.RowOf(blockIdx.x, static_cast<int>(threadIdx.y));
  if (row >= grid.rows) return;
  const auto pack = [&](int j) { return grid.PackOf(blockIdx.x, static_cast<int>(threadIdx.x), j); };
#pragma unroll
  for (int first = 0; first < RowGrid::kPacks; first += kBatch) {
    decltype(load(row, int64_t{0})) loaded[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j)
      if (pack(first + j) < grid.packs) loaded[j] = load(row, pack(first + j));
#pragma unroll
    for (int j = 0; j < kBatch; ++j)
      if (pack(first + j) < grid.packs) finish(row, pack(first + j), loaded[j]);
  }
}

// The same for what loads nothing, or enough at once.
template <class Body>
__device__ __forceinline__ void ForPacks(const RowGrid& grid, const Body& body) {
  ForPacks<1>(
      grid, [](int64_t, int64_t) { return 0; }, [&](int64_t row, int64_t pack, int) { body(row, pack); });
}

// The same for packs that warps finish together: every thread comes to finish, also where there is no such row or pack. `cols` is
// what a row has; load and finish get it, or 0 beyond the last row.
template <int kBatch, class LoadPack, class FinishPack>
__device__ __forceinline__ void ForPacksOfWarps(const RowGrid& grid, int64_t cols, const LoadPack& load,
                                                const FinishPack& finish) {
  static_assert(RowGrid::kPacks % kBatch == 0);
  const int64_t row = grid.RowOf(blockIdx.x, static_cast<int>(threadIdx.y));
  const int64_t there = row < grid.rows ? cols : 0;
  const auto pack = [&](int j) { return grid.PackOf(blockIdx.x, static_cast<int>(threadIdx.x), j); };
#pragma unroll
  for (int first = 0; first < RowGrid::kPacks; first += kBatch) {
    decltype(load(row, int64_t{0}, there)) loaded[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) loaded[j] = load(row, pack(first + j), there);
#pragma unroll
    for (int j = 0; j < kBatch; ++j) finish(row, pack(first + j), there, loaded[j]);
  }
}

// body(S()) with the type of elements that are FP32 or BF16.
template <class Body>
void ForReal(DType dtype, const Body& body) {
  dtype == DType::kBF16 ? body(bf16()) : body(float());
}

// A matrix whose rows follow each other without gaps is one long row.
inline Tensor Flat(const Tensor& t, bool flat) { return flat ? t.Reshape({1, t.size()}) : t; }

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_LAUNCH_CUH_
