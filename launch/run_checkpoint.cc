#include "launch/run_checkpoint.h"

#include <vector>

#include "configs/load.h"
#include "configs/validate.h"
#include "launch/checkpoint_path.h"
#include "trainer/run/state.h"

namespace jevons {

absl::StatusOr<RunConfig> ConfigForOneRank(const RunConfig& kept, const CheckpointReader& reader,
                                           std::span<const std::string> overrides) {
  std::vector<std::string> all = {"parallel.ep=1", "parallel.pp=1", "parallel.threads=0"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  JEVONS_ASSIGN_OR_RETURN(RunConfig config, ParseRunConfig(ResolvedText(kept), reader.path() + " (its config)", all));
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, 1));
  return config;
}

absl::StatusOr<OpenedCheckpoint> OpenForUse(const CheckpointOptions& options, Needs needs) {
  JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, OpenCheckpointAt(PosixFileSystem(), options.path));
  if (options.ema) JEVONS_RETURN_IF_ERROR(UseAverage(reader));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig own, StageConfigOf(reader));
  JEVONS_ASSIGN_OR_RETURN(RunConfig config, ConfigForOneRank(own, reader, options.overrides));
  // The run's own tokenizer, unless another place is named; to data belongs the one that it was made with.
  const bool named = config.data().tokenizer() != own.data().tokenizer() || config.data().path() != own.data().path();
  if (const std::string kept = KeptTokenizer(reader.path()); needs != Needs::kValidation && !named && !kept.empty())
    config.mutable_data()->set_tokenizer(kept);
  const bool tokenizer = !config.data().tokenizer().empty() || !config.data().path().empty();
  RunInputs inputs;
  if (needs == Needs::kModel && !tokenizer) {
    inputs.config = config;
  } else {
    if (needs == Needs::kValidation) JEVONS_RETURN_IF_ERROR(CheckValidation(config.data()));
    JEVONS_ASSIGN_OR_RETURN(
        inputs, needs == Needs::kValidation ? ResolveInputs(config, reader.labels()) : ResolveTokenizer(config, reader.labels()));
  }
  return OpenedCheckpoint{std::move(reader), std::move(inputs)};
}

}  // namespace jevons
