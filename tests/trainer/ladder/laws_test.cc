// The laws at the points where their papers, or arithmetic by hand, say what comes out.
#include "trainer/ladder/laws.h"

#include <gtest/gtest.h>

#include "tests/configs/presets.h"
#include "trainer/spec/flops.h"

namespace jevons {
namespace {

// As many digits as the published values have.
void ExpectNear(double value, double expected, double relative) { EXPECT_NEAR(value / expected, 1, relative); }

TEST(LadderLaws, DeepSeekLlm) {
  ExpectNear(DeepSeekLlmLearningRate(1e17), 2.34e-3, 0.003);
  ExpectNear(DeepSeekLlmLearningRate(1e18), 1.75e-3, 0.003);
  ExpectNear(DeepSeekLlmLearningRate(1e20), 9.9e-4, 0.006);
  ExpectNear(DeepSeekLlmLearningRate(3.3e24), 2.7e-4, 0.02);
  ExpectNear(DeepSeekLlmBatch(1e17), 106e3, 0.006);
  ExpectNear(DeepSeekLlmBatch(1e18), 226e3, 0.003);
  ExpectNear(DeepSeekLlmBatch(1e20), 1.02e6, 0.006);
  ExpectNear(DeepSeekLlmBatch(3.3e24), 30.6e6, 0.006);
  // C = M D: the exponents' sum and the factors' product are 1.
  for (const double compute : {1e15, 1e18, 1e22})
    ExpectNear(DeepSeekLlmFlopsPerToken(compute) * DeepSeekLlmTokens(compute), compute, 2e-4);
}

TEST(LadderLaws, StepLaw) {
  ExpectNear(StepLawLearningRate(37e9, 14.8e12), 5.8e-4, 0.01);
  ExpectNear(StepLawLearningRate(671e9, 14.8e12), 7.3e-5, 0.01);
  ExpectNear(StepLawBatch(14.8e12), 19.2e6, 0.01);
}

TEST(LadderLaws, Olmo) {
  ExpectNear(OlmoBatch(108e6), 328e3, 0.002);
  ExpectNear(OlmoBatch(190e6), 478e3, 0.002);
  ExpectNear(OlmoBatch(1e9), 1.44e6, 0.01);
  ExpectNear(OlmoLearningRate(108e6), 2.35e-3, 1e-12);
  ExpectNear(OlmoLearningRate(190e6), 1.95e-3, 0.002);
  ExpectNear(OlmoLearningRate(1e9), 1.12e-3, 0.002);
}

TEST(LadderLaws, AModelIsCountedWithoutEmbeddingAndHead) {
  const RunConfig config = Preset("small_cpu");
  const LadderModel model = LadderModelOf(config.model(), config.data().sequence_length());
  EXPECT_EQ(model.head, 512.0 * 8192);
  EXPECT_NEAR(model.parameters, 26.9e6 - model.head, 0.05e6);
  // Six FLOPs a parameter, and attention's core over the whole sequence.
  const double core = 3.0 * 8 * 2 * 8 * (64 + 32 + 64) * 512;
  EXPECT_NEAR(model.flops_per_token, 6 * model.parameters + core, 1e-3 * model.flops_per_token);  // norms are no products
}

TEST(LadderLaws, RecipesFollowTheirLaw) {
  const LadderModel model{.parameters = 1e9, .head = 1e8, .flops_per_token = 7e9};
  LadderLaw law;
  law.set_name(DEEPSEEK_LLM);
  const Recipe own = RecipeOf(law, model, 1);
  // The compute at which such a model is the best, spent on it.
  ExpectNear(DeepSeekLlmFlopsPerToken(model.flops_per_token * own.tokens), model.flops_per_token, 2e-4);
  EXPECT_EQ(RecipeOf(law, model, 2).tokens, 2 * own.tokens);
  law.set_tokens_per_parameter(20);
  const Recipe deepseek = RecipeOf(law, model, 1);
  EXPECT_EQ(deepseek.tokens, 20e9);
  EXPECT_EQ(deepseek.learning_rate, DeepSeekLlmLearningRate(7e9 * 20e9));
  EXPECT_EQ(deepseek.final_learning_rate, 0.1 * deepseek.learning_rate);
  EXPECT_EQ(deepseek.warmup_tokens, 1e9);
  EXPECT_FALSE(deepseek.beta2.has_value());

  law.set_name(STEP_LAW);
  law.set_learning_rate_factor(0.5);
  law.set_batch_factor(2);
  const Recipe step = RecipeOf(law, model, 3);
  EXPECT_EQ(step.tokens, 60e9);
  EXPECT_EQ(step.learning_rate, 0.5 * StepLawLearningRate(1e9, 60e9));
  EXPECT_EQ(step.batch_tokens, 2 * StepLawBatch(60e9));
  EXPECT_EQ(step.final_learning_rate, 1e-5);

  law = LadderLaw();
  law.set_name(OLMO);
  law.set_tokens_per_parameter(20);
  const Recipe olmo = RecipeOf(law, model, 1);
  EXPECT_EQ(olmo.learning_rate, OlmoLearningRate(1.1e9));
  EXPECT_EQ(olmo.warmup_tokens, 1.1e9);
  EXPECT_EQ(olmo.constant_tokens, 0.9 * olmo.tokens);
  EXPECT_EQ(olmo.final_learning_rate, 0);
  EXPECT_EQ(olmo.beta2, 0.95);  // 1.5 million tokens
  EXPECT_EQ(RecipeOf(law, {.parameters = 1e8, .head = 1e7, .flops_per_token = 7e8}, 1).beta2, 0.99);
}

TEST(LadderLaws, ARunGetsWholeStepsAndAScheduleOfItsLength) {
  RunConfig config = Preset("quickstart_cpu");  // 256 tokens, micro-batches of 2
  ApplyRecipe({.tokens = 1e6,
               .batch_tokens = 5000,
               .learning_rate = 2e-3,
               .final_learning_rate = 1e-4,
               .warmup_tokens = 5e4,
               .constant_tokens = 9e5,
               .beta2 = 0.99},
              config);
  EXPECT_EQ(config.train().batch_sequences(), 20);
  EXPECT_EQ(config.train().steps(), 195);
  const double tokens = 195.0 * 20 * 256;
  const LearningRateConfig& rate = config.optimizer().learning_rate();
  EXPECT_EQ(rate.peak(), 2e-3);
  EXPECT_EQ(rate.final(), 1e-4);
  EXPECT_EQ(rate.warmup_steps(), 10);
  EXPECT_EQ(rate.constant_tokens(), 9e5);
  EXPECT_EQ(rate.constant_tokens() + rate.decay_tokens(), tokens);
  EXPECT_EQ(config.optimizer().beta2(), 0.99);
  EXPECT_EQ(config.optimizer().weight_decay(), 0.1);
  ApplyRecipe({.tokens = 1, .batch_tokens = 1, .learning_rate = 1e-3}, config);
  EXPECT_EQ(config.train().batch_sequences(), 2);
  EXPECT_EQ(config.train().steps(), 1);
}

}  // namespace
}  // namespace jevons
