// The order of sums on AMX's tiles, on the hardware where there is one and else on its model.
#include "kernels/cpu/amx.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tests/kernels/gemm/gemm_case.h"

namespace jevons {
namespace {

class AmxTest : public testing::Test {
 protected:
  void SetUp() override {
    modelled_ = UseAmxModelWhereAbsent();
    if (!cpu::kGemmAmx.refusal(DType::kBF16).empty()) GTEST_SKIP() << cpu::kGemmAmx.refusal(DType::kBF16);
  }
  bool modelled_ = false;
};

// BF16 numbers of every kind: denormals, infinities, sums that cancel, products that underflow or overflow.
float AnyNumber(uint64_t seed, int64_t i, bool finite) {
  const uint64_t bits = RandomBits(seed, 0, i);
  const int exponent = static_cast<int>(bits >> 8 & 0xFF);
  switch (bits & 7) {
    case 0: return std::bit_cast<float>(static_cast<uint32_t>(bits >> 32 & 0x807F0000u));   // denormal or zero
    case 1: return std::ldexp(1.0f, exponent % 40 - 20) * (bits >> 16 & 1 ? 1.0f : -1.0f);  // cancels exactly
    case 2:
      if (!finite && exponent == 7) return std::numeric_limits<float>::infinity();
      return std::bit_cast<float>(static_cast<uint32_t>(bits >> 32 & 0x807F0000u) | static_cast<uint32_t>(exponent % 254 + 1)
                                                                                        << 23);
    default:
      return std::bit_cast<float>(static_cast<uint32_t>(bits >> 32 & 0x807F0000u) | static_cast<uint32_t>(58 + exponent % 12)
                                                                                        << 23);
  }
}

TEST_F(AmxTest, EveryNumberHasTheBitsOfTheDefinition) {
  const Forced forced({"amx", 0});
  int64_t denormal_operands = 0, not_finite = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Product p(
        {.m = 16, .n = 16, .k = 32 * (1 + static_cast<int64_t>(seed) % 3), .b_form = Form::kTransposed, .in = DType::kBF16});
    for (int64_t i = 0; i < 16; ++i) {
      for (int64_t l = 0; l < p.shape.k; ++l) {
        p.a.Set(i, l, AnyNumber(seed, i * p.shape.k + l, seed % 2 == 0));
        p.b.Set(i, l, AnyNumber(seed + 1000, i * p.shape.k + l, seed % 2 == 0));
        if (std::fpclassify(p.a.Get(i, l)) == FP_SUBNORMAL) ++denormal_operands;
      }
    }
    const Matrix expected = ExpectedC(p, Order::kTiles);
    Gemm(OpContext{}, p.desc());
    for (int64_t i = 0; i < 16; ++i) {
      for (int64_t j = 0; j < 16; ++j) {
        const float got = p.c.Get(i, j), want = expected.Get(i, j);
        if (!std::isfinite(want)) ++not_finite;
        if (std::isnan(want)) {
          ASSERT_TRUE(std::isnan(got)) << seed << ": " << i << "," << j;
        } else {
          ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(want))
              << seed << ": " << i << "," << j << ": " << got << " " << want;
        }
      }
    }
  }
  EXPECT_GT(denormal_operands, 1000);
  EXPECT_GT(not_finite, 100);
}

// Denormals are zero on tiles, as operands and as sums, and only there.
TEST_F(AmxTest, DenormalsAreZero) {
  for (const Variant& variant : {Variant{"amx", 0}, Variant{"cpu", 0}}) {
    const Forced forced(variant);
    Product p({.m = 1, .n = 2, .k = 1, .in = DType::kBF16});
    p.a.Set(0, 0, 0x1p-100f);
    p.b.Set(0, 0, 0x1p-30f);   // the product is a denormal
    p.b.Set(0, 1, 0x1p-130f);  // the operand is one
    Product q({.m = 1, .n = 1, .k = 1, .in = DType::kBF16});
    q.a.Set(0, 0, 0x1p-130f);
    q.b.Set(0, 0, 0x1p100f);
    Gemm(OpContext{}, p.desc());
    Gemm(OpContext{}, q.desc());
    EXPECT_EQ(p.c.Get(0, 0), variant.impl == "amx" ? 0 : 0x1p-130f);
    EXPECT_EQ(q.c.Get(0, 0), variant.impl == "amx" ? 0 : 0x1p-30f);
  }
}

TEST_F(AmxTest, TheModelRunsWhereThereIsNoHardware) {
  const Forced forced({"amx", 0});
  const int64_t before = AmxModelProducts();
  Product p({.m = 33, .n = 17, .k = 70, .in = DType::kBF16});
  Gemm(OpContext{}, p.desc());
  // Three steps of k over 3 x 2 tiles of C.
  EXPECT_EQ(AmxModelProducts() - before, modelled_ ? 3 * 6 : 0);
}

}  // namespace
}  // namespace jevons
