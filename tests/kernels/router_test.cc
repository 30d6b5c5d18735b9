// The gate: what is chosen, and the two tables against each other.
#include <limits>
#include <numeric>

#include "tests/kernels/op_test.h"

namespace jevons {
namespace {

struct Gate {
  RouterDesc desc;
  int64_t rows;
};

// Router's outputs in one place.
struct Routed {
  Routed(const RouterDesc& d, int64_t rows)
      : scores(DType::kF32, rows, d.experts),
        weights(DType::kF32, rows * d.top_k),
        indices(static_cast<size_t>(rows * d.top_k), -1),
        counts(static_cast<size_t>(d.experts), -1) {}
  void Run(const RouterDesc& d, const Tensor& logits, const Tensor& bias) {
    Router(TestContext(), d,
           {.logits = logits,
            .bias = bias,
            .scores = scores.tensor,
            .indices = Tensor::Of(indices.data(), {logits.rows(), d.top_k}),
            .weights = Weights(logits.rows(), d),
            .counts = Tensor::Of(counts.data(), {d.experts})});
  }
  Tensor Weights(int64_t rows, const RouterDesc& d) { return weights.tensor.Reshape({rows, d.top_k}); }
  Guarded scores;
  GuardedVector weights;
  std::vector<int32_t> indices;
  std::vector<int64_t> counts;
};

std::vector<float> Floats(const auto& values) { return std::vector<float>(values.begin(), values.end()); }

const Gate kGates[] = {
    {{.experts = 32, .top_k = 4, .groups = 4, .kept_groups = 2, .route_scale = 2.5f}, 0},
    {{.experts = 32, .top_k = 4, .groups = 4, .kept_groups = 2, .route_scale = 2.5f}, 150},
    {{.experts = 256, .top_k = 8, .groups = 8, .kept_groups = 4, .route_scale = 2.5f}, 48},
    {{.experts = 7, .top_k = 7}, 30},
    {{.experts = 9, .top_k = 2, .groups = 3, .kept_groups = 3, .normalize = false}, 33},
    {{.experts = 6, .top_k = 1, .groups = 3, .kept_groups = 2}, 33},
    {{.experts = 1, .top_k = 1}, 3},
};

TEST(Router, AgreesWithTheReference) {
  for (const Gate& gate : kGates) {
    CompareTables(
        [&]() -> Outputs {
          Guarded logits(DType::kF32, gate.rows, gate.desc.experts);
          GuardedVector bias(DType::kF32, gate.desc.experts);
          Routed out(gate.desc, gate.rows);
          out.Run(gate.desc, logits.Fill(1).tensor, bias.Fill(2, 0.3f).tensor);
          EXPECT_EQ(std::accumulate(out.counts.begin(), out.counts.end(), int64_t{0}), gate.rows * gate.desc.top_k);
          return {{"scores", out.scores.Values()},
                  {"weights", out.weights.Values()},
                  {"indices", Floats(out.indices)},
                  {"counts", Floats(out.counts)}};
        },
        {});
  }
}

TEST(Router, BalanceLossAgreesWithTheReference) {
  for (const Gate& gate : kGates) {
    CompareTables(
        [&]() -> Outputs {
          const int64_t sequences = 3, length = gate.rows + 1;
          Guarded scores(DType::kF32, sequences * length, gate.desc.experts);
          Guarded fractions(DType::kF32, sequences, gate.desc.experts);
          GuardedVector losses(DType::kF32, sequences);
          BalanceLoss(TestContext(), gate.desc, scores.Fill(1, 0.1f, 0.5f).tensor, length, fractions.tensor, losses.tensor);
          return {{"fractions", fractions.Values()}, {"losses", losses.Values()}};
        },
        {});
  }
}

TEST(Router, BackwardAgreesWithTheReference) {
  for (const Gate& gate : kGates) {
    for (bool balance : {false, true}) {
      CompareTables(
          [&]() -> Outputs {
            const int64_t sequences = gate.rows % 2 == 0 ? 2 : 1, rows = gate.rows, experts = gate.desc.experts;
            Guarded scores(DType::kF32, rows, experts), fractions(DType::kF32, sequences, experts);
            Guarded dlogits(DType::kF32, rows, experts);
            GuardedVector dweights(DType::kF32, rows * gate.desc.top_k);
            std::vector<int32_t> indices;
            for (int64_t t = 0; t < rows; ++t)
              for (int64_t k = 0; k < gate.desc.top_k; ++k) indices.push_back(static_cast<int32_t>((t + k) % experts));
            const Shape pairs{rows, gate.desc.top_k};
            RouterBackward(TestContext(), gate.desc,
                           {.scores = scores.Fill(1, 0.1f, 0.5f).tensor,
                            .indices = Tensor::Of(indices.data(), pairs),
                            .weights = dweights.tensor.Reshape(pairs),
                            .dweights = dweights.Fill(2).tensor.Reshape(pairs),
                            .fractions = balance && rows > 0 ? fractions.Fill(3).tensor : Tensor(),
                            .balance_scale = 0.01f,
                            .sequence_length = rows / sequences,
                            .dlogits = dlogits.tensor});
            return {{"dlogits", dlogits.Values()}};
          },
          {});
    }
  }
}

// One row, its choice in both tables.
std::vector<int32_t> Choose(const RouterDesc& d, std::vector<float> logits, std::vector<float> bias) {
  Routed out(d, 1), ref(d, 1);
  const Tensor x = Tensor::Of(logits.data(), {1, d.experts}), b = Tensor::Of(bias.data(), {d.experts});
  {
    TableScope scope(kRefOps, 1);
    ref.Run(d, x, b);
  }
  TableScope scope(kCpuOps, 1);
  out.Run(d, x, b);
  EXPECT_EQ(out.indices, ref.indices);
  return out.indices;
}

TEST(Router, TiesGoToTheLowerIndex) {
  EXPECT_EQ(Choose({.experts = 6, .top_k = 3}, {0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0}), (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(Choose({.experts = 6, .top_k = 3}, {0, 1, 0, 2, 1, 0}, {0, 0, 0, 0, 0, 0}), (std::vector<int32_t>{3, 1, 4}));
  // Equal groups: the lower one stays.
  EXPECT_EQ(Choose({.experts = 4, .top_k = 1, .groups = 2, .kept_groups = 1}, {0, 1, 0, 1}, {0, 0, 0, 0}),
            (std::vector<int32_t>{1}));
}

TEST(Router, AGroupIsWorthItsBestTwo) {
  // 0.9 + 0.1 (group 0) loses against 0.6 + 0.6 (group 1).
  const std::vector<float> bias = {0.4f, -0.4f, 0.1f, 0.1f};
  EXPECT_EQ(Choose({.experts = 4, .top_k = 2, .groups = 2, .kept_groups = 1}, {0, 0, 0, 0}, bias), (std::vector<int32_t>{2, 3}));
  // Whatever top_k is.
  EXPECT_EQ(Choose({.experts = 4, .top_k = 1, .groups = 2, .kept_groups = 1}, {0, 0, 0, 0}, bias), (std::vector<int32_t>{2}));
}

// Were dropped groups marked by 0, an expert of theirs would win over the kept but negative ones.
TEST(Router, DroppedGroupsStayOutWhenAllScoresAreNegative) {
  EXPECT_EQ(Choose({.experts = 4, .top_k = 2, .groups = 2, .kept_groups = 1}, {0, 0, 0, 0}, {-2, -2, -1, -3}),
            (std::vector<int32_t>{0, 1}));
}

TEST(Router, BiasChoosesButDoesNotWeigh) {
  const RouterDesc desc{.experts = 3, .top_k = 2, .route_scale = 2};
  std::vector<float> logits = {0, 1, 3}, bias = {5, 4, 0};
  Routed out(desc, 1);
  out.Run(desc, Tensor::Of(logits.data(), {1, 3}), Tensor::Of(bias.data(), {3}));
  EXPECT_EQ(out.indices, (std::vector<int32_t>{0, 1}));
  const float s0 = 0.5f, s1 = 1 / (1 + std::exp(-1.0f));
  EXPECT_FLOAT_EQ(out.weights.Get(0, 0), 2 * s0 / (s0 + s1));
  EXPECT_FLOAT_EQ(out.weights.Get(0, 1), 2 * s1 / (s0 + s1));
  EXPECT_EQ(out.counts, (std::vector<int64_t>{1, 1, 0}));
}

// A perfectly even load has f = 1 everywhere and P summing to 1: loss 1. All on one expert: loss near E / K
// of its share.
TEST(Router, BalanceLossOfKnownLoads) {
  const RouterDesc desc{.experts = 4, .top_k = 1};
  Guarded even(DType::kF32, 4, 4), fractions(DType::kF32, 1, 4);
  GuardedVector losses(DType::kF32, 1);
  for (int64_t t = 0; t < 4; ++t)
    for (int64_t e = 0; e < 4; ++e) even.Set(t, e, t == e ? 0.75f : 0.25f);
  BalanceLoss(TestContext(), desc, even.tensor, 4, fractions.tensor, losses.tensor);
  EXPECT_FLOAT_EQ(losses.Get(0, 0), 1.0f);
  for (int64_t t = 0; t < 4; ++t)
    for (int64_t e = 0; e < 4; ++e) even.Set(t, e, e == 2 ? 1.0f : 0.0f);
  BalanceLoss(TestContext(), desc, even.tensor, 4, fractions.tensor, losses.tensor);
  EXPECT_FLOAT_EQ(losses.Get(0, 0), 4.0f);
  EXPECT_FLOAT_EQ(fractions.Get(0, 2), 4.0f);
}

TEST(RouterDeathTest, ImpossibleChoicesAreNamed) {
  std::vector<float> logits(4), bias(4);
  const RouterDesc desc{.experts = 4, .top_k = 3, .groups = 2, .kept_groups = 1};
  Routed out(desc, 1);
  EXPECT_DEATH(out.Run(desc, Tensor::Of(logits.data(), {1, 4}), Tensor::Of(bias.data(), {4})),
               "top 3 of 4 experts, 1 of 2 groups");
}

}  // namespace
}  // namespace jevons
