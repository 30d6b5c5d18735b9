// E5M6 in memory: 8 codes of 12 bits in three 32-bit words, 12 bytes; the first code in the highest bits of the first word. The
// layout of DeepSeek's TileKernels (cast_e5m6.py); words are little-endian.
#ifndef JEVONS_KERNELS_FP8_PACKING_H_
#define JEVONS_KERNELS_FP8_PACKING_H_

#include <bit>
#include <cstdint>
#include <cstring>

#include "kernels/tensor/dtype.h"

namespace jevons {

static_assert(std::endian::native == std::endian::little, "the words are copied as they are");

// Bytes of a row of `cols` numbers; the last group of 8 is filled up with zeros.
constexpr int64_t PackedE5M6Bytes(int64_t cols) { return (cols + 7) / 8 * 12; }

// A group as one number of 96 bits has code i at bit 84 - 12 i; the words are its 32-bit digits, highest first.
JEVONS_HOST_DEVICE inline void PackE5M6(const uint16_t codes[8], uint8_t bytes[12]) {
  const uint32_t words[3] = {
      uint32_t{codes[0]} << 20 | uint32_t{codes[1]} << 8 | uint32_t{codes[2]} >> 4,
      uint32_t{codes[2]} << 28 | uint32_t{codes[3]} << 16 | uint32_t{codes[4]} << 4 | uint32_t{codes[5]} >> 8,
      uint32_t{codes[5]} << 24 | uint32_t{codes[6]} << 12 | uint32_t{codes[7]}};
  std::memcpy(bytes, words, 12);
}

JEVONS_HOST_DEVICE inline void UnpackE5M6(const uint8_t bytes[12], uint16_t codes[8]) {
  uint32_t words[3];
  std::memcpy(words, bytes, 12);
  const uint32_t values[8] = {words[0] >> 20, words[0] >> 8,  words[0] << 4 | words[1] >> 28, words[1] >> 16,
                              words[1] >> 4,  words[1] << 8 | words[2] >> 24, words[2] >> 12, words[2]};
  for (int i = 0; i < 8; ++i) codes[i] = static_cast<uint16_t>(values[i] & 0xFFFu);
}

}  // namespace jevons

#endif  // JEVONS_KERNELS_FP8_PACKING_H_
