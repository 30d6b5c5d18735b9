// The end of a save, on one rank: the parts that all have written become a checkpoint. Internal.
#ifndef JEVONS_TRAINER_CHECKPOINT_COMMIT_H_
#define JEVONS_TRAINER_CHECKPOINT_COMMIT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/writer.h"
#include "trainer/files/file_system.h"

namespace jevons {

// `partial`, a folder in `directory` with a durable file for each of `indexes` that names one, gets its manifest and the name of a
// checkpoint. `indexes`: of the ranks in order, each a manifest of what is in its own file, serialized. The manifest says `epoch`; 0: none
// was taken, and none is looked for. FailureError where the parts do not fit together or are not all seen; PeerLostError of CheckEpoch.
absl::Status CommitParts(FileSystem& files, const std::string& directory, const std::string& partial, const CheckpointInfo& info,
                         int64_t epoch, const std::vector<std::string>& indexes);

}  // namespace jevons

#endif  // JEVONS_TRAINER_CHECKPOINT_COMMIT_H_
