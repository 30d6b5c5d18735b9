// The FP8 recipe in the model (report 3.3): which products it covers, that each is what its definition says, how near it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "kernels/fp8/quantize.h"
#include "parallel/comm/loopback.h"
#include "tests/support/tiny_model.h"
#include "trainer/model/linear.h"
#include "trainer/model/model.h"
#include "trainer/train_step.h"

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
std::vector<double> Product(const Matrix& a, const Matrix& b, int64_t m, int64_t n, int64_t k, bool a_transposed, bool b_transposed) {
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
  LayerContext ctx{.ops = {.stream = {}, .scratch = &scratch}, .wgrad = &queue, .fp8 = &stats};
  const Weight weight{.value = View(w, kN, kK), .grad = {View(dw, kN, kK), WriteMode::kOverwrite}, .plan = {true, x_kind, dy_kind}};
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
  EXPECT_EQ(stats.weights.elements, kN * kK);
}

INSTANTIATE_TEST_SUITE_P(Scales, Fp8Linear,
                         testing::Values(std::pair{ScaleKind::kFp32, ScaleKind::kFp32}, std::pair{ScaleKind::kPowerOfTwo, ScaleKind::kFp32},
                                         std::pair{ScaleKind::kFp32, ScaleKind::kPowerOfTwo}));

// Experts: rows of one expert never feel another's, and an expert without rows is no product.
TEST(Fp8Experts, AreTheSameProductsBySegments) {
  constexpr int64_t kR = 90, kK = 130, kN = 70;
  Matrix x = Random(kR, kK, 4), w = Random(3 * kN, kK, 5), y(kR * kN), alone(kR * kN);
  Arena scratch("scratch", int64_t{1} << 30);
  LayerContext ctx{.ops = {.stream = {}, .scratch = &scratch}};
  const ProductPlan plan{.fp8 = true, .x = ScaleKind::kPowerOfTwo};
  const ExpertWeight experts{.value = Tensor::Of(w.data(), {3, kN, kK}), .grad = {}, .plan = plan};
  const std::vector<ExpertSegment> segments = {{0, {0, 1}}, {0, {1, 40}}, {2, {40, 90}}};
  ExpertsForward(ctx, segments, View(x, kR, kK), experts, View(y, kR, kN));
  for (const ExpertSegment& segment : segments) {
    const Weight weight{.value = experts.value.Index(segment.expert), .grad = {}, .plan = plan};
    LinearForward(ctx, View(x, kR, kK).Rows(segment.rows.begin, segment.rows.size()), weight,
                  View(alone, kR, kN).Rows(segment.rows.begin, segment.rows.size()));
  }
  EXPECT_EQ(y, alone);
  ExpertsForward(ctx, {}, View(x, kR, kK), experts, View(y, kR, kN));
  EXPECT_EQ(y, alone);
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
    const std::string expected = spec.name.find("o_proj.") != std::string::npos               ? "x"
                                 : spec.name.find("experts.gate_up_proj") != std::string::npos && spec.expert ? "x"
                                 : spec.expert                                                   ? "dy"
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

struct Losses {
  double first = 0, last = 0;
  Fp8Stats stats;
};

Losses Train(ProductType product, int steps) {
  RunConfig config;
  *config.mutable_model() = TinyModel();
  config.mutable_model()->set_hidden_size(160);  // sums over more than one block
  config.mutable_model()->set_init_std(0.05);
  config.mutable_data()->set_sequence_length(12);
  config.mutable_train()->set_batch_sequences(4);
  config.mutable_precision()->set_gemm(product);
  Losses losses;
  RunLoopback(1, [&](Communicator& world) {
    Mesh mesh(world, {.world = 1, .pp = 1, .ep = 1});
    TrainStep step(config, mesh);
    step.Initialize();
    SampleBatch batch{.first = 0, .count = 4, .tokens = RandomTokens(4 * 13, config.model().vocab_size(), 9), .document_start = {}};
    for (int i = 0; i < steps; ++i) {
      const auto stats = step.Run({.step = i, .first_sample = 0, .sequences = 4, .tokens_before = 0, .learning_rate = 3e-3, .gamma = 0.001,
                                   .mtp_weight = 0.3},
                                  batch);
      ASSERT_TRUE(stats.ok()) << stats.status();
      if (i == 0) losses.first = stats->loss;
      losses.last = stats->loss;
      losses.stats = stats->fp8;
    }
  });
  return losses;
}

// It trains as FP32 does: the same batch is learned, at nearly the same losses, but not at the same bits.
TEST(Fp8Training, LearnsWhatFp32Learns) {
  const Losses exact = Train(AS_COMPUTE, 30), fp8 = Train(FP8_BLOCK, 30);
  EXPECT_NE(fp8.first, exact.first);
  EXPECT_NEAR(fp8.first, exact.first, 0.01 * exact.first);
  EXPECT_LT(exact.last, 0.5 * exact.first);
  EXPECT_NEAR(fp8.last, exact.last, 0.05 * exact.first);
  EXPECT_EQ(exact.stats.activations.elements, 0);
  for (const QuantStats& stats : {fp8.stats.activations, fp8.stats.gradients, fp8.stats.weights}) {
    EXPECT_GT(stats.elements, 0);
    EXPECT_EQ(stats.saturated, 0);
    EXPECT_EQ(stats.nonfinite, 0);
  }
}

// Dispatch, forward and backward, carries a byte and a 128th of a scale per element; combine stays as it is (report 3.3).
TEST(Fp8Dispatch, HalvesTheBytesOfDispatch) {
  std::map<ProductType, Dispatcher::Bytes> bytes;
  for (const ProductType product : {AS_COMPUTE, FP8_BLOCK}) {
    RunConfig config;
    *config.mutable_model() = TinyModel();
    config.mutable_model()->set_hidden_size(256);
    config.mutable_data()->set_sequence_length(12);
    config.mutable_train()->set_batch_sequences(2);
    config.mutable_precision()->set_compute(BF16);
    config.mutable_precision()->set_routed_experts(product);
    RunLoopback(2, [&](Communicator& world) {
      Mesh mesh(world, {.world = 2, .pp = 1, .ep = 2});
      TrainStep step(config, mesh);
      step.Initialize();
      const SampleBatch batch{.first = world.rank(), .count = 1, .tokens = RandomTokens(13, config.model().vocab_size(), 9), .document_start = {}};
      const auto stats = step.Run({.step = 0, .first_sample = 0, .sequences = 2, .tokens_before = 0, .learning_rate = 0, .gamma = 0,
                                   .mtp_weight = 0.3},
                                  batch);
      ASSERT_TRUE(stats.ok()) << stats.status();
      if (world.rank() == 0) bytes[product] = stats->exchanged;
    });
  }
  // Rows of 256: there and back again 512 bytes become 256 of codes and 8 of scales; each row's routing weight goes along.
  const auto ratio = static_cast<double>(bytes[FP8_BLOCK].dispatch) / static_cast<double>(bytes[AS_COMPUTE].dispatch);
  EXPECT_NEAR(ratio, (2 * 264.0 + 4) / (2 * 512.0 + 4), 0.01);
  EXPECT_NEAR(static_cast<double>(bytes[FP8_BLOCK].combine), static_cast<double>(bytes[AS_COMPUTE].combine),
              0.05 * static_cast<double>(bytes[AS_COMPUTE].combine)) << "the routing of later layers may move a little";
}

}  // namespace
}  // namespace jevons
