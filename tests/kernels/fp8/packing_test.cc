#include "kernels/fp8/packing.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/base/philox.h"

namespace jevons {
namespace {

TEST(Packing, PlacesBitsAsPublished) {
  const uint16_t codes[8] = {0x123, 0x456, 0x789, 0xABC, 0xDEF, 0x013, 0x579, 0xBDF};
  uint8_t bytes[12];
  PackE5M6(codes, bytes);
  uint32_t words[3];
  std::memcpy(words, bytes, 12);
  EXPECT_EQ(words[0], 0x12345678u);  // the codes' hexadecimal digits in a row
  EXPECT_EQ(words[1], 0x9ABCDEF0u);
  EXPECT_EQ(words[2], 0x13579BDFu);
}

TEST(Packing, ComesBack) {
  for (uint64_t i = 0; i < 1000; ++i) {
    uint16_t codes[8], back[8];
    for (uint64_t j = 0; j < 8; ++j) codes[j] = RandomBits(1, 2, 8 * i + j) & 0xFFF;
    uint8_t bytes[12];
    PackE5M6(codes, bytes);
    UnpackE5M6(bytes, back);
    ASSERT_EQ(std::memcmp(codes, back, sizeof(codes)), 0);
  }
}

}  // namespace
}  // namespace jevons
