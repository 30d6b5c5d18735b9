// Cross-entropy with its gradient: a cluster of blocks shares a row and keeps it in shared memory, so logits are read once and
// gradients written once, over the logits if wanted.
#include <cooperative_groups.h>

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/softmax_xent_plan.h"
#include "kernels/ref/softmax_xent.h"

namespace jevons::cuda {
namespace {

namespace cg = cooperative_groups;

constexpr int kWidth = kWidthOf<float>;

// The part of a row that is this block's; its elements by packs, each always by the same thread.
template <bool kKeeps>
struct Slice {
  const float* logits;
  float* kept;
  int64_t n;
  bool vector;

  __device__ __forceinline__ Pack<kWidth> LoadLogits(int64_t c) const { return Load<kWidth>(logits + c, n - c, vector); }
  // What Keep stored, or the logits again.
  __device__ __forceinline__ Pack<kWidth> LoadKept(int64_t c) const {
    return kKeeps ? Load<kWidth>(kept + c, kWidth, true) : LoadLogits(c);
  }
  __device__ __forceinline__ void Keep(int64_t c, const Pack<kWidth>& pack) const {
    if (kKeeps) Store(pack, kept + c, kWidth, true);
  }
  template <class Body>
  __device__ __forceinline__ void ForPacksOf(const Body& body) const {
#pragma unroll 4
    for (int64_t c = int64_t{threadIdx.x} * kWidth; c < n; c += int64_t{blockDim.x} * kWidth) body(c);
  }
};

// The row's largest logit.
template <bool kKeeps>
__device__ __forceinline__ float LargestOf(const Slice<kKeeps>& slice) {
  constexpr int kAtOnce = 4;  // packs loaded before the first is kept
  const int64_t step = int64_t{blockDim.x} * kWidth;
  float largest = -INFINITY;
  for (int64_t first = int64_t{threadIdx.x} * kWidth; first < slice.n; first += kAtOnce * step) {
    RawPack<float, kWidth> raw[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int64_t c = first + j * step;
      raw[j] = LoadRaw<kWidth>(slice.logits + c, slice.n - c, slice.vector);
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int64_t c = first + j * step;
      if (c >= slice.n) continue;
      const Pack<kWidth> x = raw[j].Widened();
      slice.Keep(c, x);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) largest = fmaxf(largest, c + i < slice.n ? x.v[i] : -INFINITY);
    }
  }
  return largest;
}

// The sum of the exponentials, which are kept in the logits' place.
template <bool kKeeps>
__device__ __forceinline__ float SumExp(const Slice<kKeeps>& slice, float largest) {
  float sum = 0;
  slice.ForPacksOf([&](int64_t c) {
    Pack<kWidth> x = slice.LoadKept(c);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      x.v[i] = expf(x.v[i] - largest);
      sum += c + i < slice.n ? x.v[i] : 0.0f;
    }
    slice.Keep(c, x);
  });
  return sum;
}

template <typename S, bool kKeeps>
__device__ __forceinline__ void WriteGrad(const Slice<kKeeps>& slice, float largest, float inverse, int64_t label, float scale,
                                          S* dlogits, bool vector) {
  slice.ForPacksOf([&](int64_t c) {
    Pack<kWidth> x = slice.LoadKept(c);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float e = kKeeps ? x.v[i] : expf(x.v[i] - largest);
      x.v[i] = ref::LogitGrad(e * inverse, c + i == label, scale);
    }
    Store(x, dlogits + c, slice.n - c, vector);
  });
}

template <typename S, bool kKeeps>
__global__ void __launch_bounds__(512) XentKernel(View<const float> logits, const int32_t* labels, float scale, float* losses,
                                                  View<S> dlogits, int64_t vocab, int64_t slice_size) {
  __shared__ BlockRoom room;
  __shared__ float largest_here, sum_here;
  const cg::cluster_group cluster = cg::this_cluster();
  const int rank = static_cast<int>(cluster.block_rank()), blocks = static_cast<int>(cluster.num_blocks());
  const int64_t row = blockIdx.x / static_cast<unsigned>(blocks), begin = rank * slice_size;
  const int64_t n = max(int64_t{0}, min(slice_size, vocab - begin)), label = labels[row];
  const bool first = threadIdx.x == 0;
  const Slice<kKeeps> slice = {logits.row(row) + begin, DynamicShared<float>(), n, logits.vector};
  if (label < 0) {  // for the whole cluster
    if (rank == 0 && first) losses[row] = 0;
    if (dlogits.data == nullptr) return;
    slice.ForPacksOf([&](int64_t c) { Store(Pack<kWidth>{}, dlogits.row(row) + begin + c, n - c, dlogits.vector); });
    return;
  }
  if (label >= vocab) __trap();
  const float at_label = logits.row(row)[label];  // before its gradient may replace it

  const float of_block = BlockMax(LargestOf(slice), room);
  if (first) largest_here = of_block;
  cluster.sync();
  float largest = -INFINITY;
  for (int r = 0; r < blocks; ++r) largest = fmaxf(largest, *cluster.map_shared_rank(&largest_here, r));

  const float sum_of_block = BlockSum(SumExp(slice, largest), room);
  if (first) sum_here = sum_of_block;
  cluster.sync();
  float sum = 0;
  for (int r = 0; r < blocks; ++r) sum += *cluster.map_shared_rank(&sum_here, r);

  if (rank == 0 && first) losses[row] = logf(sum) + (largest - at_label);
  if (dlogits.data != nullptr)
    WriteGrad(slice, largest, 1.0f / sum, label - begin, scale, dlogits.row(row) + begin, dlogits.vector);
  cluster.sync();  // a block stays until the others have read its shared memory
}

template <typename S, bool kKeeps>
void LaunchXent(const OpContext& ctx, const XentPlan& plan, const Tensor& logits, const Tensor& labels, float scale,
                const Tensor& losses, const Tensor& dlogits) {
  LaunchCluster(ctx, XentKernel<S, kKeeps>, logits.rows() * plan.blocks, plan.blocks, dim3(static_cast<unsigned>(plan.threads)),
                plan.shared_bytes(), ViewOf<const float>(logits, kWidth), labels.as<int32_t>(), scale, losses.as<float>(),
                ViewOf<S>(dlogits, kWidth), logits.cols(), plan.slice);
}

template <typename S>
void Xent(const OpContext& ctx, const Tensor& logits, const Tensor& labels, float scale, const Tensor& losses,
          const Tensor& dlogits) {
  const XentPlan plan = PlanXent(logits.cols());
  plan.keeps ? LaunchXent<S, true>(ctx, plan, logits, labels, scale, losses, dlogits)
             : LaunchXent<S, false>(ctx, plan, logits, labels, scale, losses, dlogits);
}

}  // namespace

void CrossEntropyWithGrad(const OpContext& ctx, const Tensor& logits, const Tensor& labels, float scale, const Tensor& losses,
                          const Tensor& dlogits) {
  ForReal(dlogits.dtype, [&](auto s) { Xent<decltype(s)>(ctx, logits, labels, scale, losses, dlogits); });
}

void CrossEntropy(const OpContext& ctx, const Tensor& logits, const Tensor& labels, const Tensor& losses) {
  Xent<float>(ctx, logits, labels, 0.0f, losses, Tensor());
}

}  // namespace jevons::cuda
