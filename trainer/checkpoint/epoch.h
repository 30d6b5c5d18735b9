// Which incarnation of a run may commit checkpoints. Each takes an epoch when it starts, the next number: an empty folder
// "epoch-00000007" in RUN/checkpoints, which can be made once. An incarnation that was cut off and lives on, on the other side of a
// network that failed, finds a higher one and is refused.
#ifndef JEVONS_TRAINER_CHECKPOINT_EPOCH_H_
#define JEVONS_TRAINER_CHECKPOINT_EPOCH_H_

#include <cstdint>
#include <string>

#include "kernels/base/status.h"
#include "trainer/files/file_system.h"

namespace jevons {

// Takes the next epoch, made durable, and with it the folders of saves under way: an earlier incarnation that has looked for its epoch just
// before and commits just after finds nothing to rename. So what it has committed is there when this returns, and nothing comes later.
absl::StatusOr<int64_t> TakeEpoch(FileSystem& files, const std::string& directory);

// PeerLostError where somebody has taken a later one.
absl::Status CheckEpoch(FileSystem& files, const std::string& directory, int64_t epoch);

}  // namespace jevons

#endif  // JEVONS_TRAINER_CHECKPOINT_EPOCH_H_
