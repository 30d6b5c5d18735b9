// E5M6 in memory: 8 codes of 12 bits in three 32-bit words, 12 bytes; the first code in the highest bits of the first word. The
// layout of DeepSeek's TileKernels (cast_e5m6.py); words are little-endian.
#ifndef JEVONS_KERNELS_FP8_PACKING_H_
#define JEVONS_KERNELS_FP8_PACKING_H_

#include <bit>
#include <cstdint>
#include <cstring>

#include "kernels/tensor/dtype.h"

namespace jevons {

static_assert(std::endian::native == std::endian::little, "words and codes are copied as they are");

// Bytes of a row of `cols` numbers; the last group of 8 is filled up with zeros.
constexpr int64_t PackedE5M6Bytes(int64_t cols) { return (cols + 7) / 8 * 12; }

// Four codes in 16 bits each (the first lowest, as in memory) as one number of 48 bits, the first highest; and back.
JEVONS_HOST_DEVICE constexpr uint64_t JoinE5M6(uint64_t codes) {
  constexpr uint64_t kLower = 0x0000FFFF0000FFFF;
  const uint64_t pairs = (codes & kLower) << 12 | (codes >> 16 & kLower);  // 24 bits in each half
  return (pairs & 0xFFFFFFFF) << 24 | pairs >> 32;
}
JEVONS_HOST_DEVICE constexpr uint64_t SplitE5M6(uint64_t joined) {
  constexpr uint64_t kCode = 0x00000FFF00000FFF;
  const uint64_t pairs = joined >> 24 | (joined & 0xFFFFFF) << 32;
  return (pairs >> 12 & kCode) | (pairs & kCode) << 16;
}

JEVONS_HOST_DEVICE inline void PackE5M6(const uint16_t codes[8], uint8_t bytes[12]) {
  uint64_t fours[2];
  std::memcpy(fours, codes, 16);
  const uint64_t high = JoinE5M6(fours[0]), low = JoinE5M6(fours[1]);
  const uint64_t first = high >> 16 | (high << 48 | low >> 32 << 32);  // two words
  const uint32_t last = static_cast<uint32_t>(low);
  std::memcpy(bytes, &first, 8);
  std::memcpy(bytes + 8, &last, 4);
}

JEVONS_HOST_DEVICE inline void UnpackE5M6(const uint8_t bytes[12], uint16_t codes[8]) {
  uint64_t first;
  uint32_t last;
  std::memcpy(&first, bytes, 8);
  std::memcpy(&last, bytes + 8, 4);
  const uint64_t high = (first & 0xFFFFFFFF) << 16 | first >> 48, low = (first >> 32 & 0xFFFF) << 32 | last;
  const uint64_t fours[2] = {SplitE5M6(high), SplitE5M6(low)};
  std::memcpy(codes, fours, 16);
}

}  // namespace jevons

#endif  // JEVONS_KERNELS_FP8_PACKING_H_
