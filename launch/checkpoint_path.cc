#include "launch/checkpoint_path.h"

#include <optional>

#include "absl/strings/str_format.h"

namespace jevons {

absl::StatusOr<CheckpointReader> OpenCheckpointAt(FileSystem& files, const std::string& path) {
  if (path.empty()) return UsageError("the run has an empty name; name a run, or a checkpoint in RUN/checkpoints");
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> at_path, files.Stat(path));
  if (!at_path || !at_path->is_directory) {
    return IntegrityError(absl::StrFormat("%s: no such folder; name a run, or a checkpoint in RUN/checkpoints", path));
  }
  for (const std::string& directory : {JoinPath(path, "checkpoints"), path}) {
    JEVONS_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, CommittedSteps(files, directory));
    if (steps.empty()) continue;
    JEVONS_ASSIGN_OR_RETURN(const std::string newest, CheckpointPath(files, directory, steps.back()));
    absl::StatusOr<CheckpointReader> reader = CheckpointReader::Open(files, newest);
    if (!reader.ok()) return OfferNewestGood(files, directory, reader.status());
    return reader;
  }
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> run, files.Stat(JoinPath(path, "checkpoints")));
  if (run) return IntegrityError(absl::StrFormat("%s: no checkpoint has been committed here yet", path));
  return CheckpointReader::Open(files, path);
}

}  // namespace jevons
