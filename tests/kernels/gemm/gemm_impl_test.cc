// Which implementation of the matrix products serves, and what a wrong product meets.
#include "kernels/cpu/gemm_impl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "kernels/cpu/fma_peak.h"
#include "kernels/cpu/product_peak.h"
#include "kernels/ops/op_table.h"
#include "tests/kernels/gemm/gemm_case.h"

namespace jevons {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(GemmImplTest, RefComesLastAndNeverRefuses) {
  ASSERT_EQ(cpu::GemmImpls().back(), &cpu::kGemmRef);
  for (const DType in : {DType::kF32, DType::kBF16}) {
    EXPECT_EQ(cpu::kGemmRef.refusal(in), "");
    EXPECT_EQ(cpu::kGemmRef.demerit(in), "");
  }
}

TEST(GemmImplTest, TheFirstWithoutRefusalOrDemeritIsChosen) {
  for (const DType in : {DType::kF32, DType::kBF16}) {
    const cpu::GemmImpl* first = nullptr;
    for (const cpu::GemmImpl* impl : cpu::GemmImpls()) {
      if (first == nullptr && impl->refusal(in).empty() && impl->demerit(in).empty()) first = impl;
    }
    EXPECT_EQ(&cpu::ChosenGemmImpl(in), first);
    EXPECT_EQ(GemmImplementation(in), first->describe(in));
  }
}

TEST(GemmImplTest, Fp32StaysWithTheChainOfFusedMultiplyAdds) {
  EXPECT_NE(cpu::kGemmAmx.refusal(DType::kF32), "");
  EXPECT_NE(cpu::kGemmDot.refusal(DType::kF32), "");
}

// The terms 2^30, 1, -2^30, 1 sum to 1 in ascending order, where the first 1 is lost in 2^30, to 0 in the order of pairs, where the
// second is lost too, and to 2 where evens and odds are summed apart: so the result tells which kernel ran.
float SumThatTellsTheKernel() {
  constexpr float kTerms[] = {0x1p30f, 1.0f, -0x1p30f, 1.0f};
  Product p({.m = 1, .n = 1, .k = 4, .in = DType::kBF16});
  for (int64_t l = 0; l < 4; ++l) {
    p.a.Set(0, l, kTerms[l]);
    p.b.Set(l, 0, 1.0f);
  }
  Gemm(OpContext{}, p.desc());
  return p.c.Get(0, 0);
}

// The same for FP8 codes, in whose products 448 * 448 swallows 2^-8.
float Fp8SumThatTellsTheKernel() {
  uint8_t a[4], b[4];
  constexpr float kA[] = {448, 0x1p-4f, 448, 0x1p-4f}, kB[] = {448, 0x1p-4f, -448, 0x1p-4f};
  for (int l = 0; l < 4; ++l) a[l] = Encode<E4M3>(kA[l]), b[l] = Encode<E4M3>(kB[l]);
  float scale = 1, sum;
  const auto operand = [&](uint8_t* codes) {
    return Fp8Operand{.codes = Tensor::Of(codes, {1, 4}), .scales = Tensor::Of(&scale, {1, 1})};
  };
  Fp8Gemm(OpContext{}, {.a = operand(a), .b = operand(b), .c = Tensor::Of(&sum, {1, 1})});
  return sum * 0x1p8f;
}

float SumOf(const std::string& impl) { return impl == "amx" ? 2.0f : impl == "dot" ? 0.0f : 1.0f; }

TEST(GemmImplTest, TheForcedImplementationRuns) {
  for (const Variant& variant : VariantsFor(DType::kBF16)) {
    const Forced forced(variant);
    EXPECT_EQ(cpu::ChosenGemmImpl(DType::kBF16).name, variant.impl);
    EXPECT_THAT(GemmImplementation(DType::kBF16), StartsWith("cpu"));
    EXPECT_EQ(SumThatTellsTheKernel(), SumOf(variant.impl));
    EXPECT_EQ(Fp8SumThatTellsTheKernel(), SumOf(variant.impl));
  }
  ASSERT_TRUE(cpu::ForceGemmImpl("ref"));
  EXPECT_EQ(&cpu::ChosenGemmImpl(DType::kF32), &cpu::kGemmRef);
  EXPECT_EQ(GemmImplementation(DType::kBF16), "ref");
  EXPECT_FALSE(cpu::ForceGemmImpl("mkl"));
  EXPECT_EQ(GemmImplementation(DType::kBF16), "ref");
  ASSERT_TRUE(cpu::ForceGemmImpl(""));
}

class GemmDeathTest : public testing::Test {
 protected:
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }  // the environment is read once
};

