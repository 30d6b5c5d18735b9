#include "trainer/ladder/laws.h"

#include <algorithm>
#include <cmath>

#include "trainer/spec/flops.h"
#include "trainer/spec/params.h"

namespace jevons {
namespace {

constexpr double kOlmoParameters = 108e6, kOlmoBatchTokens = 2048 * 160, kOlmoRate = 0.0047 / 2;  // of the smallest rung
constexpr double kOlmoLargeBatch = 512 * 1024;  // tokens from which the second moment forgets faster
constexpr double kDecayTo = 0.1;                // of the peak: DeepSeek LLM's last stage, DeepSeek-V3's cosine

// C at which a model of M FLOPs per token is the best.
double DeepSeekLlmCompute(double flops_per_token) { return std::pow(flops_per_token / 0.1715, 1 / 0.5243); }

}  // namespace

double DeepSeekLlmLearningRate(double compute) { return 0.3118 * std::pow(compute, -0.1250); }
double DeepSeekLlmBatch(double compute) { return 0.2920 * std::pow(compute, 0.3271); }
double DeepSeekLlmFlopsPerToken(double compute) { return 0.1715 * std::pow(compute, 0.5243); }
double DeepSeekLlmTokens(double compute) { return 5.8316 * std::pow(compute, 0.4757); }

double StepLawLearningRate(double parameters, double tokens) {
  return 1.79 * std::pow(parameters, -0.713) * std::pow(tokens, 0.307);
}
double StepLawBatch(double tokens) { return 0.58 * std::pow(tokens, 0.571); }

double OlmoLearningRate(double parameters) { return kOlmoRate * std::pow(parameters / kOlmoParameters, -1.0 / 3); }
double OlmoBatch(double parameters) { return kOlmoBatchTokens * std::pow(parameters / kOlmoParameters, 2.0 / 3); }

LadderModel LadderModelOf(const ModelConfig& model, int64_t sequence_length) {
  LadderModel result;
  for (const ParamSpec& spec : ParameterTable(model))
    if (spec.part == ModelPart::kHead) result.head += static_cast<double>(spec.active);
  result.parameters = static_cast<double>(CountParameters(model).active_without_embedding) - result.head;
  const FlopCount flops = CountFlops(model, sequence_length, CoreCount::kFull);
  // Forward and backward: three products for each.
  result.flops_per_token = flops.training_without_mtp() - 3 * 2 * result.head;
  return result;
}

Recipe RecipeOf(const LadderLaw& law, const LadderModel& model, double tokens_factor) {
  Recipe recipe{.tokens = tokens_factor * law.tokens_per_parameter() * model.parameters};
  if (!law.has_tokens_per_parameter())
    recipe.tokens = tokens_factor * DeepSeekLlmTokens(DeepSeekLlmCompute(model.flops_per_token));
  recipe.warmup_tokens = law.warmup_share() * recipe.tokens;
  switch (law.name()) {
    case DEEPSEEK_LLM: {
      const double compute = model.flops_per_token * recipe.tokens;
      recipe.learning_rate = DeepSeekLlmLearningRate(compute);
      recipe.batch_tokens = DeepSeekLlmBatch(compute);
      break;
    }
    case STEP_LAW:
      recipe.learning_rate = StepLawLearningRate(model.parameters, recipe.tokens);
      recipe.batch_tokens = StepLawBatch(recipe.tokens);
      break;
    case OLMO:
      recipe.learning_rate = OlmoLearningRate(model.parameters + model.head);
      recipe.batch_tokens = OlmoBatch(model.parameters + model.head);
      recipe.warmup_tokens = std::min(model.parameters + model.head, recipe.tokens);
      recipe.weight_decay = 0.1;
      break;
    case CONSTANTS:
      recipe.learning_rate = law.learning_rate();
      recipe.batch_tokens = static_cast<double>(law.batch_tokens());
      break;
  }
  recipe.learning_rate *= law.learning_rate_factor();
  recipe.batch_tokens *= law.batch_factor();
  recipe.final_learning_rate = kDecayTo * recipe.learning_rate;
  if (law.name() == STEP_LAW) recipe.final_learning_rate = std::min(kStepLawFinalLearningRate, recipe.learning_rate);
  if (law.name() == OLMO) {
    recipe.final_learning_rate = 0;
    recipe.constant_tokens = (1 - kOlmoDecayShare) * recipe.tokens;
    recipe.beta2 = recipe.batch_tokens >= kOlmoLargeBatch ? 0.95 : 0.99;
  }
  return recipe;
}

void ApplyRecipe(const Recipe& recipe, RunConfig& config) {
  TrainConfig& train = *config.mutable_train();
  const auto length = static_cast<double>(config.data().sequence_length());
  const int64_t micro = train.micro_batch_sequences();
  train.set_batch_sequences(micro *
                            std::max<int64_t>(1, std::llround(recipe.batch_tokens / length / static_cast<double>(micro))));
  const double step_tokens = static_cast<double>(train.batch_sequences()) * length;
  train.set_steps(std::max<int64_t>(1, std::llround(recipe.tokens / step_tokens)));
  const double tokens = static_cast<double>(train.steps()) * step_tokens;
  OptimizerConfig& optimizer = *config.mutable_optimizer();
  if (recipe.beta2) optimizer.set_beta2(*recipe.beta2);
  if (recipe.weight_decay) optimizer.set_weight_decay(*recipe.weight_decay);
  LearningRateConfig& rate = *optimizer.mutable_learning_rate();
  rate.Clear();
  rate.set_peak(recipe.learning_rate);
  rate.set_final(recipe.final_learning_rate);
  rate.set_warmup_steps(std::llround(recipe.warmup_tokens / step_tokens));
  rate.set_constant_tokens(std::min(recipe.constant_tokens, tokens));
  rate.set_decay_tokens(tokens - rate.constant_tokens());
}

}  // namespace jevons
