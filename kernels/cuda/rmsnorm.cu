// RMSNorm. Forward: one block a row, which reads it twice, the second time from the cache. Backward: a block takes some rows and
// keeps in registers the row at hand and its part of dgamma, so memory is read once; the parts are then summed in order.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/ref/rmsnorm.h"
#include "kernels/tensor/device.h"

namespace jevons::cuda {
namespace {

constexpr int kPacksKept = 4;      // packs of a row that a thread of the backward keeps
constexpr int kMostThreads = 512;  // of a block of the backward, for the sake of its registers
constexpr int kSumGroups = 8;      // threads that share the sum of one column's parts

template <typename S>
__global__ void __launch_bounds__(1024)
    ForwardKernel(View<const S> x, const float* gamma, float eps, View<S> y, float* rstd, int64_t cols) {
  constexpr int kWidth = kWidthOf<S>;
  __shared__ BlockRoom room;
  const int64_t row = blockIdx.x;
  const S* from = x.row(row);
  float squares = 0;
#pragma unroll 4
  for (int64_t c = int64_t{threadIdx.x} * kWidth; c < cols; c += int64_t{blockDim.x} * kWidth) {
    const Pack<kWidth> pack = Load<kWidth>(from + c, cols - c, x.vector);
#pragma unroll
    for (float v : pack.v) squares += v * v;
  }
  const float scale = ref::RmsScale(BlockSum(squares, room), cols, eps);
  if (threadIdx.x == 0) rstd[row] = scale;
#pragma unroll 4
  for (int64_t c = int64_t{threadIdx.x} * kWidth; c < cols; c += int64_t{blockDim.x} * kWidth) {
    Pack<kWidth> pack = Load<kWidth>(from + c, cols - c, x.vector);
    const Pack<kWidth> g = Load<kWidth>(gamma + c, cols - c, y.vector);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) pack.v[i] = ref::RmsNormed(pack.v[i] * scale, g.v[i]);
    Store(pack, y.row(row) + c, cols - c, y.vector);
  }
}

template <typename S>
struct BackwardViews {
  View<const S> dy, x;
  const float *gamma, *rstd;
  View<S> dx;
  bool add;  // dx +=
  int64_t rows, cols;
};

// Gradients of one pack of a row; dgamma += the row's term.
template <typename S, int kWidth>
__device__ __forceinline__ void BackwardPack(const BackwardViews<S>& v, int64_t row, int64_t c, const Pack<kWidth>& dy,
                                             const Pack<kWidth>& x, float rstd, float mean, float* dgamma) {
  const Pack<kWidth> gamma = Load<kWidth>(v.gamma + c, v.cols - c, v.dx.vector);
  Pack<kWidth> dx;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const float xhat = x.v[i] * rstd;
    dx.v[i] = ref::RmsNormDx(dy.v[i], xhat, gamma.v[i], rstd, mean);
    if (dgamma != nullptr) dgamma[i] += dy.v[i] * xhat;
  }
  S* to = v.dx.row(row) + c;
  if (v.add) {
    const Pack<kWidth> before = Load<kWidth>(to, v.cols - c, v.dx.vector);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) dx.v[i] = before.v[i] + dx.v[i];
  }
  Store(dx, to, v.cols - c, v.dx.vector);
}

// The terms of the sum of dy * gamma * xhat in one pack.
template <int kWidth>
__device__ __forceinline__ float DotPack(const Pack<kWidth>& dy, const Pack<kWidth>& x, const Pack<kWidth>& gamma, float rstd) {
  float dot = 0;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) dot += dy.v[i] * gamma.v[i] * (x.v[i] * rstd);
  return dot;
}

