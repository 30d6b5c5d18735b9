// Eight numbers to and from codes, and what a tile of them has in common: the unit of every quantising kernel.
#ifndef JEVONS_KERNELS_CUDA_FP8_CUH_
#define JEVONS_KERNELS_CUDA_FP8_CUH_

#ifdef __CUDACC__
#include <cuda_fp8.h>
#endif

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/ops/quantize.h"
#include "kernels/ref/quantize.h"

namespace jevons::cuda {

inline constexpr int kCodes = 8;  // of a pack
inline constexpr uint32_t kInfinityBits = 0x7F800000u;

// What got lost, of one thread.
struct Lost {
  int saturated = 0, underflowed = 0, nonfinite = 0;
};

// Where a call counts, if it was asked to.
struct LossCounter {
  QuantStats* stats;  // on the device, or null
  int64_t elements;   // that the call quantises
};

// Adds the threads' losses, and once the elements: by the first block of the call; integers, so no order shows. Every thread of
// the warps that call it must come.
__device__ __forceinline__ void AddLost(const Lost& lost, const LossCounter& to, bool first_block) {
  if (to.stats == nullptr) return;
  const auto add = [](int64_t* count, int64_t n) {
    atomicAdd(reinterpret_cast<unsigned long long*>(count), static_cast<unsigned long long>(n));
  };
  int64_t* const totals[3] = {&to.stats->saturated, &to.stats->underflowed, &to.stats->nonfinite};
  const int counts[3] = {lost.saturated, lost.underflowed, lost.nonfinite};
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    const int sum = __reduce_add_sync(kAllLanes, counts[i]);
    if (Lane() == 0 && sum != 0) add(totals[i], sum);
  }
  if (first_block && (threadIdx.x | threadIdx.y) == 0) add(&to.stats->elements, to.elements);
}

// The largest magnitude, as bits: at least kInfinityBits where there is a NaN or infinity.
template <int kWidth>
__device__ __forceinline__ uint32_t AmaxBits(const Pack<kWidth>& x) {
  uint32_t amax = 0;
#pragma unroll
  for (float v : x.v) amax = max(amax, __float_as_uint(v) & 0x7FFFFFFFu);
  return amax;
}
// The same over the finite ones.
template <int kWidth>
__device__ __forceinline__ uint32_t FiniteAmaxBits(const Pack<kWidth>& x) {
  uint32_t amax = 0;
#pragma unroll
  for (float v : x.v) {
    const uint32_t magnitude = __float_as_uint(v) & 0x7FFFFFFFu;
    amax = max(amax, magnitude < kInfinityBits ? magnitude : 0u);
  }
  return amax;
}

// The maximum over the block.
__device__ __forceinline__ uint32_t BlockMaxBits(uint32_t v, uint32_t* room) {
  const uint32_t of_warp = __reduce_max_sync(kAllLanes, v);
  __syncthreads();
  if (Lane() == 0) room[threadIdx.x / 32] = of_warp;
  __syncthreads();
  uint32_t largest = 0;
#pragma unroll
  for (int w = 0; w < kBlockThreads / 32; ++w) largest = max(largest, room[w]);
  return largest;
}

// The scale of all the block's numbers.
struct BlockScale {
  float scale, inverse;
  bool finite;  // all the numbers
};
template <class F, typename Raw, int kPacks>
__device__ __forceinline__ BlockScale BlockScaleOf(const Raw (&raw)[kPacks], ScaleKind kind, uint32_t* room) {
  uint32_t amax = 0;
#pragma unroll
  for (int k = 0; k < kPacks; ++k) amax = max(amax, AmaxBits(raw[k].Widened()));
  amax = BlockMaxBits(amax, room);
  const bool finite = amax < kInfinityBits;
  if (!finite) {
    amax = 0;
    for (int k = 0; k < kPacks; ++k) amax = max(amax, FiniteAmaxBits(raw[k].Widened()));
    amax = BlockMaxBits(amax, room);
  }
  const float scale = ScaleOf<F>(__uint_as_float(amax), kind);
  return {scale, 1.0f / scale, finite};
}

