// How Hopper's tensor cores add up FP8 products, bit by bit: the model of MMA-Sim (arXiv 2511.10909) for wgmma with FP8 operands
// and FP32 accumulator, in line with the DeepSeek-V3 report (section 3.3.2, "about 14 bits"). A step takes 32 products and the
// accumulator c, and
//   1. finds e, the largest exponent among c and the products; a product's is the sum of its operands' exponents, its
//      significand in [1, 4) not normalised; a subnormal operand has the exponent of the smallest normal number;
//   2. cuts every term, toward zero, to 13 bits below 2^e, and adds them exactly;
//   3. cuts the sum, toward zero, to 14 significant bits.
// The longer the chain of steps, the more is lost: terms below 2^-13 of the sum vanish. Promotion adds the accumulator to an
// FP32 number every 128 products and starts anew, which makes the error independent of k.
#ifndef JEVONS_KERNELS_FP8_TENSOR_CORE_H_
#define JEVONS_KERNELS_FP8_TENSOR_CORE_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/fp8/formats.h"

namespace jevons {

struct TensorCore {
  static constexpr int kProducts = 32;      // of a step
  static constexpr int kFractionBits = 13;  // below the largest exponent
};
inline constexpr int64_t kPromotionInterval = 128;  // products: N_C of the report
inline constexpr int64_t kNoPromotion = 0;

// An FP8 number is significand * 2^(exponent - mantissa bits).
struct Significand {
  int32_t value;  // signed
  int32_t exponent;
};
template <class F>
JEVONS_HOST_DEVICE constexpr Significand SplitCode(uint8_t code) {
  const int32_t field = static_cast<int32_t>((code & (F::kSign - 1u)) >> F::kMantissaBits);
  const int32_t mantissa = static_cast<int32_t>(code & ((1u << F::kMantissaBits) - 1u));
  const int32_t value = field == 0 ? mantissa : mantissa + (1 << F::kMantissaBits);
  return {code & F::kSign ? -value : value, (field == 0 ? 1 : field) - F::kBias};
}

// value * 2^(exponent - bits) in units of 2^(unit), cut toward zero.
JEVONS_HOST_DEVICE constexpr int64_t CutToUnit(int64_t value, int32_t exponent, int bits, int32_t unit) {
  const int32_t shift = exponent - bits - unit;
  if (shift >= 0) return value * (int64_t{1} << shift);
  return shift < -40 ? 0 : value / (int64_t{1} << -shift);  // no value here has more than 40 bits
}

// c + sum of a[i] * b[i], i < n <= 32; A and B are E4M3 or E5M2. NaN and infinity as in FP32 arithmetic.
template <class A, class B>
JEVONS_HOST_DEVICE float TensorCoreStep(const uint8_t* a, const uint8_t* b, int64_t n, float c) {
  constexpr int kBits = A::kMantissaBits + B::kMantissaBits, kFloatBits = 23;
  constexpr int32_t kNothing = INT32_MIN;
  int64_t products[TensorCore::kProducts];
  int32_t exponents[TensorCore::kProducts], largest = kNothing;
  float plain = c;  // only to see whether it is finite
  for (int64_t i = 0; i < n; ++i) {
    const Significand x = SplitCode<A>(a[i]), y = SplitCode<B>(b[i]);
    products[i] = int64_t{x.value} * y.value;
    exponents[i] = x.exponent + y.exponent;
    if (products[i] != 0) largest = std::max(largest, exponents[i]);
    plain += Decode<A>(a[i]) * Decode<B>(b[i]);
  }
  if (!std::isfinite(plain)) return plain;
  if (c != 0) largest = std::max(largest, std::ilogb(c));
  if (largest == kNothing) return 0.0f;
  const int32_t unit = largest - TensorCore::kFractionBits;
  int64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += CutToUnit(products[i], exponents[i], kBits, unit);
  if (c != 0) {
    const int32_t exponent = std::ilogb(c);
    sum += CutToUnit(static_cast<int64_t>(std::ldexp(c, kFloatBits - exponent)), exponent, kFloatBits, unit);
  }
  const uint64_t magnitude = static_cast<uint64_t>(std::abs(sum));
  const int excess = std::max(0, static_cast<int>(std::bit_width(magnitude)) - (TensorCore::kFractionBits + 1));
  const float cut = static_cast<float>(magnitude >> excess << excess);
  return std::ldexp(sum < 0 ? -cut : cut, unit);
}

// The dot product of k numbers, promoted every `promotion` products (a multiple of 32), or never (kNoPromotion).
template <class A, class B>
float TensorCoreDot(const uint8_t* a, const uint8_t* b, int64_t k, int64_t promotion = kPromotionInterval) {
  float promoted = 0, sum = 0;
  for (int64_t i = 0; i < k; i += TensorCore::kProducts) {
    if (promotion != kNoPromotion && i % promotion == 0) {
      promoted += sum;
      sum = 0;
    }
    sum = TensorCoreStep<A, B>(a + i, b + i, std::min<int64_t>(TensorCore::kProducts, k - i), sum);
  }
  return promoted + sum;
}

}  // namespace jevons

#endif  // JEVONS_KERNELS_FP8_TENSOR_CORE_H_
