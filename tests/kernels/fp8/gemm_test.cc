// The numbers that Fp8Gemm and GroupedFp8Gemm compute: every implementation, instruction set, product of the
// recipe, mode and type.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <array>
#include <vector>

#include "kernels/fp8/tensor_core.h"
#include "kernels/ops/fp8_gemm.h"
#include "tests/kernels/gemm/gemm_case.h"

namespace jevons {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

enum class Role { kForward, kDgrad, kWgrad };
constexpr Role kRoles[] = {Role::kForward, Role::kDgrad, Role::kWgrad};

struct Fp8Case {
  int64_t m, n, k;
  Role role = Role::kForward;
  WriteMode mode = WriteMode::kOverwrite;
  DType out = DType::kF32;
  bool promote = true;
};

// Random codes, all but NaN, in rows `pad` apart; NaN codes around them.
struct Codes {
  Codes(int64_t rows, int64_t cols, int64_t pad, uint64_t seed)
      : rows(rows), cols(cols), pitch(cols + pad), bytes((rows + 2) * pitch, 0x7F) {
    for (int64_t i = 0; i < rows * cols; ++i) {
      const uint8_t code = static_cast<uint8_t>(RandomBits(seed, 0, i) >> 56);
      At(i / cols, i % cols) = (code & 0x7F) == 0x7F ? 0 : code;
    }
  }
  uint8_t& At(int64_t i, int64_t j) { return bytes[(i + 1) * pitch + j]; }
  Tensor view() {
    Tensor t(bytes.data() + pitch, DType::kU8, {rows, cols});
    t.pitch = pitch;
    return t;
  }
  int64_t rows, cols, pitch;
  std::vector<uint8_t> bytes;
};

// The operands of a case. Where C is overwritten it starts as NaN.
struct Product8 {
  explicit Product8(const Fp8Case& t, uint64_t seed = 1)
      : shape(t),
        a(t.m, t.k, 5, seed),
        b(t.role == Role::kDgrad ? t.k : t.n, t.role == Role::kDgrad ? t.n : t.k, 3, seed + 1),
        a_scales(Scales(t.role == Role::kWgrad ? Shape{TilesOf(t.k), t.m} : Shape{t.m, TilesOf(t.k)}, seed)),
        b_scales(Scales(t.role == Role::kForward ? Shape{TilesOf(t.n), TilesOf(t.k)}
                        : t.role == Role::kDgrad ? Shape{TilesOf(t.k), TilesOf(t.n)}
                                                 : Shape{TilesOf(t.k), t.n},
                        seed + 1)),
        c(t.out, t.m, t.n, 3, seed + 2) {
    if (t.mode == WriteMode::kOverwrite) c.Poison();
  }

  Fp8GemmDesc desc() {
    const bool wgrad = shape.role == Role::kWgrad;
    return {.a = {a.view(), a_scales.view(), wgrad ? Tiling::kColumns128x1 : Tiling::kRows1x128},
            .b = {b.view(), b_scales.view(), wgrad ? Tiling::kColumns128x1 : Tiling::kBlocks128x128},
            .c = c.view(),
            .b_form = shape.role == Role::kDgrad ? Form::kPlain : Form::kTransposed,
            .mode = shape.mode,
            .promote = shape.promote};
  }
  float A(int64_t i, int64_t l) { return Decode<E4M3>(a.At(i, l)); }
  float B(int64_t l, int64_t j) { return Decode<E4M3>(shape.role == Role::kDgrad ? b.At(l, j) : b.At(j, l)); }
  float Scale(int64_t i, int64_t j, int64_t block) const {
    const float sa = shape.role == Role::kWgrad ? a_scales.Get(block, i) : a_scales.Get(i, block);
    const float sb = shape.role == Role::kForward ? b_scales.Get(j / 128, block)
                     : shape.role == Role::kDgrad ? b_scales.Get(block, j / 128)
                                                  : b_scales.Get(block, j);
    return sa * sb;
  }

  Fp8Case shape;
  Codes a, b;
  Matrix a_scales, b_scales, c;

