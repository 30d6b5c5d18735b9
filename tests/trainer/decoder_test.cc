// Token by token with the latent cache against the whole sequence at once.
#include "trainer/model/decoder.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/model_harness.h"
#include "tests/support/reference_model.h"

namespace jevons {
namespace {

TEST(Decoder, GivesTheLogitsOfTheWholeSequence) {
  for (const int64_t query_rank : {0, 6}) {
    ModelConfig config = TinyModel();
    config.mutable_attention()->set_query_rank(query_rank);
    constexpr int64_t kS = 9;
    const std::vector<int32_t> tokens = RandomTokens(kS + 1, config.vocab_size(), 11);
    RunLoopback(1, [&](Communicator& world) {
      ModelHarness harness(config, kS, world);
      const auto params = harness.Params<double>();
      const auto biases = harness.Biases();
      const std::vector<double> expected = ReferenceModel<double>(config, params, biases).Logits(tokens, 1, kS);
      Decoder decoder(config, harness.binding().weights(), DType::kF32, kS);
      for (int64_t t = 0; t < kS; ++t) {
        decoder.Append(tokens[static_cast<size_t>(t)]);
        const std::span<const float> logits = decoder.Logits();
        for (size_t v = 0; v < logits.size(); ++v)
          ASSERT_NEAR(logits[v], expected[static_cast<size_t>(t) * logits.size() + v], 2e-5) << "token " << t;
      }
      EXPECT_EQ(decoder.length(), kS);
    });
  }
}

// The place of NaN, as for a whole sequence; nobody is given a token that NaN picked.
TEST(Decoder, TellsWhereNanCameFirst) {
  const ModelConfig config = TinyModel();
  RunLoopback(1, [&](Communicator& world) {
    ModelHarness harness(config, 4, world);
    Decoder decoder(config, harness.binding().weights(), DType::kF32, 4);
    decoder.Append(1);
    decoder.Logits();
    EXPECT_TRUE(decoder.CheckFinite().ok());
    harness.binding().weights().blocks[1].attention.o.value.as<float>()[3] = std::numeric_limits<float>::quiet_NaN();
    decoder.Append(2);
    decoder.Logits();
    const absl::Status status = decoder.CheckFinite();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kNumerical);
    EXPECT_EQ(status.message(), "token 1: NaN or Inf, first seen in layer 1: attention output");
  });
}

TEST(SampleToken, GreedyTopPAndSeed) {
  const std::vector<float> logits = {0.0f, 3.0f, 2.9f, -1.0f};
  EXPECT_EQ(SampleToken(logits, {.temperature = 0, .top_p = 1, .seed = 1}, 0), 1);
  // The likeliest token alone holds more than a tenth.
  for (uint64_t i = 0; i < 50; ++i) EXPECT_EQ(SampleToken(logits, {.temperature = 1, .top_p = 0.1, .seed = 1}, i), 1);
  std::vector<int> seen(4, 0);
  for (uint64_t i = 0; i < 2000; ++i) ++seen[static_cast<size_t>(SampleToken(logits, {.temperature = 1, .top_p = 1, .seed = 2}, i))];
  // softmax = 0.025, 0.506, 0.458, 0.009
  EXPECT_NEAR(seen[0] / 2000.0, 0.025, 0.02);
  EXPECT_NEAR(seen[1] / 2000.0, 0.506, 0.05);
  EXPECT_NEAR(seen[2] / 2000.0, 0.458, 0.05);
  const Sampling sampling{.temperature = 1, .top_p = 0.95, .seed = 3};
  for (uint64_t i = 0; i < 20; ++i) EXPECT_EQ(SampleToken(logits, sampling, i), SampleToken(logits, sampling, i));
}

}  // namespace
}  // namespace jevons
