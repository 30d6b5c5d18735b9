// The FP8 recipe in the model (report 3.3): which products it covers, that each is what its definition says, how near it is.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "kernels/ops/quantize.h"
#include "kernels/ops/swiglu.h"
#include "tests/support/model_harness.h"
#include "tests/support/tiny_model.h"
#include "trainer/model/ffn.h"
#include "trainer/model/linear.h"
#include "trainer/model/model.h"

namespace jevons {
namespace {

using Matrix = std::vector<float>;

Matrix Random(int64_t rows, int64_t cols, uint64_t seed, double scale = 1) {
  Matrix x(static_cast<size_t>(rows * cols));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(scale * (2 * RandomUniform(seed, 0, i) - 1));
  return x;
}

Tensor View(Matrix& x, int64_t rows, int64_t cols) { return Tensor::Of(x.data(), {rows, cols}); }

// x rounded to FP8 and back, the definition in scalar words: a tile's scale is its largest magnitude over 448.
Matrix Rounded(const Matrix& x, int64_t rows, int64_t cols, int64_t tile_rows, int64_t tile_cols, ScaleKind kind) {
  Matrix y(x.size());
  for (int64_t r0 = 0; r0 < rows; r0 += tile_rows) {
    for (int64_t c0 = 0; c0 < cols; c0 += tile_cols) {
      const int64_t r1 = std::min(rows, r0 + tile_rows), c1 = std::min(cols, c0 + tile_cols);
      float amax = 0;
      for (int64_t r = r0; r < r1; ++r)
        for (int64_t c = c0; c < c1; ++c) amax = std::max(amax, std::abs(x[static_cast<size_t>(r * cols + c)]));
      const float scale = ScaleOf<E4M3>(amax, kind), inverse = 1 / scale;
      for (int64_t r = r0; r < r1; ++r)
        for (int64_t c = c0; c < c1; ++c) {
          const auto at = static_cast<size_t>(r * cols + c);
          y[at] = Decode<E4M3>(Encode<E4M3>(x[at] * inverse)) * scale;
        }
    }
  }
  return y;
}

// a [m,k] times b [k,n] or b [n,k]^T, in FP64.
std::vector<double> Product(const Matrix& a, const Matrix& b, int64_t m, int64_t n, int64_t k, bool a_transposed,
                            bool b_transposed) {
  std::vector<double> c(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j)
      for (int64_t l = 0; l < k; ++l)
        c[static_cast<size_t>(i * n + j)] += double{a[static_cast<size_t>(a_transposed ? l * m + i : i * k + l)]} *
                                             b[static_cast<size_t>(b_transposed ? j * k + l : l * n + j)];
  return c;
}

void ExpectNear(const Matrix& actual, const std::vector<double>& expected) {
  double largest = 0, error = 0;
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    error = std::max(error, std::abs(actual[i] - expected[i]));
  }
  EXPECT_GT(largest, 0);
  EXPECT_LT(error, 1e-6 * largest);  // FP32 sums; a wrong tile or scale shows at 1e-2
}

// What WeightBinding makes of a weight.
Fp8Weight CodesOf(const LayerContext& ctx, const Tensor& w) {
  const Fp8Weight weight = AllocateFp8Weight(*ctx.ops.scratch, Device::kCpu, w.rows(), w.cols());
  QuantizeWeights(ctx.ops, {{{w, weight}}}, nullptr);
  return weight;
}

class Fp8Linear : public testing::TestWithParam<std::pair<ScaleKind, ScaleKind>> {
 protected:
  static constexpr int64_t kT = 150, kK = 140, kN = 260;  // several tiles, the last ones cut
};

TEST_P(Fp8Linear, EachProductIsItsDefinition) {
  const auto [x_kind, dy_kind] = GetParam();
  Matrix x = Random(kT, kK, 1), w = Random(kN, kK, 2, 0.1), dy = Random(kT, kN, 3, 1e-3), y(kT * kN), dx(kT * kK), dw(kN * kK);
  for (size_t i = 0; i < x.size(); i += 97) x[i] *= 50;  // outliers, so that neighbours' scales differ
  Arena scratch("scratch", int64_t{1} << 30);
  WgradQueue queue;
  Fp8Stats stats;
  MicroMemory memory("memory", int64_t{1} << 30);
  LayerContext ctx{.ops = {.stream = {}, .scratch = &scratch}, .memory = &memory, .wgrad = &queue, .fp8 = &stats};
  const Weight weight{.value = View(w, kN, kK),
                      .fp8 = CodesOf(ctx, View(w, kN, kK)),
                      .grad = {.sum = View(dw, kN, kK)},
                      .plan = {true, x_kind, dy_kind}};
  LinearForward(ctx, View(x, kT, kK), weight, View(y, kT, kN));
  LinearBackwardInput(ctx, View(dy, kT, kN), View(x, kT, kK), weight, View(dx, kT, kK));
  queue.Run(ctx.ops);

  const Matrix x8 = Rounded(x, kT, kK, 1, 128, x_kind), dy8 = Rounded(dy, kT, kN, 1, 128, dy_kind),
               w8 = Rounded(w, kN, kK, 128, 128, ScaleKind::kFp32);
  ExpectNear(y, Product(x8, w8, kT, kN, kK, false, true));
  ExpectNear(dx, Product(dy8, w8, kT, kK, kN, false, false));
  // The weight gradient's operands are made from the codes of the other products.
  const Matrix x88 = Rounded(x8, kT, kK, 128, 1, x_kind), dy88 = Rounded(dy8, kT, kN, 128, 1, dy_kind);
  ExpectNear(dw, Product(dy88, x88, kN, kK, kT, true, false));
  EXPECT_EQ(stats.activations.elements, kT * kK);
  EXPECT_EQ(stats.gradients.elements, kT * kN);
}

INSTANTIATE_TEST_SUITE_P(Scales, Fp8Linear,
                         testing::Values(std::pair{ScaleKind::kFp32, ScaleKind::kFp32},
                                         std::pair{ScaleKind::kPowerOfTwo, ScaleKind::kFp32},
                                         std::pair{ScaleKind::kFp32, ScaleKind::kPowerOfTwo}));

// Where a device keeps weights turned, dgrad reads nothing else, and its bits are those of the plain ones.
TEST(Fp8Turned, DgradReadsTurnedWeights) {
  constexpr int64_t kT = 150, kK = 140, kN = 260;
  Matrix x = Random(kT, kK, 1), w = Random(2 * kN, kK, 2, 0.1), dy = Random(kT, kN, 3), dx(kT * kK), turned_dx(dx.size());
  for (size_t i = 0; i < w.size(); i += 97) w[i] *= 50;
  Arena scratch("scratch", int64_t{1} << 30);
  WgradQueue queue;
  MicroMemory memory("memory", int64_t{1} << 30);
  LayerContext ctx{.ops = {.stream = {}, .scratch = &scratch}, .memory = &memory, .wgrad = &queue};
  ExpertWeight plain{.value = Tensor::Of(w.data(), {2, kN, kK}), .fp8 = {}, .grad = {}, .plan = {.fp8 = true}}, turned = plain;
  for (int64_t e = 0; e < 2; ++e) {
    plain.fp8.push_back(CodesOf(ctx, plain.value.Index(e)));
    turned.fp8.push_back({.plain = {}, .turned = AllocateFp8Weight(scratch, Device::kCpu, kK, kN).plain});
    TransposeBlocks(plain.fp8.back().plain, turned.fp8.back().turned);
  }
  const std::vector<ExpertSegment> segments = {{0, {0, 70}}, {1, {70, kT}}};
  ExpertsBackwardInput(ctx, segments, View(dy, kT, kN), plain, View(dx, kT, kK));
  ExpertsBackwardInput(ctx, segments, View(dy, kT, kN), turned, View(turned_dx, kT, kK));
  EXPECT_EQ(dx, turned_dx);

  const auto backward = [&](const ExpertWeight& weight, Matrix& to) {
    LinearBackwardInput(ctx, View(dy, kT, kN), View(x, kT, kK),
                        {.value = weight.value.Index(1), .fp8 = weight.fp8[1], .grad = {}, .plan = weight.plan},
                        View(to, kT, kK));
  };
  backward(plain, dx);
  backward(turned, turned_dx);
  EXPECT_EQ(dx, turned_dx);
}

// The ablation of the report's appendix B.2: gradients in blocks of 128x128, in dgrad and, made from the same codes, in wgrad.
TEST(Fp8Ablations, GradientsInBlocks) {
  constexpr int64_t kT = 150, kK = 140, kN = 260;
  Matrix x = Random(kT, kK, 1), w = Random(kN, kK, 2), dy = Random(kT, kN, 3), dx(kT * kK), dw(kN * kK);
  for (size_t i = 0; i < dy.size(); i += 97) dy[i] *= 50;
  Arena scratch("scratch", int64_t{1} << 30);
  WgradQueue queue;
  MicroMemory memory("memory", int64_t{1} << 30);
  LayerContext ctx{.ops = {.stream = {}, .scratch = &scratch}, .memory = &memory, .wgrad = &queue};
  const Weight weight{.value = View(w, kN, kK),
                      .fp8 = CodesOf(ctx, View(w, kN, kK)),
                      .grad = {.sum = View(dw, kN, kK)},
                      .plan = {.fp8 = true, .dy_tiling = Tiling::kBlocks128x128}};
  LinearBackwardInput(ctx, View(dy, kT, kN), View(x, kT, kK), weight, View(dx, kT, kK));
  queue.Run(ctx.ops);
  const Matrix w8 = Rounded(w, kN, kK, 128, 128, ScaleKind::kFp32), dy8 = Rounded(dy, kT, kN, 128, 128, ScaleKind::kFp32);
  ExpectNear(dx, Product(dy8, w8, kT, kK, kN, false, false));
  const Matrix x88 = Rounded(Rounded(x, kT, kK, 1, 128, ScaleKind::kFp32), kT, kK, 128, 1, ScaleKind::kFp32);
  ExpectNear(dw, Product(Rounded(dy8, kT, kN, 128, 1, ScaleKind::kFp32), x88, kN, kK, kT, true, false));
}

// Without promotion the sums are cut to the tensor core's 14 bits (report 3.3.2): an error that grows with the length.
TEST(Fp8Ablations, SumsThatStayInTheTensorCore) {
  constexpr int64_t kT = 8, kK = 4096, kN = 16;
  Matrix x = Random(kT, kK, 1), w = Random(kN, kK, 2), y(kT * kN);
  for (float& v : x) v = std::abs(v);
  for (float& v : w) v = std::abs(v);
  Arena scratch("scratch", int64_t{1} << 30);
  LayerContext ctx{.ops = {.stream = {}, .scratch = &scratch}};
  const auto exact = Product(Rounded(x, kT, kK, 1, 128, ScaleKind::kFp32), Rounded(w, kN, kK, 128, 128, ScaleKind::kFp32), kT, kN,
                             kK, false, true);
  std::map<bool, double> error;
  for (const bool promote : {true, false}) {
    const Weight weight{
        .value = View(w, kN, kK), .fp8 = CodesOf(ctx, View(w, kN, kK)), .grad = {}, .plan = {.fp8 = true, .promote = promote}};
    LinearForward(ctx, View(x, kT, kK), weight, View(y, kT, kN));
    for (size_t i = 0; i < exact.size(); ++i) error[promote] = std::max(error[promote], std::abs(y[i] / exact[i] - 1));
  }
  EXPECT_LT(error[true], 1e-5);
  EXPECT_GT(error[false], 1e-2);
}

// What is kept for backward is what its codes give back; uncompressed it is the value itself.
TEST(Fp8Cache, GivesBackWhatTheFormatHolds) {
  constexpr int64_t kT = 5, kC = 140;
  MicroMemory memory("memory", 1 << 20);
  Arena scratch("scratch", 1 << 20);
  Fp8Stats stats;
  const LayerContext ctx{.ops = {.stream = {}, .scratch = &scratch}, .memory = &memory, .fp8 = &stats};
  const Matrix x = Random(kT, kC, 11);
  const auto kept = [&](bool compress, const CacheFormat& format) {
    CachedActivation cached(ctx, *memory.until_w, "x", {kT, kC}, compress);
    std::copy(x.begin(), x.end(), cached.value().as<float>());
    cached.Keep(ctx, "x", format);
    const Tensor back = cached.Restore(ctx, "x");
    return Matrix(back.as<float>(), back.as<float>() + back.size());
  };
  EXPECT_EQ(kept(false, kSwiGluCache), x);
  EXPECT_EQ(stats.cached.elements, 0);
  EXPECT_EQ(kept(true, kSwiGluCache), Rounded(x, kT, kC, 1, 128, ScaleKind::kFp32));
  EXPECT_EQ(stats.cached.elements, kT * kC);
  const Matrix e5m6 = kept(true, kAttentionCache);
  EXPECT_NE(e5m6, x);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(e5m6[i], x[i], std::ldexp(std::abs(x[i]), -7)) << i;  // 6 bits, half a step
}

// Experts: rows of one expert never feel another's, and an expert without rows is no product.
TEST(Fp8Experts, AreTheSameProductsBySegments) {
  constexpr int64_t kR = 90, kK = 130, kN = 70;
  Matrix x = Random(kR, kK, 4), w = Random(3 * kN, kK, 5), y(kR * kN), alone(kR * kN);
  Arena scratch("scratch", int64_t{1} << 30);
  LayerContext ctx{.ops = {.stream = {}, .scratch = &scratch}};
  const ProductPlan plan{.fp8 = true, .x = ScaleKind::kPowerOfTwo};
  ExpertWeight experts{.value = Tensor::Of(w.data(), {3, kN, kK}), .fp8 = {}, .grad = {}, .plan = plan};
  for (int64_t e = 0; e < 3; ++e) experts.fp8.push_back(CodesOf(ctx, experts.value.Index(e)));
  const std::vector<ExpertSegment> segments = {{0, {0, 1}}, {0, {1, 40}}, {2, {40, 90}}};
  ExpertsForward(ctx, segments, View(x, kR, kK), experts, View(y, kR, kN));
  for (const ExpertSegment& segment : segments) {
    const Weight weight{.value = experts.value.Index(segment.expert),
                        .fp8 = experts.fp8[static_cast<size_t>(segment.expert)],
                        .grad = {},
                        .plan = plan};
    LinearForward(ctx, View(x, kR, kK).Rows(segment.rows.begin, segment.rows.size()), weight,
                  View(alone, kR, kN).Rows(segment.rows.begin, segment.rows.size()));
  }
  EXPECT_EQ(y, alone);
  ExpertsForward(ctx, {}, View(x, kR, kK), experts, View(y, kR, kN));
  EXPECT_EQ(y, alone);
}

// An FFN in FP8 keeps SwiGLU's output in codes alone; every product has the bits that it has of the value, and losses are counted once.
TEST(Fp8Ffn, ReadsSwiGluInCodesWithTheBitsOfItsValue) {
  constexpr int64_t kT = 150, kH = 140, kI = 260;
  Matrix x = Random(kT, kH, 1), up = Random(2 * kI, kH, 2, 0.3), down = Random(kH, kI, 3, 0.1), dy = Random(kT, kH, 4);
  Matrix y(kT * kH), dx(kT * kH), d_up(up.size()), d_down(down.size()), value(kT * kI), y2(y.size()), d_activated(kT * kI),
      d_down2(down.size());
  Arena scratch("scratch", int64_t{1} << 30);
  MicroMemory memory("memory", int64_t{1} << 30);
  WgradQueue queue;
  Fp8Stats stats;
  LayerContext ctx{.ops = {.stream = {}, .scratch = &scratch}, .memory = &memory, .wgrad = &queue, .fp8 = &stats};
  const ProductPlan plan{.fp8 = true};
  FfnWeights w;
  w.gate_up = {View(up, 2 * kI, kH), CodesOf(ctx, View(up, 2 * kI, kH)), {.sum = View(d_up, 2 * kI, kH)}, plan};
  w.down = {View(down, kH, kI), CodesOf(ctx, View(down, kH, kI)), {.sum = View(d_down, kH, kI)}, plan};
  FfnSaved saved;
  FfnForward(ctx, w, View(x, kT, kH), View(y, kT, kH), WriteMode::kOverwrite, saved);
  EXPECT_EQ(stats.activations.elements, kT * (kH + kI));
  FfnBackwardInput(ctx, w, View(dy, kT, kH), View(x, kT, kH), saved, View(dx, kT, kH));
  EXPECT_EQ(stats.activations.elements, kT * (kH + kI)) << "computed again, not counted again";
  int64_t bytes = 0;
  for (const auto& [name, size] : memory.stash->PeakSlices())
    if (name == "ffn.activated") bytes += size;
  EXPECT_EQ(bytes, Arena::SliceBytes(DType::kU8, {kT, kI}) + Arena::SliceBytes(DType::kF32, {kT, TilesOf(kI)}));
  queue.Run(ctx.ops);

  // The same from the value: forward's SwiGLU reads what its product gave, backward's what was kept of that.
  const Tensor gate_up = ctx.Temp("gate_up", {kT, 2 * kI});
  LinearForward(ctx, View(x, kT, kH), w.gate_up, gate_up);
  SwiGlu(ctx.ops, gate_up, Tensor(), View(value, kT, kI));
  LinearForward(ctx, View(value, kT, kI), w.down, View(y2, kT, kH));
  EXPECT_EQ(y, y2);
  w.down.grad.sum = View(d_down2, kH, kI);
  SwiGlu(ctx.ops, saved.until_b.gate_up.Restore(ctx, "gate_up"), Tensor(), View(value, kT, kI));
  LinearBackwardInput(ctx, View(dy, kT, kH), View(value, kT, kI), w.down, View(d_activated, kT, kI));
  queue.Run(ctx.ops);
  EXPECT_EQ(d_down, d_down2);
}

std::map<std::string, std::string> Plans(const PrecisionConfig& precision) {
  std::map<std::string, std::string> plans;
  ModelConfig model = TinyModel();
  model.mutable_mtp()->set_depth(1);
  for (const ParamSpec& spec : ParameterTable(model)) {
    const ProductPlan plan = PlanOf(spec, precision);
    if (!plan.fp8) continue;
    plans[spec.name] = std::string(plan.x == ScaleKind::kPowerOfTwo ? "x" : "") + (plan.dy == ScaleKind::kPowerOfTwo ? "dy" : "");
  }
  return plans;
}

// Everything but embedding, head, gate, norms and eh_proj; powers of two where the report has them (3.3.2, 3.5.2).
TEST(Fp8Plan, CoversWhatTheReportDoes) {
  PrecisionConfig precision;
  EXPECT_TRUE(Plans(precision).empty());
  precision.set_gemm(FP8_BLOCK);
  const auto plans = Plans(precision);
  ModelConfig model = TinyModel();
  model.mutable_mtp()->set_depth(1);
  for (const ParamSpec& spec : ParameterTable(model)) {
    const bool linear = spec.name.find("_proj") != std::string::npos && spec.name.find("eh_proj") == std::string::npos;
    ASSERT_EQ(plans.count(spec.name) == 1, linear) << spec.name;
    if (!linear) continue;
    const std::string expected = spec.name.find("o_proj.") != std::string::npos                               ? "x"
                                 : spec.name.find("experts.gate_up_proj") != std::string::npos && spec.expert ? "x"
                                 : spec.expert                                                                ? "dy"
                                                                                                              : "";
    EXPECT_EQ(plans.at(spec.name), expected) << spec.name;
  }
}

TEST(Fp8Plan, ModulesMaySayOtherwise) {
  PrecisionConfig precision;
  precision.set_gemm(FP8_BLOCK);
  precision.set_attention(AS_COMPUTE);
  for (const auto& [name, plan] : Plans(precision)) EXPECT_EQ(name.find("self_attn"), std::string::npos) << name;
  precision.set_gemm(AS_COMPUTE);
  precision.clear_attention();
  precision.set_routed_experts(FP8_BLOCK);
  for (const auto& [name, plan] : Plans(precision)) EXPECT_NE(name.find("mlp.experts."), std::string::npos) << name;
  EXPECT_FALSE(Plans(precision).empty());
}

}  // namespace
}  // namespace jevons
