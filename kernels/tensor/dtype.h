// Element types. A BF16 value is the upper half of an FP32 value; conversion rounds to nearest even.
#ifndef JEVONS_KERNELS_TENSOR_DTYPE_H_
#define JEVONS_KERNELS_TENSOR_DTYPE_H_

#include <bit>
#include <cstdint>

#include "kernels/base/philox.h"  // JEVONS_HOST_DEVICE

namespace jevons {

enum class DType : uint8_t { kF32, kBF16, kI32, kI64, kU8 };

constexpr int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kBF16: return 2;
    case DType::kI64: return 8;
    case DType::kU8: return 1;
  }
  return 0;
}
const char* NameOf(DType dtype);  // "F32", "BF16", ... as safetensors spells them

struct bf16 {
  uint16_t bits = 0;

  bf16() = default;
  JEVONS_HOST_DEVICE explicit bf16(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    // NaN keeps its upper half, made quiet; everything else rounds to nearest even.
    bits = (u & 0x7FFFFFFFu) > 0x7F800000u ? static_cast<uint16_t>((u >> 16) | 0x40u)
                                           : static_cast<uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
  }
  JEVONS_HOST_DEVICE operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};
static_assert(sizeof(bf16) == 2);

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};

}  // namespace jevons

#endif  // JEVONS_KERNELS_TENSOR_DTYPE_H_
