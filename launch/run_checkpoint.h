// A checkpoint made ready to compute with, on one rank: its own config, its weights, its tokenizer's place.
#ifndef JEVONS_LAUNCH_RUN_CHECKPOINT_H_
#define JEVONS_LAUNCH_RUN_CHECKPOINT_H_

#include <span>
#include <string>

#include "kernels/base/status.h"
#include "launch/cli.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/run/run_inputs.h"

namespace jevons {

// What a command reads beside the checkpoint. An imported checkpoint has no data, and perhaps no tokenizer.
enum class Needs {
  kModel,  // the tokenizer only if there is one
  kTokenizer,
  kValidation,  // the validation set, and the tokenizer that it was made with
};

struct OpenedCheckpoint {
  CheckpointReader reader;
  RunInputs inputs;  // of ConfigForOneRank; filled as far as is needed
};

absl::StatusOr<OpenedCheckpoint> OpenForUse(const CheckpointOptions& options, Needs needs);

// The config that a checkpoint keeps, the run's or that of its last step's stage (trainer/run/state.h), with `overrides`, valid on one
// rank: the layout and the threads of the run that wrote it do not count.
absl::StatusOr<RunConfig> ConfigForOneRank(const RunConfig& kept, const CheckpointReader& reader,
                                           std::span<const std::string> overrides);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_RUN_CHECKPOINT_H_
