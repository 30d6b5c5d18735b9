// Reductions with the bits of the CPU's: sixteen sums in FP64 for each block of 16,384 elements, the blocks over the fixed tree.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/ops/reduce.h"

namespace jevons::cuda {
namespace {

constexpr int64_t kBlock = kSquaresBlock;
constexpr int kSums = 16;            // of a block, element i in sum i % kSums
constexpr int kStage = 4096;         // elements that are in shared memory at a time
constexpr int kTreeThreads = 128;

// One block for kBlock elements: all threads bring a stage into shared memory, kSums of them add it.
__global__ void __launch_bounds__(kBlockThreads)
    SquaresKernel(View<const float> x, int64_t n, double* partial) {
  constexpr int kWidth = kWidthOf<float>;
  alignas(16) __shared__ float stage[kStage];
  const int64_t begin = blockIdx.x * kBlock, end = min(n, begin + kBlock);
  double sum = 0;
  for (int64_t first = begin; first < end; first += kStage) {
    const int64_t count = min(end - first, int64_t{kStage});
    RawPack<float, kWidth> raw[kStage / (kBlockThreads * kWidth)];
#pragma unroll
    for (int j = 0; j < kStage / (kBlockThreads * kWidth); ++j) {
      const int64_t i = (j * kBlockThreads + int64_t{threadIdx.x}) * kWidth;
      raw[j] = LoadRaw<kWidth>(x.data + first + i, count - i, x.vector);
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
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

// sums[i] = the sum of block i's share of partial[0..blocks), of_chunk each, over the fixed tree (TreeSum): at each level a node is
// the sum of two neighbours, and the last of an odd number goes up as it is. other: [(of_chunk + 1) / 2] for each chunk.
__global__ void __launch_bounds__(kTreeThreads)
    TreeKernel(double* partial, double* other, int64_t blocks, int64_t of_chunk, double* sums) {
  const int64_t first = blockIdx.x * of_chunk;
  int64_t n = min(of_chunk, blocks - first);
  double *from = partial + first, *to = other + blockIdx.x * ((of_chunk + 1) / 2);
  while (n > 1) {
    const int64_t nodes = (n + 1) / 2;
    for (int64_t i = threadIdx.x; i < nodes; i += kTreeThreads)
      to[i] = 2 * i + 1 < n ? from[2 * i] + from[2 * i + 1] : from[2 * i];
    __syncthreads();
    double* const swap = from;
    from = to;
    to = swap;
    n = nodes;
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = from[0];
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

// Arenas hold no FP64; an I64 slice has its size and alignment.
double* Doubles(const OpContext& ctx, int64_t n) {
  return static_cast<double*>(ctx.scratch->Allocate("reduce.partial", DType::kI64, {n}).data);
}

}  // namespace

void SumsOfSquares(const OpContext& ctx, const Tensor& x, int64_t chunk, double* sums) {
  ArenaScope scope(*ctx.scratch);
  const int64_t blocks = CeilDiv(x.size(), kBlock), of_chunk = std::min(blocks, chunk / kBlock);
  const int64_t chunks = CeilDiv(blocks, of_chunk);
  double *partial = Doubles(ctx, blocks), *other = Doubles(ctx, chunks * ((of_chunk + 1) / 2));
  Launch(ctx, SquaresKernel, blocks, dim3(kBlockThreads), 0,
         ViewOf<const float>(Flat(x, true), kWidthOf<float>), x.size(), partial);
  Launch(ctx, TreeKernel, chunks, dim3(kTreeThreads), 0, partial, other, blocks, of_chunk, sums);
}

void Sum(const OpContext& ctx, const Tensor& x, double* sum) {
  Launch(ctx, SumKernel, 1, dim3(kBlockThreads), 0, x.as<float>(), x.size(), sum);
}

}  // namespace jevons::cuda
