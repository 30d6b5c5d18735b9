// Where `--checkpoint PATH` points: a run, its folder of checkpoints, or one checkpoint.
#ifndef JEVONS_LAUNCH_CHECKPOINT_PATH_H_
#define JEVONS_LAUNCH_CHECKPOINT_PATH_H_

#include <string>

#include "trainer/checkpoint/reader.h"

namespace jevons {

// Opens the checkpoint at `path`, or the newest one of the run at `path`. IntegrityError where there is none,
// and where the newest is damaged: then the message offers the newest good one.
absl::StatusOr<CheckpointReader> OpenCheckpointAt(FileSystem& files, const std::string& path);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_CHECKPOINT_PATH_H_