// Rows [blockIdx.x * rows_per_block, ...); partial: [blocks, cols].
template <typename S>
__global__ void __launch_bounds__(kMostThreads) BackwardKernel(BackwardViews<S> v, int64_t rows_per_block, float* partial) {
  constexpr int kWidth = kWidthOf<S>;
  __shared__ BlockRoom room;
  float dgamma[kPacksKept][kWidth] = {};
  const int64_t begin = int64_t{blockIdx.x} * rows_per_block, end = min(v.rows, begin + rows_per_block);
  const int64_t first = int64_t{threadIdx.x} * kWidth, step = int64_t{blockDim.x} * kWidth;
  for (int64_t row = begin; row < end; ++row) {
    RawPack<S, kWidth> dy[kPacksKept], x[kPacksKept];
#pragma unroll
    for (int j = 0; j < kPacksKept; ++j) {
      const int64_t c = first + j * step;
      dy[j] = LoadRaw<kWidth>(v.dy.row(row) + c, v.cols - c, v.dy.vector);
      x[j] = LoadRaw<kWidth>(v.x.row(row) + c, v.cols - c, v.x.vector);
    }
    const float rstd = v.rstd[row];
    float dot = 0;
#pragma unroll
    for (int j = 0; j < kPacksKept; ++j) {
      const int64_t c = first + j * step;
      dot += DotPack(dy[j].Widened(), x[j].Widened(), Load<kWidth>(v.gamma + c, v.cols - c, v.dx.vector), rstd);
    }
    const float mean = BlockSum(dot, room) / static_cast<float>(v.cols);
#pragma unroll
    for (int j = 0; j < kPacksKept; ++j) {
      const int64_t c = first + j * step;
      if (c < v.cols) BackwardPack(v, row, c, dy[j].Widened(), x[j].Widened(), rstd, mean, dgamma[j]);
    }
  }
#pragma unroll
  for (int j = 0; j < kPacksKept; ++j) {
    const int64_t c = first + j * step;
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      if (c + i < v.cols) partial[blockIdx.x * v.cols + c + i] = dgamma[j][i];
  }
}

// Rows too long to be kept: dx alone, a block a row.
template <typename S>
__global__ void __launch_bounds__(1024) LongRowKernel(BackwardViews<S> v) {
  constexpr int kWidth = kWidthOf<S>;
  __shared__ BlockRoom room;
  const int64_t row = blockIdx.x, first = int64_t{threadIdx.x} * kWidth, step = int64_t{blockDim.x} * kWidth;
  const float rstd = v.rstd[row];
  const auto dy = [&](int64_t c) { return Load<kWidth>(v.dy.row(row) + c, v.cols - c, v.dy.vector); };
  const auto x = [&](int64_t c) { return Load<kWidth>(v.x.row(row) + c, v.cols - c, v.x.vector); };
  float dot = 0;
  for (int64_t c = first; c < v.cols; c += step)
    dot += DotPack(dy(c), x(c), Load<kWidth>(v.gamma + c, v.cols - c, v.dx.vector), rstd);
  const float mean = BlockSum(dot, room) / static_cast<float>(v.cols);
  for (int64_t c = first; c < v.cols; c += step) BackwardPack(v, row, c, dy(c), x(c), rstd, mean, nullptr);
}

// And their parts of dgamma: a thread a column.
template <typename S>
__global__ void LongRowGammaKernel(BackwardViews<S> v, int64_t rows_per_block, float* partial) {
  const int64_t across = CeilDiv(v.cols, kBlockThreads), part = blockIdx.x / across;
  const int64_t c = blockIdx.x % across * kBlockThreads + threadIdx.x;
  if (c >= v.cols) return;
  const int64_t begin = part * rows_per_block, end = min(v.rows, begin + rows_per_block);
  float sum = 0;
  for (int64_t row = begin; row < end; ++row)
    sum += static_cast<float>(v.dy.row(row)[c]) * (static_cast<float>(v.x.row(row)[c]) * v.rstd[row]);
  partial[part * v.cols + c] = sum;
}

