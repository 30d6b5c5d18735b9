// Weight gradients are data (contract 3) and read only what is kept for them (contract 2): of a stage, in any order of micro-batches, long
// after B, whose scratch and whose part of the micro-batch's memory have been given back and, under JEVONS_POISON, overwritten.
#include <gtest/gtest.h>

#include "tests/support/model_harness.h"

namespace jevons {
namespace {

constexpr int64_t kS = 5;

std::vector<std::vector<double>> Gradients(Communicator& world, PrecisionConfig precision, bool deferred) {
  const ModelConfig config = TinyModel();
  ModelHarness harness(config, kS, world, precision);
  harness.BindGradients();
  std::vector<std::vector<int32_t>> tokens;
  for (uint64_t i = 0; i < 3; ++i) tokens.push_back(RandomTokens(2 * (kS + 1), config.vocab_size(), 40 + i));
  std::vector<int64_t> counts(static_cast<size_t>(harness.model().moe_layers() * config.moe().routed_experts()));
  std::vector<double> losses(static_cast<size_t>(harness.model().loss_terms()));
  MicroPool pool(int64_t{1} << 28, Device::kCpu);
  NetworkStage whole(harness.model(), {.layers = {0, config.layers()}}, pool);
  whole.Begin({.ctx = harness.Context(),
               .weights = &harness.binding().weights(),
               .batch = [&](int i) { return ModelHarness::Batch(tokens[static_cast<size_t>(i)], 2, kS); },
               .scales = {.main = 0.1f, .mtp = 0.05f, .balance = 0.01f},
               .totals =
                   [&](int) {
                     return MicroBatchTotals{
                         .losses = losses.data(),
                         .counts = Tensor::Of(counts.data(), {harness.model().moe_layers(), config.moe().routed_experts()})};
                   }});
  if (deferred) {
    whole.Forward(0).Finish();
    whole.Forward(1).Finish();
    whole.BackwardInput(0).Finish();
    whole.Forward(2).Finish();
    whole.BackwardInput(1).Finish();
    whole.BackwardInput(2).Finish();
    for (const int i : {2, 0, 1}) whole.BackwardWeight(i);
  } else {
    for (const int i : {0, 1, 2}) {
      whole.Forward(i).Finish();
      whole.Backward(i).Finish();
    }
  }
  harness.Finish();
  std::vector<std::vector<double>> gradients;
  for (size_t p = 0; p < harness.weights().specs().size(); ++p) gradients.push_back(harness.Gradient(p));
  return gradients;
}

class Deferral : public testing::TestWithParam<ProductType> {};

TEST_P(Deferral, WeightGradientsWaitAsLongAsOneLikes) {
  PrecisionConfig precision;
  precision.set_gemm(GetParam());
  RunLoopback(1, [&](Communicator& world) {
    const auto at_once = Gradients(world, precision, false), deferred = Gradients(world, precision, true);
    ASSERT_GT(at_once.size(), 20u);
    EXPECT_EQ(at_once, deferred);  // exact sums: the order of micro-batches does not show; NaN equals nothing, itself included
    for (size_t p = 0; p < at_once.size(); ++p)
      EXPECT_TRUE(std::any_of(at_once[p].begin(), at_once[p].end(), [](double g) { return g != 0; })) << "parameter " << p;
  });
}

INSTANTIATE_TEST_SUITE_P(Products, Deferral, testing::Values(AS_COMPUTE, FP8_BLOCK),
                         [](const auto& info) { return ProductType_Name(info.param); });

}  // namespace
}  // namespace jevons
