// Token by token with the latent cache against the whole sequence at once.
#include "trainer/model/decoder.h"

#include <gtest/gtest.h>

#include <limits>

#include "kernels/ops/elementwise.h"
#include "tests/support/model_harness.h"
#include "tests/support/reference_model.h"

namespace jevons {
namespace {

void FillRandomly(const WeightStore& weights) {
  Arena scratch("values", int64_t{1} << 24);
  for (size_t p = 0; p < weights.specs().size(); ++p) {
    ArenaScope scope(scratch);
    const int64_t size = weights.value(p).size();
    const Tensor values = scratch.Allocate("values", DType::kF32, {size});
    InitialValues({.stream = {}, .scratch = &scratch}, weights.specs()[p], p, /*init_std=*/0.2, /*seed=*/7, 0, values);
    Copy({.stream = {}, .scratch = &scratch}, values, weights.value(p).Reshape({size}));
  }
}

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
        decoder.Append({&tokens[static_cast<size_t>(t)], 1});
        const auto status = decoder.Logits();
        ASSERT_TRUE(status.ok()) << status.status();
        const std::span<const float> logits = *status;
        for (size_t v = 0; v < logits.size(); ++v)
          ASSERT_NEAR(logits[v], expected[static_cast<size_t>(t) * logits.size() + v], 2e-5) << "token " << t;
      }
      EXPECT_EQ(decoder.length(), kS);
    });
  }
}

// A prompt in one pass, in pieces that no boundary of the decoder's own meets, and token by token.
TEST(Decoder, PiecesOfAPromptGiveTheBitsOfSingleTokens) {
  const ModelConfig config = TinyModel();
  constexpr int64_t kS = Decoder::kRowsAtOnce + 70;
  const std::vector<int32_t> tokens = RandomTokens(kS, config.vocab_size(), 12);
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    const WeightStore weights(config, {0, config.moe().routed_experts()}, compute);
    FillRandomly(weights);
    const WeightBinding binding(config, weights);
    const auto logits_of = [&](const std::vector<int64_t>& ends) {
      Decoder decoder(config, binding.weights(), compute, kS);
      std::vector<std::vector<float>> logits;
      int64_t begin = 0;
      for (const int64_t end : ends) {
        decoder.Append(std::span(tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
        const auto values = decoder.Logits();
        EXPECT_TRUE(values.ok()) << values.status();
        logits.emplace_back(values->begin(), values->end());
        begin = end;
      }
      return logits;
    };
    std::vector<int64_t> every;
    for (int64_t t = 1; t <= kS; ++t) every.push_back(t);
    const auto single = logits_of(every);
    EXPECT_NE(single[3], single[4]);
    for (const std::vector<int64_t>& ends : {std::vector<int64_t>{kS}, {5, 6, 40, kS - 1, kS}}) {
      const auto pieces = logits_of(ends);
      for (size_t i = 0; i < ends.size(); ++i)
        EXPECT_EQ(pieces[i], single[static_cast<size_t>(ends[i] - 1)]) << NameOf(compute) << ", after " << ends[i] << " tokens";
    }
  }
}

TEST(Decoder, GoesOnFromWhereItIsCutBack) {
  const ModelConfig config = TinyModel();
  const std::vector<int32_t> tokens = RandomTokens(12, config.vocab_size(), 13);
  const WeightStore weights(config, {0, config.moe().routed_experts()}, DType::kF32);
  FillRandomly(weights);
  const WeightBinding binding(config, weights);
  Decoder decoder(config, binding.weights(), DType::kF32, 12);
  decoder.Append(tokens);
  const auto first = decoder.Logits();
  ASSERT_TRUE(first.ok());
  const std::vector<float> expected(first->begin(), first->end());
  decoder.Truncate(8);
  EXPECT_EQ(decoder.length(), 8);
  decoder.Append(std::span(tokens).first(4));
  decoder.Truncate(8);
  decoder.Append(std::span(tokens).subspan(8));
  const auto again = decoder.Logits();
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(std::vector<float>(again->begin(), again->end()), expected);
}

TEST(Decoder, NaNIsAnErrorThatNamesTheLayer) {
  const ModelConfig config = TinyModel();
  const WeightStore weights(config, {0, config.moe().routed_experts()}, DType::kF32);
  FillRandomly(weights);
  const WeightBinding binding(config, weights);
  const std::vector<int32_t> tokens = RandomTokens(4, config.vocab_size(), 14);
  binding.weights().blocks[1].attention.o.value.as<float>()[0] = std::numeric_limits<float>::quiet_NaN();
  Decoder decoder(config, binding.weights(), DType::kF32, 4);
  decoder.Append(tokens);
  const auto logits = decoder.Logits();
  ASSERT_EQ(ExitCodeOf(logits.status()), ExitCode::kNumerical) << logits.status();
  EXPECT_EQ(logits.status().message(), "logits after 4 tokens: NaN or Inf, first seen in layer 1: attention output");
}

TEST(SampleToken, TopKAndSamplesOfOneSeed) {
  const std::vector<float> logits = {0.0f, 3.0f, 2.9f, 2.8f, 3.0f};
  std::vector<int> seen(5, 0), other(5, 0);
  int differ = 0;
  for (uint64_t i = 0; i < 400; ++i) {
    const Sampling sampling{.temperature = 1, .top_k = 2, .top_p = 1, .seed = 2};
    Sampling second = sampling;
    second.sample = 1;
    const int32_t a = SampleToken(logits, sampling, i), b = SampleToken(logits, second, i);
    ++seen[static_cast<size_t>(a)];
    differ += a != b;
  }
  EXPECT_EQ(seen[1] + seen[4], 400);  // equally likely, the two likeliest
  EXPECT_NEAR(seen[1], 200, 50);
  EXPECT_NEAR(differ, 200, 50);
  // Top-p counts what top-k has left: half of two is one.
  for (uint64_t i = 0; i < 50; ++i) EXPECT_EQ(SampleToken(logits, {.temperature = 1, .top_k = 2, .top_p = 0.5, .seed = 1}, i), 1);
}

TEST(SampleToken, GreedyTopPAndSeed) {
  const std::vector<float> logits = {0.0f, 3.0f, 2.9f, -1.0f};
  EXPECT_EQ(SampleToken(logits, {.temperature = 0, .top_p = 1, .seed = 1}, 0), 1);
  // The likeliest token alone holds more than a tenth.
  for (uint64_t i = 0; i < 50; ++i) EXPECT_EQ(SampleToken(logits, {.temperature = 1, .top_p = 0.1, .seed = 1}, i), 1);
  std::vector<int> seen(4, 0);
  for (uint64_t i = 0; i < 2000; ++i)
    ++seen[static_cast<size_t>(SampleToken(logits, {.temperature = 1, .top_p = 1, .seed = 2}, i))];
  // softmax = 0.025, 0.506, 0.458, 0.009
  EXPECT_NEAR(seen[0] / 2000.0, 0.025, 0.02);
  EXPECT_NEAR(seen[1] / 2000.0, 0.506, 0.05);
  EXPECT_NEAR(seen[2] / 2000.0, 0.458, 0.05);
  const Sampling sampling{.temperature = 1, .top_p = 0.95, .seed = 3};
  for (uint64_t i = 0; i < 20; ++i) EXPECT_EQ(SampleToken(logits, sampling, i), SampleToken(logits, sampling, i));
}

}  // namespace
}  // namespace jevons
