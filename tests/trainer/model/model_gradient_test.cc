// The whole model against the scalar references: losses, and the exact gradient of every parameter by complex step.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/complex_step.h"
#include "tests/support/model_harness.h"
#include "tests/support/reference_model.h"

namespace jevons {
namespace {

// FP32 against FP64: the largest error of a tensor's gradient, relative to its largest element.
constexpr double kTolerance = 3e-5;

struct Case {
  const char* name;
  int64_t query_rank, groups, kept_groups, shared, depth, dense;
  bool normalize, mask;
  double yarn = 1;
};

class ModelGradient : public testing::TestWithParam<Case> {};

TEST_P(ModelGradient, EqualsComplexStep) {
  const Case& test = GetParam();
  ModelConfig config = TinyModel();
  config.mutable_attention()->set_query_rank(test.query_rank);
  config.mutable_attention()->mutable_yarn()->set_factor(test.yarn);
  config.mutable_attention()->mutable_yarn()->set_original_length(4);
  if (test.yarn > 1) {
    config.mutable_attention()->mutable_yarn()->set_attention_factor(1.25);
    config.set_norm_eps(1e-3);  // not of the latent norms
  }
  config.mutable_moe()->set_groups(test.groups);
  config.mutable_moe()->set_kept_groups(test.kept_groups);
  config.mutable_moe()->set_shared_experts(test.shared);
  config.mutable_moe()->set_normalize_weights(test.normalize);
  config.mutable_mtp()->set_depth(test.depth);
  config.set_dense_layers(test.dense);
  constexpr int64_t kSequences = 2, kS = 5;
  const LossScales scales{.main = 0.1f, .mtp = 0.03f, .balance = 0.02f};
  std::vector<int32_t> tokens = RandomTokens(kSequences * (kS + 1), config.vocab_size(), 5);
  std::vector<int32_t> starts;
  if (test.mask) starts = {0, 0, 2, 2, 2, 0, 1, 1, 1, 4};

  RunLoopback(1, [&](Communicator& world) {
    ModelHarness harness(config, kS, world);
    MicroBatch batch = ModelHarness::Batch(tokens, kSequences, kS);
    if (test.mask) batch.document_start = Tensor::Of(starts.data(), {kSequences, kS});
    const LossSums sums = harness.Run(batch, scales);

    auto params = harness.Params<Complex>();
    const auto biases = harness.Biases();
    const ReferenceModel<Complex> reference(config, params, biases, starts);
    const auto losses = reference.Loss(tokens, kSequences, kS);
    EXPECT_NEAR(sums.main, losses.main.real(), 1e-5 * losses.main.real());
    EXPECT_NEAR(sums.mtp, losses.mtp.real(), 1e-5 * losses.main.real());
    EXPECT_NEAR(sums.balance, losses.balance.real(), 1e-5 * losses.balance.real());

    constexpr double kStep = 1e-40;
    for (size_t p = 0; p < harness.weights().specs().size(); ++p) {
      const std::string& name = harness.weights().specs()[p].name;
      const std::vector<double> gradient = harness.Gradient(p);
      std::vector<double> exact(gradient.size());
      std::vector<Complex>& values = params[name];
      for (size_t i = 0; i < values.size(); ++i) {
        values[i].imag(kStep);
        const auto loss = reference.Loss(tokens, kSequences, kS);
        const Complex total = static_cast<double>(scales.main) * loss.main + static_cast<double>(scales.mtp) * loss.mtp +
                              static_cast<double>(scales.balance) * loss.balance;
        exact[i] = total.imag() / kStep;
        values[i].imag(0);
      }
      ExpectGradient(name, gradient, exact, kTolerance);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Architectures, ModelGradient,
                         testing::Values(Case{"deepseek_v3", 6, 4, 2, 1, 2, 1, true, false},
                                         Case{"no_query_compression", 0, 1, 1, 2, 1, 1, true, false},
                                         Case{"unnormalised_no_shared", 6, 1, 1, 0, 0, 0, false, false},
                                         Case{"document_mask_yarn", 6, 4, 4, 1, 1, 1, true, true, 4.0}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace jevons