TEST_F(GemmDeathTest, TheEnvironmentForcesAnImplementation) {
  EXPECT_EXIT(
      {
        setenv("JEVONS_GEMM", "ref", 1);
        std::exit(GemmImplementation(DType::kF32) == "ref" && GemmImplementation(DType::kBF16) == "ref" ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
  EXPECT_EXIT(
      {
        setenv("JEVONS_GEMM", "cpu", 1);
        std::exit(GemmImplementation(DType::kBF16) == cpu::kGemmFma.describe(DType::kBF16) ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

// JEVONS_OPS=ref takes the products along, except to an implementation that JEVONS_GEMM names: seen in bits, with tiles for the CPU.
TEST_F(GemmDeathTest, TheForcedTableServesProductsUnlessTheyAreNamed) {
  const auto run = [](const char* table, const char* named) {
    UseAmxModelWhereAbsent();
    setenv("JEVONS_OPS", table, 1);
    setenv("JEVONS_GEMM", named, 1);
    const cpu::GemmImpl& chosen = cpu::ChosenGemmImpl(DType::kBF16);
    const bool ref = std::string(table) == "ref" && std::string(named).empty();
    const float expected = SumOf(ref ? "ref" : chosen.name);
    const bool as_told = GemmImplementation(DType::kBF16) == (ref ? "ref" : chosen.describe(DType::kBF16));
    std::exit(as_told && Ops().name == std::string(table) && SumThatTellsTheKernel() == expected &&
                      Fp8SumThatTellsTheKernel() == expected
                  ? 0
                  : 1);
  };
  for (const char* table : {"cpu", "ref"}) {
    for (const char* named : {"", "amx", "cpu"})
      EXPECT_EXIT(run(table, named), testing::ExitedWithCode(0), "") << table << " " << named;
  }
}

TEST_F(GemmDeathTest, AnUnknownNameInTheEnvironmentIsAUsageError) {
  EXPECT_EXIT(
      {
        setenv("JEVONS_GEMM", "fast", 1);
        GemmImplementation(DType::kF32);
      },
      testing::ExitedWithCode(2), "JEVONS_GEMM=fast: say amx or dot or cpu or ref, or unset it");
}

TEST_F(GemmDeathTest, WrongProductsAbort) {
  const auto run = [](auto change) {
    Product p({.m = 4, .n = 5, .k = 6});
    GemmDesc desc = p.desc();
    change(desc);
    Gemm(OpContext{}, desc);
  };
  EXPECT_DEATH(run([](GemmDesc& d) { d.b_form = Form::kTransposed; }), "not a product: c: F32 \\[4, 5\\]");
  EXPECT_DEATH(run([](GemmDesc& d) { d.a.dtype = DType::kBF16; }), "not a product");
  EXPECT_DEATH(run([](GemmDesc& d) { d.c.dtype = DType::kI32; }), "not a product");
  EXPECT_DEATH(run([](GemmDesc& d) { d.c.pitch = 4; }), "not a product");
  EXPECT_DEATH(run([](GemmDesc& d) { d.a.data = nullptr; }), "not a product");
}

TEST(GemmDescTest, PrintsItself) {
  Product p({.m = 4, .n = 5, .k = 6, .b_form = Form::kTransposed, .mode = WriteMode::kAdd});
  EXPECT_THAT(p.desc().ToString(), StartsWith("c: F32 [4, 5] pitch 11 += a: F32 [4, 6]"));
  EXPECT_THAT(p.desc().ToString(), HasSubstr("b^T: F32 [5, 6]"));
}

TEST(FmaPeakTest, IsARate) {
  const double peak = MeasureFmaPeak(1);
  EXPECT_TRUE(std::isfinite(peak) && peak > 0);
}

// No product is faster than the peak that it is told against, in either type.
TEST(ProductPeakTest, IsARateOfWhatServes) {
  for (const DType in : {DType::kF32, DType::kBF16}) {
    for (const Variant& variant : VariantsFor(in)) {
      if (variant.impl == "amx" && UseAmxModelWhereAbsent()) continue;  // a model's speed says nothing, and takes minutes
      const Forced forced(variant);
      const double peak = MeasureProductPeak(in, 1);
      EXPECT_TRUE(std::isfinite(peak) && peak > 0) << GemmImplementation(in);
    }
  }
}

}  // namespace
}  // namespace jevons
