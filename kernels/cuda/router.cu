// The router: a warp for each row, which chooses by integer maxima over the lanes. Scores, groups, choice, weights and counts in
// one pass. Sums over the chosen experts are taken in order, as on the CPU; sums over all experts lane by lane.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rank.h"
#include "kernels/cuda/router_plan.h"
#include "kernels/cuda/scratch.h"
#include "kernels/ref/router.h"
#include "kernels/tensor/device.h"

namespace jevons::cuda {
namespace {

constexpr int kMostBlocks = 132 * 8;  // of the router, eight for each multiprocessor of an H100: each adds its counts once

struct Shape {
  int experts, top_k, groups, kept_groups;
  float route_scale;
  bool normalize;
};
Shape ShapeOf(const RouterDesc& d) {
  return {static_cast<int>(d.experts),
          static_cast<int>(d.top_k),
          static_cast<int>(d.groups),
          static_cast<int>(d.kept_groups),
          d.route_scale,
          d.normalize};
}

// take(k, i) for the best `count` of ranks[0..n), best first, ties to the lower index, by all lanes together. Lane l owns the
// ranks i with i % 32 = l: only it reads and changes them. Leaves the taken ones at kTaken.
template <class Take>
__device__ __forceinline__ void WarpTopK(uint32_t* ranks, int n, int count, const Take& take) {
  uint32_t best, top;
  int at;
  const auto find = [&] {
    best = kTaken, at = INT32_MAX;
    for (int i = Lane(); i < n; i += 32)
      if (ranks[i] > best) best = ranks[i], at = i;
  };
  find();
  for (int k = 0; k < count; ++k) {
    top = __reduce_max_sync(kAllLanes, best);
    const int winner = __reduce_min_sync(kAllLanes, best == top ? at : INT32_MAX);
    take(k, winner);
    if (winner % 32 != Lane()) continue;
    ranks[winner] = kTaken;
    find();
  }
}

// The sum of the best kGroupTop of values[0..n), starting at `from` so that lanes read different banks.
__device__ __forceinline__ float GroupScore(const float* values, int n, int from) {
  float first = -INFINITY, second = -INFINITY;
  for (int j = 0, i = from % n; j < n; ++j, i = i + 1 < n ? i + 1 : 0) {
    const float v = values[i];
    if (v > first) {
      second = first, first = v;
    } else if (v > second) {
      second = v;
    }
  }
  static_assert(ref::kGroupTop == 2);
  return n == 1 ? first : first + second;
}

// Gives the experts outside the kept groups the rank of -infinity, the others their own. biased: [experts], turned into ranks.
__device__ __forceinline__ void RankExperts(const Shape& s, float* biased, uint32_t* group_ranks) {
  const int size = s.experts / s.groups;
  const bool masks = s.kept_groups < s.groups;
  if (masks) {
    for (int g = Lane(); g < s.groups; g += 32) group_ranks[g] = RankOf(GroupScore(biased + g * size, size, g));
    __syncwarp();
    WarpTopK(group_ranks, s.groups, s.kept_groups, [](int, int) {});
    __syncwarp();
  }
  auto* ranks = reinterpret_cast<uint32_t*>(biased);
  for (int e = Lane(); e < s.experts; e += 32)
    ranks[e] = RankOf(masks && group_ranks[e / size] != kTaken ? -INFINITY : biased[e]);
}

struct RouterViews {
  const float* logits;
  int64_t logits_pitch;
  const float* bias;
  float* scores;
  int64_t scores_pitch;
  int32_t* indices;
  float* weights;
  int64_t* counts;
  int64_t rows;
};

// Shared memory: counts [experts]; for each warp scores, biased scores [experts], group ranks [groups], chosen [top_k].
__global__ void RouterKernel(Shape s, RouterViews v) {
  int32_t* room = DynamicShared<int32_t>();
  const int warp = static_cast<int>(threadIdx.x / 32), warps = static_cast<int>(blockDim.x / 32);
  int32_t* count = room;
  auto* scores = reinterpret_cast<float*>(room + s.experts + warp * (2 * s.experts + s.groups + s.top_k));
  float* biased = scores + s.experts;
  auto* group_ranks = reinterpret_cast<uint32_t*>(biased + s.experts);
  auto* chosen = reinterpret_cast<int32_t*>(group_ranks + s.groups);
  for (int e = static_cast<int>(threadIdx.x); e < s.experts; e += static_cast<int>(blockDim.x)) count[e] = 0;
  __syncthreads();
  for (int64_t row = int64_t{blockIdx.x} * warps + warp; row < v.rows; row += int64_t{gridDim.x} * warps) {
    for (int e = Lane(); e < s.experts; e += 32) {
      const float score = ref::Sigmoid(v.logits[row * v.logits_pitch + e]);
      v.scores[row * v.scores_pitch + e] = scores[e] = score;
      biased[e] = score + v.bias[e];
    }
    __syncwarp();
    RankExperts(s, biased, group_ranks);
    float sum = s.normalize ? static_cast<float>(ref::kRouterEpsilon) : 1.0f;
    WarpTopK(reinterpret_cast<uint32_t*>(biased), s.experts, s.top_k, [&](int k, int expert) {
      if (s.normalize) sum += scores[expert];
      if (Lane() != 0) return;
      chosen[k] = expert;
      atomicAdd(&count[expert], 1);
    });
    __syncwarp();
    for (int k = Lane(); k < s.top_k; k += 32) {
      v.indices[row * s.top_k + k] = chosen[k];
      v.weights[row * s.top_k + k] = ref::RouteWeight(s.route_scale, scores[chosen[k]], sum);
    }
    __syncwarp();  // the next row uses the same room
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < s.experts; e += static_cast<int>(blockDim.x))
    if (count[e] > 0)  // integers: the order of the blocks does not show
      atomicAdd(reinterpret_cast<unsigned long long*>(&v.counts[e]), static_cast<unsigned long long>(count[e]));
}

// kBalanceRows rows of one sequence. shares: [sequences, blocks, experts], the sums of s / sum(s); hits: [sequences, experts].
// Shared memory: hits [experts]; for each warp shares and ranks [experts].
__global__ void BalanceRowsKernel(Shape s, const float* scores, int64_t pitch, int64_t length, int64_t blocks, float* shares,
                                  int32_t* hits) {
  int32_t* room = DynamicShared<int32_t>();
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, warps = static_cast<int>(blockDim.x / 32);
  const int64_t sequence = blockIdx.x / blocks, block = blockIdx.x % blocks;
  int32_t* hit = room;
  auto* of_warps = reinterpret_cast<float*>(room + s.experts);
  float* share = of_warps + warp * 2 * s.experts;
  auto* ranks = reinterpret_cast<uint32_t*>(share + s.experts);
  for (int e = thread; e < s.experts; e += static_cast<int>(blockDim.x)) hit[e] = 0;
  for (int e = Lane(); e < s.experts; e += 32) share[e] = 0;
  __syncthreads();
  const int64_t end = min(length, (block + 1) * kBalanceRows);
  for (int64_t t = block * kBalanceRows + warp; t < end; t += warps) {
    const float* row = scores + (sequence * length + t) * pitch;
    float sum = 0;
    for (int e = Lane(); e < s.experts; e += 32) {
      sum += row[e];
      ranks[e] = RankOf(row[e]);
    }
    sum = static_cast<float>(ref::kRouterEpsilon) + WarpSum(sum);
    for (int e = Lane(); e < s.experts; e += 32) share[e] += row[e] / sum;
    WarpTopK(ranks, s.experts, s.top_k, [&](int, int expert) {
      if (Lane() == 0) atomicAdd(&hit[expert], 1);
    });
    __syncwarp();
  }
  __syncthreads();
  for (int e = thread; e < s.experts; e += static_cast<int>(blockDim.x)) {
    float sum = 0;
    for (int w = 0; w < warps; ++w) sum += of_warps[w * 2 * s.experts + e];
    shares[blockIdx.x * int64_t{s.experts} + e] = sum;
    if (hit[e] > 0) atomicAdd(&hits[sequence * s.experts + e], hit[e]);
  }
}

// A block a sequence.
__global__ void BalanceKernel(Shape s, int64_t length, int64_t blocks, const float* shares, const int32_t* hits, float* fractions,
                              int64_t pitch, float* losses) {
  __shared__ BlockRoom room;
  const int64_t sequence = blockIdx.x;
  float loss = 0;
  for (int e = static_cast<int>(threadIdx.x); e < s.experts; e += static_cast<int>(blockDim.x)) {
    float share = 0;
#pragma unroll 8
    for (int64_t b = 0; b < blocks; ++b) share += shares[(sequence * blocks + b) * s.experts + e];
    const float fraction = ref::BalanceFraction(static_cast<float>(hits[sequence * s.experts + e]), s.experts, s.top_k, length);
    fractions[sequence * pitch + e] = fraction;
    loss += fraction * (share / static_cast<float>(length));
  }
  const float total = BlockSum(loss, room);
  if (threadIdx.x == 0) losses[sequence] = total;
}

struct BackwardViews {
  const float* scores;
  int64_t scores_pitch;
  const int32_t* indices;
  const float* dweights;
  const float* fractions;  // or null
  int64_t fractions_pitch, sequence_length;
  float balance_scale;
  float* dlogits;
  int64_t dlogits_pitch, rows;
};

// A warp a row. Shared memory: d(total) / d(score) [experts] for each warp; lane l owns those of experts e with e % 32 = l.
__global__ void BackwardKernel(Shape s, BackwardViews v) {
  const int warp = static_cast<int>(threadIdx.x / 32), warps = static_cast<int>(blockDim.x / 32);
  const int64_t row = int64_t{blockIdx.x} * warps + warp;
  if (row >= v.rows) return;
  float* d = DynamicShared<float>() + warp * s.experts;
  const float* scores = v.scores + row * v.scores_pitch;
  const int32_t* indices = v.indices + row * s.top_k;
  const float* dweights = v.dweights + row * s.top_k;
  float sum = s.normalize ? static_cast<float>(ref::kRouterEpsilon) : 1.0f, dot = 0;
  for (int k = 0; k < s.top_k; ++k) {
    if (indices[k] < 0 || indices[k] >= s.experts) __trap();
    if (!s.normalize) continue;
    sum += scores[indices[k]];
    dot += dweights[k] * scores[indices[k]];
  }
  float all = 0, weighted = 0;
  const float* fractions = v.fractions != nullptr ? v.fractions + row / v.sequence_length * v.fractions_pitch : nullptr;
  for (int e = Lane(); e < s.experts; e += 32) {
    d[e] = 0;
    if (fractions == nullptr) continue;
    all += scores[e];
    weighted += fractions[e] * scores[e];
  }
  for (int k = 0; k < s.top_k; ++k)
    if (indices[k] % 32 == Lane()) d[indices[k]] += ref::RouteWeightGrad(s.route_scale, dweights[k], dot, sum);
  if (fractions != nullptr) {
    all = static_cast<float>(ref::kRouterEpsilon) + WarpSum(all);
    weighted = WarpSum(weighted);
  }
  for (int e = Lane(); e < s.experts; e += 32) {
    if (fractions != nullptr) d[e] += ref::BalanceGrad(v.balance_scale, fractions[e], weighted, all);
    v.dlogits[row * v.dlogits_pitch + e] = d[e] * ref::SigmoidSlope(scores[e]);
  }
}

dim3 WarpsOf(const WarpRoom& room) { return dim3(static_cast<unsigned>(32 * room.warps)); }

}  // namespace

void Router(const OpContext& ctx, const RouterDesc& desc, const RouterForward& f) {
  Zero(ctx.stream, f.counts);
  if (f.logits.rows() == 0) return;
  const WarpRoom room = RouterRoom(desc);
  const RouterViews views = {.logits = f.logits.as<float>(),
                             .logits_pitch = f.logits.pitch,
                             .bias = f.bias.as<float>(),
                             .scores = f.scores.as<float>(),
                             .scores_pitch = f.scores.pitch,
                             .indices = f.indices.as<int32_t>(),
                             .weights = f.weights.as<float>(),
                             .counts = f.counts.as<int64_t>(),
                             .rows = f.logits.rows()};
  const int64_t blocks = std::min<int64_t>(CeilDiv(views.rows, room.warps), kMostBlocks);
  Launch(ctx, RouterKernel, blocks, WarpsOf(room), room.bytes, ShapeOf(desc), views);
}

void BalanceLoss(const OpContext& ctx, const RouterDesc& desc, const Tensor& scores, int64_t sequence_length,
                 const Tensor& fractions, const Tensor& losses) {
  ArenaScope scope(*ctx.scratch);
  const int64_t sequences = fractions.rows();
  const auto [blocks, shares, hits] = BalanceRoom(ctx, sequences, sequence_length, desc.experts);
  Zero(ctx.stream, hits);
  const WarpRoom room = BalanceLossRoom(desc);
  Launch(ctx, BalanceRowsKernel, sequences * blocks, WarpsOf(room), room.bytes, ShapeOf(desc), scores.as<float>(), scores.pitch,
         sequence_length, blocks, shares.as<float>(), hits.as<int32_t>());
  Launch(ctx, BalanceKernel, sequences, dim3(kBlockThreads), 0, ShapeOf(desc), sequence_length, blocks, shares.as<float>(),
         hits.as<int32_t>(), fractions.as<float>(), fractions.pitch, losses.as<float>());
}

void RouterBackward(const OpContext& ctx, const RouterDesc& desc, const RouterGrad& g) {
  const WarpRoom room = RouterBackwardRoom(desc);
  const BackwardViews views = {.scores = g.scores.as<float>(),
                               .scores_pitch = g.scores.pitch,
                               .indices = g.indices.as<int32_t>(),
                               .dweights = g.dweights.as<float>(),
                               .fractions = g.fractions ? g.fractions.as<float>() : nullptr,
                               .fractions_pitch = g.fractions.pitch,
                               .sequence_length = std::max<int64_t>(1, g.sequence_length),
                               .balance_scale = g.balance_scale / static_cast<float>(std::max<int64_t>(1, g.sequence_length)),
                               .dlogits = g.dlogits.as<float>(),
                               .dlogits_pitch = g.dlogits.pitch,
                               .rows = g.scores.rows()};
  Launch(ctx, BackwardKernel, CeilDiv(views.rows, room.warps), WarpsOf(room), room.bytes, ShapeOf(desc), views);
}

}  // namespace jevons::cuda
