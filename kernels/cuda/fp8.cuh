// Eight numbers to and from codes, and what a tile of them has in common: the unit of every quantising kernel.
#ifndef JEVONS_KERNELS_CUDA_FP8_CUH_
#define JEVONS_KERNELS_CUDA_FP8_CUH_

#ifdef __CUDACC__
#include <cuda_fp8.h>
#endif

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/fp8/quantize.h"
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

// Codes of eight numbers in memory order, in two words; `finite` holds for the whole tile. Zeros beyond the tile count nothing.
template <class F>
struct CodePack {
  typename F::Code code[kCodes];

  __device__ __forceinline__ void Encode(const Pack<kCodes>& x, float inverse, bool finite, bool count,
                                         Lost& lost) {
    if (!finite || sizeof(typename F::Code) != 1) {
      QuantStats stats;
#pragma unroll
      for (int i = 0; i < kCodes; ++i) code[i] = ref::QuantizeOne<F>(x.v[i], inverse, stats);
      lost.saturated += static_cast<int>(stats.saturated);
      lost.underflowed += static_cast<int>(stats.underflowed);
      lost.nonfinite += static_cast<int>(stats.nonfinite);
      return;
    }
    if constexpr (sizeof(typename F::Code) == 1) {
#pragma unroll
      for (int i = 0; i < kCodes; i += 2) {
        const uint32_t pair = EncodePair<F>(x.v[i] * inverse, x.v[i + 1] * inverse);
        code[i] = static_cast<uint8_t>(pair);
        code[i + 1] = static_cast<uint8_t>(pair >> 8);
      }
    }
    if (!count) return;
#pragma unroll
    for (int i = 0; i < kCodes; ++i) lost.underflowed += x.v[i] != 0 && (code[i] & (F::kSign - 1u)) == 0;
  }

  // Pack p of a row of codes of which `cols` exist.
  __device__ __forceinline__ void Store(uint8_t* row, int64_t p, int64_t cols, bool vector) const {
    if (p * kCodes >= cols) return;
    if constexpr (sizeof(typename F::Code) == 1) {
      uint8_t* to = row + p * kCodes;
      if (vector && (p + 1) * kCodes <= cols) {
        Words<2> words;
#pragma unroll
        for (int i = 0; i < 2; ++i)
          words.w[i] =
              code[4 * i] | code[4 * i + 1] << 8 | code[4 * i + 2] << 16 | uint32_t{code[4 * i + 3]} << 24;
        StoreWords(words, to);
        return;
      }
#pragma unroll
      for (int i = 0; i < kCodes; ++i)
        if (p * kCodes + i < cols) to[i] = code[i];
    } else {
      alignas(8) uint8_t bytes[12];
      PackE5M6(code, bytes);
      if (vector) {
#pragma unroll
        for (int i = 0; i < 3; ++i)
          reinterpret_cast<uint32_t*>(row + p * 12)[i] = reinterpret_cast<const uint32_t*>(bytes)[i];
        return;
      }
#pragma unroll
      for (int i = 0; i < 12; ++i) row[p * 12 + i] = bytes[i];
    }
  }

  __device__ __forceinline__ void Load(const uint8_t* row, int64_t p, int64_t cols, bool vector) {
    if constexpr (sizeof(typename F::Code) == 1) {
      const uint8_t* from = row + p * kCodes;
      if (vector && (p + 1) * kCodes <= cols) {
        const Words<2> words = LoadWords<2>(from);
#pragma unroll
        for (int i = 0; i < kCodes; ++i) code[i] = static_cast<uint8_t>(words.w[i / 4] >> 8 * (i % 4));
        return;
      }
#pragma unroll
      for (int i = 0; i < kCodes; ++i) code[i] = p * kCodes + i < cols ? from[i] : uint8_t{0};
    } else {
      alignas(8) uint8_t bytes[12] = {};
      if (p * kCodes < cols) {
        if (vector) {
#pragma unroll
          for (int i = 0; i < 3; ++i)
            reinterpret_cast<uint32_t*>(bytes)[i] = reinterpret_cast<const uint32_t*>(row + p * 12)[i];
        } else {
#pragma unroll
          for (int i = 0; i < 12; ++i) bytes[i] = row[p * 12 + i];
        }
      }
      UnpackE5M6(bytes, code);
    }
  }

  __device__ __forceinline__ Pack<kCodes> Decoded(float scale) const {
    Pack<kCodes> x;
#pragma unroll
    for (int i = 0; i < kCodes; ++i) x.v[i] = jevons::Decode<F>(code[i]) * scale;
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
inline CodesOut CodesOutOf(const Tensor& codes, const Tensor& scales, ScaleKind kind,
                           const LossCounter& lost) {
  return {.codes = ViewOf<uint8_t>(codes, kCodes),
          .scales = scales.as<float>(),
          .scale_pitch = scales.pitch,
          .kind = kind,
          .lost = lost};
}

inline constexpr int kTileLanes = static_cast<int>(kTileSize) / kCodes;  // 16 lanes have a tile of a row

// The maximum over the sixteen lanes of a tile, all of them active.
__device__ __forceinline__ uint32_t TileMax(uint32_t v) {
  return __reduce_max_sync(Lane() < kTileLanes ? 0x0000FFFFu : 0xFFFF0000u, v);
}

// Quantises pack p of row r together with the other lanes of its tile.
template <class F>
__device__ __forceinline__ void QuantizeRowPack(const Pack<kCodes>& numbers, int64_t r, int64_t p,
                                                int64_t cols, const CodesOut& out, Lost& lost) {
  uint32_t amax = TileMax(AmaxBits(numbers));
  const bool finite = amax < kInfinityBits;
  if (!finite) amax = TileMax(FiniteAmaxBits(numbers));
  const float scale = ScaleOf<F>(__uint_as_float(amax), out.kind);
  CodePack<F> codes;
  codes.Encode(numbers, 1.0f / scale, finite, out.lost.stats != nullptr, lost);
  codes.Store(out.codes.row(r), p, cols, out.codes.vector);
  if (p % kTileLanes == 0) out.scales[r * out.scale_pitch + p / kTileLanes] = scale;
}

// body(F()) with the traits of the format.
template <class Body>
void ForByteFormat(NumberFormat format, const Body& body) {
  format == NumberFormat::kE4M3 ? body(E4M3()) : body(E5M2());
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_FP8_CUH_