// Two codes of finite numbers, a's in the low byte: the hardware's conversion, whose codes are Encode's (formats.h).
template <class F>
__device__ __forceinline__ uint32_t EncodePair(float a, float b) {
#ifdef __CUDA_ARCH__
  constexpr __nv_fp8_interpretation_t kKind = std::is_same_v<F, E4M3> ? __NV_E4M3 : __NV_E5M2;
  return __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, kKind);
#else
  return Encode<F>(a) | Encode<F>(b) << 8;
#endif
}

// What two codes of bytes stand for, that in the low byte first: the hardware's conversion to FP16, which is exact, or Decode's.
template <class F>
__device__ __forceinline__ float2 DecodePair(uint32_t codes) {
#ifdef __CUDA_ARCH__
  constexpr __nv_fp8_interpretation_t kKind = std::is_same_v<F, E4M3> ? __NV_E4M3 : __NV_E5M2;
  return __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(codes), kKind)));
#else
  return make_float2(Decode<F>(static_cast<uint8_t>(codes)), Decode<F>(static_cast<uint8_t>(codes >> 8)));
#endif
}

// Codes of eight numbers in memory order; `finite` holds for the whole tile. Zeros beyond the tile count nothing.
template <class F>
struct CodePack {
  using Code = typename F::Code;
  static constexpr bool kBytes = sizeof(Code) == 1;
  static constexpr int kBits = 8 * static_cast<int>(sizeof(Code)), kOfWord = 32 / kBits;
  Words<kCodes / kOfWord> words;

  __device__ __forceinline__ Code code(int i) const { return static_cast<Code>(words.w[i / kOfWord] >> kBits * (i % kOfWord)); }
  // Codes i and up; the words begin as zeros.
  __device__ __forceinline__ void Put(int i, uint32_t codes) { words.w[i / kOfWord] |= codes << kBits * (i % kOfWord); }

  __device__ __forceinline__ void Encode(const Pack<kCodes>& x, float inverse, bool finite, bool count, Lost& lost) {
    words = {};
    if (!finite || !kBytes) {
      QuantStats stats;
#pragma unroll
      for (int i = 0; i < kCodes; ++i) Put(i, ref::QuantizeOne<F>(x.v[i], inverse, stats));
      lost.saturated += static_cast<int>(stats.saturated);
      lost.underflowed += static_cast<int>(stats.underflowed);
      lost.nonfinite += static_cast<int>(stats.nonfinite);
      return;
    }
    if constexpr (kBytes) {
#pragma unroll
      for (int i = 0; i < kCodes; i += 2) Put(i, EncodePair<F>(x.v[i] * inverse, x.v[i + 1] * inverse));
    }
    if (!count) return;
#pragma unroll
    for (int i = 0; i < kCodes; ++i) lost.underflowed += x.v[i] != 0 && (code(i) & (F::kSign - 1u)) == 0;
  }

  // Pack p of a row of codes of which `cols` exist.
  __device__ __forceinline__ void Store(uint8_t* row, int64_t p, int64_t cols, bool vector) const {
    if (p * kCodes >= cols) return;
    if constexpr (kBytes) {
      uint8_t* to = row + p * kCodes;
      if (vector && (p + 1) * kCodes <= cols) return StoreWords(words, to);
#pragma unroll
      for (int i = 0; i < kCodes; ++i)
        if (p * kCodes + i < cols) to[i] = code(i);
    } else {
      uint16_t codes[kCodes];
#pragma unroll
      for (int i = 0; i < kCodes; ++i) codes[i] = code(i);
      alignas(8) uint8_t bytes[12];
      PackE5M6(codes, bytes);
      if (vector) {
#pragma unroll
        for (int i = 0; i < 3; ++i) reinterpret_cast<uint32_t*>(row + p * 12)[i] = reinterpret_cast<const uint32_t*>(bytes)[i];
        return;
      }
#pragma unroll
      for (int i = 0; i < 12; ++i) row[p * 12 + i] = bytes[i];
    }
  }

