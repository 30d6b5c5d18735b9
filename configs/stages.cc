#include "configs/stages.h"

#include <algorithm>
#include <string>

namespace jevons {
namespace {

double WeightIn(const StageConfig& stage, const std::string& prefix) {
  const auto& mixture = stage.mixture();
  const auto found =
      std::find_if(mixture.begin(), mixture.end(), [&](const DatasetConfig& dataset) { return dataset.prefix() == prefix; });
  return found == mixture.end() ? 0 : found->weight();
}

}  // namespace

std::vector<RunConfig> StageConfigs(const RunConfig& config) {
  RunConfig current = config;
  current.mutable_train()->clear_stage();
  std::vector<RunConfig> stages = {current};
  for (const StageConfig& stage : config.train().stage()) {
    DataConfig& data = *current.mutable_data();
    TrainConfig& train = *current.mutable_train();
    if (stage.has_sequence_length()) data.set_sequence_length(stage.sequence_length());
    if (stage.has_batch_sequences()) {
      train.set_batch_sequences(stage.batch_sequences());
      train.clear_batch_ramp_start();
      train.clear_batch_ramp_tokens();
    }
    if (stage.has_micro_batch_sequences()) train.set_micro_batch_sequences(stage.micro_batch_sequences());
    if (stage.has_yarn()) *current.mutable_model()->mutable_attention()->mutable_yarn() = stage.yarn();
    if (stage.has_learning_rate()) *current.mutable_optimizer()->mutable_learning_rate() = stage.learning_rate();
    if (stage.mixture_size() > 0)
      for (DatasetConfig& dataset : *data.mutable_mixture()) dataset.set_weight(WeightIn(stage, dataset.prefix()));
    stages.push_back(current);
  }
  return stages;
}

}  // namespace jevons
