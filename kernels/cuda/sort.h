// A stable counting sort of indices by small keys, and a radix sort made of it. Integers only, so every order of the threads
// gives the same result.
#ifndef JEVONS_KERNELS_CUDA_SORT_H_
#define JEVONS_KERNELS_CUDA_SORT_H_

#include "kernels/ops/context.h"

namespace jevons::cuda {

// What a pass sorts: items 0..n-1, or order_in[0..n) where given. The key of item i is keys[i], of which it takes the bucket
// (keys[i] >> shift) & mask, which must be in [0, buckets). Pointers are of the device.
struct SortPass {
  const int32_t* keys;
  const int32_t* order_in = nullptr;
  int64_t n = 0, buckets = 0;
  int shift = 0;
  int32_t mask = -1;
  int32_t* order_out = nullptr;  // [n]: the items, sorted
  int32_t* place_out = nullptr;  // [n]: where in order_out an item is; or null
};
// Takes temporaries from the context's arena: the caller has a scope.
void StableSort(const OpContext& ctx, const SortPass& pass);

inline constexpr int64_t kMostBuckets = 3072;  // of a pass: each takes 68 bytes of a block's shared memory

inline constexpr int kRadixBits = 9;   // of a key, sorted in one pass
constexpr int BitsOf(int64_t limit) {  // of the keys in [0, limit)
  int bits = 0;
  while (bits < 31 && (int64_t{1} << bits) < limit) ++bits;
  return bits;
}

// The items 0..n-1 in the order of their keys in [0, limit), stably: [n], in the context's arena.
const int32_t* SortByKey(const OpContext& ctx, const int32_t* keys, int64_t n, int64_t limit);

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_SORT_H_
