// The two ways to sum gradients (contract 8): what each refuses, and how far they part.
#include <cmath>
#include <cstdio>

#include "tests/support/layout_run.h"

namespace jevons {
namespace {

constexpr double kScale = 1024;

struct Sums {
  std::vector<GradientSummary> summaries;  // [ranks]
  std::vector<uint64_t> contributed;       // [ranks] hash of what each has summed
  uint64_t hash = 0;                       // of the whole gradient
};

// What two ranks make of one value that one of them contributes to an element of lm_head, times kScale as in a step.
Sums SumsWith(SumType sums, float value) {
  Sums made{.summaries = std::vector<GradientSummary>(2), .contributed = std::vector<uint64_t>(2)};
  RunLoopback(2, [&](Communicator& world) {
    const RunConfig config = TinyRun(2, 1);
    Mesh mesh(world, {.world = 2, .pp = 1, .ep = 1});
    const Partition partition = Partition::Of(config).value();
    WeightStore weights(config.model(), {0, config.model().moe().routed_experts()}, DType::kF32);
    GradientStore gradients(weights, sums);
    ZeroOptimizer optimizer(config.optimizer(), weights, partition, mesh);
    Arena scratch("scratch", int64_t{1} << 28);
    const OpContext ops{.stream = {}, .scratch = &scratch};
    optimizer.HashContributions();
    gradients.Begin(ops, StepFixedPoint(kScale, 8));
    for (size_t p = 0; p < weights.specs().size(); ++p) {
      if (weights.specs()[p].name != "lm_head.weight") continue;
      Contribute(ops, gradients.Dense(p), [&](const Tensor& place, WriteMode mode) {
        EXPECT_EQ(mode, WriteMode::kOverwrite);
        for (int64_t i = 0; i < place.size(); ++i) place.as<float>()[i] = static_cast<float>(1e-6 * kScale);
        if (world.rank() == 1) place.as<float>()[7] = static_cast<float>(value * kScale);
      });
    }
    gradients.Finish(ops);
    const auto rank = static_cast<size_t>(world.rank());
    made.summaries[rank] = optimizer.Reduce(ops, gradients, kScale);
    made.contributed[rank] = optimizer.contributions();
    const uint64_t hash = optimizer.GradientHash(ops);
    if (rank == 0) made.hash = hash;
  });
  return made;
}

std::vector<GradientSummary> Contributed(SumType sums, float value) { return SumsWith(sums, value).summaries; }

// The hashes tell who has contributed something else, and that it has come through.
TEST(Sums, WhoContributesOtherBitsIsKnown) {
  for (const SumType sums : {EXACT, CHAIN}) {
    const Sums first = SumsWith(sums, 2), second = SumsWith(sums, std::nextafter(2.0f, 3.0f)), again = SumsWith(sums, 2);
    EXPECT_EQ(again.contributed, first.contributed);
    EXPECT_EQ(again.hash, first.hash);
    EXPECT_EQ(second.contributed[0], first.contributed[0]);
    EXPECT_NE(second.contributed[1], first.contributed[1]);
    EXPECT_NE(second.hash, first.hash);
  }
}

TEST(Sums, ASpikeIsRefusedOnEveryRank) {
  for (const float value : {1e6f, -1e6f, std::nanf(""), INFINITY}) {
    for (const GradientSummary& summary : Contributed(EXACT, value))
      EXPECT_EQ(summary.refused, "lm_head.weight is NaN, Inf or too large to be summed exactly") << value;
  }
  for (const GradientSummary& summary : Contributed(CHAIN, std::nanf("")))
    EXPECT_EQ(summary.refused, "lm_head.weight is NaN or Inf");
}

TEST(Sums, WhatFitsIsSummed) {
  for (const SumType sums : {EXACT, CHAIN}) {
    for (const float value : {500.0f, -3e-9f}) {
      const std::vector<GradientSummary> summaries = Contributed(sums, value);
      const double each = 2e-6, elements = 23 * 10 - 1, spiked = 1e-6 + double{value};
      for (const GradientSummary& summary : summaries) {
        EXPECT_FALSE(summary.refused) << *summary.refused;
        EXPECT_NEAR(summary.norm, std::sqrt(elements * each * each + spiked * spiked), 1e-6 * summary.norm);
      }
      EXPECT_EQ(summaries[0].norm, summaries[1].norm);
    }
  }
}

// Relative distance of the weights, and that of the last losses, after so many steps.
std::pair<double, double> Distance(int steps) {
  RunConfig config = TinyRun(8, 1);
  const RunLayout layout = {4, 2, 1};
  const Outcome exact = RunSteps(config, layout, steps);
  config.mutable_parallel()->set_sums(CHAIN);
  const Outcome chain = RunSteps(config, layout, steps);
  ExpectEqual(chain, RunSteps(config, layout, steps));
  double difference = 0, reference = 0;
  for (const auto& [name, bytes] : exact.state) {
    if (name.rfind("weight/", 0) != 0) continue;
    for (size_t i = 0; i < bytes.size(); i += sizeof(float)) {
      float a, b;
      std::memcpy(&a, bytes.data() + i, sizeof a);
      std::memcpy(&b, chain.state.at(name).data() + i, sizeof b);
      difference += (double{a} - b) * (double{a} - b);
      reference += double{a} * a;
    }
  }
  const size_t last = 4 * (static_cast<size_t>(steps) - 1);
  const double weights = std::sqrt(difference / reference), loss = std::abs(exact.figures[last] - chain.figures[last]);
  std::printf("CHAIN beside EXACT after %d steps: weights %.2e apart (relative), loss %.2e nats of %.2f\n", steps, weights, loss,
              exact.figures[last]);
  return {weights, loss};
}

// On one layout CHAIN gives the same bits again. From EXACT it parts by roundings, which training then makes larger, as it does with
// any perturbation: at this rate, 0.01, until routing differs.
TEST(Sums, DistanceOfChainFromExact) {
  const auto [first_weights, first_loss] = Distance(1);
  EXPECT_GT(first_weights, 0) << "the two ways are one";
  EXPECT_LT(first_weights, 1e-4);
  EXPECT_EQ(first_loss, 0);
  EXPECT_LT(Distance(10).second, 1e-3);
  Distance(200);
}

}  // namespace
}  // namespace jevons