  __device__ __forceinline__ void Load(const uint8_t* row, int64_t p, int64_t cols, bool vector) {
    words = {};
    if constexpr (kBytes) {
      const uint8_t* from = row + p * kCodes;
      if (vector && (p + 1) * kCodes <= cols) {
        words = LoadWords<2>(from);
        return;
      }
#pragma unroll
      for (int i = 0; i < kCodes; ++i) Put(i, p * kCodes + i < cols ? from[i] : 0u);
    } else {
      alignas(8) uint8_t bytes[12] = {};
      if (p * kCodes < cols) {
        if (vector) {
#pragma unroll
          for (int i = 0; i < 3; ++i) reinterpret_cast<uint32_t*>(bytes)[i] = reinterpret_cast<const uint32_t*>(row + p * 12)[i];
        } else {
#pragma unroll
          for (int i = 0; i < 12; ++i) bytes[i] = row[p * 12 + i];
        }
      }
      uint16_t codes[kCodes];
      UnpackE5M6(bytes, codes);
#pragma unroll
      for (int i = 0; i < kCodes; ++i) Put(i, codes[i]);
    }
  }

  __device__ __forceinline__ Pack<kCodes> Decoded(float scale) const {
    Pack<kCodes> x;
    if constexpr (kBytes) {
#pragma unroll
      for (int i = 0; i < kCodes; i += 2) {
        const float2 pair = DecodePair<F>(words.w[i / kOfWord] >> kBits * (i % kOfWord));
        x.v[i] = pair.x * scale;
        x.v[i + 1] = pair.y * scale;
      }
    } else {
#pragma unroll
      for (int i = 0; i < kCodes; ++i) x.v[i] = jevons::Decode<F>(code(i)) * scale;
    }
    return x;
  }
};

// Where codes and scales go.
struct CodesOut {
  View<uint8_t> codes;
  float* scales;
  int64_t scale_pitch;
  ScaleKind kind;
  LossCounter lost;
};
inline CodesOut CodesOutOf(const Tensor& codes, const Tensor& scales, ScaleKind kind, const LossCounter& lost) {
  return {.codes = ViewOf<uint8_t>(codes, kCodes),
          .scales = scales.as<float>(),
          .scale_pitch = scales.pitch,
          .kind = kind,
          .lost = lost};
}

inline constexpr int kTileLanes = static_cast<int>(kTileSize) / kCodes;  // 16 lanes have a tile of a row

// The maximum over the sixteen lanes of a tile; the whole warp must come.
__device__ __forceinline__ uint32_t TileMax(uint32_t v) {
#pragma unroll
  for (int step = kTileLanes / 2; step > 0; step /= 2) v = max(v, __shfl_xor_sync(kAllLanes, v, step));
  return v;
}

// Quantises pack p of row r, which has cols columns, together with the other lanes of its tile. The whole warp must come; lanes
// beyond the columns bring zeros.
template <class F>
__device__ __forceinline__ void QuantizeRowPack(const Pack<kCodes>& numbers, int64_t r, int64_t p, int64_t cols,
                                                const CodesOut& out, Lost& lost) {
  uint32_t amax = TileMax(AmaxBits(numbers));
  const bool finite = amax < kInfinityBits;
  if (__any_sync(kAllLanes, !finite)) {
    const uint32_t of_finite = TileMax(FiniteAmaxBits(numbers));
    if (!finite) amax = of_finite;
  }
  const float scale = ScaleOf<F>(__uint_as_float(amax), out.kind);
  CodePack<F> codes;
  codes.Encode(numbers, 1.0f / scale, finite, out.lost.stats != nullptr, lost);
  codes.Store(out.codes.row(r), p, cols, out.codes.vector);
  if (p % kTileLanes == 0 && p * kCodes < cols) out.scales[r * out.scale_pitch + p / kTileLanes] = scale;
}

// body(F()) with the traits of the format.
template <class Body>
void ForByteFormat(NumberFormat format, const Body& body) {
  format == NumberFormat::kE4M3 ? body(E4M3()) : body(E5M2());
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_FP8_CUH_
