// The number formats of the FP8 recipe: encode from FP32, decode to FP32, bit by bit.
//
//   format  bits (sign, exponent, mantissa)  bias  largest  smallest      infinity  NaN codes
//   E4M3    8   (1, 4, 3)                       7      448  2^-9          none      0x7F, 0xFF
//   E5M2    8   (1, 5, 2)                      15    57344  2^-16         as IEEE   as IEEE, encoded as 0x7F
//   E5M6    12  (1, 5, 6)                      15    65024  2^-20         as IEEE   as IEEE, encoded as 0x7FF
//   UE8M0   8   (0, 8, 0), a power of two     127    2^127  2^-127        none      0xFF
//
// E4M3 and E5M2 are those of "FP8 Formats for Deep Learning" (arXiv 2209.05433), E5M6 is FP16 without its last four mantissa
// bits (DeepSeek-V3 report, section 3.3.2: the cached attention output), UE8M0 holds power-of-two scales (OCP MX).
//
// Encode rounds to nearest, ties to even, from the FP32 value itself, subnormals included. What rounds beyond the largest
// number becomes the largest, infinity too (the toolkit's __NV_SATFINITE); NaN becomes the NaN code without sign. So codes
// equal those of CUDA's host conversions for every FP32 input. Decode is exact: all of E4M3, E5M2 and E5M6 are BF16 numbers.
#ifndef JEVONS_KERNELS_FP8_FORMATS_H_
#define JEVONS_KERNELS_FP8_FORMATS_H_

#include <bit>
#include <cstdint>

#include "kernels/tensor/dtype.h"

namespace jevons {

// What the templates below need to know of a format. kMaxCode is the code of the largest number; kIeee formats have infinity
// right above it.
struct E4M3 {
  using Code = uint8_t;
  static constexpr int kMantissaBits = 3, kBias = 7;
  static constexpr float kMax = 448.0f;
  static constexpr uint32_t kSign = 0x80, kMaxCode = 0x7E, kNan = 0x7F;
  static constexpr bool kIeee = false;
};
struct E5M2 {
  using Code = uint8_t;
  static constexpr int kMantissaBits = 2, kBias = 15;
  static constexpr float kMax = 57344.0f;
  static constexpr uint32_t kSign = 0x80, kMaxCode = 0x7B, kNan = 0x7F;
  static constexpr bool kIeee = true;
};
struct E5M6 {
  using Code = uint16_t;  // the lower 12 bits; PackE5M6 (packing.h) drops the others
  static constexpr int kMantissaBits = 6, kBias = 15;
  static constexpr float kMax = 65024.0f;
  static constexpr uint32_t kSign = 0x800, kMaxCode = 0x7BF, kNan = 0x7FF;
  static constexpr bool kIeee = true;
};

// Constants of the FP32 side, as bits: how far its mantissa outlasts the format's, the format's smallest normal number and its
// largest number.
template <class F>
struct FormatBits {
  static constexpr int kShift = 23 - F::kMantissaBits;
  static constexpr uint32_t kMinNormal = static_cast<uint32_t>(128 - F::kBias) << 23;
  static constexpr uint32_t kMax = std::bit_cast<uint32_t>(F::kMax);
  static constexpr float kSmallest = std::bit_cast<float>(static_cast<uint32_t>(128 - F::kBias - F::kMantissaBits) << 23);
};

// Adding 2^(e + 23 - M) to a number below 2^(e+1) leaves its quotient by 2^(e-M) in the last bits of the sum, rounded to
// nearest even by the addition itself: M+1 significant bits. Below the smallest normal number e stays, which makes the
// subnormals. The magic number also holds, in the last bits, what exponent field e adds to the code, so the sum ends in the code.
template <class F>
JEVONS_HOST_DEVICE constexpr uint32_t EncodingMagic(uint32_t exponent) {  // 2^e as FP32 bits
  using B = FormatBits<F>;
  return exponent + (exponent >> B::kShift) + (static_cast<uint32_t>(B::kShift) << 23) - (B::kMinNormal >> B::kShift);
}

template <class F>
JEVONS_HOST_DEVICE constexpr typename F::Code Encode(float value) {
  using B = FormatBits<F>;
  const uint32_t bits = std::bit_cast<uint32_t>(value), absolute = bits & 0x7FFFFFFFu;
  if (absolute > 0x7F800000u) return static_cast<typename F::Code>(F::kNan);
  const uint32_t clamped = absolute < B::kMax ? absolute : B::kMax;
  const uint32_t exponent = (clamped > B::kMinNormal ? clamped : B::kMinNormal) & 0x7F800000u;
  const float magic = std::bit_cast<float>(EncodingMagic<F>(exponent));
  const uint32_t sum = std::bit_cast<uint32_t>(std::bit_cast<float>(clamped) + magic);
  return static_cast<typename F::Code>((sum & (F::kSign - 1u)) | (bits >> 31 ? F::kSign : 0u));
}

template <class F>
JEVONS_HOST_DEVICE constexpr float Decode(typename F::Code code) {
  using B = FormatBits<F>;
  const uint32_t magnitude = code & (F::kSign - 1u), sign = code & F::kSign ? 0x80000000u : 0u;
  uint32_t bits = 0x7FC00000u;  // NaN
  if (magnitude <= F::kMaxCode) {
    bits = magnitude >> F::kMantissaBits == 0 ? std::bit_cast<uint32_t>(static_cast<float>(magnitude) * B::kSmallest)
                                              : (magnitude << B::kShift) + (static_cast<uint32_t>(127 - F::kBias) << 23);
  } else if (F::kIeee && magnitude == F::kMaxCode + 1u) {
    bits = 0x7F800000u;
  }
  return std::bit_cast<float>(bits | sign);
}

// The smallest power of two >= |value|, at least 2^-127, at most 2^127; NaN is 0xFF.
JEVONS_HOST_DEVICE constexpr uint8_t EncodeUE8M0(float value) {
  const uint32_t absolute = std::bit_cast<uint32_t>(value) & 0x7FFFFFFFu;
  if (absolute > 0x7F800000u) return 0xFF;
  // Up unless a power of two already; 0x00400000 is 2^-127, a subnormal FP32 number.
  const bool up = (absolute & 0x007FFFFFu) != 0 && absolute > 0x00400000u;
  const uint32_t code = (absolute >> 23) + (up ? 1u : 0u);
  return static_cast<uint8_t>(code < 0xFE ? code : 0xFE);
}

JEVONS_HOST_DEVICE constexpr float DecodeUE8M0(uint8_t code) {
  if (code == 0xFF) return std::bit_cast<float>(0x7FC00000u);
  return std::bit_cast<float>(code == 0 ? 0x00400000u : static_cast<uint32_t>(code) << 23);
}

}  // namespace jevons

#endif  // JEVONS_KERNELS_FP8_FORMATS_H_