 private:
  static Matrix Scales(const Shape& s, uint64_t seed) {  // in (0.001, 2)
    Matrix scales(DType::kF32, s[0], s[1], 2, seed + 7);
    for (int64_t i = 0; i < s[0]; ++i) {
      for (int64_t j = 0; j < s[1]; ++j) scales.Set(i, j, 1.001f + scales.Get(i, j));
    }
    return scales;
  }
};

// C as the definition has it, from the operands element by element.
Matrix ExpectedC(Product8& p, Order order) {
  Matrix c = p.c;
  const Fp8Case& t = p.shape;
  for (int64_t i = 0; i < t.m; ++i) {
    for (int64_t j = 0; j < t.n; ++j) {
      float acc = 0;
      for (int64_t begin = 0; begin < t.k; begin += 128) {
        const int64_t end = std::min(begin + 128, t.k);
        float sum = 0;
        if (order == Order::kTiles) {
          sum = SumOnTiles(
              end - begin, [&](int64_t l) { return p.A(i, begin + l); }, [&](int64_t l) { return p.B(begin + l, j); });
        }
        for (int64_t l = begin; order != Order::kTiles && l < end; ++l) {
          const int64_t other = order == Order::kAscending || (l ^ 1) == end ? l : l ^ 1;
          sum = std::fma(p.A(i, other), p.B(other, j), sum);
        }
        const float scaled = sum * p.Scale(i, j, begin / 128);
        acc = acc + scaled;
      }
      c.Set(i, j, t.mode == WriteMode::kAdd ? p.c.Get(i, j) + acc : acc);
    }
  }
  return c;
}

// FP32 sums against FP64 ones: in whatever order the terms of a block are added, each of the additions and
// the four roundings that follow errs by 2^-24 of the sum of magnitudes at most.
void ExpectNearFp64(Product8& got, const Matrix& before) {
  const Fp8Case& t = got.shape;
  for (int64_t i = 0; i < t.m; ++i) {
    for (int64_t j = 0; j < t.n; ++j) {
      double want = 0, magnitude = 0;
      for (int64_t l = 0; l < t.k; ++l) {
        const double term = double{got.A(i, l)} * got.B(l, j) * got.Scale(i, j, l / 128);
        want += term;
        magnitude += std::abs(term);
      }
      if (t.mode == WriteMode::kAdd) want += before.Get(i, j);
      const double rounding = std::abs(want) * (t.out == DType::kBF16 ? 0x1p-8 : 0x1p-23);
      const double bound = (132.0 + static_cast<double>(TilesOf(t.k))) * 0x1p-24 * magnitude + rounding;
      ASSERT_NEAR(got.c.Get(i, j), want, bound) << i << "," << j;
    }
  }
}

class Threads {
 public:
  explicit Threads(int count) : before_(omp_get_max_threads()) { omp_set_num_threads(count); }
  ~Threads() { omp_set_num_threads(before_); }

