// A checkpoint made ready to compute with: its own config in a layout of the ranks there are, its weights, its tokenizer's place.
#ifndef JEVONS_LAUNCH_RUN_CHECKPOINT_H_
#define JEVONS_LAUNCH_RUN_CHECKPOINT_H_

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "kernels/base/status.h"
#include "launch/cli.h"
#include "parallel/comm/communicator.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/run/run_inputs.h"
#include "trainer/step/train_step.h"

namespace jevons {

// What a command reads beside the checkpoint. An imported checkpoint has no data, and perhaps no tokenizer.
enum class Needs {
  kModel,  // the tokenizer only if there is one
  kTokenizer,
  kValidation,  // the validation set, and the tokenizer that it was made with
};

struct OpenedCheckpoint {
  CheckpointReader reader;
  RunInputs inputs;  // of ConfigForRanks; filled as far as is needed
};

absl::StatusOr<OpenedCheckpoint> OpenForUse(const CheckpointOptions& options, Needs needs, int ranks = 1);

// The config that a checkpoint or a run keeps, the run's or that of its last step's stage (trainer/run/state.h), with `overrides`, valid on
// so many ranks: the layout and the threads of the run that wrote it do not count. Where `overrides` do not say, there is one stage, and
// experts lie over as many ranks as divide those of a stage. source: where it is kept, for messages.
absl::StatusOr<RunConfig> ConfigForRanks(const RunConfig& kept, const std::string& source, std::span<const std::string> overrides,
                                         int ranks);

// The weights of a checkpoint, each where the config's layout has it, for passes forward alone.
struct LoadedStep {
  std::unique_ptr<Communicator> gpus;  // null: the host's ranks serve
  std::unique_ptr<Mesh> mesh;
  std::unique_ptr<TrainStep> step;
};
// config: of ConfigForRanks, with its vocabulary. One status on all ranks. Collective.
absl::StatusOr<LoadedStep> LoadStep(CheckpointReader& reader, const RunConfig& config, Communicator& host);

// For such passes that take long: says how far they are and how long it will be.
std::function<void(int64_t done, int64_t sequences)> TellProgress();

}  // namespace jevons

#endif  // JEVONS_LAUNCH_RUN_CHECKPOINT_H_
