// A checkpoint made ready to compute with, on one rank: its own config, its weights, its tokenizer's place.
#ifndef JEVONS_LAUNCH_RUN_CHECKPOINT_H_
#define JEVONS_LAUNCH_RUN_CHECKPOINT_H_

#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/run_inputs.h"

namespace jevons {

// What a command reads beside the checkpoint. An imported checkpoint has no data, and perhaps no tokenizer.
enum class Needs {
  kModel,      // the tokenizer only if there is one
  kTokenizer,
  kData,
};

struct OpenedCheckpoint {
  CheckpointReader reader;
  RunInputs inputs;  // from the config that the checkpoint keeps, with `overrides`; one rank; filled as far as is needed
};

// path: a run, its checkpoints, or one of them.
absl::StatusOr<OpenedCheckpoint> OpenForUse(const std::string& path, const std::vector<std::string>& overrides, Needs needs);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_RUN_CHECKPOINT_H_
