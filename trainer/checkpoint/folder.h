// The names in RUN/checkpoints: which folders are checkpoints, and which are what a save or a removal left
// behind.
#ifndef JEVONS_TRAINER_CHECKPOINT_FOLDER_H_
#define JEVONS_TRAINER_CHECKPOINT_FOLDER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/files/file_system.h"

namespace jevons {

struct CommittedFolder {
  int64_t step = 0;
  int64_t generation = 0;  // a step saved again beside its older self: step-00000012.1
  std::string path;
};

// "step-00000012", or "step-00000012.2" for generation 2.
std::string FolderName(int64_t step, int64_t generation);

// The step that the last part of `path` names as FolderName does; nothing where it is another name.
std::optional<int64_t> StepOfFolder(absl::string_view path);

// Of a folder that is no checkpoint: a save or a removal under way, or what they left behind.
inline constexpr char kPartialSuffix[] = ".partial";

// Where the next save of `step` is written: "step-00000012.partial"; "step-00000012.epoch-7.partial" by an incarnation that has taken an epoch,
// so that no other writes there.
std::string PartialName(int64_t step, int64_t epoch);

// The checkpoints in `directory` by rising (step, generation), damaged ones included. Empty where there is no
// directory.
absl::StatusOr<std::vector<CommittedFolder>> ListCommitted(FileSystem& files, const std::string& directory);

// Takes the name of a checkpoint from `path`: afterwards it is a partial folder, which RemovePartial may
// remove.
absl::Status Retire(FileSystem& files, const std::string& path);

// Gives a damaged checkpoint another name, so that it is none any more and can be looked at: "step-00000012.damaged", or ".damaged-1" and so on where
// that step has been damaged before. Returns the path that it has now.
absl::StatusOr<std::string> SetDamagedAside(FileSystem& files, const std::string& path);

// Removes all partial folders, once it is durable that they are partial: a power loss must not bring back the
// name of a checkpoint whose files are gone. The error is that of the first which stays; the others go.
absl::Status RemovePartial(FileSystem& files, const std::string& directory);

}  // namespace jevons

#endif  // JEVONS_TRAINER_CHECKPOINT_FOLDER_H_
