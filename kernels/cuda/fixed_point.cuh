// Packs of integers of 64 bits: sums in fixed point, moved like packs of numbers.
#ifndef JEVONS_KERNELS_CUDA_FIXED_POINT_CUH_
#define JEVONS_KERNELS_CUDA_FIXED_POINT_CUH_

#include "kernels/cuda/pack.cuh"
#include "kernels/ref/fixed_point.h"

namespace jevons::cuda {

template <int kWidth>
struct IntPack {
  int64_t v[kWidth];
};

// n elements at p (n <= 0: none); the others are zero.
template <int kWidth>
__device__ __forceinline__ IntPack<kWidth> LoadInts(const int64_t* p, int64_t n, bool vector) {
  IntPack<kWidth> pack;
  if (vector && n >= kWidth) {
    const Words<2 * kWidth> words = LoadWords<2 * kWidth>(p);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      pack.v[i] = static_cast<int64_t>(uint64_t{words.w[2 * i]} | uint64_t{words.w[2 * i + 1]} << 32);
    return pack;
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) pack.v[i] = i < n ? p[i] : 0;
  return pack;
}

template <int kWidth>
__device__ __forceinline__ void StoreInts(const IntPack<kWidth>& pack, int64_t* p, int64_t n, bool vector) {
  if (vector && n >= kWidth) {
    Words<2 * kWidth> words;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      words.w[2 * i] = static_cast<uint32_t>(pack.v[i]);
      words.w[2 * i + 1] = static_cast<uint32_t>(static_cast<uint64_t>(pack.v[i]) >> 32);
    }
    StoreWords(words, p);
    return;
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    if (i < n) p[i] = pack.v[i];
}

// sum += the numbers in fixed point; whether none was refused.
template <int kWidth>
__device__ __forceinline__ bool AddFixedPoint(const Pack<kWidth>& numbers, double scale, double limit, IntPack<kWidth>& sum) {
  bool within = true;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    int64_t q;
    within &= ref::ToFixedPoint(numbers.v[i], scale, limit, q);
    sum.v[i] = ref::AddWrapping(sum.v[i], q);
  }
  return within;
}

// Numbers that are FP32, or in fixed point.
template <int kWidth>
__device__ __forceinline__ Pack<kWidth> LoadNumbers(const float* p, double, int64_t n, bool vector) {
  return Load<kWidth>(p, n, vector);
}
template <int kWidth>
__device__ __forceinline__ Pack<kWidth> LoadNumbers(const int64_t* p, double unit, int64_t n, bool vector) {
  const IntPack<kWidth> ints = LoadInts<kWidth>(p, n, vector);
  Pack<kWidth> pack;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) pack.v[i] = ref::FromFixedPoint(ints.v[i], unit);
  return pack;
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_FIXED_POINT_CUH_
