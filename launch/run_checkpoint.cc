#include "launch/run_checkpoint.h"

#include "configs/load.h"
#include "configs/validate.h"
#include "launch/checkpoint_path.h"

namespace jevons {

absl::StatusOr<OpenedCheckpoint> OpenForUse(const std::string& path, const std::vector<std::string>& overrides,
                                            Needs needs) {
  JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, OpenCheckpointAt(PosixFileSystem(), path));
  JEVONS_ASSIGN_OR_RETURN(RunConfig config,
                          ParseRunConfig(reader.config_text(), reader.path() + " (its config)", overrides));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig own, ParseRunConfig(reader.config_text(), reader.path() + " (its config)", {}));
  // The run's own tokenizer, unless another place is named; to data belongs the one that it was made with.
  const bool named = config.data().tokenizer() != own.data().tokenizer() || config.data().path() != own.data().path();
  if (const std::string kept = KeptTokenizer(reader.path()); needs != Needs::kData && !named && !kept.empty())
    config.mutable_data()->set_tokenizer(kept);
  config.mutable_parallel()->set_ep(1);
  JEVONS_RETURN_IF_ERROR(ValidationStatus(config, 1));
  const bool tokenizer = !config.data().tokenizer().empty() || !config.data().path().empty();
  RunInputs inputs;
  if (needs == Needs::kModel && !tokenizer) {
    inputs.config = config;
  } else {
    JEVONS_ASSIGN_OR_RETURN(inputs, needs == Needs::kData ? ResolveInputs(config) : ResolveTokenizer(config));
    JEVONS_RETURN_IF_ERROR(CheckTokenizer(inputs, reader.labels()));
  }
  return OpenedCheckpoint{std::move(reader), std::move(inputs)};
}

}  // namespace jevons