// dgamma (=|+=) the sum of the parts: kSumGroups runs of parts, each in order, then the runs in order.
__global__ void SumPartsKernel(const float* partial, int64_t parts, int64_t cols, bool add, float* dgamma) {
  __shared__ float sums[kSumGroups][32];
  const int64_t c = int64_t{blockIdx.x} * 32 + threadIdx.x, run = CeilDiv(parts, kSumGroups);
  const int64_t begin = threadIdx.y * run, end = min(parts, begin + run);
  float sum = 0;
  if (c < cols) {
#pragma unroll 8
    for (int64_t p = begin; p < end; ++p) sum += partial[p * cols + c];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= cols) return;
  for (int g = 1; g < kSumGroups; ++g) sum += sums[g][threadIdx.x];
  dgamma[c] = add ? dgamma[c] + sum : sum;
}

template <typename S>
void Backward(const OpContext& ctx, const RmsNormGrad& g, int64_t rows_per_block, float* partial) {
  constexpr int kWidth = kWidthOf<S>;
  const int64_t cols = g.x.cols(), packs = CeilDiv(cols, kWidth), blocks = CeilDiv(g.x.rows(), rows_per_block);
  BackwardViews<S> views = {.dy = ViewOf<const S>(g.dy, kWidth),
                            .x = ViewOf<const S>(g.x, kWidth),
                            .gamma = g.gamma.as<float>(),
                            .rstd = g.rstd.as<float>(),
                            .dx = ViewOf<S>(g.dx, kWidth),
                            .add = g.dx_mode == WriteMode::kAdd,
                            .rows = g.x.rows(),
                            .cols = cols};
  views.dx.vector = views.dx.vector && CanVector(g.gamma, kWidth);
  if (packs <= int64_t{kPacksKept} * kMostThreads) {
    Launch(ctx, BackwardKernel<S>, blocks, dim3(static_cast<unsigned>(RowThreads(packs, kPacksKept, kMostThreads))), 0, views,
           rows_per_block, partial);
    return;
  }
  Launch(ctx, LongRowKernel<S>, views.rows, dim3(1024), 0, views);
  Launch(ctx, LongRowGammaKernel<S>, CeilDiv(cols, kBlockThreads) * blocks, dim3(kBlockThreads), 0, views, rows_per_block,
         partial);
}

}  // namespace

void RmsNorm(const OpContext& ctx, const Tensor& x, const Tensor& gamma, float eps, const Tensor& y, const Tensor& rstd) {
  ForReal(x.dtype, [&](auto s) {
    using S = decltype(s);
    constexpr int kWidth = kWidthOf<S>;
    View<S> out = ViewOf<S>(y, kWidth);
    out.vector = out.vector && CanVector(gamma, kWidth);
    const int threads = RowThreads(CeilDiv(x.cols(), kWidth), 4, 1024);
    Launch(ctx, ForwardKernel<S>, x.rows(), dim3(static_cast<unsigned>(threads)), 0, ViewOf<const S>(x, kWidth),
           gamma.as<float>(), eps, out, rstd.as<float>(), x.cols());
  });
}

void RmsNormBackward(const OpContext& ctx, const RmsNormGrad& g) {
  if (g.x.rows() == 0) {
    if (g.dgamma_mode == WriteMode::kOverwrite) Zero(ctx.stream, g.dgamma);
    return;
  }
  ArenaScope scope(*ctx.scratch);
  const int64_t cols = g.x.cols(), rows_per_block = GammaRowsPerBlock(g.x.rows()), parts = CeilDiv(g.x.rows(), rows_per_block);
  float* partial = GammaParts(ctx, g.x.rows(), cols).as<float>();
  ForReal(g.x.dtype, [&](auto s) { Backward<decltype(s)>(ctx, g, rows_per_block, partial); });
  Launch(ctx, SumPartsKernel, CeilDiv(cols, 32), dim3(32, kSumGroups), 0, partial, parts, cols, g.dgamma_mode == WriteMode::kAdd,
         g.dgamma.as<float>());
}

}  // namespace jevons::cuda
