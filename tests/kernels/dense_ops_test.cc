// RMSNorm, RoPE, SwiGLU, cross-entropy: the CPU table against the reference.
#include <limits>

#include "tests/kernels/op_test.h"

namespace jevons {
namespace {

struct Size {
  int64_t rows, cols;
};
// Zero and one row, odd sizes around the vector width, and sizes that two threads share.
const Size kSizes[] = {{0, 8}, {1, 1}, {1, 33}, {3, 15}, {5, 16}, {67, 130}, {200, 515}};
const DType kTypes[] = {DType::kF32, DType::kBF16};

TEST(RmsNorm, AgreesWithTheReference) {
  for (DType dtype : kTypes) {
    for (auto [rows, cols] : kSizes) {
      CompareTables(
          [&, rows = rows, cols = cols]() -> Outputs {
            Guarded x(dtype, rows, cols), y(dtype, rows, cols, 7);
            GuardedVector gamma(DType::kF32, cols), rstd(DType::kF32, rows);
            RmsNorm(TestContext(), x.Fill(1).tensor, gamma.Fill(2, 0.1f, 1).tensor, 1e-6f, y.tensor, rstd.tensor);
            return {{"y", y.Values()}, {"rstd", rstd.Values()}};
          },
          ToleranceOf(dtype));
    }
  }
}

Outputs RunRmsNormBackward(DType dtype, int64_t rows, int64_t cols, WriteMode mode) {
  Guarded x(dtype, rows, cols), dy(dtype, rows, cols, 5), dx(dtype, rows, cols, 1);
  GuardedVector gamma(DType::kF32, cols), rstd(DType::kF32, rows), dgamma(DType::kF32, cols);
  if (mode == WriteMode::kAdd) {
    dx.Fill(5);
    dgamma.Fill(6);
  }
  RmsNormBackward(TestContext(), {.dy = dy.Fill(3).tensor,
                                  .x = x.Fill(1).tensor,
                                  .gamma = gamma.Fill(2, 0.1f, 1).tensor,
                                  .rstd = rstd.Fill(4, 0.1f, 1).tensor,
                                  .dx = dx.tensor,
                                  .dx_mode = mode,
                                  .dgamma = dgamma.tensor,
                                  .dgamma_mode = mode});
  return {{"dx", dx.Values()}, {"dgamma", dgamma.Values()}};
}

TEST(RmsNorm, BackwardAgreesWithTheReference) {
  for (DType dtype : kTypes)
    for (WriteMode mode : {WriteMode::kOverwrite, WriteMode::kAdd})
      for (auto [rows, cols] : kSizes)
        CompareTables([&, rows = rows, cols = cols] { return RunRmsNormBackward(dtype, rows, cols, mode); },
                      ToleranceOf(dtype, dtype == DType::kBF16 ? 1e-3 : 4e-6));
}

// The promise of WriteMode::kAdd: c + sum, the sum complete before the addition.
TEST(RmsNorm, AddingIsOneAddition) {
  TableScope scope(kCpuOps, 1);
  const Outputs sum = RunRmsNormBackward(DType::kF32, 150, 33, WriteMode::kOverwrite);
  const Outputs added = RunRmsNormBackward(DType::kF32, 150, 33, WriteMode::kAdd);
  GuardedVector before(DType::kF32, 33);
  before.Fill(6);
  for (int64_t i = 0; i < 33; ++i)
    EXPECT_EQ(added[1].values[static_cast<size_t>(i)], before.Get(0, i) + sum[1].values[static_cast<size_t>(i)]);
}

// A row gives the same bits wherever it stands: among others, or alone.
TEST(RmsNorm, RowsDoNotFeelTheirNeighbours) {
  TableScope scope(kCpuOps, 2);
  Guarded x(DType::kF32, 300, 77), y(DType::kF32, 300, 77), alone(DType::kF32, 1, 77);
  GuardedVector gamma(DType::kF32, 77), rstd(DType::kF32, 300), rstd_alone(DType::kF32, 1);
  RmsNorm(TestContext(), x.Fill(1).tensor, gamma.Fill(2).tensor, 1e-6f, y.tensor, rstd.tensor);
  RmsNorm(TestContext(), x.tensor.Rows(211, 1), gamma.tensor, 1e-6f, alone.tensor, rstd_alone.tensor);
  for (int64_t i = 0; i < 77; ++i) EXPECT_EQ(alone.Get(0, i), y.Get(211, i));
}

Outputs RunRope(DType dtype, int64_t rows, int64_t heads, int64_t dim, bool backward) {
  const int64_t length = 4, offset = 3, head_dim = offset + dim + 1;
  Guarded cos(DType::kF32, length + 1, dim / 2), sin(DType::kF32, length + 1, dim / 2), x(dtype, rows, heads * head_dim);
  FillRopeTable(10000, dim, {}, cos.tensor, sin.tensor);
  const RopeDesc desc{.x = x.Fill(1).tensor,
                      .heads = heads,
                      .head_dim = head_dim,
                      .offset = offset,
                      .cos = cos.tensor,
                      .sin = sin.tensor,
                      .sequence_length = length};
  backward ? RopeBackward(TestContext(), desc) : Rope(TestContext(), desc);
  return {{"x", x.Values()}};
}

// The same operations in the same order: the same bits.
TEST(Rope, HasTheBitsOfTheReference) {
  for (DType dtype : kTypes) {
    for (bool backward : {false, true}) {
      for (int64_t dim : {2, 6, 32, 64, 70}) {
        CompareTables([&] { return RunRope(dtype, 8, 3, dim, backward); }, {});
        CompareTables([&] { return RunRope(dtype, 0, 3, dim, backward); }, {});
        CompareTables([&] { return RunRope(dtype, 400, 2, dim, backward); }, {});
      }
    }
  }
}

TEST(Rope, BackwardUndoesForward) {
  Guarded cos(DType::kF32, 16, 16), sin(DType::kF32, 16, 16), x(DType::kF32, 32, 64);
  FillRopeTable(10000, 32, {.factor = 40}, cos.tensor, sin.tensor);
  const RopeDesc desc{
      .x = x.Fill(1).tensor, .heads = 2, .head_dim = 32, .cos = cos.tensor, .sin = sin.tensor, .sequence_length = 16};
  const std::vector<float> before = x.Values();
  Rope(TestContext(), desc);
  EXPECT_FALSE(SameBits(x.Values(), before));
  RopeBackward(TestContext(), desc);
  ExpectClose({"x", x.Values()}, {"before", before}, {.of_largest = 1e-6});
}

TEST(Rope, TableHoldsTheAngles) {
  Guarded cos(DType::kF32, 5000, 32), sin(DType::kF32, 5000, 32);
  FillRopeTable(10000, 64, {}, cos.tensor, sin.tensor);
  EXPECT_EQ(cos.Get(0, 7), 1.0f);
  EXPECT_EQ(sin.Get(0, 7), 0.0f);
  EXPECT_EQ(cos.Get(4999, 0), static_cast<float>(std::cos(4999.0)));
  EXPECT_FLOAT_EQ(sin.Get(3, 8), static_cast<float>(std::sin(0.3)));  // theta^(-16/64) = 0.1
}

// YaRN with DeepSeek-V3's numbers (dim 64, theta 1e4, original length 4096, beta 32 and 1, factor 40). The
// correction dims are 64 ln(4096 / (2 pi b)) / (2 ln 1e4) = 10.47 for b = 32 and 22.51 for b = 1: the ramp
// runs from pair 10 to pair 23.
TEST(Rope, YarnBlendsTheFrequencies) {
  Guarded cos(DType::kF32, 2, 32), sin(DType::kF32, 2, 32);
  FillRopeTable(10000, 64, {.factor = 40}, cos.tensor, sin.tensor);
  for (int64_t i = 0; i < 32; ++i) {
    const double plain = std::pow(10000.0, -2.0 * static_cast<double>(i) / 64.0);
    const double ramp = std::clamp((static_cast<double>(i) - 10) / 13.0, 0.0, 1.0);
    EXPECT_FLOAT_EQ(sin.Get(1, i), static_cast<float>(std::sin(plain * (1 - ramp) + plain / 40 * ramp))) << i;
  }
}

// 4001 theta^(-2/64) is 3000.32673; PyTorch, in FP32, has 3000.32666.
TEST(Rope, AnglesAreRoundedToFp32AsInPublishedCode) {
  Guarded cos(DType::kF32, 4002, 32), sin(DType::kF32, 4002, 32);
  FillRopeTable(10000, 64, {.magnitude = 0.5}, cos.tensor, sin.tensor);
  const float angle = 4001.0f * (1.0f / static_cast<float>(std::pow(10000.0, 1.0 / 32)));
  EXPECT_EQ(cos.Get(4001, 1), 0.5f * static_cast<float>(std::cos(static_cast<double>(angle))));
  EXPECT_EQ(sin.Get(4001, 1), 0.5f * static_cast<float>(std::sin(static_cast<double>(angle))));
}

TEST(SwiGlu, AgreesWithTheReference) {
  for (DType dtype : kTypes) {
    for (bool weighted : {false, true}) {
      for (auto [rows, cols] : kSizes) {
        CompareTables(
            [&, rows = rows, cols = cols]() -> Outputs {
              Guarded gate_up(dtype, rows, 2 * cols), y(dtype, rows, cols);
              GuardedVector weight(DType::kF32, rows);
              SwiGlu(TestContext(), gate_up.Fill(1, 4).tensor, weighted ? weight.Fill(2).tensor : Tensor(), y.tensor);
              return {{"y", y.Values()}};
            },
            ToleranceOf(dtype));
      }
    }
  }
}

TEST(SwiGlu, BackwardAgreesWithTheReference) {
  for (DType dtype : kTypes) {
    for (bool weighted : {false, true}) {
      for (auto [rows, cols] : kSizes) {
        CompareTables(
            [&, rows = rows, cols = cols]() -> Outputs {
              Guarded gate_up(dtype, rows, 2 * cols), dy(dtype, rows, cols), dgate_up(dtype, rows, 2 * cols);
              GuardedVector weight(DType::kF32, rows), dweight(DType::kF32, rows);
              SwiGluBackward(TestContext(), {.dy = dy.Fill(3).tensor,
                                             .gate_up = gate_up.Fill(1, 4).tensor,
                                             .weight = weighted ? weight.Fill(2).tensor : Tensor(),
                                             .dgate_up = dgate_up.tensor,
                                             .dweight = weighted ? dweight.tensor : Tensor()});
              Outputs outputs = {{"dgate_up", dgate_up.Values()}};
              if (weighted) outputs.push_back({"dweight", dweight.Values()});
              return outputs;
            },
            ToleranceOf(dtype, 4e-6));
      }
    }
  }
}

TEST(SwiGlu, SurvivesExtremes) {
  TableScope scope(kCpuOps, 1);
  const float inf = std::numeric_limits<float>::infinity();
  Guarded gate_up(DType::kF32, 1, 10), y(DType::kF32, 1, 5);
  const float gates[] = {-1e30f, -200, 200, std::nanf(""), inf};
  for (int64_t i = 0; i < 5; ++i) {
    gate_up.Set(0, i, gates[i]);
    gate_up.Set(0, 5 + i, 1);
  }
  SwiGlu(TestContext(), gate_up.tensor, {}, y.tensor);
  EXPECT_EQ(y.Get(0, 0), 0);
  EXPECT_EQ(y.Get(0, 1), 0);
  EXPECT_EQ(y.Get(0, 2), 200);
  EXPECT_TRUE(std::isnan(y.Get(0, 3)));  // never silently a number
  EXPECT_EQ(y.Get(0, 4), inf);
}

Outputs RunCrossEntropy(DType dtype, int64_t rows, int64_t vocab, bool in_place) {
  Guarded logits(DType::kF32, rows, vocab), dlogits(dtype, rows, vocab);
  GuardedVector losses(DType::kF32, rows), losses_again(DType::kF32, rows);
  std::vector<int32_t> labels(static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r) labels[static_cast<size_t>(r)] = r % 5 == 4 ? -1 : static_cast<int32_t>(r * 7919 % vocab);
  const Tensor ids = Tensor::Of(labels.data(), {rows});
  const Tensor out = in_place ? logits.tensor : dlogits.tensor;
  CrossEntropy(TestContext(), logits.Fill(1, 3).tensor, ids, losses_again.tensor);
  CrossEntropyWithGrad(TestContext(), logits.tensor, ids, 0.125f, losses.tensor, out);
  EXPECT_TRUE(SameBits(losses.Values(), losses_again.Values()));
  return {{"losses", losses.Values()}, {"dlogits", in_place ? logits.Values() : dlogits.Values()}};
}

TEST(CrossEntropy, AgreesWithTheReference) {
  for (auto [rows, vocab] : {Size{0, 5}, Size{1, 1}, Size{2, 15}, Size{9, 16}, Size{33, 1001}}) {
    CompareTables([&, rows = rows, vocab = vocab] { return RunCrossEntropy(DType::kF32, rows, vocab, false); },
                  ToleranceOf(DType::kF32));
    CompareTables([&, rows = rows, vocab = vocab] { return RunCrossEntropy(DType::kF32, rows, vocab, true); },
                  ToleranceOf(DType::kF32));
    CompareTables([&, rows = rows, vocab = vocab] { return RunCrossEntropy(DType::kBF16, rows, vocab, false); },
                  ToleranceOf(DType::kBF16));
  }
}

TEST(CrossEntropy, LargeLogitsDoNotOverflowAndNanIsSeen) {
  TableScope scope(kCpuOps, 1);
  Guarded logits(DType::kF32, 2, 37);
  GuardedVector losses(DType::kF32, 2);
  logits.Fill(1, 1, 1e4f);
  logits.Set(1, 20, std::nanf(""));
  int32_t labels[] = {3, 3};
  CrossEntropy(TestContext(), logits.tensor, Tensor::Of(labels, {2}), losses.tensor);
  EXPECT_TRUE(std::isfinite(losses.Get(0, 0)));
  EXPECT_TRUE(std::isnan(losses.Get(0, 1)));
}

TEST(DenseOpsDeathTest, WrongShapesAreNamed) {
  Guarded x(DType::kF32, 4, 8), y(DType::kF32, 4, 7);
  GuardedVector gamma(DType::kF32, 8), rstd(DType::kF32, 4);
  int32_t labels[] = {0, 1, 8, 0};
  EXPECT_DEATH(RmsNorm(TestContext(), x.tensor, gamma.tensor, 1e-6f, y.tensor, rstd.tensor), "y is F32 .4, 7.*4, 8");
  EXPECT_DEATH(CrossEntropy(TestContext(), x.tensor, Tensor::Of(labels, {4}), rstd.tensor), "labels.2. = 8 is outside");
}

}  // namespace
}  // namespace jevons