 private:
  int before_;
};

// What serves BF16 products, and the reference.
std::vector<Variant> AllVariants() {
  std::vector<Variant> variants = VariantsFor(DType::kBF16);
  variants.push_back({"ref", 0});
  return variants;
}

void CheckCase(const Fp8Case& t) {
  Product8 fresh(t);
  for (const Variant& variant : AllVariants()) {
    const Forced forced(variant);
    const Matrix expected = ExpectedC(fresh, OrderOf(variant.impl));
    Matrix by_one_thread = fresh.c;
    for (const int threads : {1, 3}) {
      const Threads scope(threads);
      Product8 p(t);
      Fp8Gemm(OpContext{}, p.desc());
      SCOPED_TRACE(GemmImplementation(DType::kBF16) + ": " + p.desc().ToString());
      ExpectNearFp64(p, fresh.c);
      if (testing::Test::HasFatalFailure()) return;
      if (threads == 1) by_one_thread = p.c;
      ASSERT_TRUE(p.c == by_one_thread);
      ASSERT_TRUE(p.c == expected);  // guards included
    }
  }
}

TEST(Fp8GemmTest, EveryProductModeAndTypeHasTheBitsOfTheDefinition) {
  constexpr std::array<int64_t, 3> kShapes[] = {{1, 1, 1},    {7, 64, 128},  {13, 67, 131}, {49, 130, 33}, {20, 33, 300},
                                                {97, 5, 127}, {2, 17, 1100}, {0, 5, 5},     {5, 0, 5},     {5, 5, 0}};
  for (const Role role : kRoles) {
    for (const WriteMode mode : {WriteMode::kOverwrite, WriteMode::kAdd}) {
      for (const DType out : {DType::kF32, DType::kBF16}) {
        for (const auto& [m, n, k] : kShapes) {
          CheckCase({m, n, k, role, mode, out});
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(Fp8GemmTest, ManyRowsAndColumnsAreCutIntoRectangles) {
  CheckCase({1100, 17, 129, Role::kForward});
  CheckCase({9, 1031, 130, Role::kDgrad, WriteMode::kAdd, DType::kBF16});
  CheckCase({300, 300, 140, Role::kWgrad, WriteMode::kAdd});
  CheckCase({35, 70, 1200, Role::kForward, WriteMode::kAdd});  // several slabs of k
}

TEST(Fp8GemmTest, EveryCodeIsDecoded) {
  for (const Variant& variant : AllVariants()) {
    const Forced forced(variant);
    for (const Role role : kRoles) {
      Product8 p({256, 40, 1, role});  // row i is code i times B's ones: its own value, times the scales
      for (int64_t i = 0; i < 256; ++i) p.a.At(i, 0) = static_cast<uint8_t>(i);
      for (int64_t j = 0; j < 40; ++j) (role == Role::kDgrad ? p.b.At(0, j) : p.b.At(j, 0)) = 0x38;
      Fp8Gemm(OpContext{}, p.desc());
      for (int64_t i = 0; i < 256; ++i) {
        for (int64_t j = 0; j < 40; ++j) {
          const float want = Decode<E4M3>(static_cast<uint8_t>(i)) * p.Scale(i, j, 0), got = p.c.Get(i, j);
          ASSERT_TRUE(std::isnan(want) ? std::isnan(got) : want == got) << variant.impl << " code " << i;
        }
      }
    }
  }
}

// Some rows of A against some rows of a transposed B: a row's bits are what they were among all.
TEST(Fp8GemmTest, AnElementDoesNotDependOnItsNeighbours) {
  for (const Variant& variant : AllVariants()) {
    const Forced forced(variant);
    Product8 all({150, 140, 260, Role::kForward}), some({150, 140, 260, Role::kForward});
    Fp8Gemm(OpContext{}, all.desc());
    for (const auto& [row, rows, cols] : {std::array<int64_t, 3>{149, 1, 1}, {3, 100, 139}, {77, 6, 17}, {64, 64, 128}}) {
      Fp8GemmDesc desc = some.desc();
      desc.a.codes = desc.a.codes.Rows(row, rows);
      desc.a.scales = desc.a.scales.Rows(row, rows);
      desc.b.codes = desc.b.codes.Rows(0, cols);
      desc.b.scales = desc.b.scales.Rows(0, TilesOf(cols));
      desc.c = desc.c.Rows(row, rows).Columns(0, cols);
      Fp8Gemm(OpContext{}, desc);
      for (int64_t i = row; i < row + rows; ++i) {
        for (int64_t j = 0; j < cols; ++j) {
          ASSERT_EQ(some.c.Get(i, j), all.c.Get(i, j)) << variant.impl << " " << i << "," << j;
        }
      }
    }
  }
}

TEST(Fp8GemmTest, AGroupHasTheBitsOfItsProducts) {
  for (const Variant& variant : AllVariants()) {
    const Forced forced(variant);
    const Threads three(3);
    std::vector<Product8> alone, together;
    std::vector<Fp8GemmDesc> descs;
    for (int i = 0; i < 9; ++i) {
      const Fp8Case t{i % 3 == 2 ? 0 : 30 + 17 * i, 90,
                      i == 7  ? 0
                      : i < 3 ? 1200
                              : 200,
                      Role::kForward, i % 2 == 0 ? WriteMode::kAdd : WriteMode::kOverwrite};
      alone.emplace_back(t, i + 1);
      together.emplace_back(t, i + 1);
    }
    for (int i = 0; i < 9; ++i) {
      descs.push_back(together[i].desc());
      Fp8GemmDesc single = alone[i].desc();
      if (i == 1) {  // B's codes shared, with other scales
        single.b.codes = alone[0].b.view();
        descs.back().b.codes = together[0].b.view();
      }
      Fp8Gemm(OpContext{}, single);
    }
    GroupedFp8Gemm(OpContext{}, descs);
    for (int i = 0; i < 9; ++i) EXPECT_TRUE(together[i].c == alone[i].c) << variant.impl << " " << i;
  }
}

TEST(Fp8GemmTest, NanStaysInItsRowAndColumn) {
  for (const Variant& variant : AllVariants()) {
    for (const bool promote : {false, true}) {
      const Forced forced(variant);
      Product8 p({20, 50, 200, Role::kWgrad, WriteMode::kOverwrite, DType::kBF16, promote});
      p.a.At(7, 150) = 0xFF;
      p.b.At(33, 3) = 0x7F;
      Fp8Gemm(OpContext{}, p.desc());
      for (int64_t i = 0; i < 20; ++i) {
        for (int64_t j = 0; j < 50; ++j) {
          ASSERT_EQ(std::isnan(p.c.Get(i, j)), i == 7 || j == 33) << variant.impl << " " << i << "," << j;
        }
      }
    }
  }
}

// All operands that quantisation makes, with their own shapes of scales, and the ablation that gives blocks
// of 128 x 128 to gradients.
TEST(Fp8GemmTest, TakesWhatQuantiseMakes) {
  const int64_t rows = 140, cols = 150, k = 200;
  const auto quantised = [](Matrix& x, Tiling tiling, std::vector<uint8_t>& codes, std::vector<float>& scales) {
    const Shape code_shape = CodesShape(x.rows(), x.cols(), tiling), scale_shape = ScalesShape(x.rows(), x.cols(), tiling);
    codes.resize(code_shape.size());
    scales.resize(scale_shape.size());
    const Fp8Operand q{Tensor::Of(codes.data(), code_shape), Tensor::Of(scales.data(), scale_shape), tiling};
    Quantize(OpContext{}, {.x = x.view(), .codes = q.codes, .scales = q.scales, .tiling = tiling});
    return q;
  };
  for (const Tiling a_tiling : {Tiling::kRows1x128, Tiling::kBlocks128x128, Tiling::kColumns128x1}) {
    for (const Tiling b_tiling : {Tiling::kRows1x128, Tiling::kBlocks128x128, Tiling::kColumns128x1}) {
      const bool a_turned = a_tiling == Tiling::kColumns128x1, b_turned = b_tiling == Tiling::kColumns128x1;
      Matrix a(DType::kF32, a_turned ? k : rows, a_turned ? rows : k, 0, 1);
      Matrix b(DType::kF32, b_turned ? k : cols, b_turned ? cols : k, 0, 2), c(DType::kF32, rows, cols, 0, 3);
      std::vector<uint8_t> a_codes, b_codes;
      std::vector<float> a_scales, b_scales;
      Fp8Gemm(OpContext{},
              {.a = quantised(a, a_tiling, a_codes, a_scales), .b = quantised(b, b_tiling, b_codes, b_scales), .c = c.view()});
      double error = 0, norm = 0;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < cols; ++j) {
          double want = 0;
          for (int64_t l = 0; l < k; ++l) {
            want += double{a_turned ? a.Get(l, i) : a.Get(i, l)} * (b_turned ? b.Get(l, j) : b.Get(j, l));
          }
          error += (c.Get(i, j) - want) * (c.Get(i, j) - want);
          norm += want * want;
        }
      }
      // Each operand errs by 2^-4 at most and about 2^-5.3 in the mean square; both together by 2^-4.8.
      EXPECT_LT(std::sqrt(error / norm), 0.045);
      EXPECT_GT(std::sqrt(error / norm), 0.02);
    }
  }
}

// With scales of one the chain is the tensor core's own.
TEST(Fp8GemmTest, WithoutPromotionTheTensorCoreKeepsTheSum) {
  Product8 p({.m = 5, .n = 4, .k = 300, .promote = false});
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t block = 0; block < 3; ++block) p.a_scales.Set(i, block, 1);
  }
  for (int64_t block = 0; block < 3; ++block) p.b_scales.Set(0, block, 1);
  Fp8Gemm(OpContext{}, p.desc());
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t j = 0; j < 4; ++j) {
      EXPECT_EQ(p.c.Get(i, j), (TensorCoreDot<E4M3, E4M3>(&p.a.At(i, 0), &p.b.At(j, 0), 300, kNoPromotion)));
    }
  }
}

