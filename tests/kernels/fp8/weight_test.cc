// Weights in codes: what they take, and that turning them changes nothing but where codes lie.
#include <gtest/gtest.h>

#include "kernels/ops/fp8_weight.h"
#include "tests/kernels/gemm/gemm_case.h"

namespace jevons {
namespace {

TEST(Fp8WeightTest, OfTheCpuIsKeptOnce) {
  Arena arena("test", int64_t{1} << 20);
  const Fp8Weight weight = AllocateFp8Weight(arena, Device::kCpu, 130, 70);
  EXPECT_EQ(arena.used_bytes(), Fp8WeightBytes(Device::kCpu, 130, 70));
  EXPECT_FALSE(weight.turned.codes);
  EXPECT_EQ(weight.plain.codes.shape, (Shape{130, 70}));
  EXPECT_EQ(weight.plain.scales.shape, (Shape{2, 1}));
}

TEST(Fp8WeightTest, OfADeviceThatReadsAlongTheSumIsKeptTwice) {
  ASSERT_FALSE(ReadsPlainB(Device::kCuda));
  // Turned, lines begin at multiples of 16 bytes; scales take a slice of 64 bytes each.
  EXPECT_EQ(Fp8WeightBytes(Device::kCuda, 130, 64), 130 * 64 + 64 * 144 + 2 * 64);
}

TEST(Fp8WeightTest, TurnedItGivesDgradTheSameBits) {
  constexpr int64_t kT = 37, kN = 260, kK = 140;
  Matrix value(DType::kF32, kN, kK, 3, 1);
  for (int64_t r = 0; r < kN; r += 7) value.Set(r, r % kK, 40.0f + static_cast<float>(r));  // neighbours' scales differ
  Matrix dy(DType::kF32, kT, kN, 3, 2);
  Arena arena("test", int64_t{8} << 20);
  const OpContext ctx{.stream = {}, .scratch = &arena};
  QuantStats stats;
  const Fp8Weight weight = AllocateFp8Weight(arena, Device::kCpu, kN, kK);
  QuantizeWeights(ctx, {{{value.view(), weight}}}, &stats);
  EXPECT_EQ(stats.elements, kN * kK);
  const Fp8Operand turned = AllocateFp8Weight(arena, Device::kCpu, kK, kN).plain;
  TransposeBlocks(weight.plain, turned);
  for (int64_t n = 0; n < kN; ++n)
    for (int64_t k = 0; k < kK; ++k) {
      ASSERT_EQ(turned.codes.row<uint8_t>(k)[n], weight.plain.codes.row<uint8_t>(n)[k]);
      ASSERT_EQ(turned.scales.row<float>(k / 128)[n / 128], weight.plain.scales.row<float>(n / 128)[k / 128]);
    }
  EXPECT_NE(turned.scales.row<float>(0)[1], turned.scales.row<float>(1)[0]);

  const Fp8Operand a{.codes = arena.Allocate("dy", DType::kU8, {kT, kN}),
                     .scales = arena.Allocate("dy", DType::kF32, ScalesShape(kT, kN, Tiling::kRows1x128))};
  Quantize(ctx, {.x = dy.view(), .codes = a.codes, .scales = a.scales});
  std::vector<Variant> variants = VariantsFor(DType::kBF16);
  variants.push_back({"ref", 0});
  for (const Variant& variant : variants) {
    const Forced forced(variant);
    for (const bool promote : {true, false}) {
      Matrix plain(DType::kF32, kT, kK, 0, 3), other(DType::kF32, kT, kK, 0, 4);
      Fp8Gemm(ctx, {.a = a, .b = weight.plain, .c = plain.view(), .b_form = Form::kPlain, .promote = promote});
      Fp8Gemm(ctx, {.a = a, .b = turned, .c = other.view(), .b_form = Form::kTransposed, .promote = promote});
      EXPECT_TRUE(plain == other) << variant.impl;
    }
  }
}

}  // namespace
}  // namespace jevons
