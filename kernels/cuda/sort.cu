// Three kernels: each block of kItems items counts its buckets; a warp for each bucket turns the blocks' counts into where in
// the bucket a block begins; each block places its items. An item's place is the number of items before it: in lower
// buckets, in its bucket in earlier blocks, in earlier warps of its block, in earlier lanes of its warp.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/sort.h"

namespace jevons::cuda {
namespace {

constexpr int kItems = kSortItems;
constexpr int kWarps = kItems / 32;
static_assert((kWarps + 1) * sizeof(int32_t) * kMostBuckets <= 227 << 10, "a block's shared memory");

// The item at position i and its bucket; bucket -1 beyond the end.
struct Item {
  int32_t index = 0, bucket = -1;
};
__device__ __forceinline__ Item ItemAt(const SortPass& pass, int64_t i) {
  Item item;
  if (i >= pass.n) return item;
  item.index = pass.order_in != nullptr ? pass.order_in[i] : static_cast<int32_t>(i);
  item.bucket = (pass.keys[item.index] >> pass.shift) & pass.mask;
  if (item.bucket < 0 || item.bucket >= pass.buckets) __trap();
  return item;
}

// counts: [buckets, blocks].
__global__ void CountKernel(SortPass pass, int32_t* counts) {
  int32_t* count = DynamicShared<int32_t>();  // [buckets]
  const int buckets = static_cast<int>(pass.buckets);
  for (int b = static_cast<int>(threadIdx.x); b < buckets; b += kItems) count[b] = 0;
  __syncthreads();
  const Item item = ItemAt(pass, int64_t{blockIdx.x} * kItems + threadIdx.x);
  if (item.bucket >= 0) atomicAdd(&count[item.bucket], 1);
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < buckets; b += kItems) counts[int64_t{b} * gridDim.x + blockIdx.x] = count[b];
}

// The sum of v over the lanes before this one; `total` over all.
__device__ __forceinline__ int32_t WarpSumBefore(int32_t v, int32_t& total) {
  int32_t sum = v;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int32_t other = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(step));
    if (Lane() >= step) sum += other;
  }
  total = __shfl_sync(kAllLanes, sum, 31);
  return sum - v;
}

// values[i] = the sum of values[0..i), by one warp; returns the sum of all.
__device__ __forceinline__ int32_t WarpScan(int32_t* values, int64_t n) {
  int32_t before = 0;
  for (int64_t first = 0; first < n; first += 32) {
    const int64_t i = first + Lane();
    int32_t total;
    const int32_t sum = WarpSumBefore(i < n ? values[i] : 0, total);
    if (i < n) values[i] = before + sum;
    before += total;
  }
  return before;
}

// A warp a bucket. totals: [buckets].
__global__ void ScanKernel(int64_t buckets, int64_t blocks, int32_t* counts, int32_t* totals) {
  const int64_t bucket = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32;
  if (bucket >= buckets) return;
  const int32_t total = WarpScan(counts + bucket * blocks, blocks);
  if (Lane() == 0) totals[bucket] = total;
}

__global__ void __launch_bounds__(kItems) PlaceKernel(SortPass pass, const int32_t* counts, const int32_t* totals) {
  const int buckets = static_cast<int>(pass.buckets), thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  int32_t *begin = DynamicShared<int32_t>(), *of_warp = begin + buckets;  // [buckets], [kWarps, buckets]
  for (int i = thread; i < kWarps * buckets; i += kItems) of_warp[i] = 0;
  for (int b = thread; b < buckets; b += kItems) begin[b] = totals[b];
  __syncthreads();
  if (warp == 0) WarpScan(begin, buckets);
  const Item item = ItemAt(pass, int64_t{blockIdx.x} * kItems + threadIdx.x);
  const unsigned peers = __match_any_sync(kAllLanes, item.bucket);
  const int before = __popc(peers & ((1u << Lane()) - 1u));
  if (item.bucket >= 0 && before == 0) of_warp[warp * buckets + item.bucket] = __popc(peers);
  __syncthreads();
  for (int b = thread; b < buckets; b += kItems) {
    int32_t place = begin[b] + counts[int64_t{b} * gridDim.x + blockIdx.x];
    for (int w = 0; w < kWarps; ++w) {
      const int32_t count = of_warp[w * buckets + b];
      of_warp[w * buckets + b] = place;
      place += count;
    }
  }
  __syncthreads();
  if (item.bucket < 0) return;
  const int32_t place = of_warp[warp * buckets + item.bucket] + before;
  pass.order_out[place] = item.index;
  if (pass.place_out != nullptr) pass.place_out[item.index] = place;
}

}  // namespace

void StableSort(const OpContext& ctx, const SortPass& pass) {
  JEVONS_CHECK(pass.n > 0 && pass.n <= INT32_MAX && pass.buckets > 0 && pass.buckets <= kMostBuckets,
               "%lld items in %lld buckets; at most %lld", static_cast<long long>(pass.n), static_cast<long long>(pass.buckets),
               static_cast<long long>(kMostBuckets));
  constexpr int64_t word = sizeof(int32_t);
  const auto [blocks, counts, totals] = SortRoom(ctx, pass.n, pass.buckets);
  Launch(ctx, CountKernel, blocks, dim3(kItems), pass.buckets * word, pass, counts);
  Launch(ctx, ScanKernel, CeilDiv(pass.buckets * 32, kBlockThreads), dim3(kBlockThreads), 0, pass.buckets, blocks, counts,
         totals);
  Launch(ctx, PlaceKernel, blocks, dim3(kItems), (kWarps + 1) * pass.buckets * word, pass, counts, totals);
}

const int32_t* SortByKey(const OpContext& ctx, const int32_t* keys, int64_t n, int64_t limit) {
  const auto [passes, width, orders] = RadixRoom(ctx, n, limit);
  const int32_t* order = nullptr;
  for (int pass = 0; pass < passes; ++pass) {
    ArenaScope scope(*ctx.scratch);
    StableSort(ctx, {.keys = keys,
                     .order_in = order,
                     .n = n,
                     .buckets = int64_t{1} << width,
                     .shift = pass * width,
                     .mask = (1 << width) - 1,
                     .order_out = orders[pass % 2]});
    order = orders[pass % 2];
  }
  return order;
}

}  // namespace jevons::cuda