TEST(Fp8GemmTest, WithoutPromotionAllHaveTheBitsOfTheReference) {
  constexpr std::array<int64_t, 3> kShapes[] = {{1, 1, 1},      {5, 17, 31},    {7, 40, 128}, {10, 33, 300},
                                                {130, 131, 66}, {3, 270, 1100}, {0, 3, 9},    {3, 5, 0}};
  for (const Role role : kRoles) {
    for (const WriteMode mode : {WriteMode::kOverwrite, WriteMode::kAdd}) {
      for (const auto& [m, n, k] : kShapes) {
        const Fp8Case t{m, n, k, role, mode, mode == WriteMode::kAdd ? DType::kBF16 : DType::kF32, false};
        const auto run = [&](const Variant& variant, int threads) {
          const Forced forced(variant);
          const Threads scope(threads);
          Product8 p(t);
          for (int64_t l = 0; l < std::min<int64_t>(k, 40); ++l) p.a.At(m / 2, l) = 0;  // a step of zeros
          Fp8Gemm(OpContext{}, p.desc());
          return p.c;
        };
        const Matrix want = run({"ref", 0}, 1);
        for (const Variant& variant : AllVariants()) {
          for (const int threads : {1, 3}) {
            ASSERT_TRUE(run(variant, threads) == want)
                << variant.impl << " " << variant.target << ": " << m << " x " << n << " x " << k;
          }
        }
      }
    }
  }
}

