// Published laws of the learning rate, the batch and the tokens of a training run, as pure functions.
//
// C: training FLOPs; M: training FLOPs per token, without embedding and head, attention not halved by its mask; N: parameters that a
// token uses; D: tokens. A law was fitted on what it was fitted on: below 1e17 FLOPs all of them are extrapolated.
#ifndef JEVONS_TRAINER_LADDER_LAWS_H_
#define JEVONS_TRAINER_LADDER_LAWS_H_

#include <optional>

#include "absl/status/statusor.h"
#include "configs/ladder.pb.h"
#include "configs/run.pb.h"

namespace jevons {

// DeepSeek LLM, arXiv 2401.02954, sections 3.1 and 3.2: fitted from 1e17 to 3e20 FLOPs. C = M D.
double DeepSeekLlmLearningRate(double compute);
double DeepSeekLlmBatch(double compute);          // tokens
double DeepSeekLlmFlopsPerToken(double compute);  // M of the best model
double DeepSeekLlmTokens(double compute);         // D that it is trained on

// Step Law, arXiv 2503.04715: N without embedding and head; the least rate, which the schedule ends at, is fixed.
double StepLawLearningRate(double parameters, double tokens);
double StepLawBatch(double tokens);  // tokens
inline constexpr double kStepLawFinalLearningRate = 1e-5;

// OLMo-core's ladder (model_ladder, WSD-S runs): N with the head, without the embedding; after a warm-up of N tokens the rate stays, and
// decays to 0 over the last tenth.
double OlmoLearningRate(double parameters);
double OlmoBatch(double parameters);  // tokens
inline constexpr double kOlmoDecayShare = 0.1;

// A model as the laws see it.
struct LadderModel {
  double parameters = 0;       // N without embedding and head
  double head = 0;             // parameters
  double flops_per_token = 0;  // M
};
LadderModel LadderModelOf(const ModelConfig& model, int64_t sequence_length);

// How to train it.
struct Recipe {
  double tokens = 0, batch_tokens = 0;
  double learning_rate = 0, final_learning_rate = 0;
  double warmup_tokens = 0, constant_tokens = 0;        // the latter from the start on; then a cosine to the final rate
  std::optional<double> beta2 = {}, weight_decay = {};  // where the law says
};

// `law` is valid (configs/ladder.h). tokens_factor: times the law's tokens. What a law says of a run's compute or tokens it says of these.
Recipe RecipeOf(const LadderLaw& law, const LadderModel& model, double tokens_factor);

// Writes it into a run: batch, steps, rates. Batch and steps are whole, so the run's tokens are those of the recipe to within half a step.
void ApplyRecipe(const Recipe& recipe, RunConfig& config);

}  // namespace jevons

#endif  // JEVONS_TRAINER_LADDER_LAWS_H_
