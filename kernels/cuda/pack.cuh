// A pack: kWidth neighbouring elements of a row, in registers as FP32. Where the address allows (`vector`), it is moved 16 bytes
// at a time; elsewhere, and at the end of a row, element by element.
#ifndef JEVONS_KERNELS_CUDA_PACK_CUH_
#define JEVONS_KERNELS_CUDA_PACK_CUH_

#include <algorithm>
#include <type_traits>

#include "kernels/tensor/tensor.h"

namespace jevons::cuda {

// Elements of a pack when elements of these types are moved side by side: 16 bytes of the largest.
template <typename... S>
inline constexpr int kWidthOf = 16 / static_cast<int>(std::max({sizeof(S)...}));

// Whether packs of `width` elements can be moved as whole words: at most 16 bytes at a time.
inline bool CanVector(const Tensor& t, int width) {
  const int64_t bytes = width * SizeOf(t.dtype), unit = bytes < 16 ? bytes : 16;
  return reinterpret_cast<uintptr_t>(t.data) % static_cast<uintptr_t>(unit) == 0 &&
         (t.rows() <= 1 || t.pitch * SizeOf(t.dtype) % unit == 0);
}

template <int kWords>
struct alignas(kWords % 4 == 0 ? 16 : 4 * kWords) Words {
  uint32_t w[kWords];
};

template <int kWords>
__device__ __forceinline__ Words<kWords> LoadWords(const void* p) {
  Words<kWords> words;
  if constexpr (kWords % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kWords; i += 4) {
      const uint4 q = static_cast<const uint4*>(p)[i / 4];
      words.w[i] = q.x, words.w[i + 1] = q.y, words.w[i + 2] = q.z, words.w[i + 3] = q.w;
    }
  } else if constexpr (kWords == 2) {
    const uint2 q = *static_cast<const uint2*>(p);
    words.w[0] = q.x, words.w[1] = q.y;
  } else {
    static_assert(kWords == 1);
    words.w[0] = *static_cast<const uint32_t*>(p);
  }
  return words;
}

// To global memory. The compiler would merge an ordinary assignment with the branch beside it that stores single elements, and store
// words one by one.
__device__ __forceinline__ void StoreGlobal(uint4* p, uint4 q) {
#ifdef __CUDA_ARCH__
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)), "r"(q.x), "r"(q.y), "r"(q.z),
               "r"(q.w)
               : "memory");
#else
  *p = q;
#endif
}
__device__ __forceinline__ void StoreGlobal(uint2* p, uint2 q) {
#ifdef __CUDA_ARCH__
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(p)), "r"(q.x), "r"(q.y) : "memory");
#else
  *p = q;
#endif
}

template <int kWords>
__device__ __forceinline__ void StoreWords(const Words<kWords>& words, void* p) {
  if constexpr (kWords % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kWords; i += 4)
      StoreGlobal(static_cast<uint4*>(p) + i / 4, make_uint4(words.w[i], words.w[i + 1], words.w[i + 2], words.w[i + 3]));
  } else if constexpr (kWords == 2) {
    StoreGlobal(static_cast<uint2*>(p), make_uint2(words.w[0], words.w[1]));
  } else {
    static_assert(kWords == 1);
    *static_cast<uint32_t*>(p) = words.w[0];
  }
}

// Two numbers rounded to nearest even; `low` comes first in memory. As bf16(float), but for the payload of a NaN.
__device__ __forceinline__ uint32_t RoundPair(float low, float high) {
#ifdef __CUDA_ARCH__
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return uint32_t{bf16(low).bits} | uint32_t{bf16(high).bits} << 16;
#endif
}

template <int kWidth>
struct Pack {
  float v[kWidth];
};

// The numbers as they would be after a visit to memory as S.
template <typename S, int kWidth>
__device__ __forceinline__ Pack<kWidth> RoundedTo(const Pack<kWidth>& pack) {
  if constexpr (sizeof(S) == 4) {
    return pack;
  } else {
    Pack<kWidth> rounded;
#pragma unroll
    for (int i = 0; i < kWidth; i += 2) {
      const uint32_t pair = RoundPair(pack.v[i], pack.v[i + 1]);
      rounded.v[i] = __uint_as_float(pair << 16);
      rounded.v[i + 1] = __uint_as_float(pair & 0xFFFF0000u);
    }
    return rounded;
  }
}

// Elements as they lie in memory, to be held in few registers until they are needed.
template <typename S, int kWidth>
struct RawPack {
  static constexpr int kWords = kWidth * static_cast<int>(sizeof(S)) / 4;
  Words<kWords> words;

  __device__ __forceinline__ Pack<kWidth> Widened() const {
    Pack<kWidth> pack;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      if constexpr (sizeof(S) == 4) {
        pack.v[i] = __uint_as_float(words.w[i]);
      } else {
        const uint32_t word = words.w[i / 2];
        pack.v[i] = __uint_as_float(i % 2 == 0 ? word << 16 : word & 0xFFFF0000u);
      }
    }
    return pack;
  }
};

// n elements at p (n <= 0: none); the others are zero.
template <int kWidth, typename S>
__device__ __forceinline__ RawPack<S, kWidth> LoadRaw(const S* p, int64_t n, bool vector) {
  using Raw = RawPack<S, kWidth>;
  Raw raw;
  if (vector && n >= kWidth) {
    raw.words = LoadWords<Raw::kWords>(p);
    return raw;
  }
  if constexpr (sizeof(S) == 4) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) raw.words.w[i] = i < n ? __float_as_uint(static_cast<float>(p[i])) : 0u;
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; i += 2)
      raw.words.w[i / 2] = (i < n ? uint32_t{p[i].bits} : 0u) | (i + 1 < n ? uint32_t{p[i + 1].bits} << 16 : 0u);
  }
  return raw;
}

template <int kWidth, typename S>
__device__ __forceinline__ Pack<kWidth> Load(const S* p, int64_t n, bool vector) {
  return LoadRaw<kWidth>(p, n, vector).Widened();
}

// Stores the first n, each rounded once to S.
template <int kWidth, typename S>
__device__ __forceinline__ void Store(const Pack<kWidth>& pack, S* p, int64_t n, bool vector) {
  if (vector && n >= kWidth) {
    RawPack<S, kWidth> raw;
    if constexpr (sizeof(S) == 4) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) raw.words.w[i] = __float_as_uint(pack.v[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kWidth; i += 2) raw.words.w[i / 2] = RoundPair(pack.v[i], pack.v[i + 1]);
    }
    StoreWords(raw.words, p);
    return;
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    if (i < n) p[i] = S(pack.v[i]);
}

// A matrix as kernels see it.
template <typename S>
struct View {
  S* data;
  int64_t pitch;
  bool vector;

  __device__ __forceinline__ S* row(int64_t r) const { return data + r * pitch; }
};

template <typename S>
View<S> ViewOf(const Tensor& t, int width) {
  return {t ? t.as<std::remove_const_t<S>>() : nullptr, t.pitch, CanVector(t, width)};
}

}  // namespace jevons::cuda

#endif  // JEVONS_KERNELS_CUDA_PACK_CUH_