TEST(Fp8GemmTest, PromotionMakesLongSumsExact) {
  double errors[2];
  for (const bool promote : {false, true}) {
    Product8 p({.m = 6, .n = 6, .k = 4096, .promote = promote});
    for (uint8_t& code : p.a.bytes) code = 0x30 + code % 16;  // positive, as after an activation
    for (uint8_t& code : p.b.bytes) code = 0x30 + code % 16;
    Fp8Gemm(OpContext{}, p.desc());
    double worst = 0;
    for (int64_t i = 0; i < 6; ++i) {
      for (int64_t j = 0; j < 6; ++j) {
        double want = 0;
        for (int64_t l = 0; l < 4096; ++l) want += double{p.A(i, l)} * p.B(l, j) * p.Scale(i, j, l / 128);
        worst = std::max(worst, std::abs(p.c.Get(i, j) - want) / want);
      }
    }
    errors[promote] = worst;
  }
  EXPECT_LT(errors[true], 1e-5);
  EXPECT_GT(errors[false], 1e-3);
}

TEST(Fp8GemmDescTest, PrintsItself) {
  Product8 p({4, 5, 6, Role::kDgrad, WriteMode::kAdd});
  EXPECT_THAT(p.desc().ToString(), StartsWith("c: F32 [4, 5] pitch 11 += a: U8 [4, 6]"));
  EXPECT_THAT(p.desc().ToString(), HasSubstr("by 128x128 F32 [1, 1]"));
}

TEST(Fp8GemmDeathTest, WrongProductsAbort) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto run = [](auto change) {
    Product8 p({4, 5, 6, Role::kDgrad});
    Fp8GemmDesc desc = p.desc();
    change(desc);
    Fp8Gemm(OpContext{}, desc);
  };
  constexpr char kMessage[] = "not a product of FP8 operands: c: F32 \\[4, 5\\]";
  EXPECT_DEATH(run([](Fp8GemmDesc& d) { d.b_form = Form::kTransposed; }), kMessage);
  EXPECT_DEATH(run([](Fp8GemmDesc& d) { d.b.tiling = Tiling::kRows1x128; }), kMessage);
  EXPECT_DEATH(run([](Fp8GemmDesc& d) { d.a.tiling = Tiling::kColumns128x1; }), kMessage);
  EXPECT_DEATH(run([](Fp8GemmDesc& d) { d.a.scales = d.a.scales.Rows(0, 3); }), kMessage);
  EXPECT_DEATH(run([](Fp8GemmDesc& d) { d.a.codes = d.a.codes.Columns(0, 5); }), kMessage);
  EXPECT_DEATH(run([](Fp8GemmDesc& d) { d.b.scales.data = nullptr; }), kMessage);
  EXPECT_DEATH(run([](Fp8GemmDesc& d) { d.c.dtype = DType::kU8; }), "not a product");
}

}  // namespace
}  // namespace jevons
