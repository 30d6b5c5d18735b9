// The formats against tables that other means made (tests/golden/fp8/formats.txt says how).
#include "kernels/fp8/formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/kernels/fp8/sweep.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

struct Interval {
  uint32_t code, first, last, value;  // the last three: FP32 bits
};

std::vector<Interval> Golden(const std::string& format) {
  std::ifstream file(SourcePath("tests/golden/fp8/formats.txt"));
  EXPECT_TRUE(file.good());
  std::vector<Interval> intervals;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    Interval i{};
    if (words >> name >> std::hex >> i.code >> i.first >> i.last >> i.value && name == format) intervals.push_back(i);
  }
  return intervals;
}

// Compile-time use, as the kernels' constants need it.
static_assert(Encode<E4M3>(448.0f) == 0x7E && Encode<E4M3>(-1.0f) == 0xB8 && Decode<E4M3>(0x01) == 0x1p-9f);
static_assert(Encode<E5M2>(57344.0f) == 0x7B && Decode<E5M2>(0x01) == 0x1p-16f);
static_assert(Encode<E5M6>(65024.0f) == 0x7BF && Decode<E5M6>(0x001) == 0x1p-20f);
static_assert(EncodeUE8M0(3.0f) == 129 && DecodeUE8M0(129) == 4.0f);

template <class F>
struct NameOfFormat;
template <>
struct NameOfFormat<E4M3> {
  static constexpr const char* value = "E4M3";
};
template <>
struct NameOfFormat<E5M2> {
  static constexpr const char* value = "E5M2";
};
template <>
struct NameOfFormat<E5M6> {
  static constexpr const char* value = "E5M6";
};

template <class F>
class Formats : public testing::Test {};
using AllFormats = testing::Types<E4M3, E5M2, E5M6>;
TYPED_TEST_SUITE(Formats, AllFormats);

TYPED_TEST(Formats, EveryIntervalOfTheGoldenTable) {
  using F = TypeParam;
  const std::vector<Interval> golden = Golden(NameOfFormat<F>::value);
  ASSERT_EQ(golden.size(), F::kMaxCode + 1);
  uint32_t next = 0;
  for (const Interval& i : golden) {
    ASSERT_EQ(i.first, next);  // the intervals leave no number out
    next = i.last + 1;
    for (uint32_t bits : {i.first, i.value, i.last}) {
      ASSERT_EQ(Encode<F>(FloatOf(bits)), i.code) << std::hex << bits;
      ASSERT_EQ(Encode<F>(FloatOf(bits | 0x80000000u)), i.code | F::kSign) << std::hex << bits;
    }
    const auto code = static_cast<typename F::Code>(i.code), negative = static_cast<typename F::Code>(i.code | F::kSign);
    ASSERT_EQ(std::bit_cast<uint32_t>(Decode<F>(code)), i.value);
    ASSERT_EQ(std::bit_cast<uint32_t>(Decode<F>(negative)), i.value | 0x80000000u);
    ASSERT_EQ(static_cast<float>(bf16(Decode<F>(code))), Decode<F>(code)) << "not a BF16 number";
  }
  ASSERT_EQ(next, 0x7F800001u);
}

TYPED_TEST(Formats, CodesAboveTheLargestAreInfinityOrNan) {
  using F = TypeParam;
  for (uint32_t magnitude = F::kMaxCode + 1; magnitude < F::kSign; ++magnitude) {
    for (uint32_t sign : {0u, F::kSign}) {
      const float value = Decode<F>(static_cast<typename F::Code>(magnitude | sign));
      if (F::kIeee && magnitude == F::kMaxCode + 1) {
        EXPECT_EQ(value, sign ? -INFINITY : INFINITY);
      } else {
        EXPECT_TRUE(std::isnan(value)) << magnitude;
      }
    }
  }
}

TYPED_TEST(Formats, SweepOfFloats) {
  using F = TypeParam;
  const std::vector<Interval> golden = Golden(NameOfFormat<F>::value);
  size_t i = 0;
  uint64_t wrong = 0;
  ForFloats([&](uint32_t bits) {
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    uint32_t expected = F::kNan;
    if (!IsNanBits(bits)) {
      while (magnitude > golden[i].last) ++i;
      while (magnitude < golden[i].first) --i;
      expected = golden[i].code | (bits >> 31 ? F::kSign : 0u);
    }
    wrong += Encode<F>(FloatOf(bits)) != expected;
  });
  EXPECT_EQ(wrong, 0u);
}

TEST(UE8M0, EveryIntervalOfTheGoldenTable) {
  const std::vector<Interval> golden = Golden("UE8M0");
  ASSERT_EQ(golden.size(), 255u);
  for (const Interval& i : golden) {
    for (uint32_t bits : {i.first, i.value, i.last}) ASSERT_EQ(EncodeUE8M0(FloatOf(bits)), i.code) << std::hex << bits;
    ASSERT_EQ(std::bit_cast<uint32_t>(DecodeUE8M0(static_cast<uint8_t>(i.code))), i.value);
  }
  EXPECT_EQ(EncodeUE8M0(NAN), 0xFF);
  EXPECT_TRUE(std::isnan(DecodeUE8M0(0xFF)));
}

}  // namespace
}  // namespace jevons
