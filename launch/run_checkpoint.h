// A checkpoint made ready to compute with, on one rank: its own config, its weights, its tokenizer's place.
#ifndef JEVONS_LAUNCH_RUN_CHECKPOINT_H_
#define JEVONS_LAUNCH_RUN_CHECKPOINT_H_

#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/run_inputs.h"

namespace jevons {

struct OpenedCheckpoint {
  CheckpointReader reader;
  RunInputs inputs;  // from the config that the checkpoint keeps, with `overrides`; one rank
};

// path: a run, its checkpoints, or one of them.
absl::StatusOr<OpenedCheckpoint> OpenForUse(const std::string& path, const std::vector<std::string>& overrides);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_RUN_CHECKPOINT_H_
